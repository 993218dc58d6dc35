"""A config that came with a bank or a run must not make a command run code."""

import http.client
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.commands.main import main
from vlmixer.pipeline.config import Config, ImageSettings, TextSettings
from vlmixer.pipeline.image.embedding import embedder
from vlmixer.pipeline.trust import require_harmless


@pytest.fixture
def downloaded(small_run, tmp_path: Path) -> Path:
    """A result of somebody else, whose config names a class next to it; importing that writes a file RAN."""
    out = Path(shutil.copytree(small_run.folder / "out", tmp_path / "out"))
    (out / "run").mkdir()
    config = yaml.safe_load((out / "config.yaml").read_text())
    config["images"]["detector"] = "evil_detector:Detector"
    for path in (out / "config.yaml", out / "run" / "pipeline.yaml"):
        path.write_text(yaml.safe_dump(config))
        path.with_name("evil_detector.py").write_text(
            f"import pathlib\npathlib.Path({str(tmp_path / 'RAN')!r}).touch()\nclass Detector: labels = ()\n"
        )
    return out


def commands(out: Path, photo: Path) -> dict[str, list[str]]:
    pairs = out / "pairs.jsonl"
    pairs.write_text(f'{{"image": "{photo}", "captions": ["a dog"]}}\n')
    return {
        "query": ["bank", "query", str(out / "bank"), "--like", str(photo)],
        "eval": ["eval", "retrieval", "--run", str(out / "run"), "--images", str(pairs)],
    }


@pytest.mark.parametrize("command", ["query", "eval"])
def test_a_class_named_by_a_result_is_not_imported(downloaded, small_run, tmp_path, capsys, command, monkeypatch):
    monkeypatch.chdir(downloaded)
    assert main(commands(downloaded, small_run.photos / "0001.jpg")[command]) == 2
    said = capsys.readouterr().err
    assert "images.detector: 'evil_detector:Detector'" in said
    assert "--config" in said
    assert "--trust-detector" in said
    assert not (tmp_path / "RAN").exists()


def test_a_server_does_not_import_it_for_a_picture(downloaded, small_run, tmp_path):
    command = [sys.executable, "-m", "vlmixer", "bank", "serve", str(downloaded / "bank"), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=downloaded)
    try:
        assert process.stderr is not None
        assert "images.detector: 'evil_detector:Detector'" in process.stderr.readline()
        port = int(process.stderr.readline().rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        picture = (small_run.photos / "0001.jpg").read_bytes()
        connection.request("POST", "/api/search/picture", picture, {"Content-Type": "image/jpeg"})
        assert connection.getresponse().status == 501
    finally:
        process.kill()
        process.wait()
    assert not (tmp_path / "RAN").exists()


def test_it_is_imported_for_a_user_who_trusts_it(downloaded, small_run, tmp_path, capsys):
    assert main([*commands(downloaded, small_run.photos / "0001.jpg")["eval"], "--trust-detector"]) != 0
    assert (tmp_path / "RAN").exists()


def test_the_embedder_does_not_import_it_either(downloaded, tmp_path):
    with pytest.raises(CallError, match="evil_detector:Detector"):
        embedder(str(downloaded / "bank"), import_paths=[str(downloaded)])
    assert not (tmp_path / "RAN").exists()


@pytest.mark.parametrize(
    ("images", "text", "what"),
    [
        ({"detector": "detectron2:config.py"}, {}, "config.py"),
        ({"detector": "detectron2:x.yaml", "detector_options": {"allow_pickle": True}}, {}, "allow_pickle"),
        ({"detector": "demo:Class"}, {}, "demo:Class"),
        ({"detector": "demo"}, {"spacy_model": "./pipeline"}, "spacy_model"),
        ({"detector": "demo"}, {"spacy_model": "models/en"}, "spacy_model"),
    ],
)  # fmt: skip
def test_other_ways_to_run_code_are_refused(images, text, what):
    config = replace(Config(), images=ImageSettings(**images), text=TextSettings(**text))
    with pytest.raises(CallError, match=what):
        require_harmless(config, "config.yaml")


@pytest.mark.parametrize(
    "detector",
    ["demo", "torchvision:fasterrcnn_resnet50_fpn_v2", "detectron2:a/x.yaml", "tsv:features.tsv", "boxes:gold.json"],
)
def test_detectors_of_our_own_are_accepted(detector):
    require_harmless(replace(Config(), images=ImageSettings(detector=detector)), "config.yaml")
