import hashlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from vlmixer.artifacts.details import to_json
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.pipeline.image.detectors.identity import describe_detector
from vlmixer.pipeline.image.detectors.loading import DetectorSpec, load_detector, resolve_device

MINE = """
import numpy as np
from vlmixer.pipeline.image.detectors.base import no_detections

NUMBER = 3

class Mine:
    labels = ("dog",)
    feature_dim = 2

    def __init__(self, weights, device, score_threshold, *, size=1):
        self.given = (weights, device, score_threshold, size)

    def detect(self, images):
        return [no_detections(2) for _ in images]

class Broken:
    def __init__(self, weights, device, score_threshold):
        len(3)

class Strict:
    def __init__(self, weights):
        self.weights = weights
"""


@pytest.fixture
def spec(tmp_path, monkeypatch):
    """Specs of detectors in a folder of the user's own; the import system is as before afterwards."""
    name = f"detectors_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MINE)
    (tmp_path / f"{name}_needy.py").write_text("import no_such_package\n")
    (tmp_path / f"{name}_wrong.py").write_text("def f(:\n")
    monkeypatch.setattr(sys, "path", list(sys.path))

    def spec(what, **options):
        return DetectorSpec(what.replace("MODULE", name), "w.bin", "cpu", 0.25, options, (str(tmp_path),))

    yield spec
    for module in [module for module in sys.modules if module.startswith(name)]:
        del sys.modules[module]


def test_a_class_of_ones_own_by_import_path(spec):
    detector: Any = load_detector(spec("MODULE:Mine", size=5))
    assert detector.given == ("w.bin", "cpu", 0.25, 5)
    (found,) = detector.detect([np.zeros((4, 4, 3), np.uint8)])
    assert found.features.shape == (0, 2)


def test_loading_fixes_the_threads(spec):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    load_detector(spec("MODULE:Mine"))
    found = torch.get_num_threads()
    torch.set_num_threads(before)
    assert found == 1


def test_a_detector_without_torch_does_not_load_it(spec):
    """It takes 290 MB in each process."""
    mine = spec("MODULE:Mine")
    program = (
        "import sys; from vlmixer.pipeline.image.detectors.loading import DetectorSpec, load_detector, resolve_device\n"
        f"load_detector({mine!r}); assert resolve_device('auto', ()) == 'cpu'; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", ["fasterrcnn", "my.module", "my.module:", ":Class", "..:Class", "a..b:Class", ""])
def test_a_name_that_is_no_detector(spec, name):
    with pytest.raises(
        CallError,
        match=r"images\.detector: .* is unknown\. Expected torchvision:NAME, detectron2:CONFIG",
    ):
        load_detector(spec(name))


@pytest.mark.parametrize("name", ["no_such_module:Class", "MODULE.inner:Class", "no.such.module:Class"])
def test_a_module_that_is_not_there_names_the_folders_looked_in(spec, tmp_path, name):
    with pytest.raises(
        CallError, match=r"images\.detector: no module .* among the installed packages, nor in "
    ) as caught:
        load_detector(spec(name))
    assert str(tmp_path) in str(caught.value)


def test_a_class_that_is_not_there_names_the_file(spec):
    with pytest.raises(CallError, match=r"images\.detector: .*\.py has no class 'Yours'"):
        load_detector(spec("MODULE:Yours"))


def test_a_module_whose_own_import_fails_says_what_it_needs(spec):
    with pytest.raises(UserError, match=r"importing .*_needy failed: No module named 'no_such_package'\. Install"):
        load_detector(spec("MODULE_needy:Class"))


def test_a_module_that_does_not_compile(spec):
    with pytest.raises(UserError, match=r"images\.detector: importing .*_wrong failed: SyntaxError"):
        load_detector(spec("MODULE_wrong:Class"))


@pytest.mark.parametrize(
    ("name", "options"),
    [("MODULE:Mine", {"colour": 1}), ("MODULE:Mine", {"weights": 1}), ("MODULE:Strict", {}), ("MODULE:NUMBER", {})],
)
def test_a_class_that_does_not_take_the_arguments(spec, name, options):
    with pytest.raises(CallError, match=r"cannot be called with weights, device, score_threshold.*detector_options"):
        load_detector(spec(name, **options))


def test_a_type_error_inside_the_class_keeps_its_traceback(spec):
    with pytest.raises(TypeError, match=r"object of type 'int' has no len") as caught:
        load_detector(spec("MODULE:Broken"))
    assert caught.traceback[-1].name == "__init__"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_asking_for_cuda_where_there_is_none():
    with pytest.raises(CallError, match=r"images\.device: the config asks for cuda.*Use 'auto' or 'cpu'"):
        resolve_device("cuda")


def test_devices():
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_description_tells_contents_not_places(tmp_path):
    weights, option = tmp_path / "w.pth", tmp_path / "o.txt"
    weights.write_bytes(b"weights")
    option.write_bytes(b"option")
    spec = DetectorSpec("m:C", str(weights), "cpu", 0.3, {"file": str(option), "size": 3}, (str(tmp_path),))
    assert to_json(describe_detector(spec)) == {
        "name": "m:C",
        "weights": f"sha256:{hashlib.sha256(b'weights').hexdigest()}",
        "device": "cpu",
        "options": {"file": f"sha256:{hashlib.sha256(b'option').hexdigest()}", "size": 3},
    }
    assert describe_detector(DetectorSpec("m:C", None, "cpu", 0.3)).weights == "default"
    assert describe_detector(DetectorSpec("torchvision:x", "COCO_V1", "cpu", 0.3)).weights == "COCO_V1"
