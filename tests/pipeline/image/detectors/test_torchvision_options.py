"""torchvision's models: files of weights, and options."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.pipeline.image.detectors.small_models import CLASSES, FASTER, SSD, THRESHOLDS, equal, picture

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.pipeline.image.detectors.loading import DetectorSpec, load_detector
from vlmixer.pipeline.image.detectors.torchvision_models import (
    TorchvisionDetector,
    set_precision,
)
from vlmixer.pipeline.image.detectors.weights import class_names_in


def test_pth_files_are_read_also_within_a_checkpoint(weights, make, tmp_path):
    state = load_file(weights / f"{SSD}.safetensors")
    (expected,) = make(SSD).detect([picture(60, 80)])
    wrapped = {f"module._orig_mod.{name}": value for name, value in state.items()}
    for content in (state, {"model": state, "epoch": 3}, {"state_dict": wrapped}):
        torch.save(content, tmp_path / "w.pth")
        spec = DetectorSpec(f"torchvision:{SSD}", str(tmp_path / "w.pth"), "cpu", THRESHOLDS[SSD], {"classes": CLASSES})
        assert equal(load_detector(spec).detect([picture(60, 80)])[0], expected)


def test_more_class_names_than_a_file_has_weights_for_are_not_taken(tmp_path):
    path = str(tmp_path / "w.safetensors")
    metadata = {"classes": json.dumps(["dog"] * 100)}
    save_file({"head": torch.zeros(100, 256)}, path, metadata)
    assert class_names_in(path) == ["dog"] * 100
    save_file({"head": torch.zeros(90, 256)}, path, metadata)
    assert class_names_in(path) is None


class Anything:
    """What a pickle may hold."""


def test_weights_that_do_not_fit(weights):
    with pytest.raises(UserError, match=r"images\.weights: .*does not fit ssdlite.* with 4 classes: ") as caught:
        TorchvisionDetector(SSD, str(weights / f"{FASTER}.safetensors"), classes=CLASSES)
    assert "Set images.detector_options.classes" in str(caught.value)
    assert len(str(caught.value)) < 1000
    with pytest.raises(UserError, match=r"has 4 classes, images.detector_options.classes has 91 names"):
        TorchvisionDetector(SSD, str(weights / f"{SSD}.safetensors"))


@pytest.mark.parametrize(
    ("name", "content"),
    [("w.pth", b"hello"), ("w.pth", b""), ("w.safetensors", b"hello"), ("w.safetensors", b""), ("w.pth", None),
     ("w.pth", [1]), ("w.pth", torch.zeros(3)), ("w.pth", {"model": Anything()}), ("w.pth", {"model": [1]})],
)  # fmt: skip
def test_files_that_hold_no_weights(tmp_path, name, content):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / name)
    with pytest.raises(UserError, match=rf"images\.weights: .*{name} is not readable as weights"):
        TorchvisionDetector(SSD, str(tmp_path / name), classes=CLASSES)


@pytest.mark.parametrize("name", ["resnet50", "fasterrcnn", ""])
def test_a_name_that_torchvision_lacks_names_those_that_it_has(name):
    with pytest.raises(CallError, match=rf"no detector '{name}'\. Known: fasterrcnn_mobilenet.*ssdlite"):
        load_detector(DetectorSpec(f"torchvision:{name}", None, "cpu", 0.3))


def test_options_that_the_detector_lacks():
    with pytest.raises(CallError, match=r"cannot be called with .*colour"):
        load_detector(DetectorSpec(f"torchvision:{SSD}", None, "cpu", 0.3, {"colour": 1}))


def test_the_size_that_the_network_sees(weights):
    path = str(weights / f"{FASTER}.safetensors")
    options: dict[str, Any] = {"score_threshold": THRESHOLDS[FASTER], "classes": CLASSES}
    image = picture(120, 160)
    (usual,) = TorchvisionDetector(FASTER, path, **options).detect([image])
    (small,) = TorchvisionDetector(FASTER, path, min_size=100, max_size=100, **options).detect([image])
    assert not np.array_equal(usual.boxes, small.boxes)
    assert small.boxes.max() > 100, "boxes are in pixels of the image all the same"
    with pytest.raises(CallError, match="has one fixed input size"):
        TorchvisionDetector(SSD, str(weights / f"{SSD}.safetensors"), classes=CLASSES, min_size=100)


def test_bfloat16_is_nearly_the_same_and_channels_last_even_more_so(weights, make):
    path = str(weights / f"{SSD}.safetensors")
    (expected,) = make(SSD).detect([picture(320, 320)])
    options: dict[str, Any] = {"score_threshold": THRESHOLDS[SSD], "classes": CLASSES}
    (plain,) = TorchvisionDetector(SSD, path, channels_last=False, **options).detect([picture(320, 320)])
    assert np.allclose(plain.boxes, expected.boxes, atol=0.01)
    (half,) = TorchvisionDetector(SSD, path, precision="bfloat16", **options).detect([picture(320, 320)])
    assert half.features.dtype == np.float32
    assert not np.array_equal(half.features, expected.features)
    one, other = half.features.mean(axis=0), expected.features.mean(axis=0)
    assert np.linalg.norm(one - other) < 0.1 * np.linalg.norm(other)
    with pytest.raises(CallError, match="precision: expected float32 or bfloat16, found 'half'"):
        TorchvisionDetector(SSD, path, **options | {"precision": "half"})


def test_a_trained_network_finds_the_same_in_bfloat16(tmp_path):
    """The demo's, on its drawn pictures. Boxes computed in bfloat16 would be doubled: pixels are too coarse in it."""
    from PIL import Image
    from torchvision.ops import box_iou

    from vlmixer.pipeline.demo.detector import WEIGHTS, build_network, resize
    from vlmixer.pipeline.demo.world import write_world

    write_world(tmp_path, seed=5, photos=12, sentences=5, pairs=1)

    def found(precision):
        network = build_network()
        network.load_state_dict(load_file(WEIGHTS))
        network.float().eval()
        set_precision(network, precision, "cpu")
        results = []
        with torch.inference_mode():
            for path in sorted((tmp_path / "photos").iterdir()):
                pixels = torch.tensor(resize(np.asarray(Image.open(path)))).permute(2, 0, 1) / 255
                (result,) = network([pixels])
                kept = result["scores"] > 0.5
                results.append({key: value[kept] for key, value in result.items()})
        return results

    number = 0
    for one, other in zip(found("float32"), found("bfloat16"), strict=True):
        assert one["labels"].tolist() == other["labels"].tolist()
        assert torch.allclose(one["scores"], other["scores"], atol=0.03)
        if len(one["labels"]):
            assert box_iou(one["boxes"], other["boxes"]).diagonal().min() > 0.85
        number += len(one["labels"])
    assert number > 20
