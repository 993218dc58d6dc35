"""The check that authors of detectors run: it passes what is right, and names what is wrong."""

from dataclasses import replace

import numpy as np
import pytest

from vlmixer.pipeline.demo.detector import DemoDetector
from vlmixer.pipeline.image.detectors.base import Detections, no_detections
from vlmixer.pipeline.image.detectors.contract import check_detector, main


class Middle:
    """One region, the middle of the picture; `change` spoils its result."""

    labels = ("person",)
    feature_dim = 3

    def __init__(self, change=lambda found, image: found):
        self.change = change

    def detect(self, images):
        return [self.change(self.one(image), image) for image in images]

    def one(self, image):
        height, width = image.shape[:2]
        box = np.array([[width / 4, height / 4, width * 3 / 4, height * 3 / 4]], np.float32)
        colour = image.reshape(-1, 3).mean(axis=0, dtype=np.float64)[None] / 255
        return Detections(box, np.ones(1, np.float32), np.zeros(1, np.int64), colour.astype(np.float32))


def photo():
    return np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def test_a_detector_that_is_in_order():
    assert check_detector(Middle()) == 10
    assert check_detector(Middle(), [photo()]) == 11
    assert check_detector(Middle(lambda found, image: no_detections(3))) == 0
    assert check_detector(Middle(lambda found, image: no_detections(3)), [photo()], expect_regions=False) == 0


def test_the_demos_own_detector_and_thin_images():
    check_detector(DemoDetector(score_threshold=0.0))


def test_torchvisions(tmp_path):
    import torch
    from torchvision.models import get_model

    from vlmixer.pipeline.image.detectors.torchvision_models import TorchvisionDetector

    name = "ssdlite320_mobilenet_v3_large"
    torch.save(get_model(name, weights=None, weights_backbone=None, num_classes=3).state_dict(), tmp_path / "w.pth")
    path = str(tmp_path / "w.pth")
    detector = TorchvisionDetector(name, path, classes=["__background__", "a", "b"], score_threshold=0.1, min_size=None)
    assert check_detector(detector) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found, _: replace(found, boxes=found.boxes[0]), r"boxes .*expected shape \(1, 4\), found \(4,\)"),
        (lambda found, _: replace(found, boxes=found.boxes.astype(np.float64)), "expected float32, found float64"),
        (lambda found, _: replace(found, labels=found.labels.astype(np.int32)), "labels .*expected int64"),
        (lambda found, _: replace(found, labels=found.labels + 1), "labels .*expected 0 … 0"),
        (lambda found, _: replace(found, boxes=found.boxes[:, [2, 1, 0, 3]]), "expected x1 <= x2"),
        (lambda found, _: replace(found, boxes=found.boxes * 10), "outside the image"),
        (lambda found, _: replace(found, scores=found.scores * 100), "scores .*expected 0 to 1"),
        (lambda found, _: replace(found, features=found.features * 1e6), "that float16 holds"),
        (lambda found, _: replace(found, features=found.features * np.nan), "that float16 holds"),
        (lambda found, _: replace(found, features=found.features[:, :2]), r"features .*expected shape \(1, 3\)"),
        (lambda found, _: replace(found, features=found.features.tolist()), "expected an array, found list"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(change, message):
    with pytest.raises(AssertionError, match=message):
        check_detector(Middle(change))


def test_neighbours_and_memory_of_earlier_images_are_noticed():
    class Padded(Middle):
        def detect(self, images):
            widest = max((image.shape[1] for image in images), default=0)
            return [replace(found, features=found.features + widest) for found in super().detect(images)]

    class Remembering(Middle):
        seen = 0.0

        def one(self, image):
            self.seen += 1
            found = super().one(image)
            return replace(found, scores=found.scores / np.float32(self.seen))

    for wrong in (Padded(), Remembering()):
        with pytest.raises(AssertionError, match="differ from those of the image alone"):
            check_detector(wrong)


def test_images_must_stay_as_they_are_and_photos_show_something():
    class Writing(Middle):
        def one(self, image):
            image[:] = 0
            return super().one(image)

    with pytest.raises(AssertionError, match="detect raised for 10 of 10"):
        check_detector(Writing())
    with pytest.raises(AssertionError, match="no region was found in the photos"):
        check_detector(Middle(lambda found, image: no_detections(3)), [photo()])


def test_an_image_that_is_refused_is_left_to_the_pipeline_but_a_photo_is_not():
    def refuse(found, image):
        if image.shape[:2] in ((1, 1), (50, 70)):
            raise RuntimeError("no")
        return found

    assert check_detector(Middle(refuse)) == 9
    with pytest.raises(AssertionError, match=r"a photo of \(50, 70, 3\) raised RuntimeError"):
        check_detector(Middle(refuse), [photo()])


def test_as_a_command(tmp_path, capsys, monkeypatch):
    from PIL import Image

    Image.fromarray(photo()).save(tmp_path / "a.png")
    assert main(["demo", "--option", "nms_threshold=0.4", "--score-threshold", "0"]) == 0
    assert "demo: keeps the contract" in capsys.readouterr().out
    assert main(["demo", str(tmp_path / "missing.png")]) == 1
    assert main(["no_such_module:Class"]) == 1
    assert "no module 'no_such_module'" in capsys.readouterr().err
