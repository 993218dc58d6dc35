"""`images.precision: auto`: when bfloat16 is chosen, and what is recorded."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from tests.pipeline.image.detectors.small_models import CLASSES, SSD, THRESHOLDS, picture

from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.beam.detection import DetectRegions
from vlmixer.pipeline.commands.main import main
from vlmixer.pipeline.config import ImageSettings
from vlmixer.pipeline.image.detectors.base import Detections
from vlmixer.pipeline.image.detectors.choosing import Choice, choose, count_alike
from vlmixer.pipeline.image.detectors.loading import detector_spec, load_detector
from vlmixer.pipeline.image.photos import Photo
from vlmixer.pipeline.image.readers.base import ImageRef

BOX = [10.0, 10.0, 110.0, 110.0]


def detections(*regions: tuple[list[float], float, int]) -> Detections:
    boxes, scores, labels = zip(*regions, strict=True) if regions else ((), (), ())
    shaped = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(shaped, np.array(scores, np.float32), np.array(labels, int), np.zeros((len(scores), 1)))


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        ((BOX, 0.9, 1), 1),
        ((BOX, 0.94, 1), 1),
        ((BOX, 0.96, 1), 0),
        ((BOX, 0.9, 2), 0),
        (([10, 10, 110, 100], 0.9, 1), 1),  # an overlap of 0.9
        (([10, 10, 110, 90], 0.9, 1), 0),  # of 0.8
    ],
)
def test_what_is_alike(other, alike):
    assert count_alike(detections((BOX, 0.9, 1)), detections(other)) == alike


def test_each_region_has_one_like_at_most():
    one = detections((BOX, 0.9, 1))
    assert count_alike(one, detections((BOX, 0.9, 1), (BOX, 0.9, 1))) == 1
    assert count_alike(one, detections()) == 0


class Ticking:
    """A clock that a detector moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Fake:
    """Finds four things in every photo, but for `odd` photos, where it finds them elsewhere."""

    labels = ("dog",)
    feature_dim = 1

    def __init__(self, clock: Ticking, seconds: float, odd: int = 0) -> None:
        self.clock, self.seconds, self.odd, self.calls = clock, seconds, odd, 0

    def detect(self, images):
        first = self.calls % 2 == 0
        self.calls += 1
        self.clock.now += 50 if first else self.seconds  # the first time, kernels are made
        if images[0].max() > 250:
            raise RuntimeError("too bright")
        shift = 60.0 if self.odd * 2 >= self.calls else 0.0
        found = [([200.0 * n + shift, 0, 200 * n + 100 + shift, 100], 0.9, 0) for n in range(4)]
        return [detections(*found, ([0, 0, 9, 9], 0.1 + self.seconds / 100, 0))]


def photos(number: int, bright: int = 0) -> list[Photo]:
    made = [np.full((4, 4, 3), 255 if n < bright else n, np.uint8) for n in range(number)]
    return [Photo(ImageRef(str(n), "a.tar", str(n)), 4, 4, pixels) for n, pixels in enumerate(made)]


@pytest.mark.parametrize(
    ("seconds", "odd", "number", "precision", "same"),
    [
        (1.0, 0, 8, "bfloat16", 64),
        (1.75, 0, 8, "float32", 64),  # hardly faster
        (4.0, 0, 8, "float32", 64),  # slower
        (1.0, 1, 8, "float32", 56),  # another result on one photo
        (1.0, 1, 40, "bfloat16", 312),  # which is within the tolerance
        (1.0, 0, 2, "float32", 16),  # too few regions
        (1.0, 0, 0, "float32", 0),
    ],
)
def test_what_is_chosen(seconds, odd, number, precision, same):
    clock = Ticking()
    made = {"float32": Fake(clock, 2.0), "bfloat16": Fake(clock, seconds, odd)}
    choice = choose(made.__getitem__, photos(number), 0.3, clock)
    assert choice == Choice(number, 2.0 / seconds if number else 0.0, 8 * number, same)
    assert choice.precision == precision
    assert str(choice).startswith(f"{precision}. On {number} photos, bfloat16 is ")


