"""The models have random weights: what is checked is that we read them as torchvision does."""

import json
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.pipeline.image.detectors.small_models import (
    CLASSES,
    FASTER,
    SSD,
    close,
    equal,
    picture,
    reference,
)
from torchvision.models import detection, get_model, list_models
from torchvision.ops import roi_align
from torchvision.ops.misc import FrozenBatchNorm2d

from vlmixer.pipeline.image.detectors.batches import group_by_size
from vlmixer.pipeline.image.detectors.torchvision_models import TorchvisionDetector, fold_norms


def test_on_an_accelerator_images_of_one_size_go_together():
    shapes = [(3, 4, 3), (5, 4, 3), (3, 4, 3), (4, 3, 3), (5, 4, 3)]
    assert group_by_size(shapes, "cuda") == [[0, 2], [1, 4], [3]]
    assert group_by_size(shapes, "cpu") == [[0], [1], [2], [3], [4]]
    assert group_by_size([], "cuda") == []


@pytest.mark.parametrize("name", [FASTER, SSD])
def test_images_of_one_size_together_are_found_as_alone(make, name):
    detector = make(name)
    images = [picture(120, 160, seed) for seed in range(3)]
    for alone, among in zip(detector.detect(images), detector._detect_same_size(images), strict=True):
        close(alone, among)


def test_images_together_of_which_some_have_no_regions(make, monkeypatch):
    detector = make(FASTER)
    images = [picture(120, 160, seed) for seed in range(3)]
    expected = detector.detect(images)
    found_by = detector._regions

    def regions(inputs, maps):
        first, *others = found_by(inputs, maps)
        return [{key: value[:0] for key, value in first.items()}, *others]

    monkeypatch.setattr(detector, "_regions", regions)
    nothing, *others = detector._detect_same_size(images)
    assert [array.shape for array in vars(nothing).values()] == [(0, 4), (0,), (0,), (0, 1024)]
    for alone, among in zip(expected[1:], others, strict=True):
        close(alone, among)
    (alone,) = detector._detect_same_size(images[:1])
    assert [array.shape for array in vars(alone).values()] == [(0, 4), (0,), (0,), (0, 1024)]


@pytest.mark.parametrize("name", [FASTER, SSD])
def test_boxes_scores_and_labels_are_the_models_own(weights, make, name):
    images = [picture(120, 160), picture(200, 90, 1)]
    network = reference(weights, name)
    for image, found in zip(images, make(name).detect(images), strict=True):
        with torch.inference_mode():
            (expected,) = network([torch.tensor(image).permute(2, 0, 1) / 255])
        assert len(found.boxes) > 5
        for key in ("boxes", "scores", "labels"):
            assert np.array_equal(vars(found)[key], expected[key].numpy()), key
        assert found.features.shape == (len(found.boxes), 1024 if name == FASTER else 672)
        types = [found.boxes.dtype, found.scores.dtype, found.labels.dtype, found.features.dtype]
        assert types == [np.float32, np.float32, np.int64, np.float32]


def test_features_of_faster_rcnn_are_its_box_heads_output(weights, make):
    image = picture(240, 320)
    (found,) = make(FASTER).detect([image])
    network = reference(weights, FASTER)
    with torch.inference_mode():
        inputs, _ = network.transform([torch.tensor(image).permute(2, 0, 1) / 255])
        scale = torch.tensor([inputs.image_sizes[0][1] / 320, inputs.image_sizes[0][0] / 240]).repeat(2)
        boxes = torch.tensor(found.boxes) * scale
        maps = network.backbone(inputs.tensors)
        expected = network.roi_heads.box_head(network.roi_heads.box_roi_pool(maps, [boxes], inputs.image_sizes))
    assert len(found.boxes) > 5
    assert np.allclose(found.features, expected.numpy(), atol=1e-3)
    assert found.features.std() > 0.01


def test_features_of_ssd_are_means_over_the_finest_map(weights, make):
    image = picture(320, 320)
    (found,) = make(SSD).detect([image])
    network = reference(weights, SSD)
    with torch.inference_mode():
        inputs, _ = network.transform([torch.tensor(image).permute(2, 0, 1) / 255])
        finest = next(iter(network.backbone(inputs.tensors).values()))
        expected = roi_align(finest, [torch.tensor(found.boxes)], 1, 1 / 16, sampling_ratio=2).flatten(1)
    assert len(found.boxes) > 5
    assert np.allclose(found.features, expected.numpy(), atol=1e-3)


@pytest.mark.parametrize("name", [FASTER, SSD])
def test_an_images_result_does_not_depend_on_its_neighbours(make, name):
    """RoIAlign of torchvision takes the scales of the first image for all, and a long one would give wrong scales."""
    image, long, other = picture(120, 160), picture(20, 640, 1), picture(300, 200, 2)
    (alone,) = make(name).detect([image])
    assert len(alone.boxes) > 5
    detector = make(name)
    first, *_ = detector.detect([long, other])
    among = detector.detect([other, image, long])
    assert equal(among[1], alone)
    assert equal(among[2], first)


