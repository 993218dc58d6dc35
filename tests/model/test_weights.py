"""Files of weights as training frameworks write them."""

import logging
import pickle
import zipfile
from argparse import Namespace
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from benchmarks.bomb_files import number, tensor, text

from vlmixer.artifacts.errors import UserError
from vlmixer.model import weights
from vlmixer.model.weights import read_weights, wrong_classes

STATE = {"body.conv.weight": torch.ones(2, 3), "body.conv.bias": torch.zeros(2), "head.weight": torch.full((4, 2), 5.0)}


class AttributeDict(dict):
    """As Lightning keeps settings."""


class Callback:
    """An object with attributes."""

    def __init__(self) -> None:
        self.patience = 3


class Evil:
    """A pickle that calls a function when it is read."""

    def __reduce__(self):
        return print, ("code of the file runs",)


def prefixed(prefix, state=None):
    return {f"{prefix}{name}": value for name, value in (state or STATE).items()}


def other(state):
    return {name: value + 1 for name, value in state.items()}


def save(folder, content, name="w.pth"):
    path = str(folder / name)
    torch.save(content, path)
    return path


WRAPPED = {
    "DataParallel": (prefixed("module."), "the top, prefix 'module.'"),
    "compiled": (prefixed("_orig_mod."), "the top, without '_orig_mod.'"),
    "compiled inside": (
        {name.replace("body.", "body._orig_mod."): value for name, value in STATE.items()},
        "the top, without '_orig_mod.'",
    ),
    "FSDP": (prefixed("_fsdp_wrapped_module."), "the top, without '_fsdp_wrapped_module.'"),
    "both": ({"model": prefixed("module._orig_mod.")}, "key 'model', prefix 'module.', without '_orig_mod.'"),
    "model_state_dict": (
        {"epoch": 3, "model_state_dict": OrderedDict(STATE), "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
        "key 'model_state_dict'",
    ),
    "Lightning": (
        {"state_dict": {**prefixed("model."), "loss.weight": torch.ones(1)}, "hyper_parameters": {"lr": 0.1}},
        "key 'state_dict', prefix 'model.'; left out 1 others",
    ),
    "EMA alone": ({"ema": {"shadow": STATE, "decay": 0.9}}, "key 'ema > shadow'"),
    "twice the same": ({"model": STATE, "model_ema": prefixed("module.")}, "key 'model'"),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_wrappers_are_removed_and_said(tmp_path, caplog, case):
    content, said = WRAPPED[case]
    with caplog.at_level(logging.INFO, "vlmixer"):
        found = read_weights(save(tmp_path, content), "images.weights", STATE)
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], value) for name, value in STATE.items())
    (message,) = caplog.messages
    assert message == f"images.weights: {tmp_path}/w.pth: unwrapped 3 tensors from {said}"


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "weights"])
def test_a_plain_file_needs_no_word(tmp_path, caplog, name):
    if name == "w.pth":
        torch.save(STATE, tmp_path / name)
    else:
        safetensors.torch.save_file(STATE, tmp_path / name)
    with caplog.at_level(logging.INFO, "vlmixer"):
        assert read_weights(str(tmp_path / name), "model.init", STATE).keys() == STATE.keys()
    assert not caplog.messages


def test_parameters_that_the_network_lacks_are_kept(tmp_path):
    path = save(tmp_path, prefixed("module.", {**STATE, "mask.weight": torch.ones(1)}))
    assert "mask.weight" in read_weights(path, "images.weights", STATE)


def run_advice(error, folder, monkeypatch):
    """Run the lines that an error prints, in the folder."""
    monkeypatch.chdir(folder)
    lines = [line.strip() for line in str(error).splitlines() if line.startswith("    ")]
    assert len(lines) == 3
    exec("\n".join(lines), {})
    torch.serialization.clear_safe_globals()


def test_weights_that_are_there_twice_are_refused_with_lines_that_choose(tmp_path, monkeypatch):
    path = save(tmp_path, {"model_ema": prefixed("module.", other(STATE)), "model": STATE})
    with pytest.raises(
        UserError, match=r"more than once \(key 'model_ema', prefix 'module\.'; key 'model'\)"
    ) as caught:
        read_weights(path, "images.weights", STATE)
    run_advice(caught.value, tmp_path, monkeypatch)
    found = read_weights(str(tmp_path / "w-tensors.pth"), "images.weights", STATE)
    assert torch.equal(found["head.weight"], STATE["head.weight"] + 1)


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize(
    "objects", [[Namespace(lr=0.1)], [SimpleNamespace(a=1), Callback()], [AttributeDict(lr=0.1), Callback()]]
)
def test_files_with_objects_are_refused_with_lines_that_copy_the_tensors(tmp_path, monkeypatch, objects, old_format):
    path = str(tmp_path / "w.pth")
    content = {"args": objects[0] if old_format else objects, "epoch": 3, "state_dict": STATE}
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(UserError, match=rf"w.pth is not readable .*{type(objects[0]).__name__}") as caught:
        read_weights(path, "images.weights", STATE)
    assert "weights_only` argument" not in str(caught.value)
    assert "pytorch.org" not in str(caught.value)
    run_advice(caught.value, tmp_path, monkeypatch)
    assert read_weights(str(tmp_path / "w-tensors.pth"), "images.weights", STATE).keys() == STATE.keys()


