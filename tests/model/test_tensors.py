"""Files of weights, read without torch."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.model.runs import SMALL

from vlmixer.model.network import Network
from vlmixer.model.tensors import check_weights, read_tensors, shapes

CONFIG = replace(SMALL, layers=2, feature_dim=5, max_text_tokens=9)


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, hidden_size=24, heads=3, feed_forward_size=7, layers=1)])
def test_shapes_are_those_of_the_network(config):
    network = Network(config, 31, config.feature_dim)
    assert dict(shapes(config, 31)) == {name: tuple(value.shape) for name, value in network.state_dict().items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of weights that fits CONFIG and 31 word pieces."""
    path, random = tmp_path / "model.safetensors", np.random.default_rng(0)
    save_file({name: random.random(shape, np.float32) for name, shape in shapes(CONFIG, 31)}, path)
    return path


def test_weights_are_read(path):
    check_weights(str(path), CONFIG, 31)
    assert read_tensors(str(path))["projection.weight"].shape == (8, 16)
    with pytest.raises(ValueError, match=r"word_embeddings.weight is \(31, 16\), expected \(32, 16\)"):
        check_weights(str(path), CONFIG, 32)
    with pytest.raises(ValueError, match=r"bert.encoder.layer.1.\S+ is not a part of the network"):
        check_weights(str(path), replace(CONFIG, layers=1), 31)


def header(path: Path, **changes: object) -> None:
    """Write another header: of the projection's bias, which is the last tensor but one."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    content = json.loads(data[8 : 8 + length])
    content["projection.bias"] |= changes
    head = json.dumps(content).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + data[8 + length :])


@pytest.mark.parametrize(
    "changes", [{"dtype": "I32"}, {"shape": [4]}, {"shape": [-8]}, {"shape": "x"}, {"data_offsets": [0, 32]}]
)
def test_headers_that_lie(path, changes):
    header(path, **changes)
    with pytest.raises(ValueError, match=r"of I32, expected F32|is not where it must be|has no shape"):
        read_tensors(str(path))


@pytest.mark.parametrize("data", [b"", b"\xff" * 8, b"\x02" + bytes(7) + b"[]", b"\x02" + bytes(7) + b"{}more"])
def test_files_that_are_none(path, data):
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"header|bytes|dict"):
        read_tensors(str(path))
