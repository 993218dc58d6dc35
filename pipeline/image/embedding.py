"""Turns a picture into a feature for searching a bank: what the bank's own detector sees in it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from vlmixer.artifacts import files
from vlmixer.artifacts.details import to_json
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.bank.concepts import Concept, Vocabulary
from vlmixer.bank.query import Embed
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.config import Config, load_config
from vlmixer.pipeline.image.detectors import places
from vlmixer.pipeline.image.detectors.choosing import as_recorded
from vlmixer.pipeline.image.detectors.identity import describe_detector
from vlmixer.pipeline.image.detectors.loading import (
    BOXES,
    FLOAT32,
    TRANSFORMERS,
    TSV,
    DetectorSpec,
    detector_spec,
    in_precision,
    is_open,
    load_detector,
    load_encoders,
)
from vlmixer.pipeline.trust import require_harmless

LOW_SCORE = 0.05
"""A picture that someone searches with shows something, even if the detector is not sure of it."""


def own_config(folder: str, config: str | None = None, *, trust_detector: bool = False) -> tuple[str, Config]:
    """The config that names the detector of the bank at `folder`, with its path: `config`, or the one next to the bank.

    Raises CallError if there is none, if it came with the bank and names code, or if it names no detector that can look
    at a picture.
    """
    path = config or files.beside(folder, "config.yaml")
    if config is None and not files.exists(path):
        raise CallError(f"{path}: not found, so the bank's detector is unknown. Give --config CONFIG.yaml.")
    settings = load_config(path)
    if config is None and not trust_detector:
        require_harmless(settings, path)
    if settings.images.detector.startswith(TSV):
        raise CallError(
            f"{path}: the bank's regions are from a file ({TSV}FILE), so no detector can look at a picture."
        )
    return path, settings


def embedder(
    folder: str,
    config: str | None = None,
    import_paths: Sequence[str] | None = None,
    score_threshold: float = LOW_SCORE,
    *,
    trust_detector: bool = False,
) -> Embed:
    """The `embed` argument of `PatchBank.open(folder, embed=…)`, with which the bank can be searched for pictures.

    config: a config file that names the bank's detector and its weights; None for the config.yaml next to the bank,
    which `vlmixer run` writes. A bank of boxes from files has no detector: the feature is that of the whole picture.
    import_paths: folders of the user's own detector; None for those of the command.
    score_threshold: of the detections that count. trust_detector: whether the config next to the bank may name a class
    to import. Raises CallError if there is no such config or if it names code, UserError if the bank was built with
    another detector.
    """
    bank = PatchBank.open(folder)
    spec = replace(_own_spec(bank, config, import_paths, trust_detector), score_threshold=score_threshold)
    if spec.name.startswith(BOXES):
        return _whole_picture(spec)
    vocabulary = Vocabulary("bank", tuple(Concept(c.id, c.name, c.synonyms) for c in bank.concepts))
    detector = load_detector(spec, vocabulary.concepts)
    concepts = [
        None if number is None else bank.concepts[number].name
        for number in vocabulary.map_labels(list(detector.labels))
    ]

    def embed(picture: Image.Image, concept: str | None) -> np.ndarray:
        """The feature of the region with the best score; of `concept`, if the detector finds it in the picture."""
        found = detector.detect([np.asarray(picture.convert("RGB"))])[0]
        if not len(found.scores):
            raise UserError("the bank's detector finds nothing in the picture. Crop it closer to what you search for.")
        named = [row for row, label in enumerate(found.labels) if concept is not None and concepts[label] == concept]
        best = max(named or range(len(found.scores)), key=lambda row: float(found.scores[row]))
        feature: np.ndarray = found.features[best]
        return feature

    return embed


def _whole_picture(spec: DetectorSpec) -> Embed:
    """What the encoders of a bank without a detector make of a whole picture."""
    from vlmixer.pipeline.image.encoders.regions import features_of

    encoders = load_encoders(spec)

    def embed(picture: Image.Image, concept: str | None) -> np.ndarray:
        """The feature of the picture."""
        pixels = np.asarray(picture.convert("RGB"))
        whole = np.array([[0, 0, pixels.shape[1], pixels.shape[0]]], np.float32)
        feature: np.ndarray = features_of(pixels, whole, encoders)[0]
        return feature

    return embed


def text_embedder(
    folder: str,
    config: str | None = None,
    import_paths: Sequence[str] | None = None,
    *,
    trust_detector: bool = False,
) -> Callable[[str], np.ndarray]:
    """A function that makes of a text what the bank at `folder` can be searched with:
    `bank.search(like=text_embedder(folder)("a wet dog in snow"))`.

    The bank's features must be, or contain, crops through an encoder of transformers that reads texts, such as CLIP or
    SigLIP (images.features). The arguments are those of `embedder`. Raises CallError, UserError as it does, and
    CallError if no encoder of the bank reads texts.
    """
    from vlmixer.pipeline.image.encoders.regions import load_encoder

    bank = PatchBank.open(folder)
    spec = _own_spec(bank, config, import_paths, trust_detector)
    readers = [part for part in spec.features if part.startswith(TRANSFORMERS)]
    encoders = {part: load_encoder(part, spec.feature_options.get(part, {}), spec.device) for part in readers}
    reader = next((part for part, encoder in encoders.items() if encoder.reads_texts), None)
    if reader is None:
        raise CallError(
            f"{folder}: its features cannot be compared with texts ({', '.join(spec.features)}). Make a bank with a "
            "CLIP or SigLIP of transformers in images.features, with pooling crop."
        )
    place = spec.features.index(reader)
    identities = bank.manifest.details.detector.features or ()
    after = sum(int((identity or {}).get("width", 0)) for identity in identities[place + 1 :])
    if None in identities[place + 1 :]:  # the detector's own, whose width is what is left
        known = sum(int(identity["width"]) for identity in identities if identity is not None)
        after += bank.feature_dim - known

    def embed(text: str) -> np.ndarray:
        """(D,): the text where the encoder's part of a feature is, and zeros elsewhere."""
        (vector,) = encoders[reader].texts([text])
        return np.pad(vector, (bank.feature_dim - after - len(vector), after))

    return embed


