"""The worked example of a detector, on tiny ONNX models whose answers are known.

The models take 64 x 96 pixels. Their predictions are constants; their feature maps are the mean colour of each cell.
"""

import importlib
import math
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from benchmarks.detection_agreement import coco128, measure
from examples.yolox_onnx import YoloxOnnx
from numpy.testing import assert_allclose, assert_array_equal
from onnx import TensorProto, helper, numpy_helper

from vlmixer.artifacts.errors import UserError

HEIGHT, WIDTH = 64, 96
STARTS = {8: 0, 16: 8 * 12, 32: 8 * 12 + 4 * 6}  # row of the predictions where a stride's cells begin
CELLS = 8 * 12 + 4 * 6 + 2 * 3
NAMES = ["ant", "bee", "cow"]
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

Box = tuple[float, float, float, float]
Prediction = tuple[int, Box, Sequence[float]]  # stride, box in canvas pixels, (objectness, classes...)


def predictions(*wanted: Prediction, classes: int = 3) -> np.ndarray:
    """The raw answer of a YOLOX head: each box in the cell that holds its centre, nothing elsewhere."""
    raw = np.zeros((1, CELLS, 5 + classes), np.float32)
    for stride, (x1, y1, x2, y2), scores in wanted:
        x, y = (x1 + x2) / 2 / stride, (y1 + y2) / 2 / stride
        column, row = int(x), int(y)
        size = math.log((x2 - x1) / stride), math.log((y2 - y1) / stride)
        raw[0, STARTS[stride] + row * (WIDTH // stride) + column] = [x - column, y - row, *size, *scores]
    return raw


def save_model(
    path: Path, raw: np.ndarray, *, strides: Sequence[int] = (32, 8, 16), height: int | str = HEIGHT
) -> Path:
    """A model with a narrow inner map at stride 32, then the maps of `strides`, then the predictions."""
    nodes = [
        helper.make_node("AveragePool", ["images"], [f"map{s}"], kernel_shape=[s, s], strides=[s, s])
        for s in {32, *strides}
    ]
    nodes.append(helper.make_node("ReduceMean", ["map32"], ["inner"], axes=[1], keepdims=1))
    nodes.append(helper.make_node("Identity", ["constant"], ["raw"]))
    names = ["inner", *(f"map{stride}" for stride in strides), "raw"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, height, WIDTH])],
        [helper.make_empty_tensor_value_info(name) for name in names],
        [numpy_helper.from_array(raw, "constant")],
    )
    for output in graph.output:
        output.type.tensor_type.elem_type = TensorProto.FLOAT
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7), path)
    return path


@pytest.fixture
def detector(tmp_path: Path) -> Callable[..., YoloxOnnx]:
    """Makes a detector that predicts what it is given."""
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")

    def make(*wanted: Prediction, **options: Any) -> YoloxOnnx:
        weights = save_model(tmp_path / "tiny.onnx", predictions(*wanted))
        return YoloxOnnx(str(weights), classes=str(tmp_path / "names.txt"), **options)

    return make


def image(height: int = HEIGHT, width: int = WIDTH, colour: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def test_boxes_scores_and_labels_of_all_strides_best_first(detector: Callable[..., YoloxOnnx]) -> None:
    yolox = detector(
        (8, (4, 6, 14, 18), (0.5, 0.1, 0.8, 0.0)),
        (16, (30, 10, 70, 50), (0.9, 1.0, 0.2, 0.3)),
        (32, (20, 2, 90, 62), (0.8, 0.2, 0.3, 0.75)),
        (8, (50, 50, 60, 60), (0.5, 0.5, 0.5, 0.5)),
    )
    (found,) = yolox.detect([image()])
    assert_allclose(found.boxes, [[30, 10, 70, 50], [20, 2, 90, 62], [4, 6, 14, 18]], atol=1e-4)
    assert_allclose(found.scores, [0.9, 0.6, 0.4], rtol=1e-6)
    assert [yolox.labels[label] for label in found.labels] == ["ant", "cow", "bee"]
    assert found.features.shape == (3, yolox.feature_dim) == (3, 9)
    assert [array.dtype for array in (found.boxes, found.scores, found.features)] == [np.float32] * 3
    assert found.labels.dtype == np.int64


def test_a_score_equal_to_the_threshold_is_kept(detector: Callable[..., YoloxOnnx]) -> None:
    box = (8, (0, 0, 8, 8), (0.5, 1.0, 0.0, 0.0))
    assert len(detector(box, score_threshold=0.5).detect([image()])[0].scores) == 1
    assert len(detector(box, score_threshold=0.51).detect([image()])[0].scores) == 0


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (64, 96, [12, 8, 36, 24]),
        (128, 192, [24, 16, 72, 48]),  # twice the input
        (32, 48, [6, 4, 18, 12]),  # half of it
        (64, 192, [24, 16, 72, 48]),  # wide: padded below
        (128, 96, [24, 16, 72, 48]),  # tall: padded on the right
    ],
)
def test_boxes_come_back_in_pixels_of_the_image(
    detector: Callable[..., YoloxOnnx], height: int, width: int, expected: list[float]
) -> None:
    (found,) = detector((8, (12, 8, 36, 24), (1, 1, 0, 0))).detect([image(height, width)])
    assert_allclose(found.boxes, [expected], rtol=1e-5)