def test_photos_that_the_detector_refuses_do_not_count():
    clock = Ticking()
    choice = choose(lambda _: Fake(clock, 1.0), photos(6, bright=2), 0.3, clock)
    assert (choice.photos, choice.regions) == (4, 32)


def test_which_detectors_have_it():
    def spec(**settings):
        return detector_spec(ImageSettings(**settings), ())

    assert spec(detector="demo", precision="auto").options == {}
    assert spec(detector="m:Class", precision="auto", detector_options={"size": 3}).options == {"size": 3}
    assert spec(detector="torchvision:x", precision="bfloat16").options == {"precision": "bfloat16"}
    assert spec(detector="torchvision:x", precision="float32").options == {}
    with pytest.raises(CallError, match=r"images.precision: bfloat16 is for torchvision:NAME and .*'demo'"):
        spec(detector="demo", precision="bfloat16")
    with pytest.raises(CallError, match=r"detector_options has a precision, too"):
        spec(detector="torchvision:x", precision="auto", detector_options={"precision": "float32"})
    with pytest.raises(CallError, match="auto needs a run that records the choice"):
        DetectRegions("torchvision:x", settings=ImageSettings(precision="auto", device="cpu"))


@pytest.fixture
def settings(weights, tmp_path) -> Path:
    """A config of a small network with random weights, which finds many regions."""
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.fromarray(picture(64, 80, number)).save(tmp_path / "photos" / f"{number}.png")
    config = tmp_path / "config.json"
    images = {
        "inputs": [str(tmp_path / "photos")], "detector": f"torchvision:{SSD}", "device": "cpu",
        "weights": str(weights / f"{SSD}.safetensors"), "detector_options": {"classes": CLASSES},
        "score_threshold": THRESHOLDS[SSD],
    }  # fmt: skip
    config.write_text(json.dumps({"vocabulary": str(tmp_path / "v.txt"), "images": images}))
    (tmp_path / "v.txt").write_text("dog\nkite\ncar\n")
    return config


def detect(config: Path, out: Path, precision: str) -> str:
    assert (
        main(["detect", str(config), "--out", str(out), "--workers", "1", "--set", f"images.precision={precision}"])
        == 0
    )
    found: str = (out / "regions" / "manifest.json").read_text()
    return found


def test_the_choice_is_recorded_and_kept(settings, tmp_path, capsys):
    chosen = detect(settings, tmp_path / "auto", "auto")
    said = capsys.readouterr().err
    recorded = json.loads(chosen)["details"]["detector"]["options"].get("precision", "float32")
    assert f"auto is {recorded}. On 3 photos" in said
    assert detect(settings, tmp_path / "auto", "auto") == chosen
    assert "auto is" not in capsys.readouterr().err, "it is not measured again"
    assert (
        json.loads(detect(settings, tmp_path / "given", recorded))["content_hash"] == json.loads(chosen)["content_hash"]
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_result_of_a_given_precision_is_taken_for_the_choice(settings, tmp_path, capsys, precision):
    given = detect(settings, tmp_path / "out", precision)
    assert detect(settings, tmp_path / "out", "auto") == given
    assert "auto is" not in capsys.readouterr().err


def test_a_detector_whose_format_is_open_computes_in_float32(weights):
    def found(precision: Literal["auto", "float32", "bfloat16"]) -> Detections:
        images = ImageSettings(
            detector=f"torchvision:{SSD}", device="cpu", precision=precision, score_threshold=THRESHOLDS[SSD],
            weights=str(weights / f"{SSD}.safetensors"), detector_options={"classes": CLASSES},
        )  # fmt: skip
        return load_detector(detector_spec(images, ())).detect([picture(64, 80)])[0]

    assert np.array_equal(found("auto").features, found("float32").features)
    assert not np.array_equal(found("auto").features, found("bfloat16").features)
