"""ONNX files of other people: what is wrong with one is one message, and a run without end is ended."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks.bomb_files import NETWORKS, network
from onnx import TensorProto, helper, numpy_helper

from vlmixer.artifacts.errors import UserError
from vlmixer.pipeline.image.detectors import onnx_session
from vlmixer.pipeline.image.detectors.onnx_session import OnnxSession

PIXELS = np.zeros((1, 3, 64, 64), np.float32)


def opened(folder: Path, data: bytes) -> OnnxSession:
    """A file with these bytes."""
    (folder / "w.onnx").write_bytes(data)
    return OnnxSession(folder / "w.onnx")


def test_what_a_model_makes_of_its_input(tmp_path, capfd):
    one = numpy_helper.from_array(np.ones(2, np.float32), "one")
    session = opened(tmp_path, network(helper.make_node("Identity", ["one"], ["raw"]), constants=[one]))
    assert (session.shape, session.outputs) == ([1, 3, 64, 64], ["raw"])
    assert [output.tolist() for output in session.run(PIXELS)] == [[1, 1]]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a constant that says a trillion", "cannot load it"),
        ("numbers from /dev/zero", "cannot load it"),
        ("numbers from ../../etc/passwd", "cannot load it"),
        ("5,000 graphs in graphs", "cannot load it"),
        ("a field of 2^62 bytes", "cannot load it"),
        ("an input of 2^40 pixels", r"its input is \[1, 3, 1048576, 1048576\], more than 50,331,648 numbers"),
        ("a trillion ones", "cannot run it .*allocate"),
    ],
)
def test_a_file_that_asks_for_too_much_is_a_message(tmp_path, name, what, capfd):
    with pytest.raises(UserError, match=rf"w\.onnx: .*{what}"):
        opened(tmp_path, NETWORKS[name]()).run(PIXELS)
    assert capfd.readouterr().err == ""


def test_a_loop_without_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_session, "MAX_SECONDS", 0.1)
    with pytest.raises(UserError, match=r"w\.onnx: onnxruntime cannot run it \(more than 0\.1 s\)"):
        opened(tmp_path, NETWORKS["a loop without end"]()).run(PIXELS)


def test_outputs_that_are_no_numbers(tmp_path):
    text = TensorProto(name="text", data_type=TensorProto.STRING, dims=[1], string_data=[b"dog"])
    node = helper.make_node("Constant", [], ["raw"], value=text)
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])
    output = helper.make_tensor_value_info("raw", TensorProto.STRING, [1])
    model = helper.make_model(helper.make_graph([node], "words", [images], [output]), ir_version=8)
    model.opset_import[0].version = 13
    with pytest.raises(UserError, match=r"w\.onnx: its outputs are not all arrays of numbers"):
        opened(tmp_path, model.SerializeToString()).run(PIXELS)