def test_an_image_thinner_than_a_pixel_of_the_canvas(detector: Callable[..., YoloxOnnx]) -> None:
    (found,) = detector((8, (12, 0.25, 36, 0.75), (1, 1, 0, 0))).detect([image(4, 1000)])
    assert_allclose(found.boxes, [[125, 1, 375, 3]], rtol=1e-5)


def test_boxes_are_clipped_and_boxes_in_the_padding_dropped(detector: Callable[..., YoloxOnnx]) -> None:
    # 64 x 192 pixels become 96 x 32 at the top of the canvas: below is padding.
    (found,) = detector(
        (32, (-10, -6, 40, 20), (0.9, 1, 0, 0)),
        (32, (60, 10, 110, 60), (0.8, 1, 0, 0)),
        (8, (20, 40, 30, 50), (0.7, 1, 0, 0)),
    ).detect([image(64, 192)])
    assert_allclose(found.boxes, [[0, 0, 80, 40], [120, 20, 192, 64]], rtol=1e-5)
    assert_allclose(found.scores, [0.9, 0.8], rtol=1e-6)


def test_of_overlapping_boxes_of_one_class_the_best_is_kept(detector: Callable[..., YoloxOnnx]) -> None:
    wanted: list[Prediction] = [
        (8, (10, 10, 30, 30), (0.8, 1, 0, 0)),
        (16, (10, 10, 30, 34), (0.9, 1, 0, 0)),  # IoU 0.83
        (32, (10, 10, 30, 30), (0.7, 0, 1, 0)),  # another class
        (8, (60, 10, 80, 30), (0.6, 1, 0, 0)),  # elsewhere
    ]
    (found,) = detector(*wanted).detect([image()])
    assert_allclose(found.scores, [0.9, 0.7, 0.6], rtol=1e-6)
    assert_array_equal(found.labels, [0, 1, 0])
    (found,) = detector(*wanted, nms_iou=0.9).detect([image()])
    assert_allclose(found.scores, [0.9, 0.8, 0.7, 0.6], rtol=1e-6)


def test_a_feature_is_the_mean_of_every_map_under_the_box_in_bgr(detector: Callable[..., YoloxOnnx]) -> None:
    ramp = image()
    ramp[..., 0] = np.arange(WIDTH)[None, :]  # red grows to the right, green downwards
    ramp[..., 1] = np.arange(HEIGHT)[:, None]
    (found,) = detector((16, (16, 8, 48, 40), (1, 1, 0, 0))).detect([ramp])
    # On a ramp the mean of the cells under a box is the mean of the pixels, whatever the stride.
    assert_allclose(found.features, [[0, 23.5, 31.5] * 3], atol=1e-4)


def test_features_come_from_where_the_box_lies_on_the_canvas(detector: Callable[..., YoloxOnnx]) -> None:
    twice = image(128, 192, (200, 200, 200))
    twice[:, 140:] = 40  # the box ends at 112
    (found,) = detector((16, (8, 8, 56, 56), (1, 1, 0, 0))).detect([twice])
    assert_allclose(found.features, [[200] * 9], rtol=1e-5)


def test_the_image_lies_at_the_top_left_of_a_grey_canvas(detector: Callable[..., YoloxOnnx]) -> None:
    (found,) = detector((32, (0, 0, 96, 48), (1, 1, 0, 0))).detect([image(48, 96, (14, 14, 14))])
    # At stride 32 the second row of cells is half image (14), half padding (114): 64. The box is 1.5 cells high;
    # its two samples lie at row 0 and at row 0.625: (14 + 14 + 0.625 * 50) / 2.
    assert_allclose(found.features, [[14] * 6 + [29.625] * 3], rtol=1e-5)


def test_an_image_without_regions(detector: Callable[..., YoloxOnnx]) -> None:
    (found,) = detector().detect([image()])
    assert [array.shape for array in (found.boxes, found.scores, found.labels, found.features)] == [
        (0, 4),
        (0,),
        (0,),
        (0, 9),
    ]
    assert [array.dtype for array in (found.boxes, found.scores, found.labels, found.features)] == [
        np.float32,
        np.float32,
        np.int64,
        np.float32,
    ]


