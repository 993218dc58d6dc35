"""A bank whose features are CLIP's is asked in words, on drawn things in colours."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tests.pipeline.image.encoders.coloured_things import COLOURS, PAIRS, write_photos, write_trained_clip
from tests.pipeline.image.encoders.small_encoders import write_encoder
from transformers import AutoModel, AutoProcessor

from vlmixer.artifacts.errors import CallError
from vlmixer.bank import PatchBank
from vlmixer.pipeline.commands.main import main
from vlmixer.pipeline.image.embedding import text_embedder
from vlmixer.pipeline.image.encoders.regions import load_encoder

EACH = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Photos of things, a trained CLIP, and banks: `clip` of its features, `both` of the detector's before them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("things")
    write_photos(folder, EACH)
    write_trained_clip(folder / "clip-model")
    (folder / "words.txt").write_text("car\nball\n")
    clip = f"transformers:{folder / 'clip-model'}"
    for name, features in (("clip", clip), ("both", ["detector", clip]), ("own", "detector")):
        config = {
            "vocabulary": str(folder / "words.txt"), "bank": {"selection": "score", "duplicate_similarity": 1.0},
            "images": {"inputs": [str(folder / "photos" / "*")], "detector": "things:Things", "features": features},
        }  # fmt: skip
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
        for command in ("detect", "index"):
            arguments = [command, str(folder / f"{name}.yaml"), "--out", str(folder / name), "--workers", "1"]
            assert main(arguments) == 0
    torch.set_num_threads(before)
    return folder


def shown(source: str) -> tuple[str, str]:
    """The colour and the thing of a photo."""
    colour, thing, _ = Path(source).name.split("-")
    return colour, thing


@pytest.mark.parametrize("name", ["clip", "both"])
def test_what_is_asked_for_comes_first(folder, name):
    bank = PatchBank.open(str(folder / name / "bank"))
    assert len(bank) == EACH * len(PAIRS)
    read = text_embedder(str(folder / name / "bank"), str(folder / f"{name}.yaml"))
    right = [
        shown(hit.patch.source) == (colour, thing)
        for colour, thing in PAIRS
        for hit in bank.search(like=read(f"a {colour} {thing}"), k=EACH)
    ]
    assert np.mean(right) > 0.9  # by chance 0.125
    of_cars = [
        shown(hit.patch.source)[0] == colour
        for colour in COLOURS
        for hit in bank.search("car", like=read(f"a {colour} car"), k=EACH)
    ]
    assert np.mean(of_cars) > 0.9  # by chance 0.25


def test_similarities_are_the_librarys_own(folder):
    bank = PatchBank.open(str(folder / "clip" / "bank"))
    network: Any = AutoModel.from_pretrained(folder / "clip-model").eval()
    processor = AutoProcessor.from_pretrained(folder / "clip-model")
    text = "a yellow ball"
    record = bank.record(5)
    with Image.open(record.source) as photo:
        left, top, right, bottom = record.box
        x, y, side = (left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top)
        edges = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2]).clip(0, 64).tolist()
        crop = photo.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC, box=tuple(edges))
    with torch.inference_mode():
        outputs = network(**processor(text=[text], images=[crop], padding=True, return_tensors="pt"))
    expected = float((outputs.image_embeds @ outputs.text_embeds.T)[0, 0])
    vector = text_embedder(str(folder / "clip" / "bank"), str(folder / "clip.yaml"))(text)
    hits = {hit.patch.patch_id: hit.similarity for hit in bank.search(like=vector, k=len(bank))}
    assert hits[record.patch_id] == pytest.approx(expected, abs=2e-3)  # features are stored as float16


def test_as_a_command(folder, capsys, tmp_path):
    bank = str(folder / "both" / "bank")
    arguments = ["--text", "a red car", "--concept", "car", "-k", str(EACH), "--config", str(folder / "both.yaml")]
    page = tmp_path / "hits.html"
    assert main(["bank", "query", bank, *arguments, "--html", str(page), "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)["hits"]
    assert sum(shown(hit["source"]) == ("red", "car") for hit in hits) >= EACH - 1
    assert "“a red car”" in page.read_text()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("own", ["--text", "a car"], "its features cannot be compared with texts (detector)"),
        ("clip", ["--text", " "], "--text: expected a text"),
        ("clip", ["--text", "a car", "--like", "x"], "--text and --like: expected one of them"),
    ],
)
def test_mistakes_are_named(folder, capsys, name, arguments, message):
    bank = str(folder / name / "bank")
    assert main(["bank", "query", bank, *arguments, "--config", str(folder / f"{name}.yaml")]) == 2
    assert message in capsys.readouterr().err


def test_only_crops_of_models_that_read_are_comparable_with_texts(folder, tmp_path):
    clip = f"transformers:{folder / 'clip-model'}"
    assert load_encoder(clip, {}, "cpu").reads_texts
    for encoder in (
        load_encoder(clip, {"pooling": "map"}, "cpu"),
        load_encoder(f"transformers:{write_encoder('dinov2', tmp_path / 'dino')}", {}, "cpu"),
    ):
        assert not encoder.reads_texts
        with pytest.raises(CallError, match="cannot be compared with texts"):
            encoder.texts(["a car"])


@pytest.mark.parametrize("name", ["clip", "own"])
def test_the_server_is_asked_in_words_where_the_bank_can_be(folder, name):
    from starlette.testclient import TestClient

    from vlmixer.pipeline.image.embedding import may_read_texts
    from vlmixer.pipeline.report.server import make_app
    from vlmixer.pipeline.report.texts import Texts

    place = str(folder / name / "bank")
    bank = PatchBank.open(place)
    assert may_read_texts(bank) == (name == "clip")
    texts = Texts(lambda: text_embedder(place, str(folder / f"{name}.yaml"))) if may_read_texts(bank) else None
    client = TestClient(make_app(bank, max_k=64, texts=texts, hosts=["testserver"]))
    assert client.get("/api/bank").json()["texts"] == (name == "clip")
    assert ("In words" in client.get("/").text) == (name == "clip")
    answer = client.post("/api/search", json={"text": "a blue ball", "k": EACH})
    if name == "own":
        assert answer.status_code == 501
        assert "does not search for texts" in answer.json()["error"]
        return
    found = [shown(patch["source"]) for patch in answer.json()["patches"]]
    assert sum(pair == ("blue", "ball") for pair in found) >= EACH - 1
    cars = client.post("/api/search", json={"text": "a blue ball", "concept": "car", "k": 3}).json()["patches"]
    assert {shown(patch["source"])[1] for patch in cars} == {"car"}
    for wrong in ({"text": ""}, {"text": "x" * 1001}, {"text": 3}, {"text": "a", "like": cars[0]["patch_id"]}):
        assert client.post("/api/search", json=wrong).status_code == 400
