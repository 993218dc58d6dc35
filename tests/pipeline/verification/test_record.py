"""OUT/contents.json: what is missing, changed or extra in an output folder as a whole is found."""

import json
import os
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.model.runs import SHORT, SMALL
from tests.pipeline.jobs.small_corpus import contents as bytes_of
from tests.pipeline.jobs.small_corpus import run
from tests.pipeline.verification.rewriting import flip

from vlmixer.artifacts import contents, files, manifest
from vlmixer.artifacts.errors import UserError
from vlmixer.model.config import Settings
from vlmixer.model.training import train
from vlmixer.pipeline.units import finishing
from vlmixer.pipeline.verification.integrity import Depth
from vlmixer.pipeline.verification.verify import verify


def problems(folder: Path) -> list[tuple[str, str]]:
    """What a verification of all bytes finds: (file relative to the folder, what). Records have tests of their own."""
    found = verify(str(folder), Depth(records=folder.name == "run")).problems
    return [(problem.file.removeprefix(f"{folder}/"), problem.what) for problem in found]


@pytest.fixture(scope="module")
def with_run(small_run, tmp_path_factory) -> Path:
    """A finished OUT with a trained run. Copy it before changing anything."""
    out = shutil.copytree(small_run.folder / "out", tmp_path_factory.mktemp("with-run") / "out")
    train(Settings(seed=1, out=str(out), model=SMALL, train=SHORT), pipeline="seed: 1\n")
    return Path(out)


@pytest.fixture
def whole(with_run, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(with_run, tmp_path / "whole"))


def test_the_record_names_the_manifests_the_config_and_the_run(with_run):
    record = contents.read(str(with_run))
    assert record is not None
    folders = ("bank", "regions", "run", "shards", "tagged")
    assert dict(record.folders) == {name: manifest.read(str(with_run / name)).content_hash for name in folders}
    assert problems(with_run) == []


def test_a_folder_that_was_removed(whole):
    for folder in ("shards", "run", "bank"):
        shutil.rmtree(whole / folder)
        assert (folder, "missing; contents.json lists it") in problems(whole)


def test_everything_removed_but_the_record(whole):
    for folder in ("tagged", "regions", "bank", "shards", "run", "rejects"):
        shutil.rmtree(whole / folder)
    assert ("shards", "missing; contents.json lists it") in problems(whole)


def test_the_record_removed(out):
    (out / "contents.json").unlink()
    [(file, what)] = problems(out)
    assert file == "contents.json"
    assert "missing" in what


def test_any_flipped_bit_of_the_record_is_found(out):
    data = (out / "contents.json").read_bytes()
    chance = random.Random(0)
    for _ in range(100):
        flip(out / "contents.json", chance)
        with pytest.raises(UserError, match=r"contents\.json"):
            contents.read(str(out))
        (out / "contents.json").write_bytes(data)


def test_a_config_that_was_changed_or_removed(out):
    flip(out / "config.yaml", random.Random(0))
    [(file, what)] = problems(out)
    assert (file, what[:18]) == ("config.yaml", "its bytes changed:")
    (out / "config.yaml").unlink()
    assert problems(out) == [("config.yaml", "missing")]


def test_a_record_of_other_content_is_one_problem(out):
    for text in ("", "[]", "null", '{"version": 1}', '{"version": "1"}', "[" * 100_000):
        (out / "contents.json").write_text(text)
        [(file, what)] = problems(out)
        assert file == "contents.json"
        assert "damaged" in what or "version" in what


def test_a_stage_that_is_replaced_by_another_sound_one(small_run, out, tmp_path):
    config = small_run.write_config("other.yaml", mix={"views": 1})
    other = Path(shutil.copytree(out, tmp_path / "other"))
    assert run(config, other, "--overwrite", command="mix") == 0
    shutil.rmtree(out / "shards")
    shutil.copytree(other / "shards", out / "shards")
    assert ("shards", "is not the one that contents.json lists") in problems(out)


def test_empty_folders(whole):
    places = ["tagged", "bank/more", "shards/.nv-meta/deep", "rejects/a/b", "run/checkpoints/x"]
    for place in places:
        (whole / place / "empty").mkdir(parents=True)
    what = "an empty folder, not in the manifest"
    assert sorted(problems(whole)) == sorted((f"{place}/empty", what) for place in places)


def test_links_in_the_place_of_files(whole, tmp_path):
    names = ["rejects/tag-find-00000.parquet", "run/tokenizer.json", "shards/mixed-000000.tar", "tagged/manifest.json"]
    for number, name in enumerate(names):
        shutil.move(whole / name, tmp_path / f"elsewhere-{number}")
        (whole / name).symlink_to(tmp_path / f"elsewhere-{number}")
    assert sorted(problems(whole)) == [(name, "a link, expected the file itself") for name in names]