def test_no_regions(weights):
    path = str(weights / f"{FASTER}.safetensors")
    (found,) = TorchvisionDetector(FASTER, path, score_threshold=1.0, classes=CLASSES).detect([picture(50, 50)])
    assert [array.shape for array in vars(found).values()] == [(0, 4), (0,), (0,), (0, 1024)]


def test_read_only_and_turned_images_are_taken_without_warning(make):
    image = picture(60, 80)
    image.flags.writeable = False
    detector = make(SSD)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = detector.detect([image])
        (turned,) = detector.detect([np.asfortranarray(image)])
    assert equal(found, turned)


SMALL = {"min_size": 96, "max_size": 160}
# Name → (feature width, a threshold that random weights reach for some boxes).
OTHERS = {
    "fasterrcnn_mobilenet_v3_large_fpn": (1024, 0.25), "fasterrcnn_resnet50_fpn": (1024, 0.2),
    "fasterrcnn_resnet50_fpn_v2": (1024, 0.2), "maskrcnn_resnet50_fpn": (1024, 0.2),
    "maskrcnn_resnet50_fpn_v2": (1024, 0.2), "keypointrcnn_resnet50_fpn": (1024, 0.2),
    "retinanet_resnet50_fpn": (256, 0.009), "retinanet_resnet50_fpn_v2": (256, 0.009), "fcos_resnet50_fpn": (256, 0.07),
    "ssd300_vgg16": (512, 0.2),
}  # fmt: skip


def test_all_detection_models_of_torchvision_are_tested():
    assert {FASTER, SSD, *OTHERS} == set(list_models(module=detection))


@pytest.mark.parametrize("name", OTHERS)
def test_every_model_finds_what_it_finds_itself(tmp_path, name):
    width, threshold = OTHERS[name]
    size: dict[str, Any] = {} if name == "ssd300_vgg16" else SMALL
    classes = CLASSES[:2] if name.startswith("keypoint") else CLASSES
    torch.manual_seed(0)
    network = get_model(name, weights=None, weights_backbone=None, num_classes=len(classes)).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors", {"classes": json.dumps(classes)})
    detector = TorchvisionDetector(name, str(tmp_path / "w.safetensors"), score_threshold=threshold, **size)
    assert list(detector.labels) == classes, "the file tells its classes"
    getattr(network, "roi_heads", network).score_thresh = threshold
    if size:
        network.transform.min_size, network.transform.max_size = (96,), 160
    if hasattr(network, "rpn") and not name.startswith("keypoint"):  # with a thousand candidates they are slow
        network.rpn._post_nms_top_n = detector._network.rpn._post_nms_top_n = {"testing": 50}
    fold_norms(network)
    network.to(memory_format=torch.channels_last)
    images = [picture(120, 160), picture(200, 90, 1)]
    first, second = detector.detect(images)
    for image, found in zip(images, (first, second), strict=True):
        with torch.inference_mode():
            (expected,) = network([torch.tensor(image).permute(2, 0, 1) / 255])
        assert len(found.boxes) > 0
        for key in ("boxes", "scores", "labels"):
            assert np.array_equal(vars(found)[key], expected[key].numpy()), key
        assert found.features.shape == (len(found.boxes), width)
        assert np.isfinite(found.features).all()
        assert found.features.std() > 0
    (alone,) = detector.detect(images[1:])
    assert equal(alone, second)
    other = picture(120, 160, 2)
    together = detector._detect_same_size([images[0], other])
    for alone, among in zip([first, *detector.detect([other])], together, strict=True):
        close(alone, among)


@pytest.mark.parametrize("name", [FASTER, SSD, "fasterrcnn_resnet50_fpn_v2"])
def test_folding_the_norms_changes_the_last_digits_only(name):
    torch.manual_seed(0)
    network = get_model(name, weights=None, weights_backbone=None, num_classes=len(CLASSES)).eval()
    for part in network.modules():
        if hasattr(part, "running_mean"):
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.5, 2)
            part.bias.data.uniform_(-0.1, 0.1)
    pixels = torch.rand(1, 3, 96, 128)
    with torch.inference_mode():
        before = network.backbone(pixels)
        fold_norms(network)
        after = network.backbone(pixels)
    assert not any(isinstance(part, torch.nn.BatchNorm2d | FrozenBatchNorm2d) for part in network.backbone.modules())
    for level, value in before.items():
        assert torch.allclose(after[level], value, rtol=1e-3, atol=1e-5 * float(value.abs().max()))