def may_read_texts(bank: PatchBank) -> bool:
    """Whether some part of the bank's features can be compared with texts, as its manifest says."""
    return any((part or {}).get("texts") for part in bank.manifest.details.detector.features or ())


def _own_spec(
    bank: PatchBank, config: str | None, import_paths: Sequence[str] | None, trust_detector: bool
) -> DetectorSpec:
    """The bank's own detector. Raises CallError if it is not known, UserError if the config names another one."""
    folder = bank.folder
    path, settings = own_config(folder, config, trust_detector=trust_detector)
    paths = places.import_paths(path) if import_paths is None else import_paths
    spec = detector_spec(settings.images, paths)
    wanted = to_json(bank.manifest.details.detector)
    spec = (as_recorded(spec, wanted) or in_precision(spec, FLOAT32)) if is_open(spec) else spec
    if spec.name.startswith(BOXES):  # features come from encoders alone, whatever the boxes are
        wanted = {"features": wanted.get("features")}
        found = {"features": [to_json(encoder.identity) for encoder in load_encoders(spec)]}
    else:
        found = to_json(describe_detector(spec))
    differing = sorted(key for key in {*wanted, *found} - {"device"} if wanted.get(key) != found.get(key))
    if differing:
        difference = "; ".join(f"{key} {found.get(key)!r}, the bank's {wanted.get(key)!r}" for key in differing)
        raise UserError(
            f"{path}: not the detector that {folder} was built with ({difference}). Features of two detectors are not "
            "comparable. Give --config with the bank's own detector."
        )
    return spec
