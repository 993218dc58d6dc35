"""What a config may name that came with a result: nothing that runs code of somebody else's.

A bank and a training run keep the config that they were made with. Such a folder may have been downloaded, so its
config is data, unlike a config that the user wrote or names on the command line. SECURITY.md has the rule.
"""

from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.config import Config
from vlmixer.pipeline.image.detectors.loading import BOXES, DETECTRON2, TSV, is_shipped


def require_harmless(config: Config, path: str) -> None:
    """Check the config at `path`, which came with a bank or a training run.

    Raises CallError if it names code or a file that can run code: a detector class, a detectron2 config in Python,
    pickled weights, or a folder with a spaCy pipeline.
    """
    images = config.images
    if not (is_shipped(images.detector) or images.detector.startswith((TSV, BOXES))):
        raise _refused(path, f"images.detector: {images.detector!r} is a class that is not part of vlmixer")
    if images.detector.startswith(DETECTRON2) and images.detector.lower().endswith(".py"):
        raise _refused(path, f"images.detector: {images.detector!r} is a Python file")
    if images.detector_options.get("allow_pickle"):
        raise _refused(path, "images.detector_options.allow_pickle allows weights that can run code")
    if any(mark in config.text.spacy_model for mark in ("/", "\\")) or config.text.spacy_model.startswith("."):
        raise _refused(path, f"text.spacy_model: {config.text.spacy_model!r} is a folder")


def _refused(path: str, what: str) -> CallError:
    return CallError(
        f"{path}: {what}. This config came with a result, and a result must not run code. Give --config with a config "
        "of your own, or --trust-detector if you trust the folder."
    )
