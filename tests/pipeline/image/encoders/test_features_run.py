"""The commands with features of encoders, as a user calls them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from tests.pipeline.image.encoders.small_encoders import write_encoder, write_timm
from tests.pipeline.jobs.small_corpus import Corpus, make_corpus, run

from vlmixer.artifacts import manifest
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.stages import DETECT
from vlmixer.bank import PatchBank
from vlmixer.pipeline.config import load_config
from vlmixer.pipeline.image.embedding import embedder
from vlmixer.pipeline.trust import require_harmless


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    """A few photos and a run over them: the detector's features, those of timm and of transformers."""
    corpus = make_corpus(tmp_path_factory.mktemp("corpus"))
    for path in sorted(corpus.photos.iterdir())[12:]:
        path.unlink()
    write_timm("test_efficientnet", corpus.folder / "w.safetensors")
    write_encoder("dinov2", corpus.folder / "dino")
    timm = "timm:test_efficientnet"
    images = {
        "features": ["detector", timm, f"transformers:{corpus.folder / 'dino'}"], "device": "cpu",
        "feature_options": {timm: {"weights": str(corpus.folder / "w.safetensors"), "pooling": "map"}},
    }  # fmt: skip
    config = corpus.write_config(images=images, max_bad_fraction=1.0)
    for command in ("detect", "index"):
        assert run(config, corpus.folder / "out", command=command) == 0
    shutil.copy(config, corpus.folder / "out" / "config.yaml")
    return corpus


def test_the_manifest_says_what_features_are_made_of(corpus):
    found: Any = manifest.read(str(corpus.folder / "out" / "regions"), DETECT)
    own, first, second = found.details.detector.features
    assert own is None
    assert (first["name"], first["pooling"], first["size"]) == ("timm:test_efficientnet", "map", 160)
    assert (second["name"], second["pooling"], second["size"], second["width"]) == ("transformers:dino", "crop", 32, 16)
    assert len(second["mean"]) == len(first["std"]) == 3
    assert found.details.feature_dim == 6 + first["width"] + 16
    assert {"timm", "transformers"} <= set(found.versions)
    assert str(corpus.folder) not in str(found.details.detector)


def test_the_bank_has_these_features_and_searches_with_them(corpus, monkeypatch):
    monkeypatch.chdir(corpus.folder)
    bank = PatchBank.open(str(corpus.folder / "out" / "bank"))
    first = bank.record(0)
    with Image.open(first.source) as photo:
        feature = embedder(str(corpus.folder / "out" / "bank"), trust_detector=True)(photo, first.concept)
    assert feature.shape == (bank.manifest.details.feature_dim,)
    own = bank.features([0])[0].astype(np.float32)
    similar = [float(row @ feature) / (np.linalg.norm(row) * np.linalg.norm(feature)) for row in (own,)]
    assert similar[0] > 0.9
    assert np.linalg.norm(own[-16:]) == pytest.approx(1, abs=1e-2)


def test_a_resumed_run_is_finished_and_another_encoder_is_another_run(corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(corpus.folder)
    out = Path(shutil.copytree(corpus.folder / "out", tmp_path / "out"))
    assert run(corpus.folder / "config.yaml", out, command="detect") == 0
    other = yaml.safe_load((corpus.folder / "config.yaml").read_text())
    other["images"]["features"] = other["images"]["features"][:2]
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    shutil.copy(corpus.folder / "quadrants.py", tmp_path)
    assert run(tmp_path / "other.yaml", out, command="detect") == 1
    assert "setting detector" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"not the detector that .* was built with \(features"):
        embedder(str(out / "bank"), str(tmp_path / "other.yaml"))


def test_without_the_key_nothing_changes(corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(corpus.folder)
    assert run(corpus.write_config("plain.yaml"), tmp_path / "out", command="detect") == 0
    text = (tmp_path / "out" / "regions" / "manifest.json").read_text()
    assert "features" not in text.replace("feature_dim", "")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"features": []}, r"images\.features: expected one or several different encoders, found \[\]"),
        ({"features": ["detector", "detector"]}, "expected one or several different encoders"),
        ({"feature_options": {"timm:x": {}}}, r"'timm:x' is not in images\.features \(detector\)"),
        ({"features": "timm:x", "detector": "tsv:a.tsv"}, "tsv:FILE has features of its own"),
        ({"features": "clip"}, r"images\.features: 'clip' is unknown"),
    ],
)  # fmt: skip
def test_mistakes_are_named(corpus, tmp_path, monkeypatch, capsys, images, message):
    import re

    monkeypatch.chdir(corpus.folder)
    assert run(corpus.write_config("wrong.yaml", images=images), tmp_path / "out", command="detect") == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_result_may_name_encoders(tmp_path):
    (tmp_path / "c.yaml").write_text("images: {detector: demo, features: [detector, 'timm:test_vit']}")
    require_harmless(load_config(str(tmp_path / "c.yaml")), "c.yaml")
    (tmp_path / "d.yaml").write_text("images: {features: 3}")
    with pytest.raises(CallError):
        load_config(str(tmp_path / "d.yaml"))