def test_a_link_in_the_place_of_a_stage(whole, tmp_path):
    shutil.move(whole / "bank", tmp_path / "elsewhere")
    (whole / "bank").symlink_to(tmp_path / "elsewhere")
    assert problems(whole) == [("bank", "a link, expected a folder")]


def test_a_flipped_bit_in_every_file_of_the_run_is_found(whole):
    chance = random.Random(0)
    listed = [
        path for path in (whole / "run").rglob("*") if path.is_file() and path.name not in ("log.jsonl", "README.md")
    ]
    for path in listed:
        data = path.read_bytes()
        flip(path, chance)
        assert len(problems(whole / "run")) == 1, path
        path.write_bytes(data)
    assert problems(whole / "run") == []


def test_a_file_that_is_no_part_of_the_run(whole):
    (whole / "run" / "notes.txt").write_text("")
    assert problems(whole) == [("run/notes.txt", "not in the manifest")]


def test_a_run_of_other_shards(whole, small_run):
    config = small_run.write_config("other.yaml", mix={"views": 1})
    assert run(config, whole, "--overwrite", command="mix") == 0
    assert problems(whole) == [("run", "was made from another shards/ than the present one")]


def test_a_command_that_is_repeated_leaves_the_record_as_it_is(small_run, out):
    before = bytes_of(out)
    changed = os.stat(out / "contents.json").st_mtime_ns
    assert run(small_run.write_config(), out) == 0
    assert bytes_of(out) == before
    assert os.stat(out / "contents.json").st_mtime_ns == changed


def test_folders_of_an_earlier_version_are_recorded_by_the_next_run(small_run, out):
    expected = (out / "contents.json").read_bytes()
    (out / "contents.json").unlink()
    assert run(small_run.write_config(), out) == 0
    assert (out / "contents.json").read_bytes() == expected
    assert problems(out) == []


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("stage", ["index", "mix"])
def test_a_stage_redone_is_off_the_record_until_it_is_finished(small_run, out, monkeypatch, stage):
    """Killed between the manifest and the record, and before either."""
    expected = bytes_of(out)
    folder = {"index": "bank", "mix": "shards"}[stage]

    def kill(*arguments, **settings):
        raise Killed

    config = small_run.write_config()
    for target in ("files.sweep_temporaries", "contents.put"):
        with monkeypatch.context() as patch:
            patch.setattr(finishing, target.partition(".")[0], _Killing(target, kill))
            with pytest.raises(Killed):
                run(config, out, "--overwrite", command=stage)
        record = contents.read(str(out))
        assert record is not None
        assert folder not in record.folders
        assert any(file.startswith(folder) for file, _ in problems(out))
    assert run(small_run.write_config(), out) == 0
    assert bytes_of(out) == expected
    assert problems(out) == []


class _Killing:
    """A module with one function replaced."""

    def __init__(self, target, function):
        self._module, self._name = target.split(".")
        self._function = function

    def __getattr__(self, name):
        real = {"files": files, "contents": contents}[self._module]
        return self._function if name == self._name else getattr(real, name)


def test_a_config_is_off_the_record_while_it_is_written(tmp_path, monkeypatch):
    out = str(tmp_path)
    contents.publish_config(out, "seed: 1\n")
    first = contents.read(out)
    whole = contents.files.publish_bytes

    def kill(path, data):
        if path.endswith("config.yaml"):
            raise Killed
        whole(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(contents.files, "publish_bytes", kill)
        with pytest.raises(Killed):
            contents.publish_config(out, "seed: 2\n")
    between = contents.read(out)
    assert between is not None
    assert between.config is None
    contents.publish_config(out, "seed: 2\n")
    second = contents.read(out)
    assert first is not None
    assert second is not None
    assert first.config != second.config


def test_two_commands_may_record_at_once(tmp_path):
    """Each change opens the folder anew, so threads exclude each other as processes do."""

    def put_many(folder: str) -> None:
        for number in range(100):
            contents.put(str(tmp_path), {folder: str(number)})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(put_many, ["run", "shards"]))
    record = contents.read(str(tmp_path))
    assert record is not None
    assert dict(record.folders) == {"run": "99", "shards": "99"}


def test_a_record_of_another_version_is_refused(tmp_path):
    content = {"version": 2, "folders": {}}
    (tmp_path / "contents.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="written with version 2 of its format"):
        contents.read(str(tmp_path))
