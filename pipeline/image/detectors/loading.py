"""From the config's `images.detector` to a detector object."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.bank.concepts import Concept
from vlmixer.pipeline.config import ImageSettings
from vlmixer.pipeline.image.detectors.base import Detector

if TYPE_CHECKING:
    from vlmixer.pipeline.image.encoders.regions import RegionEncoder

DEMO = "demo"
DETECTRON2 = "detectron2:"
TSV = "tsv:"
BOXES = "boxes:"
TRANSFORMERS = "transformers:"
OWN_FEATURES = "detector"
"""In images.features: the detector's own."""
AUTO, FLOAT32 = "auto", "float32"
"""Of images.precision."""
ACCELERATORS = ("/dev/nvidiactl", "/dev/nvmap", "/dev/kfd", "/dev/dxg")
"""Where Linux has what torch calls cuda: NVIDIA's cards, its Jetson boards, AMD's cards, and either under WSL."""
OWN_PACKAGES = ("onnxruntime", "torch", "torchvision")
"""Packages that a class of the user's own is assumed to depend on."""


@dataclass(frozen=True)
class Family:
    """Detectors that ship. argument: what receives the part of `images.detector` after the colon, "" if there is none.
    packages: those that the results depend on. formats: whether it can compute in others than float32."""

    module: str
    name: str
    argument: str
    packages: tuple[str, ...]
    formats: bool = False


FAMILIES = {
    DEMO: Family("vlmixer.pipeline.demo.detector", "DemoDetector", "", ("torch", "torchvision")),
    "torchvision": Family(
        "vlmixer.pipeline.image.detectors.torchvision_models", "TorchvisionDetector", "name", ("torch", "torchvision"),
        formats=True,
    ),
    "detectron2": Family(
        "vlmixer.pipeline.image.detectors.detectron2_models", "Detectron2Detector", "config",
        ("detectron2", "torch", "torchvision"), formats=True,
    ),
    "transformers": Family(
        "vlmixer.pipeline.image.detectors.transformers_models", "TransformersDetector", "name",
        ("torch", "torchvision", "transformers"),
    ),
}  # fmt: skip
"""By what stands before the colon of `images.detector`."""

OPEN_VOCABULARY = replace(
    FAMILIES["transformers"], module="vlmixer.pipeline.image.detectors.transformers_open", name="OpenVocabularyDetector"
)
"""Models of transformers that are asked for things by name."""


@dataclass(frozen=True)
class DetectorSpec:
    """What makes a detector, as plain data that travels to workers.

    weights: None for the detector's own default. features, feature_options: of the config's section `images`.
    import_paths: folders in which `pkg.module:Class` is looked for after
    the installed packages. given: the class itself, in place of its name.
    """

    name: str
    weights: str | None
    device: str
    score_threshold: float
    options: Mapping[str, Any] = field(default_factory=dict)
    import_paths: tuple[str, ...] = ()
    features: tuple[str, ...] = (OWN_FEATURES,)
    feature_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    given: Callable[..., Detector] | None = None


def resolve_device(device: str, accelerators: Sequence[str] = ACCELERATORS) -> str:
    """ "cpu" or "cuda" for the config's auto | cpu | cuda. accelerators: without one of these files there is no "cuda"
    on Linux. Raises CallError for cuda if there is no such device."""
    # A detector may do without torch, which takes seconds to import and 290 MB.
    absent = sys.platform == "linux" and not any(map(os.path.exists, accelerators))
    if device == "cpu" or (device == "auto" and absent):
        return "cpu"
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise CallError(
            "images.device: the config asks for cuda, but torch sees no CUDA device. "
            "Use 'auto' or 'cpu', or check the driver."
        )
    return "cuda" if torch.cuda.is_available() else "cpu"


def fix_threads() -> None:
    """Set torch to one thread per process and to flush denormals, so that no byte depends on the machine's load or the
    number of workers. (Two processes of one thread are also faster than one process of two.)"""
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def is_file_name(weights: str) -> bool:
    """Whether `images.weights` names a file, not one of the detector's own sets of weights."""
    return "/" in weights or "." in weights


