"""The commands with a detector of transformers, as a user calls them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.pipeline.image.detectors.small_transformers import write_model
from tests.pipeline.jobs.small_corpus import Corpus, contents, make_corpus, run

from vlmixer.artifacts import manifest
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.stages import DETECT
from vlmixer.bank import PatchBank
from vlmixer.pipeline.commands.main import main
from vlmixer.pipeline.image.embedding import embedder


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Corpus:
    """A run over some photos, with its detector in a folder `tiny` of the working folder."""
    corpus = make_corpus(tmp_path_factory.mktemp("corpus"))
    for path in sorted(corpus.photos.iterdir())[30:]:
        path.unlink()
    write_model("detr", corpus.folder / "tiny")
    images = {"detector": f"transformers:{corpus.folder / 'tiny'}", "score_threshold": 0.1, "device": "cpu"}
    corpus.write_config(images=images, max_bad_fraction=1.0)
    assert run(corpus.folder / "config.yaml", corpus.folder / "out") == 0
    return corpus


def test_the_manifest_says_what_made_the_regions(finished):
    found: Any = manifest.read(str(finished.folder / "out" / "regions"), DETECT)
    detector = found.details.detector
    assert (detector.name, detector.options, found.details.feature_dim) == ("transformers:tiny", {}, 16)
    assert detector.weights.startswith("sha256:")
    assert detector.config.startswith("sha256:")
    assert {"transformers", "torch", "torchvision"} <= set(found.versions)
    assert found.details.labels_not_in_vocabulary == ("car", "N/A", "person")
    assert sum(found.details.regions.values()) > 20


def test_the_same_bytes_again_from_another_folder(finished, tmp_path):
    shutil.copytree(finished.folder / "tiny", tmp_path / "tiny")
    images = {"detector": f"transformers:{tmp_path / 'tiny'}", "score_threshold": 0.1, "device": "cpu"}
    config = finished.write_config("moved.yaml", images=images, max_bad_fraction=1.0)
    assert run(config, tmp_path / "out", "--workers", "2") == 0
    one, other = contents(tmp_path / "out"), contents(finished.folder / "out")
    # contents.json has the hash of the config, which names the folder.
    assert one.pop("contents.json") != other.pop("contents.json")
    assert one == other


def test_a_picture_is_searched_with_the_banks_own_model(finished, tmp_path, capsys):
    bank = str(finished.folder / "out" / "bank")
    first = PatchBank.open(bank).record(0)
    with Image.open(first.source) as photo:
        # No --trust-detector: a folder of weights runs no code.
        feature = embedder(bank)(photo, first.concept)
    assert feature.shape == (16,)
    assert main(["bank", "query", bank, "--concept", first.concept, "--like", first.source, "-k", "3", "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)["hits"]
    assert hits[0]["source"] == first.source
    assert hits[0]["similarity"] > 0.999


def test_other_weights_are_refused(finished, tmp_path):
    out = Path(shutil.copytree(finished.folder / "out", tmp_path / "out"))
    other = Path(shutil.copytree(finished.folder / "tiny", tmp_path / "tiny"))
    state = load_file(other / "model.safetensors")
    save_file({name: value * 2 for name, value in state.items()}, other / "model.safetensors", {"format": "pt"})
    images = {"detector": f"transformers:{other}", "score_threshold": 0.1, "device": "cpu"}
    config = finished.write_config("other.yaml", images=images)
    with pytest.raises(UserError, match=r"not the detector that .* was built with"):
        embedder(str(out / "bank"), str(config))
    assert run(config, out, command="detect") == 1
