"""Encoders of regions give what timm and transformers give for the same pixels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.pipeline.image.detectors.small_models import picture
from tests.pipeline.image.encoders.small_encoders import ENCODERS, write_encoder, write_timm
from torchvision import transforms
from torchvision.ops import roi_align
from transformers import AutoImageProcessor, AutoModel

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.pipeline.image.detectors.base import Detections
from vlmixer.pipeline.image.detectors.contract import check_detector
from vlmixer.pipeline.image.encoders.regions import WithFeatures, around, load_encoder, unit, warped

IMAGE = picture(90, 120)
BOXES = np.array([[10, 20, 50, 60], [0, 0, 120, 90], [60.5, 5.25, 70.5, 80], [100, 80, 140, 95]], np.float32)
TIMM = ("test_efficientnet", "test_vit", "test_convnext")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("timm")
    return {name: str(write_timm(name, folder / f"{name}.safetensors")) for name in TIMM}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    return {kind: str(write_encoder(kind, tmp_path_factory.mktemp(kind) / kind)) for kind in ENCODERS}


def crop(box: np.ndarray, pixels: int) -> Image.Image:
    box = box.astype(float)
    x, y, side = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, max(box[2] - box[0], box[3] - box[1])
    edges = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])
    left, top, right, bottom = np.array(edges, float).clip(0, [120, 90, 120, 90]).tolist()
    return Image.fromarray(IMAGE).resize((pixels, pixels), Image.Resampling.BICUBIC, box=(left, top, right, bottom))


def direct_timm(name: str, weights: str, pictures: list[Image.Image]) -> tuple[Any, torch.Tensor]:
    """The model, and the pictures as timm's documentation prepares them."""
    network = timm.create_model(name, pretrained=False, num_classes=0).eval()
    network.load_state_dict(load_file(weights))
    cfg: Any = network.pretrained_cfg
    prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize(cfg["mean"], cfg["std"])])
    return network, torch.stack([prepare(entry) for entry in pictures])


@pytest.mark.parametrize("name", TIMM)
def test_crops_through_timm(weights, name):
    encoder = load_encoder(f"timm:{name}", {"weights": weights[name]}, "cpu")
    side = encoder.network.size
    network, pixels = direct_timm(name, weights[name], [crop(box, side) for box in BOXES])
    with torch.inference_mode():
        expected = network(pixels).numpy()
    assert np.allclose(encoder.encode(IMAGE, BOXES), expected, atol=1e-4)
    assert encoder.width == expected.shape[1]
    assert encoder.identity["width"] == encoder.width
    assert encoder.identity["pooling"] == "crop"


