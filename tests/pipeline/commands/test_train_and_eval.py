"""`vlmixer train` and `vlmixer eval`."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.pipeline.jobs.small_corpus import quadrant_photo, run

from vlmixer.pipeline.commands.main import main

TINY = ["train.steps=3", "train.batch_size=8", "train.log_every=1", "model.layers=1", "model.hidden_size=16",
        "model.heads=2", "model.feed_forward_size=16", "model.projection_size=8"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(small_run, tmp_path_factory) -> Path:
    """A run of three steps."""
    run_folder = tmp_path_factory.mktemp("trained") / "run"
    assignments = [part for text in [*TINY, f"out={small_run.folder / 'out'}"] for part in ("--set", text)]
    assert main(["train", str(small_run.write_config()), "--out", str(run_folder), *assignments]) == 0
    return run_folder


def test_train_writes_a_line_a_step(trained):
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert (trained / "pipeline.yaml").exists()


def test_train_takes_a_config_for_training_alone(call, small_run, tmp_path):
    (tmp_path / "train.yaml").write_text(f"out: {tmp_path / 'out'}\ntrain: {{shards: {small_run.folder}/out/shards}}\n")
    assignments = [part for text in TINY for part in ("--set", text)]
    assert call("train", tmp_path / "train.yaml", *assignments)[0] == 0
    assert (tmp_path / "out" / "run" / "model.safetensors").exists()
    assert not (tmp_path / "out" / "run" / "pipeline.yaml").exists()
    code, _, said = call("train", tmp_path / "train.yaml", "--out", tmp_path / "other", "--set", "vocabulary=coco")
    assert code == 1
    assert "vocabulary: coco, but " in said


def test_train_refuses_a_finished_run_without_resume(call, small_run, trained):
    assignments = [part for text in [*TINY, f"out={small_run.folder / 'out'}"] for part in ("--set", text)]
    code, _, said = call("train", small_run.write_config(), "--out", trained, *assignments)
    assert code in (1, 2)
    assert "--resume" in said


def test_run_trains_too_where_the_config_says_so(small_run, tmp_path, call):
    out = Path(shutil.copytree(small_run.folder / "out", tmp_path / "out"))
    assignments = [part for text in TINY for part in ("--set", text)]
    assert run(small_run.write_config(), out, *assignments) == 0
    assert (out / "run" / "log.jsonl").exists()
    assert call("verify", out)[0] == 0


@pytest.fixture
def pairs(small_run, tmp_path) -> Path:
    """Eight pairs: half of the photos beside the list, half in images/ there, and one of them nowhere."""
    (tmp_path / "images").mkdir()
    lines = []
    for number in range(8):
        name = f"{number:04d}.jpg"
        if number != 5:
            shutil.copy(small_run.photos / name, tmp_path / "images" / name if number % 2 else tmp_path / name)
        lines.append(json.dumps({"image": name, "captions": ["a dog and a cat", f"kites on day {number}"]}))
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join([*lines, ""]) + "\n")
    return path


def test_eval_retrieval(answer, small_run, trained, pairs):
    config = small_run.write_config()
    report = answer("eval", "retrieval", "--run", trained, "--images", pairs, "--config", config)
    assert (report["images"], report["captions"]) == (7, 14)
    [(name, reason)] = report["skipped"].items()
    assert name.endswith("0005.jpg")
    assert reason.startswith("unreadable_file")
    for score in report["scores"]:
        assert all(0 <= entry["value"] <= 100 for entry in score["recall"].values())


def test_eval_retrieval_names_photos_that_were_trained_on(call, small_run, pairs, tmp_path):
    out = Path(shutil.copytree(small_run.folder / "out", tmp_path / "out"))
    config = small_run.write_config()
    assignments = [part for text in [*TINY, f"out={out}"] for part in ("--set", text)]
    assert call("train", config, *assignments)[0] == 0
    # A photo under another name is the same photo; one that was drawn anew is not.
    lines = pairs.read_text().splitlines()
    (tmp_path / "0000.jpg").rename(tmp_path / "other.jpg")
    quadrant_photo(np.random.default_rng(9), ["dog", "cat", "dog", "kite"]).save(tmp_path / "new.jpg")
    names = [*("other.jpg" if number == 0 else f"{number:04d}.jpg" for number in (0, 1)), "new.jpg"]
    captions = json.loads(lines[0])["captions"]
    pairs.write_text("".join(json.dumps({"image": name, "captions": captions}) + "\n" for name in names))
    code, printed, said = call(
        "eval", "retrieval", "--run", out / "run", "--images", pairs, "--config", config, "--json"
    )
    assert code == 0
    assert [Path(path).name for path in json.loads(printed)["trained_on"]] == ["other.jpg", "0001.jpg"]
    assert "2 of 3 images are among those that the run was trained on" in said


def test_eval_retrieval_with_the_config_of_the_run(call, small_run, trained, pairs, monkeypatch):
    # The detector is found in the working folder.
    monkeypatch.chdir(small_run.folder)
    code, table, said = call("eval", "retrieval", "--run", trained, "--images", pairs, "--trust-detector")
    assert code == 0
    assert "7 images, 14 captions" in table
    assert "not used: " in said
    assert "0005.jpg" in said


def test_eval_says_what_is_in_the_list(call, answer, small_run, trained, pairs):
    shutil.copy(pairs.parent / "0000.jpg", pairs.parent / "copy.jpg")
    lines = [json.loads(line) for line in pairs.read_text().splitlines() if line]
    lines[2]["captions"] = []
    lines[3]["captions"][1] = " "
    lines += [{"image": "./0000.jpg", "caption": "the same"}, {"image": "copy.jpg", "caption": "a copy"}]
    pairs.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    arguments = ["--run", trained, "--images", pairs, "--config", small_run.write_config()]
    report = answer("eval", "retrieval", *arguments)
    assert (report["images"], report["captions"]) == (8, 13)
    counts = report["list"]
    assert {name: counts[name] for name in ("records", "images", "captions", "without_captions")} == {
        "records": 10, "images": 9, "captions": 15, "without_captions": 1
    }  # fmt: skip
    assert (counts["blank_captions"], counts["respelled"]) == (1, 1)
    assert report["same_bytes"] == [[str(pairs.parent / "0000.jpg"), str(pairs.parent / "copy.jpg")]]
    code, table, said = call("eval", "retrieval", *arguments)
    assert code == 0
    assert table.startswith("8 images, 13 captions")
    assert "10 records, 9 images, 15 captions; 1 images without a caption" in said
    assert "1 images were not used, with 2 captions" in said
    assert "the same picture: " in said


@pytest.mark.parametrize(
    "line", ["{", "5", '{"image": "0000.jpg"}', '{"captions": ["a dog"]}', '{"image": 5, "captions": ["a dog"]}',
             '{"image": "0000.jpg", "captions": [7]}', '{"image": "0000.jpg", "captions": 7}'],
)  # fmt: skip
def test_eval_of_a_list_with_a_line_that_is_wrong(call, small_run, trained, pairs, line):
    pairs.write_text(pairs.read_text().rstrip("\n") + f"\n{line}\n")
    config = small_run.write_config()
    code, printed, said = call("eval", "retrieval", "--run", trained, "--images", pairs, "--config", config)
    assert (code, printed) == (2, "")
    assert "line 9" in said
    assert "Traceback" not in said


def test_eval_of_lists_that_are_no_use(call, small_run, trained, tmp_path):
    config = small_run.write_config()
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "gone.jsonl").write_text('{"image": "none.jpg", "captions": ["a dog"]}\n')
    for name, expected in (("none.jsonl", 2), ("empty.jsonl", 2), ("gone.jsonl", 1)):
        arguments = ["--run", trained, "--images", tmp_path / name, "--config", config]
        code, printed, said = call("eval", "retrieval", *arguments)
        assert (code, printed) == (expected, ""), name
        assert name in said


def test_eval_of_a_folder_that_is_no_run(call, pairs, tmp_path):
    code, _, said = call("eval", "retrieval", "--run", tmp_path / "none", "--images", pairs)
    assert code == 2
    assert "pipeline.yaml" in said


def test_eval_foils(answer, small_run, trained, pairs):
    config = small_run.write_config()
    images = [json.loads(line)["image"] for line in pairs.read_text().splitlines() if line]
    listed = pairs.with_name("foils.jsonl")
    lines = [{"image": name, "caption": "a dog", "foils": ["a cat", "a bus"], "kind": "noun"} for name in images]
    listed.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    report = answer("eval", "foils", "--run", trained, "--images", listed, "--config", config)
    ((score),) = report["scores"]
    assert (score["kind"], score["cases"]) == ("noun", 7)
    assert score["chance"] == pytest.approx(100 / 3)
    assert len(report["skipped"]) == 1


def test_eval_foils_made_by_swapping_a_word(call, small_run, trained, pairs):
    lines = [json.loads(line) for line in pairs.read_text().splitlines() if line]
    for number, line in enumerate(lines):
        line["captions"] = ["a dog" if number % 2 else "a cat", "nothing to name"]
    pairs.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    arguments = ["--run", trained, "--images", pairs, "--config", small_run.write_config(), "--swaps"]
    code, table, _ = call("eval", "foils", *arguments)
    assert code == 0
    assert "another concept's name" in table
    assert table.split()[-1] == "50.0"


@pytest.mark.parametrize("line", ["{", '{"image": "0000.jpg", "caption": "a dog"}',
                                  '{"image": "0000.jpg", "caption": "a dog", "foils": []}'])  # fmt: skip
def test_eval_foils_of_a_list_with_a_line_that_is_wrong(call, small_run, trained, tmp_path, line):
    (tmp_path / "foils.jsonl").write_text(f"\n{line}\n")
    arguments = ["--run", trained, "--images", tmp_path / "foils.jsonl", "--config", small_run.write_config()]
    code, printed, said = call("eval", "foils", *arguments)
    assert (code, printed) == (2, "")
    assert "line 2" in said
