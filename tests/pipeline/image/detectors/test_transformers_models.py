"""Detectors of transformers find what the library itself finds, one image at a time, with its own modules."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.pipeline.image.detectors.small_models import close, equal, picture
from tests.pipeline.image.detectors.small_transformers import BY_EDGE, KINDS, LABELS, write_model
from transformers import AutoImageProcessor, AutoModelForObjectDetection

from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.image.detectors.contract import check_detector
from vlmixer.pipeline.image.detectors.loading import DetectorSpec, load_detector
from vlmixer.pipeline.image.detectors.transformers_folder import quiet
from vlmixer.pipeline.image.detectors.transformers_models import TransformersDetector, canvas

IMAGES = [picture(60, 80), picture(90, 45, 1), picture(33, 70, 2), picture(60, 80, 3)]


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory) -> tuple[str, str]:
    """A kind of model, and its folder."""
    return request.param, str(write_model(request.param, tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def detr(tmp_path_factory) -> str:
    return str(write_model("detr", tmp_path_factory.mktemp("detr")))


def direct(kind: str, folder: str, image: np.ndarray) -> list[tuple[float, int, np.ndarray, np.ndarray]]:
    """(score, label, box, feature) of each region, from the library alone. The feature is what went into the layer that
    predicts classes."""
    with quiet():
        network = AutoModelForObjectDetection.from_pretrained(folder).eval()
        processor = AutoImageProcessor.from_pretrained(folder)
    states: list[torch.Tensor] = []
    head = network.get_submodule(KINDS[kind][1])
    head.register_forward_hook(lambda module, given, result: states.append(given[0]))
    with torch.inference_mode():
        outputs = network(**processor(images=Image.fromarray(image), return_tensors="pt"))
    height, width = image.shape[:2]
    (found,) = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=[(height, width)])
    x, y, w, h = (outputs.pred_boxes[0] * torch.tensor([width, height, width, height])).unbind(1)
    corners = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)
    # YOLOS and the first DETR have a class "no object" after the others, and softmax.
    logits = outputs.logits[0]
    chances = logits.softmax(1) if logits.shape[1] == len(LABELS) + 1 else logits.sigmoid()
    rows = []
    for score, label, box in zip(found["scores"], found["labels"], found["boxes"], strict=True):
        distance = (corners - box).abs().sum(1) + 1000 * (chances[:, label] - score).abs()
        query = int(distance.argmin())
        assert distance[query] < 0.005
        assert (distance < 0.01).sum() == 1, "one query only can have made this box"
        inside = box.numpy().clip(0, [width, height, width, height])
        rows.append((float(score), int(label), inside, states[-1][0, query].numpy()))
    return rows


def test_finds_what_the_library_finds_one_image_at_a_time(model):
    kind, folder = model
    detector = load_detector(DetectorSpec(f"transformers:{folder}", None, "cpu", 0.0))
    assert detector.labels == LABELS
    for image, found in zip(IMAGES, detector.detect(IMAGES), strict=True):
        expected = direct(kind, folder, image)
        assert len(found.scores) == len(expected) >= 7
        assert len({tuple(row) for row in found.features.tolist()}) > 1
        assert found.features.shape == (len(expected), detector.feature_dim)
        for row, (score, label, box, feature) in enumerate(expected):
            assert found.labels[row] == label
            assert found.scores[row] == pytest.approx(score, abs=1e-4)
            assert np.allclose(found.boxes[row], box, atol=1e-3)
            assert np.allclose(found.features[row], feature, atol=1e-4)


def test_keeps_the_contract_of_detectors(model):
    detector = TransformersDetector(model[1], score_threshold=0.0)
    assert check_detector(detector, [picture(50, 70, 5)]) > 40


def test_images_of_one_size_together_are_found_as_alone(model):
    """As they go on an accelerator. There is no padding between them, so only the last digits differ."""
    detector = TransformersDetector(model[1], score_threshold=0.0)
    alike = [IMAGES[0], IMAGES[3]]
    for alone, among in zip(detector.detect(alike), detector._detect_same_size(alike), strict=True):
        close(alone, among)


def test_the_threshold_drops_the_rest_and_may_drop_all(detr):
    (every,) = TransformersDetector(detr, score_threshold=0.0).detect(IMAGES[:1])
    middle = float(np.median(every.scores))
    (some,) = TransformersDetector(detr, score_threshold=middle).detect(IMAGES[:1])
    assert some.scores.tolist() == [score for score in every.scores.tolist() if score >= middle]
    (none,) = TransformersDetector(detr, score_threshold=1.0).detect(IMAGES[:1])
    assert [array.shape for array in vars(none).values()] == [(0, 4), (0,), (0,), (0, 16)]


def test_read_only_images_are_taken_without_warning(detr):
    image = picture(60, 80)
    image.flags.writeable = False
    detector = TransformersDetector(detr, score_threshold=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = detector.detect([image])
        (turned,) = detector.detect([np.asfortranarray(image)])
    assert equal(found, turned)


def test_a_size_of_ones_own_and_classes(detr, tmp_path):
    options: dict[str, Any] = {"score_threshold": 0.0}
    (usual,) = TransformersDetector(detr, **options).detect(IMAGES[:1])
    (same,) = TransformersDetector(detr, size=BY_EDGE, **options).detect(IMAGES[:1])
    (other,) = TransformersDetector(detr, size={"shortest_edge": 32, "longest_edge": 64}, **options).detect(IMAGES[:1])
    assert equal(usual, same)
    assert not np.array_equal(usual.boxes, other.boxes)
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    assert TransformersDetector(detr, classes=str(tmp_path / "names.txt")).labels == ["a", "b", "c", "d", "e"]
    with pytest.raises(CallError, match=r"classes: 2 names, but .* has 5 classes"):
        TransformersDetector(detr, classes=["a", "b"])


def test_boxes_on_an_image_padded_to_a_fixed_size(detr):
    """The processor's annotations for training say what relative boxes mean."""
    image, box = picture(60, 80), [20, 30, 40, 25]  # COCO's x, y, width, height
    annotation = {
        "image_id": 0,
        "annotations": [{"image_id": 0, "category_id": 0, "bbox": box, "area": 1000, "iscrowd": 0}],
    }
    for pad in ({"height": 96, "width": 128}, None):
        processor = AutoImageProcessor.from_pretrained(detr, pad_size=pad)
        inputs = processor(images=image, annotations=annotation, return_tensors="pt")
        x, y, w, h = inputs["labels"][0]["boxes"][0].tolist()
        height, width = canvas(image.shape, inputs)
        assert [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height] == pytest.approx(box, abs=0.1)
        assert (height, width) == ((60, 80) if pad is None else (pytest.approx(120), pytest.approx(160)))
