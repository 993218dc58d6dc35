"""What is checked before the first stage begins: all problems at once, and nothing written."""

import os
import shutil
import zlib
from dataclasses import fields
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image
from tests.pipeline.jobs.small_corpus import run

from vlmixer.artifacts import stages
from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.config import load_config
from vlmixer.pipeline.preflight.call import TRAIN, Call
from vlmixer.pipeline.preflight.checks import CHECKS
from vlmixer.pipeline.preflight.preflight import check
from vlmixer.pipeline.preflight.room import judge_room


def test_every_stage_has_its_checks():
    assert list(CHECKS) == [*stages.NAMES, TRAIN]


def test_all_problems_are_listed_at_once(small_run, tmp_path, capsys):
    changes = [
        "text.inputs=[nothing.txt]", "text.spacy_model=no_such_pipeline", "images.inputs=[none/*.jpg]",
        "images.weights=none.pth", "train.device=cuda", "train.readers=3", "train.workers=2",
        "model.init=none.safetensors", "model.tokenizer=none.txt", "vocabulary=no_such_words",
    ]  # fmt: skip
    out = tmp_path / "out"
    assert run(small_run.write_config(), out, *[part for text in changes for part in ("--set", text)]) == 2
    said = capsys.readouterr().err
    first, *problems = said.splitlines()
    assert first == "error: 9 problems, found before any work:"
    keys = ["vocabulary", "text.inputs", "text.spacy_model", "images.inputs", "images.weights", "train.device",
            "model.tokenizer", "model.init", "train.readers"]  # fmt: skip
    assert [line.partition(":")[0] for line in problems] == [f"- {key}" for key in keys]
    assert not out.exists()


@pytest.mark.parametrize("command", ["run", "tag", "detect"])
def test_a_dry_run_says_what_it_found_and_writes_nothing(small_run, tmp_path, capsys, command):
    out = tmp_path / "out"
    assert run(small_run.write_config(), out, "--dry-run", command=command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"vocabulary {small_run.folder / 'words.txt'}, 4 concepts"
    assert any(line.startswith("text: 1 files, ") for line in lines) == (command != "detect")
    assert ("detector: quadrants:Quadrants, features of width 6" in lines) == (command != "tag")
    assert lines[-1] == "nothing stands in the way; nothing was written"
    assert not out.exists()


def test_a_stage_checks_its_own_part_only(small_run, tmp_path):
    config = small_run.write_config(images={"inputs": ["none/*.jpg"]}, train={"device": "cuda"})
    assert run(config, tmp_path / "out", "--dry-run", command="tag") == 0
    assert run(config, tmp_path / "out", "--dry-run", command="detect") == 2
    assert run(config, tmp_path / "out", "--dry-run", command="index") == 1, "detect has not run"


def test_later_stages_do_not_list_the_photos_and_texts_again(small_run, tmp_path, capsys):
    """A million files take minutes. What is read comes from the finished stages."""
    out = shutil.copytree(small_run.folder / "out", tmp_path / "out")
    shutil.rmtree(out / "bank")
    config = small_run.write_config("gone.yaml", images={"inputs": ["none/*.jpg"]}, text={"inputs": ["none.txt"]})
    assert run(config, out, "--dry-run", command="index") == 0
    assert "disk: about 7.68 MB to be written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("class Own(:", "failed: SyntaxError"),
        ("import no_such_package", "failed: No module named 'no_such_package'"),
        ("class Other: pass", "has no class 'Own'"),
        ("class Own:\n    def __init__(self, weights): pass", "cannot be called with weights, device, score_threshold"),
        ("class Own:\n    def __init__(self, **given): raise ValueError('no size')", "cannot be made: ValueError"),
        (
            "class Own:\n    labels = ('ufo',)\n    feature_dim = 4\n    def __init__(self, **given): pass",
            "none of the 1 labels",
        ),
    ],
)  # fmt: skip
def test_a_detector_that_cannot_be_used_is_found_before_tagging(small_run, tmp_path, capsys, monkeypatch, code, said):
    monkeypatch.chdir(tmp_path)
    name = f"own_{zlib.crc32(code.encode())}"  # modules of other cases stay imported
    (tmp_path / f"{name}.py").write_text(code)
    config = small_run.write_config(images={"detector": f"{name}:Own"})
    assert run(config, tmp_path / "out") in (1, 2)
    found = capsys.readouterr().err
    assert found.startswith("error: images.detector: ")
    assert found.count("\n") == 1
    assert said in found
    assert not (tmp_path / "out").exists()