def test_no_image_changes_another(detector: Callable[..., YoloxOnnx]) -> None:
    yolox = detector((8, (4, 6, 14, 18), (1, 1, 0, 0)), (32, (20, 2, 90, 62), (0.8, 0, 1, 0)))
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*size, 3), np.uint8) for size in [(30, 40), (200, 90), (64, 96)]]
    together = yolox.detect(images)
    assert yolox.detect([]) == []
    for each, one in zip(images, together, strict=True):
        (alone,) = yolox.detect([each])
        for name in ("boxes", "scores", "labels", "features"):
            assert_array_equal(getattr(alone, name), getattr(one, name))
    for first, second in pairwise(together):
        assert not np.array_equal(first.features, second.features)


def test_eighty_classes_are_cocos(tmp_path: Path) -> None:
    yolox = YoloxOnnx(str(save_model(tmp_path / "coco.onnx", predictions(classes=80))))
    assert len(yolox.labels) == 80
    assert [yolox.labels[index] for index in (0, 57, 62, 79)] == ["person", "couch", "tv", "toothbrush"]


def test_a_missing_feature_map_is_an_error_that_tells_how_to_export(tmp_path: Path) -> None:
    weights = save_model(tmp_path / "bare.onnx", predictions(), strides=(32, 8))
    with pytest.raises(UserError, match=r"bare\.onnx.*strides 8, 16, 32.*yolox\.backbone\(x\)"):
        YoloxOnnx(str(weights))


def test_predictions_of_another_size_are_an_error(tmp_path: Path) -> None:
    weights = save_model(tmp_path / "other.onnx", np.zeros((1, 100, 8), np.float32))
    with pytest.raises(UserError, match=r"other\.onnx.*expected predictions \(1, 126, 5 \+ classes\)"):
        YoloxOnnx(str(weights))


def test_an_input_without_fixed_size_is_an_error(tmp_path: Path) -> None:
    weights = save_model(tmp_path / "free.onnx", predictions(), height="height")
    with pytest.raises(UserError, match=r"free\.onnx: its input is \[1, 3, 'height', 96\]"):
        YoloxOnnx(str(weights))


def test_class_names_that_do_not_fit_are_an_error(tmp_path: Path) -> None:
    weights = str(save_model(tmp_path / "tiny.onnx", predictions()))
    with pytest.raises(UserError, match="predicts 3 classes, but the COCO list has 80"):
        YoloxOnnx(weights)
    (tmp_path / "two.txt").write_text("ant\nbee\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"predicts 3 classes, but .*two\.txt has 2"):
        YoloxOnnx(weights, classes=str(tmp_path / "two.txt"))
    with pytest.raises(UserError, match=r"none\.txt: expected a UTF-8 text file"):
        YoloxOnnx(weights, classes=str(tmp_path / "none.txt"))


def test_weights_that_are_no_onnx_file_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"broken\.onnx: onnxruntime cannot load it"):
        YoloxOnnx(str(tmp_path / "broken.onnx"))
    with pytest.raises(UserError, match=r"none\.onnx: no such file. Set `images\.weights`"):
        YoloxOnnx(str(tmp_path / "none.onnx"))
    with pytest.raises(UserError, match="None: no such file"):
        YoloxOnnx(None)


def test_cuda_where_there_is_none_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, options, providers: session(path, options, providers=["CPUExecutionProvider"]),
    )
    with pytest.raises(UserError, match="cannot use cuda"):
        YoloxOnnx(str(save_model(tmp_path / "tiny.onnx", predictions())), device="cuda")


def test_without_onnxruntime_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "examples.yolox_onnx")
    monkeypatch.delitem(sys.modules, "vlmixer.pipeline.image.detectors.onnx_session")
    with pytest.raises(UserError, match=r"Run `pip install '.*onnxruntime"):
        importlib.import_module("examples.yolox_onnx")


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the folder of real test data")
def test_real_photos_agree_with_their_gold_boxes() -> None:
    yolox = YoloxOnnx(str(DATA / "detectors" / "yolox_nano_with_fpn_feats.onnx"))
    assert yolox.feature_dim == 64 + 128 + 256
    indices = {name: index for index, name in enumerate(yolox.labels)}
    counts = measure(yolox, coco128(DATA / "images" / "coco128", 48, indices), 48, set(range(80)), 0.3, 0.5)
    right, found, gold = counts.right.total(), counts.found.total(), counts.gold.total()
    assert 0.6 < right / found < 0.85
    assert 0.33 < right / gold < 0.6


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the folder of real test data")
def test_the_real_export_without_maps_is_an_error() -> None:
    with pytest.raises(UserError, match=r"yolox_nano\.onnx: its outputs are \[\(1, 3549, 85\)\]"):
        YoloxOnnx(str(DATA / "detectors" / "yolox_nano.onnx"))
