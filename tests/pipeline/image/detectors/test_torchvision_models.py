"""The models have random weights: what is checked is that we read them as torchvision does."""

import json
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import detection, get_model, list_models
from torchvision.ops import roi_align
from torchvision.ops.misc import FrozenBatchNorm2d

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.pipeline.image.detectors.loading import DetectorSpec, load_detector
from vlmixer.pipeline.image.detectors.torchvision_models import TorchvisionDetector, fold_norms, set_precision, together

FASTER = "fasterrcnn_mobilenet_v3_large_320_fpn"
SSD = "ssdlite320_mobilenet_v3_large"
CLASSES = ["__background__", "dog", "kite", "car"]
THRESHOLDS = {FASTER: 0.25, SSD: 0.1}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for name in (FASTER, SSD):
        torch.manual_seed(0)
        network = get_model(name, weights=None, weights_backbone=None, num_classes=len(CLASSES))
        save_file(network.state_dict(), folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module")
def make(weights):
    def make(name):
        path = str(weights / f"{name}.safetensors")
        return TorchvisionDetector(name, path, score_threshold=THRESHOLDS[name], classes=CLASSES)

    return make


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def reference(weights, name):
    network = get_model(name, weights=None, weights_backbone=None, num_classes=len(CLASSES))
    network.load_state_dict(load_file(weights / f"{name}.safetensors"))
    (network.roi_heads if name == FASTER else network).score_thresh = THRESHOLDS[name]
    fold_norms(network.eval())
    return network.to(memory_format=torch.channels_last)


def equal(one, other):
    return all(np.array_equal(value, vars(other)[key]) for key, value in vars(one).items())


def close(one, other):
    """The same regions: arithmetic on several images at a time differs in the last digits, and so may the order."""
    assert len(one.scores) == len(other.scores) > 0
    distances = np.abs(one.boxes[:, None] - other.boxes).max(2) + 1000.0 * (one.labels[:, None] != other.labels)
    rows = distances.argmin(1)
    assert sorted(rows) == list(range(len(rows)))
    assert distances.min(1).max() < 1e-2
    assert np.allclose(one.scores, other.scores[rows], atol=1e-4)
    assert np.allclose(one.features, other.features[rows], atol=1e-2)


def test_on_an_accelerator_images_of_one_size_go_together():
    shapes = [(3, 4, 3), (5, 4, 3), (3, 4, 3), (4, 3, 3), (5, 4, 3)]
    assert together(shapes, "cuda") == [[0, 2], [1, 4], [3]]
    assert together(shapes, "cpu") == [[0], [1], [2], [3], [4]]
    assert together([], "cuda") == []


@pytest.mark.parametrize("name", [FASTER, SSD])
def test_images_of_one_size_together_are_found_as_alone(make, name):
    detector = make(name)
    images = [picture(120, 160, seed) for seed in range(3)]
    for alone, among in zip(detector.detect(images), detector._detect_alike(images), strict=True):
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
    nothing, *others = detector._detect_alike(images)
    assert [array.shape for array in vars(nothing).values()] == [(0, 4), (0,), (0,), (0, 1024)]
    for alone, among in zip(expected[1:], others, strict=True):
        close(alone, among)
    (alone,) = detector._detect_alike(images[:1])
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


def test_pth_files_are_read_also_within_a_checkpoint(weights, make, tmp_path):
    state = load_file(weights / f"{SSD}.safetensors")
    (expected,) = make(SSD).detect([picture(60, 80)])
    for content in (state, {"model": state, "epoch": 3}):
        torch.save(content, tmp_path / "w.pth")
        spec = DetectorSpec(f"torchvision:{SSD}", str(tmp_path / "w.pth"), "cpu", THRESHOLDS[SSD], {"classes": CLASSES})
        assert equal(load_detector(spec).detect([picture(60, 80)])[0], expected)


class Anything:
    """What a pickle may hold."""


def test_weights_that_do_not_fit(weights):
    with pytest.raises(UserError, match=r"images\.weights: .*does not fit ssdlite.* with 4 classes: ") as caught:
        TorchvisionDetector(SSD, str(weights / f"{FASTER}.safetensors"), classes=CLASSES)
    assert "Give images.detector_options.classes" in str(caught.value)
    assert len(str(caught.value)) < 1000
    with pytest.raises(UserError, match=r"does not fit ssdlite.* with 91 classes"):
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
    size = {} if name == "ssd300_vgg16" else SMALL
    classes = CLASSES[:2] if name.startswith("keypoint") else CLASSES
    torch.manual_seed(0)
    network = get_model(name, weights=None, weights_backbone=None, num_classes=len(classes)).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors", {"classes": json.dumps(classes)})
    detector = TorchvisionDetector(name, str(tmp_path / "w.safetensors"), score_threshold=threshold, **size)
    assert list(detector.labels) == classes, "the file tells its classes"
    getattr(network, "roi_heads", network).score_thresh = threshold
    if size:
        network.transform.min_size, network.transform.max_size = (96,), 160
    fold_norms(network)
    network.to(memory_format=torch.channels_last)
    images = [picture(120, 160), picture(200, 90, 1)]
    for image, found in zip(images, detector.detect(images), strict=True):
        with torch.inference_mode():
            (expected,) = network([torch.tensor(image).permute(2, 0, 1) / 255])
        assert len(found.boxes) > 0
        for key in ("boxes", "scores", "labels"):
            assert np.array_equal(vars(found)[key], expected[key].numpy()), key
        assert found.features.shape == (len(found.boxes), width)
        assert np.isfinite(found.features).all()
        assert found.features.std() > 0
    for alone, among in zip([detector.detect([image])[0] for image in images], detector.detect(images), strict=True):
        assert equal(alone, among)
    alike = [images[0], picture(120, 160, 2)]
    for alone, among in zip(detector.detect(alike), detector._detect_alike(alike), strict=True):
        close(alone, among)


@pytest.mark.parametrize("name", [FASTER, SSD, "fasterrcnn_resnet50_fpn_v2", "fasterrcnn_resnet50_fpn"])
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


def test_the_size_that_the_network_sees(weights):
    path = str(weights / f"{FASTER}.safetensors")
    options = {"score_threshold": THRESHOLDS[FASTER], "classes": CLASSES}
    image = picture(120, 160)
    (usual,) = TorchvisionDetector(FASTER, path, **options).detect([image])
    (small,) = TorchvisionDetector(FASTER, path, min_size=100, max_size=100, **options).detect([image])
    assert not np.array_equal(usual.boxes, small.boxes)
    assert small.boxes.max() > 100, "boxes are in pixels of the image all the same"
    with pytest.raises(CallError, match="sees one size only"):
        TorchvisionDetector(SSD, str(weights / f"{SSD}.safetensors"), classes=CLASSES, min_size=100)


def test_bfloat16_is_nearly_the_same_and_channels_last_even_more_so(weights, make):
    path = str(weights / f"{SSD}.safetensors")
    (expected,) = make(SSD).detect([picture(320, 320)])
    options = {"score_threshold": THRESHOLDS[SSD], "classes": CLASSES}
    (plain,) = TorchvisionDetector(SSD, path, channels_last=False, **options).detect([picture(320, 320)])
    assert np.allclose(plain.boxes, expected.boxes, atol=0.01)
    (half,) = TorchvisionDetector(SSD, path, precision="bfloat16", **options).detect([picture(320, 320)])
    assert half.features.dtype == np.float32
    assert not np.array_equal(half.features, expected.features)
    one, other = half.features.mean(axis=0), expected.features.mean(axis=0)
    assert np.linalg.norm(one - other) < 0.1 * np.linalg.norm(other)
    with pytest.raises(CallError, match="precision: expected float32 or bfloat16, found 'half'"):
        TorchvisionDetector(SSD, path, precision="half", **options)


def test_a_trained_network_finds_the_same_in_bfloat16(tmp_path):
    """The demo's, on its drawn pictures. Boxes computed in bfloat16 would be doubled: pixels are too coarse in it."""
    from PIL import Image
    from torchvision.ops import box_iou

    from vlmixer.pipeline.demo.detector import WEIGHTS, build_network, fit
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
                pixels = torch.tensor(fit(np.asarray(Image.open(path)))).permute(2, 0, 1) / 255
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
