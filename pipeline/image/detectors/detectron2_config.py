"""Makes a network of detectron2 from a config, with its weights and class names.

A config or a weights file can do more than describe a network. The user's own YAML is read without its unsafe tags.
The user's own Python configs, and weights that are pickles, need an option that allows them.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from torch import nn

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.model.weights import read_weights, wrong_classes
from vlmixer.pipeline.image.classes import read_class_names

DERIVED = ("pixel_mean", "pixel_std", "anchor_generator.cell_anchors", "num_batches_tracked")
"""Parts of names that old checkpoints contain and current models derive from their config."""


@dataclass(frozen=True)
class ModelSettings:
    """What a config says.

    network: with random weights. weights: the file or URL that the config names, or "". test_set: the first test set,
    or "". bgr: the order of colours. resize: detectron2's transform of an image, or None.
    """

    network: Any
    weights: str
    test_set: str
    bgr: bool
    resize: Any


def load_model(config: str, overrides: Sequence[Any], device: str, allow_code: bool) -> ModelSettings:
    """The network and its settings. config: a file, or a name in detectron2's model zoo. Raises CallError."""
    from detectron2 import model_zoo

    own = os.path.isfile(config)
    if own:
        path = config
    else:
        try:
            path = model_zoo.get_config_file(config)
        except RuntimeError:
            raise CallError(
                f"images.detector: {config!r} is neither a file nor a config of detectron2's model zoo, such as "
                "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml."
            ) from None
    if path.endswith(".py"):
        if own and not allow_code:
            raise CallError(
                f"images.detector: {config} is a program, and reading it runs it. If you trust it, set "
                "images.detector_options.allow_code: true. YAML configs need no such trust."
            )
        return _from_python(path, config, own)
    # Some of the zoo's own files contain code, as the package itself does. A stranger's file must not.
    return _from_yaml(path, config, own, overrides, device, unsafe=allow_code or not own)


def _from_yaml(path: str, config: str, own: bool, overrides: Sequence[Any], device: str, unsafe: bool) -> ModelSettings:
    import yaml
    from detectron2 import model_zoo
    from detectron2.config import get_cfg
    from detectron2.data import transforms
    from detectron2.modeling import build_model

    settings = get_cfg()
    try:
        settings.merge_from_file(path, allow_unsafe=unsafe)
        settings.merge_from_list(list(overrides))
    except (yaml.YAMLError, KeyError, ValueError, AssertionError, AttributeError, OSError) as error:
        raise CallError(
            f"images.detector: {config} is not readable as a config of detectron2: {shorten(str(error), 300)}"
        ) from None
    settings.MODEL.DEVICE = device
    if not own:
        try:
            settings.MODEL.WEIGHTS = model_zoo.get_checkpoint_url(config)
        except RuntimeError:
            settings.MODEL.WEIGHTS = ""
    network = build_model(settings)
    shorter, longer = settings.INPUT.MIN_SIZE_TEST, settings.INPUT.MAX_SIZE_TEST
    return ModelSettings(
        network,
        settings.MODEL.WEIGHTS,
        next(iter(settings.DATASETS.TEST), ""),
        settings.INPUT.FORMAT == "BGR",
        transforms.ResizeShortestEdge([shorter, shorter], longer) if shorter else None,
    )


def _from_python(path: str, config: str, own: bool) -> ModelSettings:
    from detectron2 import model_zoo
    from detectron2.config import LazyConfig, instantiate

    settings = LazyConfig.load(path)
    mapper = settings.dataloader.test.mapper
    resizes = [instantiate(step) for step in mapper.augmentations]
    weights = str(settings.get("train", {}).get("init_checkpoint", ""))
    if not own:
        try:
            weights = model_zoo.get_checkpoint_url(config)
        except RuntimeError:
            weights = ""
    return ModelSettings(
        instantiate(settings.model),
        weights,
        str(settings.dataloader.test.dataset.names),
        mapper.image_format == "BGR",
        resizes[0] if resizes else None,
    )


def load_weights(network: nn.Module, given: str | None, named: str, config: str, allow_pickle: bool) -> None:
    """Load the weights that the user gives, or else those that the config names. Raises CallError, UserError."""
    path = given or named
    if not path:
        raise CallError(f"images.weights: {config} names no weights. Give a file (.safetensors or .pth).")
    if path.endswith(".pkl"):
        if not allow_pickle:
            raise CallError(
                f"images.weights: {path} is a pickle, and reading it can run any code. If you trust its author, set "
                "images.detector_options.allow_pickle: true, or give the weights as .safetensors or .pth."
            )
        from detectron2.checkpoint import DetectionCheckpointer

        try:
            DetectionCheckpointer(network).load(path)
        except OSError as error:
            raise UserError(f"images.weights: {path} could not be loaded: {error}. Give a file of weights.") from error
        return
    own = network.state_dict()
    state = read_weights(path, "images.weights", own.keys())
    state = {name: value for name, value in state.items() if not any(part in name for part in DERIVED)}
    # Models with region heads have one class more, the background; dense ones have several outputs per class.
    heads = getattr(network, "roi_heads", None)
    background = 0 if heads is None else 1
    classes = int((network if heads is None else heads).num_classes)  # type: ignore[arg-type]
    number = wrong_classes(state, own, classes + background)
    if number is not None:
        key = f"MODEL.{'ROI_HEADS' if background else type(network).__name__.upper()}.NUM_CLASSES"
        raise UserError(
            f"images.weights: {path} has {number - background} classes, {config} has {classes}. Set the number in the "
            f"config, or images.detector_options.overrides: [{key}, {number - background}]; and "
            "images.detector_options.classes to their names."
        )
    try:
        missing, unknown = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UserError(
            f"images.weights: {path} does not fit {config}: {shorten(str(error), 300)} If the number of classes "
            "differs, put it into the config, or into images.detector_options.overrides."
        ) from None
    missing = [name for name in missing if not any(part in name for part in DERIVED)]
    if missing or unknown:
        raise UserError(
            f"images.weights: {path} does not fit {config}: it lacks {shorten(', '.join(missing), 150) or 'nothing'}, "
            f"and also has {shorten(', '.join(unknown), 150) or 'nothing'}."
        )


def class_names(classes: Sequence[str] | str | None, test_set: str, count: int, config: str) -> list[str]:
    """The names by class index: the user's, or else those in detectron2's catalog. Raises CallError unless they are
    `count`."""
    if classes is not None:
        names: list[str] | None = read_class_names(classes)
        source = classes if isinstance(classes, str) else "images.detector_options.classes"
    else:
        from detectron2.data import MetadataCatalog

        names = MetadataCatalog.get(test_set).get("thing_classes") if test_set in MetadataCatalog.list() else None
        source = f"detectron2's catalog for {test_set or 'no test set'}"
    if names is None or len(names) != count:
        raise CallError(
            f"images.detector_options.classes: {config} has {count} classes, {source} has {len(names or [])} names. "
            f"Give {count} names, as a list or a text file with one name per line."
        )
    return list(names)