def test_a_wrong_text_field_is_found_in_the_first_records(small_run, tmp_path, capsys):
    (tmp_path / "captions.jsonl").write_text('{"text": "a dog"}\n' * 50)
    config = small_run.write_config(text={"inputs": [str(tmp_path / "captions.jsonl")]})
    assert run(config, tmp_path / "out", "--dry-run") == 2
    assert "'caption' is missing among 'text'; write text.field: text" in capsys.readouterr().err


def test_images_of_which_none_can_be_decoded(small_run, tmp_path, capsys):
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(b"\xff\xd8\xff\xe0 a photo that ends here")
    config = small_run.write_config(images={"inputs": [str(tmp_path / "*.jpg")]})
    assert run(config, tmp_path / "out", "--dry-run") == 2
    assert "images.inputs: none of 20 images tried can be used" in capsys.readouterr().err


def test_one_image_among_many_that_cannot_be_decoded_is_enough(small_run, tmp_path):
    for number in range(60):
        (tmp_path / f"{number}.jpg").write_bytes(b"\xff\xd8\xff\xe0 a photo that ends here")
    Image.new("RGB", (40, 30)).save(tmp_path / "whole.jpg")
    config = small_run.write_config(images={"inputs": [str(tmp_path / "*.jpg")]})
    assert run(config, tmp_path / "out", "--dry-run") == 0


def test_weights_to_start_from_must_fit_the_config(small_run, tmp_path, capsys):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    table = "embeddings.word_embeddings.weight"
    safetensors.torch.save_file({table: torch.zeros(9, 128)}, tmp_path / "bert.safetensors")
    changes = {"init": str(tmp_path / "bert.safetensors"), "tokenizer": str(tmp_path / "vocab.txt")}
    config = small_run.write_config(model=changes, train={})
    assert run(config, tmp_path / "out", "--dry-run") == 1
    assert "error: model.init: " in capsys.readouterr().err


def test_a_training_that_cannot_be_continued_is_found_before_the_stages(small_run, tmp_path, capsys):
    out = Path(shutil.copytree(small_run.folder / "out", tmp_path / "out"))
    tiny = {"layers": 1, "hidden_size": 16, "heads": 2, "feed_forward_size": 16, "projection_size": 8}
    train = {"steps": 2, "batch_size": 8, "workers": 0}
    config = small_run.write_config(model=tiny, train=train)
    assert run(config, out) == 0
    assert run(config, out, "--dry-run") == 0
    assert "training continues after step 2 of 2" in capsys.readouterr().out
    assert run(config, out, "--dry-run", "--set", "train.batch_size=4") == 2
    assert "cannot be continued, because train.batch_size changed" in capsys.readouterr().err


def test_a_disk_with_too_little_room(caplog):
    assert judge_room("out", 10_000_000, 20_000_000) == (
        "disk: about 10 MB to be written (a rough estimate), 20 MB free"
    )
    assert not caplog.messages
    judge_room("out", 10_000_000, 9_000_000)
    assert "The disk may become full" in caplog.text
    with pytest.raises(CallError, match=r"out: about 10 MB to be written .*, 1 MB free\. Make room there"):
        judge_room("out", 10_000_000, 1_000_000)


def test_an_output_folder_that_cannot_be_made(small_run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(small_run.write_config(), os.path.join(tmp_path, "file", "out"), "--dry-run") == 1
    assert "cannot be written: Not a directory" in capsys.readouterr().err


def test_what_the_checks_find_is_not_held(tmp_path):
    (tmp_path / "a.txt").write_text("a dog\n")
    (tmp_path / "config.yaml").write_text(
        f"vocabulary: coco\ntext: {{inputs: [{tmp_path}/a.txt], spacy_model: rules}}\nout: {tmp_path}/out\n"
    )
    call = Call(load_config(str(tmp_path / "config.yaml"), [], None), ("tag",))
    assert "text: 1 files, 6 bytes" in check(call)
    assert set(vars(call)) == {field.name for field in fields(call)}