def detector_spec(settings: ImageSettings, import_paths: Sequence[str], *, remote: bool = False) -> DetectorSpec:
    """The detector that the settings describe, as plain data.

    remote: it will run on other machines, which see no file of this one, and have an accelerator if the config says
    `cuda`. Raises CallError if its weights or its device are missing.
    """
    weights = None if settings.weights == "default" else settings.weights
    if weights is not None and settings.detector.startswith(BOXES):
        raise CallError("images.weights: boxes:FILE has none. Leave the key out.")
    if weights is not None and is_file_name(weights) and not files.exists(weights):
        raise CallError(f"images.weights: no such file: {weights}. Give a file, or 'default'.")
    return DetectorSpec(
        settings.detector,
        weights,
        resolve_device(settings.device) if not remote else "cuda" if settings.device == "cuda" else "cpu",
        # The detector must not drop regions that min_regions will keep.
        0.0 if settings.min_regions else settings.score_threshold,
        _options(settings),
        () if remote else tuple(import_paths),
        _features(settings),
        settings.feature_options,
    )


def _options(settings: ImageSettings) -> Mapping[str, Any]:
    """The arguments of the detector's class. Raises CallError for a precision that it does not have."""
    if settings.precision == FLOAT32:
        return settings.detector_options
    if "precision" in settings.detector_options:
        raise CallError("images.precision: images.detector_options has a precision, too. Give one of the two.")
    family = _family(settings.detector)
    if family is not None and family.formats:
        return {**settings.detector_options, "precision": settings.precision}
    if settings.precision == AUTO:
        return settings.detector_options
    raise CallError(
        f"images.precision: {settings.precision} is for torchvision:NAME and detectron2:CONFIG, and images.detector is "
        f"{settings.detector!r}. Leave the key out, or set it to auto."
    )


def is_open(spec: DetectorSpec) -> bool:
    """Whether the format in which the detector computes is still to be chosen."""
    return spec.options.get("precision") == AUTO


def in_precision(spec: DetectorSpec, precision: str) -> DetectorSpec:
    """The detector in this format. float32 is what the absence of the option means, too."""
    options = {key: value for key, value in spec.options.items() if key != "precision"}
    return replace(spec, options=options if precision == FLOAT32 else {**options, "precision": precision})


def _features(settings: ImageSettings) -> tuple[str, ...]:
    """The parts of a region's feature. Raises CallError."""
    parts = (settings.features,) if isinstance(settings.features, str) else tuple(settings.features)
    if not parts or len(set(parts)) < len(parts):
        raise CallError(f"images.features: expected one or several different encoders, found {list(parts)}.")
    unknown = sorted(set(settings.feature_options) - set(parts))
    if unknown:
        raise CallError(f"images.feature_options: {unknown[0]!r} is not in images.features ({', '.join(parts)}).")
    if parts != (OWN_FEATURES,) and settings.detector.startswith(TSV):
        raise CallError("images.features: tsv:FILE has features of its own. Leave the key out.")
    if OWN_FEATURES in parts and settings.detector.startswith(BOXES):
        raise CallError(
            "images.features: boxes:FILE has boxes and no features. Name an encoder, such as timm:efficientnet_lite0 "
            "or transformers:NAME."
        )
    return parts


def load_detector(spec: DetectorSpec, concepts: Sequence[Concept] = ()) -> Detector:
    """The detector, with the features that the spec asks for. concepts: what to ask for, for a detector that finds what
    it is asked for. If its format is still to be chosen, it computes in float32.

    Raises CallError for an unknown name, UserError if it cannot be made.
    """
    own = _load_own(in_precision(spec, FLOAT32) if is_open(spec) else spec, concepts)
    if spec.features == (OWN_FEATURES,):
        return own
    from vlmixer.pipeline.image.encoders.regions import WithFeatures

    fix_threads()
    return WithFeatures(own, [None if part == OWN_FEATURES else encoder_of(part, spec) for part in spec.features])


def load_encoders(spec: DetectorSpec) -> "list[RegionEncoder]":
    """The encoders of a spec that has no feature of a detector. Raises CallError, UserError."""
    fix_threads()
    return [encoder_of(part, spec) for part in spec.features]


def encoder_of(part: str, spec: DetectorSpec) -> "RegionEncoder":
    """One encoder of regions: `part` of the features. Raises CallError, UserError."""
    from vlmixer.pipeline.image.encoders.regions import load_encoder

    return load_encoder(part, spec.feature_options.get(part, {}), spec.device)


