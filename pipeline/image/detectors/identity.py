"""What identifies a detector in manifests: names, options and hashes of files, but no paths."""

import os
from dataclasses import replace
from importlib import resources
from typing import Any

from vlmixer.artifacts import files
from vlmixer.artifacts.details import DetectorIdentity
from vlmixer.pipeline.image.detectors.loading import (
    BOXES,
    DEMO,
    DETECTRON2,
    OWN_FEATURES,
    TRANSFORMERS,
    DetectorSpec,
    encoder_of,
)


def describe_detector(spec: DetectorSpec) -> DetectorIdentity:
    """What identifies the detector in a manifest: name, options and hashes of files, but no paths.

    Encoders of regions are loaded for it. Raises CallError, UserError if the files of a model are not there.
    """
    own = _describe_own(spec)
    if spec.features == (OWN_FEATURES,):
        return own
    parts = [None if part == OWN_FEATURES else encoder_of(part, spec).identity for part in spec.features]
    return replace(own, features=tuple(parts))


def _describe_own(spec: DetectorSpec) -> DetectorIdentity:
    if spec.name.startswith(TRANSFORMERS):
        return _describe_transformers(spec)
    if spec.name.startswith(BOXES):
        return _describe_boxes(spec)
    weights = spec.weights or "default"
    if spec.name == DEMO and spec.weights is None:
        weights = str(resources.files("vlmixer.pipeline.demo").joinpath("detector.safetensors"))
    if files.exists(weights):
        weights = f"sha256:{files.sha256(weights)}"
    config = spec.name.removeprefix(DETECTRON2)
    return DetectorIdentity(
        name=spec.name,
        weights=weights,
        device=spec.device,
        options={key: _identity(value) for key, value in spec.options.items()},
        config=_identity(config) if spec.name.startswith(DETECTRON2) and os.path.isfile(config) else None,
    )


def _describe_boxes(spec: DetectorSpec) -> DetectorIdentity:
    from vlmixer.pipeline.image.boxes.reading import BoxFiles

    found = BoxFiles.of(spec.name.removeprefix(BOXES), spec.options).find()
    hashes = [f"sha256:{files.sha256(entry.name)}" for entry in found]
    return DetectorIdentity(
        name=BOXES.removesuffix(":"),
        weights="none",
        device=spec.device,
        options={key: value for key, value in spec.options.items() if key != "annotations"} | {"files": hashes},
    )


def _describe_transformers(spec: DetectorSpec) -> DetectorIdentity:
    from vlmixer.pipeline.image.detectors.transformers_folder import (
        check_no_weights,
        find_folder,
        settings_hash,
        shown_name,
        weights_hash,
    )

    name = spec.name.removeprefix(TRANSFORMERS)
    check_no_weights(name, spec.weights)
    folder = find_folder(name, "images.detector", spec.options.get("revision"))
    return DetectorIdentity(
        name=TRANSFORMERS + shown_name(name),
        weights=weights_hash(folder, "images.detector"),
        device=spec.device,
        options={key: _identity(value) for key, value in spec.options.items()},
        config=settings_hash(folder),
    )


def _identity(value: Any) -> Any:
    """The hash of the file that the value names, or the value itself."""
    if isinstance(value, str) and os.path.isfile(value):
        return f"sha256:{files.sha256(value)}"
    return value
