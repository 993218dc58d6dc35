"""Searching a bank for a picture: only with the bank's own detector, and what of a picture is taken."""

import shutil
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.image.embedding import embedder

COLOURS = {"dog": (200, 30, 30), "cat": (30, 200, 30), "kite": (30, 30, 200)}


@pytest.fixture(scope="module")
def out(small_run):
    return small_run.folder / "out"


@pytest.fixture(scope="module")
def embed(small_run, out):
    return embedder(str(out / "bank"), import_paths=[str(small_run.folder)], trust_detector=True)


def photo(*names):
    """A picture of quadrants in the concepts' colours, the strength of each less than that of the one before."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    for place, name in enumerate(names):
        row, column = divmod(place, 2)
        pixels[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] = np.array(COLOURS[name]) * (1 - place / 4)
    return Image.fromarray(pixels)


def test_a_picture_finds_the_patches_that_its_detector_sees_in_it(out, embed):
    bank = PatchBank.open(str(out / "bank"), embed=embed)
    patch = bank.patches("kite")[3]
    with Image.open(patch.source) as image:
        found = bank.search("kite", like=image, k=40)
    feature = embed(Image.open(patch.source), "kite")
    assert feature.shape == (bank.feature_dim,)
    expected = bank.search("kite", like=feature, k=40)
    assert found == expected
    # The photo's best kite is in the bank itself unless it was left out.
    assert found[0].similarity > 0.9


def test_the_concept_that_is_looked_for_is_taken_if_the_picture_holds_it(embed):
    several = photo("dog", "cat", "kite")
    alone = {name: embed(photo(name), None) for name in COLOURS}
    assert embed(several, None) == pytest.approx(alone["dog"], abs=1e-3)
    for name in ("cat", "kite"):
        assert embed(several, name) == pytest.approx(embed(several.convert("RGBA"), name))
        assert embed(several, name).shape == alone[name].shape
    assert embed(several, "horse") == pytest.approx(embed(several, None))


def test_a_picture_in_which_the_detector_finds_nothing(embed):
    with pytest.raises(UserError, match="finds nothing in the picture"):
        embed(Image.new("RGB", (32, 32)), "dog")


def test_another_detector_is_refused(small_run, out, tmp_path):
    config = yaml.safe_load((out / "config.yaml").read_text())
    config["images"]["detector_options"] = {"delay": 0.5}
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"not the detector that .* was built with \(options \{'delay': 0.5\}"):
        embedder(str(out / "bank"), str(path), [str(small_run.folder)])
    config["images"] |= {"detector_options": {}, "detector": "demo"}
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"name 'demo', the bank's 'quadrants:Quadrants'"):
        embedder(str(out / "bank"), str(path))


def test_without_a_config_the_detector_is_not_known(out, tmp_path):
    shutil.copytree(out / "bank", tmp_path / "bank")
    with pytest.raises(CallError, match=r"config\.yaml: not found.*--config"):
        embedder(str(tmp_path / "bank"))


def test_a_detector_is_found_where_the_command_finds_it(small_run, out, monkeypatch):
    """In the folder of the config, or in the working folder."""
    monkeypatch.setattr("sys.path", [path for path in sys.path if path != str(small_run.folder)])
    found = embedder(str(out / "bank"), str(small_run.folder / "config.yaml"))
    assert found(photo("dog"), None).shape == (PatchBank.open(str(out / "bank")).feature_dim,)