def _load_own(spec: DetectorSpec, concepts: Sequence[Concept]) -> Detector:
    """The detector with its own features."""
    if spec.weights is not None and files.is_url(spec.weights):
        with files.fetched(spec.weights) as local:
            return _load_own(replace(spec, weights=local), concepts)
    if spec.name.startswith(TSV):
        raise CallError("images.detector: tsv:FILE has the regions of its own images; other images need a detector.")
    if spec.name.startswith(BOXES):
        raise CallError("images.detector: boxes:FILE has the boxes of its own photos; other images need a detector.")
    arguments: dict[str, Any] = {
        "weights": spec.weights, "device": spec.device, "score_threshold": spec.score_threshold
    }  # fmt: skip
    family = _family(spec.name)
    if family is None:
        return _construct_own(spec, arguments)
    fix_threads()
    if family.argument:
        arguments[family.argument] = spec.name.partition(":")[2]
    if spec.name.startswith(TRANSFORMERS) and _is_asked(spec):
        family = OPEN_VOCABULARY
        arguments["concepts"] = concepts
    return _construct(getattr(importlib.import_module(family.module), family.name), spec, arguments)


def _construct_own(spec: DetectorSpec, arguments: Mapping[str, Any]) -> Detector:
    """A detector of the user's class, which may use torch or not."""
    cls = _import_class(spec)
    if "torch" in sys.modules:
        fix_threads()
    detector = _construct(cls, spec, arguments)
    if "torch" in sys.modules:
        fix_threads()
    return detector


def is_shipped(name: str) -> bool:
    """Whether `images.detector: name` is a detector of vlmixer's own, not a class to import."""
    return _family(name) is not None


def _family(name: str) -> Family | None:
    """The family of the detector, None for a class of the user's own."""
    before, colon, _ = name.partition(":")
    family = FAMILIES.get(before)
    return family if family is not None and bool(colon) == bool(family.argument) else None


def _construct(cls: Any, spec: DetectorSpec, arguments: Mapping[str, Any]) -> Detector:
    try:
        return cast(Detector, cls(**arguments, **spec.options))
    except TypeError as error:
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise
        raise CallError(
            f"images.detector: {spec.name} cannot be called with weights, device, score_threshold"
            f"{''.join(f', {key}' for key in spec.options)}: {error}. See images.detector_options."
        ) from None


def _import_class(spec: DetectorSpec) -> Any:
    if spec.given is not None:
        return spec.given
    module_name, colon, class_name = spec.name.partition(":")
    if not colon or not class_name or not all(module_name.split(".")):
        raise CallError(
            f"images.detector: {spec.name!r} is unknown. Expected torchvision:NAME, detectron2:CONFIG, "
            "transformers:NAME, boxes:FILE, tsv:FILE, demo, or pkg.module:Class of your own."
        )
    for path in spec.import_paths:
        if path not in sys.path:
            sys.path.append(path)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise UserError(
                f"images.detector: importing {module_name} failed: {error}. Install what it needs."
            ) from error
        raise CallError(
            f"images.detector: no module {module_name!r} among the installed packages, nor in "
            f"{' or '.join(spec.import_paths) or 'any folder'}. Expected pkg.module:Class."
        ) from None
    except Exception as error:  # The module may be anyone's code.
        raise UserError(
            f"images.detector: importing {module_name} failed: {type(error).__name__}: {error}. Correct the module; "
            "--debug shows the traceback."
        ) from error
    if not hasattr(module, class_name):
        raise CallError(f"images.detector: {module.__file__} has no class {class_name!r}.")
    return getattr(module, class_name)


def _is_asked(spec: DetectorSpec) -> bool:
    """Whether a model of transformers finds what it is asked for."""
    from vlmixer.pipeline.image.detectors.transformers_folder import find_folder, import_library, read_config

    import_library("images.detector")
    from transformers import AutoModelForZeroShotObjectDetection

    folder = find_folder(spec.name.removeprefix(TRANSFORMERS), "images.detector", spec.options.get("revision"))
    return type(read_config(folder, "images.detector")) in AutoModelForZeroShotObjectDetection._model_mapping


def packages_of(name: str, features: Sequence[str]) -> tuple[str, ...]:
    """The packages that the results of the detector of this name depend on. features: `images.features`."""
    if name.startswith(TSV):
        return ()
    family = _family(name)
    own = () if name.startswith(BOXES) else OWN_PACKAGES if family is None else family.packages
    encoders = [part.partition(":")[0] for part in features if part != OWN_FEATURES]
    return tuple(dict.fromkeys([*own, *(["torch", "torchvision"] if encoders else []), *encoders]))