@pytest.mark.parametrize("name", TIMM)
def test_the_map_of_timm_over_regions(weights, name):
    encoder = load_encoder(f"timm:{name}", {"weights": weights[name], "pooling": "map"}, "cpu")
    side = encoder.network.size
    whole = Image.fromarray(IMAGE).resize((side, side), Image.Resampling.BICUBIC)
    network, pixels = direct_timm(name, weights[name], [whole])
    with torch.inference_mode():
        level = network.forward_features(pixels)
    if level.dim() == 3:
        level = level[:, network.num_prefix_tokens :].transpose(1, 2).unflatten(2, (side // 16, side // 16))
    rows, columns = level.shape[2:]
    scaled = torch.tensor(BOXES * [columns / 120, rows / 90, columns / 120, rows / 90], dtype=torch.float32)
    expected = roi_align(level, [scaled], 1, sampling_ratio=2, aligned=True).flatten(1)
    assert np.allclose(encoder.encode(IMAGE, BOXES), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ENCODERS)
def test_crops_through_transformers(folders, kind):
    encoder = load_encoder(f"transformers:{folders[kind]}", {}, "cpu")
    network: Any = AutoModel.from_pretrained(folders[kind]).eval()
    processor = AutoImageProcessor.from_pretrained(folders[kind])
    # A square of the processor's own size is neither resized nor cut.
    pixels = processor(images=[crop(box, encoder.network.size) for box in BOXES], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        if kind in ("clip", "siglip"):
            expected = network.get_image_features(pixel_values=pixels).pooler_output
        elif kind == "vit":
            expected = network(pixels).last_hidden_state[:, 0]
        else:
            expected = network(pixels).pooler_output.flatten(1)
    assert np.allclose(encoder.encode(IMAGE, BOXES), expected, atol=1e-4)
    assert encoder.width == expected.shape[1]


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_map_of_transformers_over_regions(folders, kind):
    encoder = load_encoder(f"transformers:{folders[kind]}", {"pooling": "map"}, "cpu")
    network: Any = AutoModel.from_pretrained(folders[kind]).eval()
    processor = AutoImageProcessor.from_pretrained(folders[kind])
    whole = Image.fromarray(IMAGE).resize((encoder.network.size,) * 2, Image.Resampling.BICUBIC)
    pixels = processor(images=[whole], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        level = getattr(network, "vision_model", network)(pixels).last_hidden_state
    prefix = {"clip": 1, "siglip": 0, "dinov2": 4, "vit": 1}
    if kind in prefix:
        level = level[:, prefix[kind] :].transpose(1, 2).unflatten(2, (4, 4))
    rows, columns = level.shape[2:]
    scaled = torch.tensor(BOXES * [columns / 120, rows / 90, columns / 120, rows / 90], dtype=torch.float32)
    expected = roi_align(level, [scaled], 1, sampling_ratio=2, aligned=True).flatten(1)
    assert np.allclose(encoder.encode(IMAGE, BOXES), expected, atol=1e-4)


def test_pictures_of_another_size(folders, weights):
    for part, options in (
        (f"transformers:{folders['dinov2']}", {}), (f"transformers:{folders['clip']}", {}),
        ("timm:test_efficientnet", {"weights": weights["test_efficientnet"]}),
    ):  # fmt: skip
        usual, larger = (load_encoder(part, options | size, "cpu") for size in ({}, {"size": 64}))
        assert larger.identity["size"] == 64
        assert larger.width == usual.width
        assert not np.allclose(larger.encode(IMAGE, BOXES), usual.encode(IMAGE, BOXES), atol=1e-3)


def test_squares_are_inside_the_picture_and_never_empty():
    whole = Image.fromarray(IMAGE)
    assert np.array_equal(warped(whole, np.array([-5, -5, 500, 500]), 32), np.asarray(whole.resize((32, 32))))
    assert warped(whole, np.array([200, 200, 200, 200]), 8).shape == (8, 8, 3)
    assert warped(Image.fromarray(IMAGE[:1, :1]), np.array([0, 0, 0, 0]), 8).shape == (8, 8, 3)
    assert around(np.array([10.0, 20, 14, 40])).tolist() == [2, 20, 22, 40]


class Halves:
    """Finds the left and the right half of every image."""

    labels = ("dog", "cat")
    feature_dim = 2

    def detect(self, images):
        return [self.one(image.shape[0], image.shape[1]) for image in images]

    def one(self, height, width):
        boxes = np.array([[0, 0, width / 2, height], [width / 2, 0, width, height]], np.float32)
        return Detections(boxes, np.ones(2, np.float32), np.array([0, 1]), np.array([[3, 4], [0, 0]], np.float32))


def test_several_parts_are_of_unit_length_each(weights, folders):
    encoder = load_encoder("timm:test_efficientnet", {"weights": weights["test_efficientnet"]}, "cpu")
    other = load_encoder(f"transformers:{folders['dinov2']}", {"pooling": "map"}, "cpu")
    detector = WithFeatures(Halves(), [None, encoder, other])
    (found,) = detector.detect([IMAGE])
    own, first, second = np.split(found.features, [2, 2 + encoder.width], axis=1)
    assert detector.feature_dim == 2 + encoder.width + 16 == found.features.shape[1]
    assert own.ravel().tolist() == pytest.approx([0.6, 0.8, 0, 0])
    assert np.allclose(first, unit(encoder.encode(IMAGE, found.boxes)), atol=1e-6)
    assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    assert np.allclose(np.linalg.norm(second, axis=1), 1, atol=1e-5)
    (alone,) = WithFeatures(Halves(), [encoder]).detect([IMAGE])
    assert np.array_equal(alone.features, encoder.encode(IMAGE, found.boxes)), "a single part stays as it is"
    assert check_detector(detector, [IMAGE]) == 22


def test_a_folder_in_timms_format(weights, tmp_path):
    (tmp_path / "mine").mkdir()
    save_file(load_file(weights["test_vit"]), tmp_path / "mine" / "model.safetensors")
    (tmp_path / "mine" / "config.json").write_text(
        '{"architecture": "test_vit", "pretrained_cfg": {"mean": [0, 0, 0], "std": [1, 1, 1]}}'
    )
    found = load_encoder(f"timm:{tmp_path / 'mine'}", {}, "cpu")
    assert found.identity["name"] == "timm:mine"
    assert found.identity["mean"] == [0, 0, 0]
    usual = load_encoder("timm:test_vit", {"weights": weights["test_vit"]}, "cpu")
    assert found.identity["weights"] == usual.identity["weights"]
    assert not np.allclose(found.encode(IMAGE, BOXES), usual.encode(IMAGE, BOXES), atol=1e-3)


@pytest.mark.parametrize(
    "settings", [{"input_size": [3, 5000, 5000]}, {"input_size": "x"}, {"mean": "x"}, {"std": None}, {"input_size": []}]
)
def test_settings_of_timm_that_are_none(weights, tmp_path, settings):
    save_file(load_file(weights["test_vit"]), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_vit", "pretrained_cfg": settings}))
    with pytest.raises(UserError, match=r"its input_size, mean or std is none of timm's"):
        load_encoder(f"timm:{tmp_path}", {}, "cpu")


def test_mistakes_are_named(weights, folders, tmp_path):
    def fails(part: str, kind: type[Exception] = CallError, **options: Any) -> str:
        with pytest.raises(kind) as caught:
            load_encoder(part, options, "cpu")
        assert str(caught.value).startswith("images.feature")
        return str(caught.value)

    assert "timm has no model 'no_such'" in fails("timm:no_such")
    assert "timm has no model 'hf-hub:someone/x'" in fails("timm:hf-hub:someone/x")
    assert "`hf download timm/test_vit.r160_in1k`" in fails("timm:test_vit")
    assert "no such file of weights: none.pth" in fails("timm:test_vit", weights="none.pth")
    assert "does not fit timm's test_vit" in fails("timm:test_vit", UserError, weights=weights["test_convnext"])
    assert "expected crop or map, found 'roi'" in fails("timm:test_vit", weights=weights["test_vit"], pooling="roi")
    assert "unexpected keyword argument 'colour'" in fails("timm:test_vit", colour=1)
    assert "'clip' is unknown. Expected detector, timm:NAME" in fails("clip")
    assert "no such folder" in fails(f"transformers:{tmp_path / 'none'}")
    Path(folders["vit"], "pytorch_model.bin").write_bytes(b"")
    assert load_encoder(f"transformers:{folders['vit']}", {}, "cpu").width == 16


def test_a_size_that_the_network_cannot_take(folders):
    with pytest.raises(UserError, match=r"transformers:vit cannot encode a picture of 4 pixels with map"):
        load_encoder(f"transformers:{folders['vit']}", {"size": 4, "pooling": "map"}, "cpu")