@pytest.mark.parametrize("content", [{"model": STATE, "x": Evil()}, torch.nn.Linear(2, 2)])
def test_files_that_could_run_code_are_refused_without_a_way_to_read_them(tmp_path, capfd, content):
    with pytest.raises(UserError, match=r"reading that could run any code\. Save the tensors alone") as caught:
        read_weights(save(tmp_path, content), "images.weights", STATE)
    assert "torch.load" not in str(caught.value)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer .* Run `git lfs pull`"),
     (b"hello", "not readable as weights: .*Expected a .safetensors file"), ({"a": 1}, "holds no state dict")],
)  # fmt: skip
def test_files_that_hold_no_weights(tmp_path, content, said):
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=f"model.init: .*{said}"):
        read_weights(str(path), "model.init", STATE)
    with pytest.raises(UserError, match=r"is a folder. Name the file"):
        read_weights(str(tmp_path), "model.init", STATE)


def test_a_packed_file_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("w/data.pkl", bytes(1 << 20))
    with pytest.raises(UserError, match=r"its members would unpack to 1,048,576 bytes"):
        read_weights(str(tmp_path / "w.pth"), "images.weights", STATE)


MANY = 1 << 27
"""Bytes that the pickles below ask for: many, but no harm if they get them."""
SWOLLEN = {
    "builtins.bytearray": b"cbuiltins\nbytearray\n" + number(MANY) + b"\x85R",
    "_codecs.encode": b"c_codecs\nencode\nq\0" + 27 * b"h\0" + text("a") + text("ascii") + b"\x86R"
    + 27 * (text("hex") + b"\x86R"),
    "_rebuild_device_tensor_from_cpu_tensor": b"ctorch._utils\n_rebuild_device_tensor_from_cpu_tensor\n("
    + tensor(1, MANY, 0) + b"ctorch\nfloat64\n" + text("cpu") + b"\x89tR",
}  # fmt: skip


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("name", SWOLLEN)
def test_a_small_file_that_would_fill_the_memory_is_refused(tmp_path, name, old_format, monkeypatch):
    monkeypatch.setattr(torch, "load", None)  # what would fill it
    pickled = b"\x80\2}" + text("a") + SWOLLEN[name] + b"s."
    if old_format:
        torch.save(0, tmp_path / "whole.pth", _use_new_zipfile_serialization=False)
        whole = (tmp_path / "whole.pth").read_bytes()
        (tmp_path / "w.pth").write_bytes(whole.replace(pickle.dumps(0, 2), pickled))
    else:
        with zipfile.ZipFile(tmp_path / "w.pth", "w") as packed:
            packed.writestr("w/DATA.pkl", pickled)
    with pytest.raises(UserError, match=rf"w.pth is not readable .*{name}, which could fill the memory"):
        read_weights(str(tmp_path / "w.pth"), "images.weights", STATE)


def test_a_tensor_that_repeats_a_number_without_end_is_refused(tmp_path):
    endless = {name: torch.zeros(1).expand(1 << 40) for name in STATE}
    with pytest.raises(UserError, match=r"the tensor body.conv.weight has fewer numbers than its shape says"):
        read_weights(save(tmp_path, {"model": endless, "ema": endless}), "images.weights", STATE)


def test_a_dict_in_many_places_is_looked_at_once():
    content: dict[str, object] = dict(STATE)
    for _ in range(3):
        content = dict.fromkeys(map("part{}".format, range(100)), content)
    assert list(weights._states(content)) == [("part0 > part0 > part0", STATE)]


def test_a_name_of_very_many_parts_takes_no_longer(tmp_path):
    state = {**prefixed("a.b.c."), "a." * 500_000 + "head.weight": torch.ones(1)}
    found = read_weights(save(tmp_path, state), "images.weights", STATE)
    assert torch.equal(found["head.weight"], STATE["head.weight"])


def test_another_networks_weights_are_left_to_the_caller(tmp_path):
    path = save(tmp_path, {"model": {"a.weight": torch.ones(1), "b": torch.ones(1)}, "step": torch.tensor(3)})
    assert read_weights(path, "images.weights", STATE).keys() == {"a.weight", "b"}


def test_the_number_of_classes_is_known_from_the_heads():
    own = {"head.cls_logits.weight": torch.zeros(36, 8), "bbox.weight": torch.zeros(16, 8), "n": torch.tensor(1)}
    assert wrong_classes({**own, "head.cls_logits.weight": torch.zeros(63, 8)}, own, 4) == 7
    assert wrong_classes(own, own, 4) is None
    assert wrong_classes({"head.cls_logits.weight": torch.zeros(63, 9)}, own, 4) is None
    assert wrong_classes({"head.cls_logits.weight": torch.zeros(62, 8)}, own, 4) is None
