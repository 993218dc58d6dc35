"""ONNX exports with non-maximum suppression inside, on tiny models whose answers are known."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from examples.yolo_onnx import YoloOnnx
from onnx import TensorProto, helper, numpy_helper

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.pipeline.image.detectors.contract import check_detector

NAMES = "{0: 'ant', 1: 'bee', 2: 'cow'}"
HEIGHT, WIDTH = 64, 96


def save(
    path: Path,
    outputs: dict[str, np.ndarray],
    *,
    names: str | None = NAMES,
    shape: Sequence[int | str] = (1, 3, HEIGHT, WIDTH),
) -> Path:
    """A model with constant outputs. Its input is used, so that onnxruntime keeps it, but changes nothing."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    constants = [numpy_helper.from_array(np.array(0, np.float32), "zero")]
    for name, value in outputs.items():
        constants.append(numpy_helper.from_array(value, f"{name} constant"))
        first = "nothing" if value.dtype == np.float32 else f"{name} cast"
        if value.dtype != np.float32:
            nodes.append(helper.make_node("Cast", ["nothing"], [first], to=TensorProto.INT64))
        nodes.append(helper.make_node("Add", [f"{name} constant", first], [name]))
    graph = helper.make_graph(
        nodes, "tiny", [helper.make_tensor_value_info("images", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
         for name, value in outputs.items()],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if names is not None:
        helper.set_model_props(model, {"names": names})
    onnx.save(model, path)
    return path


ROWS = np.array([[[12, 8, 60, 40, 0.9, 2], [0, 0, 96, 64, 0.5, 0], [0, 0, 0, 0, 0, 0]]], np.float32)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., YoloOnnx]:
    def make(outputs: dict[str, np.ndarray], *, model: dict[str, Any] | None = None, **options: Any) -> YoloOnnx:
        return YoloOnnx(save(tmp_path / "tiny.onnx", outputs, **(model or {})), **options)

    return make


def picture(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 50, np.uint8)


def test_ultralytics_rows_in_the_middle_of_grey(make):
    detector = make({"output0": ROWS}, score_threshold=0.1)
    assert list(detector.labels) == ["ant", "bee", "cow"]
    # 48 × 96 pixels stay as they are, with 8 rows of grey above and below.
    (found,) = detector.detect([picture(48, 96)])
    assert found.boxes.tolist() == [[12, 0, 60, 32], [0, 0, 96, 48]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.5])
    assert found.labels.tolist() == [2, 0]
    # Half the size of 128 × 96, with 24 columns of grey on either side.
    (found,) = detector.detect([picture(128, 96)])
    assert found.boxes.tolist() == [[0, 16, 72, 80], [0, 0, 96, 128]]
    assert check_detector(detector, [picture(50, 70)]) > 10


def test_other_ways_to_fit_an_image(make):
    (corner,) = make({"output0": ROWS}, fit="corner").detect([picture(32, 96)])
    assert corner.boxes.tolist() == [[12, 8, 60, 32], [0, 0, 96, 32]]
    (stretched,) = make({"output0": ROWS}, fit="stretch").detect([picture(128, 48)])
    assert stretched.boxes.tolist() == [[6, 16, 30, 80], [0, 0, 48, 128]]
    with pytest.raises(CallError, match="fit: expected centre, corner or stretch, found 'top'"):
        make({"output0": ROWS}, fit="top")


@pytest.mark.parametrize("first_axis", [True, False])
@pytest.mark.parametrize("whole", [np.int64, np.float32])
def test_boxes_scores_and_classes_apart(make, first_axis, whole):
    parts = {"scores": ROWS[0, :, 4], "class_ids": ROWS[0, :, 5].astype(whole), "boxes": ROWS[0, :, :4]}
    outputs = {name: part[None] if first_axis else part for name, part in parts.items()}
    (found,) = make(outputs).detect([picture(64, 96)])
    assert found.boxes.tolist() == [[12, 8, 60, 40], [0, 0, 96, 64]]
    assert found.labels.tolist() == [2, 0]


def test_a_threshold_and_no_regions(make):
    (found,) = make({"output0": ROWS}, score_threshold=0.6).detect([picture(64, 96)])
    assert found.labels.tolist() == [2]
    (found,) = make({"output0": ROWS}, score_threshold=0.95).detect([picture(64, 96)])
    assert [array.shape for array in vars(found).values()] == [(0, 4), (0,), (0,), (0, 5)]


def test_colours_and_scale_are_as_asked(make, monkeypatch):
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :, 0] = 255
    for options, red, white in (({}, 0, 1.0), ({"bgr": True}, 2, 1.0), ({"scale": 255}, 0, 255.0)):
        detector = make({"output0": ROWS}, **options)
        given: list[np.ndarray] = []
        run = detector._session.run

        def listening(pixels, run=run, given=given):
            given.append(pixels)
            return run(pixels)

        monkeypatch.setattr(detector._session, "run", listening)
        detector.detect([image])
        assert given[0].shape == (1, 3, 64, 96)
        assert given[0].max((0, 2, 3)).tolist() == [white if channel == red else 0 for channel in range(3)]


def test_an_input_of_any_size(make):
    detector = make({"output0": ROWS}, model={"shape": (1, 3, "height", "width")}, size=96)
    (found,) = detector.detect([picture(64, 96)])
    assert found.boxes.tolist() == [[12, 0, 60, 24], [0, 0, 96, 48]]


def test_mistakes_are_named(make, tmp_path):
    with pytest.raises(UserError, match=r"no such file\. Set `images.weights`"):
        YoloOnnx(str(tmp_path / "none.onnx"))
    (tmp_path / "bad.onnx").write_bytes(b"hello")
    with pytest.raises(UserError, match="onnxruntime cannot load it"):
        YoloOnnx(str(tmp_path / "bad.onnx"))
    with pytest.raises(UserError, match=r"its outputs are .*\(1, 84, 99\).*Export it with non-maximum suppression"):
        make({"output0": np.zeros((1, 84, 99), np.float32)})
    for names in (None, "__import__('os').system('true')", "[" * 200, "{}", "{-1: 'a'}"):
        with pytest.raises(UserError, match="has no class names in its metadata"):
            make({"output0": ROWS}, model={"names": names})
    assert make({"output0": ROWS}, model={"names": None}, classes=["a", "b", "c"]).labels == ["a", "b", "c"]
    with pytest.raises(UserError, match="found class 2, but there are 2 names"):
        make({"output0": ROWS}, classes=["a", "b"]).detect([picture(64, 96)])
