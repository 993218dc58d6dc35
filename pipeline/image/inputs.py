"""What `images.inputs` and `images.detector` name: images, with boxes from files or without, or region features and the
photos that belong to them."""

from collections.abc import Sequence
from dataclasses import replace

from vlmixer.artifacts.dropped import Dropped
from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.files import FileStats
from vlmixer.pipeline.image.boxes.reading import BoxFiles
from vlmixer.pipeline.image.detection import load_features
from vlmixer.pipeline.image.detectors.loading import BOXES, TSV, DetectorSpec
from vlmixer.pipeline.image.readers.base import ImageCorpus
from vlmixer.pipeline.image.readers.corpus import NOTHING_DROPPED
from vlmixer.pipeline.image.readers.corpus import plan as plan_corpus
from vlmixer.pipeline.image.readers.features import photos_by_id, plan_features


def plan_inputs(
    spec: DetectorSpec, inputs: Sequence[str], photos_file: str, without: Dropped = NOTHING_DROPPED, out: str = ""
) -> tuple[ImageCorpus, dict[str, list[str]] | None]:
    """The corpus, and for region features the photos of `inputs` by id, which are to be written to `photos_file`.

    The photos are None for other detectors, and if there are no inputs. without, out: see corpus.plan. Raises
    CallError.
    """
    if not spec.name.startswith(TSV):
        if not inputs:
            raise CallError("images.inputs: empty; expected files, folders or globs with images.")
        corpus = plan_corpus(inputs, without=without, out=out)
        if spec.name.startswith(BOXES):
            boxes = BoxFiles.of(spec.name.removeprefix(BOXES), spec.options).find()
            corpus = replace(corpus, inputs=FileStats.joined([FileStats.of(boxes), corpus.inputs]))
        return corpus, None
    corpus = plan_features(spec.name.removeprefix(TSV), spec.options.get("predictions"), photos_file if inputs else "")
    load_features(spec)
    if not inputs:
        return corpus, None
    photos = plan_corpus(inputs, without=without, out=out)
    return replace(corpus, inputs=FileStats.joined([corpus.inputs, photos.inputs])), photos_by_id(photos)
