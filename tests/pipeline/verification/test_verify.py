"""`vlmixer verify`: any change of a finished run's files is found, and the file is named."""

import json
import random
import shutil
from pathlib import Path

import pytest
from tests.pipeline.verification.rewriting import flip, rewrite_rows

from vlmixer.artifacts import manifest
from vlmixer.pipeline.commands.main import main

FOLDERS = ("tagged", "regions", "bank", "shards", "rejects")


def files_below(folder: Path) -> list[Path]:
    """The files that are verified: all but those for people to complete."""
    apart = ("README.md", "croissant.json")
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in apart)


def verified(out: Path) -> list[Path]:
    """The files that a verification of a run without training reads."""
    found = [path for name in FOLDERS for path in files_below(out / name)]
    return [*found, out / "contents.json", out / "config.yaml"]


def test_a_sound_run(small_run, capsys):
    assert main(["verify", str(small_run.folder / "out"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    stored = verified(small_run.folder / "out")
    assert report["sound"] is True
    assert report["problems"] == []
    assert report["files"] == len(stored)
    counts = {stage: manifest.read(str(small_run.folder / "out" / stage)).counts for stage in FOLDERS[:4]}
    assert report["rows"] == {
        "sentences": counts["tagged"]["sentences"].written,
        "regions": counts["bank"]["regions"].read,
        "patches": counts["bank"]["regions"].written,
        "samples": counts["shards"]["views"].written + counts["shards"]["images"].written,
    }


def test_a_sound_run_in_words(small_run, capsys):
    assert main(["verify", str(small_run.folder / "out")]) == 0
    assert capsys.readouterr().out.startswith("sound: ")


def test_a_flipped_bit_in_every_file_is_found_and_named(out, problems):
    chance = random.Random(0)
    paths = [path for name in FOLDERS for path in files_below(out / name) if path.name != "manifest.json"]
    for path in paths:
        flip(path, chance)
    named = {file for file, _ in problems(out)}
    assert {str(path.relative_to(out)) for path in paths} <= named


@pytest.mark.parametrize("folder", ["tagged", "regions", "bank", "shards"])
def test_a_flipped_bit_alone_is_the_only_problem(out, problems, folder):
    chance = random.Random(folder)
    path = chance.choice([path for path in files_below(out / folder) if path.name != "manifest.json"])
    flip(path, chance)
    assert [file for file, _ in problems(out)] == [str(path.relative_to(out))]


@pytest.mark.parametrize("folder", ["tagged", "regions", "bank", "shards"])
def test_any_flipped_bit_of_a_manifest_is_found(out, folder):
    data = (out / folder / "manifest.json").read_bytes()
    chance = random.Random(folder)
    for _ in range(60):
        (out / folder / "manifest.json").write_bytes(data)
        flip(out / folder / "manifest.json", chance)
        with pytest.raises(manifest.UserError, match=r"manifest\.json"):
            manifest.read(str(out / folder))
    assert main(["verify", str(out)]) == 1


@pytest.mark.parametrize(
    "name", ["tagged/part-00000.parquet", "regions/part-00001.parquet", "bank/crops.bin", "bank/index.faiss",
             "shards/mixed-000003.tar", "shards/.nv-meta/.info.json", "rejects/tag-find-00000.parquet",
             "tagged/examples.json", "shards/tally.json", "shards/uses.npy"],
)  # fmt: skip
def test_a_missing_file(out, problems, name):
    (out / name).unlink()
    assert problems(out) == [(name, "missing")]


@pytest.mark.parametrize(
    "name", ["tagged/part-00009.parquet", "regions/more/part.parquet", "bank/notes.txt", "shards/mixed-000099.tar",
             "rejects/tag-part-00009.parquet", "rejects/notes.txt"],
)  # fmt: skip
def test_an_extra_file(out, problems, name):
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_bytes(b"")
    assert problems(out) == [(name, "not in the manifest")]


def test_the_card_is_the_users(out, problems):
    (out / "shards" / "README.md").write_text("Licence: CC BY 4.0")
    assert problems(out) == []
    (out / "shards" / "README.md").unlink()
    assert problems(out) == []


def test_an_index_that_energon_made(out, problems):
    added = [out / "shards" / ".nv-meta" / name for name in ("index.sqlite", "index.uuid")]
    for path in added:
        path.write_bytes(b"made by energon prepare --tar-index-only")
    assert problems(out) == []
    for path in added:
        path.unlink()


def test_a_stage_without_a_manifest(out, problems):
    (out / "bank" / "manifest.json").unlink()
    [(file, what)] = problems(out)
    assert file == "bank/manifest.json"
    assert "has not finished" in what


def test_a_whole_stage_missing(out, problems):
    shutil.rmtree(out / "bank")
    assert ("bank", "missing; shards/ was made from it") in problems(out)


def test_a_stage_in_the_place_of_another(out, problems):
    shutil.rmtree(out / "tagged")
    shutil.copytree(out / "regions", out / "tagged")
    assert ("tagged/manifest.json", "of stage 'detect', expected 'tag'") in problems(out)


def test_a_stage_made_from_another_one(small_run, out, problems):
    config = small_run.write_config("redone.yaml", images={"max_regions": 1})
    assert main(["detect", str(config), "--out", str(out), "--workers", "1", "--overwrite"]) == 0
    what = "was made from another regions/ than the present one"
    assert problems(out) == [("bank", what), ("shards", what)]


@pytest.mark.parametrize("folder", ["tagged", "regions", "bank", "shards"])
def test_one_stage_alone(out, problems, folder):
    assert problems(out / folder) == []
    path = next(path for path in files_below(out / folder) if path.parent == out / folder and path.suffix != ".json")
    flip(path, random.Random(1))
    assert [file for file, _ in problems(out / folder)] == [path.name]


@pytest.mark.parametrize("place", ["logs", "rejects", "nowhere", "config.yaml"])
def test_what_is_nothing_to_verify(out, capsys, place):
    assert main(["verify", str(out / place)]) == 2
    said = capsys.readouterr()
    assert "nothing to verify" in said.err
    assert said.out == ""


def test_bytes_alone_read_no_record(out, capsys):
    rewrite_rows(out / "tagged" / "part-00000.parquet", lambda rows: rows[0].update(text="another text"))
    assert main(["verify", str(out / "tagged")]) == 1
    assert main(["verify", str(out / "tagged"), "--bytes"]) == 0


def test_bytes_alone_find_changed_bytes(out, capsys):
    assert main(["verify", str(out), "--bytes", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    stored = verified(out)
    assert report["files"] == len(stored)
    described = ("manifest.json", "contents.json", "config.yaml")
    assert report["bytes"] == sum(path.stat().st_size for path in stored if path.name not in described)
    assert report["rows"] == {}
    chance = random.Random(1)
    changed = [out / "shards" / "mixed-000001.tar", sorted((out / "rejects").glob("*.parquet"))[0]]
    for path in changed:
        flip(path, chance)
    assert main(["verify", str(out), "--bytes", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert {problem["file"] for problem in report["problems"]} == {str(path) for path in changed}


def test_a_sample_looks_into_some_files_and_at_the_sizes_of_all(out, capsys):
    assert main(["verify", str(out / "shards"), "--sample", "3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    sizes = [path.stat().st_size for path in files_below(out / "shards")]
    assert report["files"] == len(sizes)
    assert report["bytes"] <= sum(sorted(sizes)[-3:])
    shards = sorted((out / "shards").glob("*.tar"))
    shards[0].write_bytes(shards[0].read_bytes()[:-512])
    assert main(["verify", str(out / "shards"), "--sample", "1", "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem["file"] == str(shards[0])
    chance = random.Random(0)
    for path in shards[1:]:
        flip(path, chance)
    found = 0
    for _ in range(12):
        found += main(["verify", str(out / "shards"), "--sample", "8", "--json"]) == 1
        capsys.readouterr()
    assert found == 12
