"""Input files that are changed between runs, or while a run reads them: no stale result, and no mixture."""

import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.pipeline.jobs.small_corpus import contents, make_corpus, run

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.pipeline.jobs import detect, tag
from vlmixer.pipeline.text.readers.base import TextSlice
from vlmixer.pipeline.text.readers.reader import SentenceReader


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """The folder of a corpus with a finished run in `out`. Tests change a copy of `out`, and restore the inputs."""
    corpus = make_corpus(tmp_path_factory.mktemp("changed"))
    assert run(corpus.write_config(), corpus.folder / "out") == 0
    return corpus.folder


@pytest.fixture
def finished(done: Path, tmp_path) -> Iterator[tuple[Path, Path, Path]]:
    """The folder of the corpus, its config, and a copy of the output."""
    inputs = [done / "captions.txt", *(done / "photos").iterdir()]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in inputs}
    yield done, done / "config.yaml", Path(shutil.copytree(done / "out", tmp_path / "out"))
    for path, (data, time) in before.items():
        if path.stat().st_mtime_ns != time:
            path.write_bytes(data)
            os.utime(path, ns=(time, time))


def replace_same_size(path: Path) -> None:
    """Another content of the same size, some time later."""
    data = path.read_bytes()
    path.write_bytes(data[::-1])
    later = path.stat().st_mtime_ns + 2_000_000_000
    os.utime(path, ns=(later, later))


def touch(path: Path) -> None:
    """The same content, some time later."""
    later = path.stat().st_mtime_ns + 2_000_000_000
    os.utime(path, ns=(later, later))


def test_finished_stages_are_refused_for_files_that_were_replaced(finished, capsys):
    folder, config, out = finished
    before = contents(out)
    for name, stage in (("captions.txt", "tag"), ("photos/0007.jpg", "detect")):
        kept = (folder / name).read_bytes()
        replace_same_size(folder / name)
        capsys.readouterr()
        assert run(config, out) == 1
        said = capsys.readouterr().err
        assert f"{folder / name}: changed since stage {stage!r} was run" in said
        assert f"Run `vlmixer {stage} … --overwrite`" in said
        assert contents(out) == before
        (folder / name).write_bytes(kept)
    touch(folder / "captions.txt")
    touch(folder / "photos" / "0008.jpg")
    assert run(config, out) == 0
    assert "comparing 2 input files by content" in capsys.readouterr().err
    assert contents(out) == before
    assert run(config, out) == 0
    assert "by content" not in capsys.readouterr().err


def test_photos_that_were_only_touched_give_the_same_bytes(finished):
    folder, config, out = finished
    before = contents(out)
    for path in (folder / "photos").iterdir():
        touch(path)
    assert run(config, out, "--overwrite", command="detect") == 0
    assert contents(out) == before


@pytest.mark.parametrize("name", ["captions.txt", "photos/0007.jpg"])
def test_a_stage_that_nothing_is_known_about_is_compared_by_content(finished, capsys, name):
    folder, config, out = finished
    shutil.rmtree(out / "work")
    assert run(config, out) == 0
    said = capsys.readouterr().err
    assert "nothing is known about when they were changed" in said
    assert "cannot be compared" not in said
    shutil.rmtree(out / "work")
    replace_same_size(folder / name)
    assert run(config, out) == 1
    assert f"{name}: changed since stage " in capsys.readouterr().err


@pytest.mark.parametrize("inputs", ["photos", "photos.tar", "photos.parquet", "list.txt"])
def test_images_that_were_not_hashed_before_are_compared_with_the_record(finished, capsys, inputs):
    folder, config, out = finished
    photos = out.parent / "photos"
    shutil.copytree(folder / "photos", photos)
    (photos / "empty.jpg").write_bytes(b"")
    images, path = sorted(photos.iterdir()), out.parent / inputs

    def pack(images: list[Path]) -> None:
        if inputs == "photos.tar":
            with tarfile.open(path, "w") as tar:
                for image in images:
                    tar.add(image, image.name)
        elif inputs == "photos.parquet":
            table = pa.table({"image": [image.read_bytes() for image in images]})
            pq.write_table(table, path, compression="none", use_dictionary=False, write_statistics=False)
        elif inputs == "list.txt":
            path.write_text("".join(f"photos/{image.name}\n" for image in images))

    pack(images)
    settings = [f"images.inputs=[{path}]", "images.drop_duplicates=false", "max_bad_fraction=1"]
    call = (config, out, *(part for setting in settings for part in ("--set", setting)))
    assert run(*call, "--overwrite", command="detect") == 0
    before = contents(out)
    for touched in [*images, *([path] if path.is_file() else [])]:
        touch(touched)
    capsys.readouterr()
    assert run(*call, command="detect") == 0
    assert "input files by content" in capsys.readouterr().err
    assert contents(out) == before
    if path.suffix in (".tar", ".parquet"):
        pack([*images[2:], *images[:2]])  # the same images, in another order
        changed = path
    else:
        changed = images[3]
        replace_same_size(changed)
    assert run(*call, command="detect") == 1
    assert f"{changed}: changed since stage 'detect' was run" in capsys.readouterr().err


def run_and_change(monkeypatch, module, function, change, *arguments, **settings) -> int:
    """Run the command; after the first call of this function of a stage, make a change."""
    whole = getattr(module, function)
    calls: list[int] = []

    def changing(*given, **named):
        found = whole(*given, **named)
        if not calls:
            change()
        calls.append(1)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(module, function, changing)
        return run(*arguments, **settings)


@pytest.mark.parametrize("when", ["begin_stage", "check_unreadable"])
def test_a_text_that_is_cut_while_the_stage_runs(finished, monkeypatch, capsys, when):
    folder, config, out = finished
    captions = folder / "captions.txt"
    whole = captions.read_bytes()

    def cut() -> None:
        captions.write_bytes(whole[: len(whole) // 4])

    call = (config, out, "--overwrite")
    assert run_and_change(monkeypatch, tag, when, cut, *call, command="tag") == 1
    said = capsys.readouterr().err
    assert f"error: {captions}: changed while the stage was running" in said
    assert not (out / "tagged" / "manifest.json").exists()
    assert run(config, out, "--overwrite", command="tag") == 0
    assert (out / "tagged" / "manifest.json").exists()


@pytest.mark.parametrize("when", ["begin_stage", "survey_images", "completed"])
def test_a_photo_that_is_replaced_while_the_stage_runs(finished, monkeypatch, capsys, when):
    folder, config, out = finished
    photo = folder / "photos" / "0003.jpg"

    def change() -> None:
        replace_same_size(photo)

    assert run_and_change(monkeypatch, detect, when, change, config, out, "--overwrite", command="detect") == 1
    assert f"error: {photo}: changed while the stage was running" in capsys.readouterr().err
    assert not (out / "regions" / "manifest.json").exists()
    if when == "completed":  # all units are done
        assert run(config, out, command="detect") == 1
        said = f"stage 'detect' was run with something else: the time of change, and perhaps the content, of {photo}"
        assert said in capsys.readouterr().err


def test_a_photo_that_a_list_names_is_replaced(finished, capsys):
    folder, config, out = finished
    (folder / "list.txt").write_text("photos/0003.jpg\nphotos/0004.jpg\nphotos/0005.jpg\n")
    call = (config, out, "--set", f"images.inputs=[{folder}/list.txt]")
    assert run(*call, "--overwrite", command="detect") == 0
    assert run(*call, command="detect") == 0
    replace_same_size(folder / "photos" / "0004.jpg")
    assert run(*call, command="detect") == 1
    assert "photos/0004.jpg: changed since stage 'detect' was run" in capsys.readouterr().err


def test_a_list_that_was_only_touched_is_the_same(finished, capsys):
    folder, config, out = finished
    names = folder / "list.txt"
    names.write_text("photos/0003.jpg\nphotos/0004.jpg\n")
    call = (config, out, "--set", f"images.inputs=[{names}]")
    assert run(*call, "--overwrite", command="detect") == 0
    touch(names)
    capsys.readouterr()
    assert run(*call, command="detect") == 0
    assert "comparing 1 input files by content" in capsys.readouterr().err
    names.write_text("photos/0003.jpg\nphotos/0005.jpg\n")
    assert run(*call, command="detect") == 1
    assert f"{names}: changed since stage 'detect' was run" in capsys.readouterr().err


@pytest.mark.parametrize("holder", ["photos.tar", "photos.parquet"])
def test_a_file_with_many_images_that_was_only_touched_is_the_same(finished, capsys, holder):
    folder, config, out = finished
    path, photos = folder / holder, sorted((folder / "photos").iterdir())[:4]

    def pack(photos: list[Path]) -> None:
        if holder.endswith(".tar"):
            with tarfile.open(path, "w") as tar:
                for photo in photos:
                    tar.add(photo, photo.name)
        else:
            images = pa.table({"image": [photo.read_bytes() for photo in photos]})
            pq.write_table(images, path, compression="none", use_dictionary=False, write_statistics=False)

    pack(photos)
    size = path.stat().st_size
    call = (config, out, "--set", f"images.inputs=[{path}]")
    assert run(*call, "--overwrite", command="detect") == 0
    before = contents(out)
    touch(path)
    capsys.readouterr()
    assert run(*call, command="detect") == 0
    assert "comparing 1 input files by content" in capsys.readouterr().err
    assert contents(out) == before
    pack([*photos[2:], *photos[:2]])  # the same photos, in another order
    assert path.stat().st_size == size
    assert run(*call, command="detect") == 1
    assert f"{path}: changed since stage 'detect' was run" in capsys.readouterr().err


def test_records_beside_photos_that_were_only_touched_are_the_same(finished, capsys):
    folder, config, out = finished
    place = out.parent / "described"
    place.mkdir()
    for number in range(3):
        shutil.copy(folder / "photos" / f"{number:04d}.jpg", place)
        (place / f"{number:04d}.json").write_text('{"license": "CC 1"}')
    (place / "0000.txt").write_text("a caption")
    call = (config, out, "--set", f"images.inputs=[{place}]")
    assert run(*call, "--overwrite", command="detect") == 0
    before = contents(out)
    for path in place.iterdir():
        touch(path)
    (place / "0000.txt").write_text("no caption")
    assert run(*call, command="detect") == 1  # its size is part of the plan
    (place / "0000.txt").write_text("a cation!")
    capsys.readouterr()
    assert run(*call, command="detect") == 0
    assert "comparing 7 input files by content" in capsys.readouterr().err
    assert contents(out) == before
    (place / "0001.json").write_text('{"license": "CC 2"}')
    assert run(*call, command="detect") == 1
    assert f"{place}/0001.json: changed since stage 'detect' was run" in capsys.readouterr().err


def test_a_record_that_no_pattern_names_counts_as_an_input(finished, capsys):
    folder, config, out = finished
    place = out.parent / "described"
    place.mkdir()
    shutil.copy(folder / "photos" / "0001.jpg", place)
    (place / "0001.json").write_text('{"license": "CC 1"}')
    call = (config, out, "--set", f"images.inputs=[{place}/*.jpg]")
    assert run(*call, "--overwrite", command="detect") == 0
    assert run(*call, command="detect") == 0
    replaced = '{"license": "CC 2"}'
    (place / "0001.json").write_text(replaced)
    touch(place / "0001.json")
    assert run(*call, command="detect") == 1
    assert f"{place}/0001.json: changed since stage 'detect' was run" in capsys.readouterr().err


def test_slices_of_a_file_that_is_replaced_between_them(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n")
    slices = [TextSlice(str(path), 8, start, start + 4, files.stamp(str(path))) for start in (0, 4)]
    found = SentenceReader(RejectLog("tag")).sentences(slices)
    assert next(found).text == "one"
    path.write_text("six\nten\n")
    touch(path)
    with pytest.raises(UserError, match=r"a\.txt: changed while the stage was running"):
        list(found)


def test_an_output_below_its_inputs_is_no_input(tmp_path):
    for name in (
        "a.txt",
        "out/logs/a.txt",
        "out/tagged/a.txt",
        "out/mine.txt",
        "out/contents.json",
        "output/logs/a.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    def found(pattern: str) -> list[str]:
        entries = files.expand([pattern], key="text.inputs", out=str(tmp_path / "out"))
        return sorted(entry.name.removeprefix(f"{tmp_path}/") for entry in entries)

    assert found(str(tmp_path)) == found(f"{tmp_path}/**/*.*") == ["a.txt", "out/mine.txt", "output/logs/a.txt"]
    assert found(f"{tmp_path}/out/tagged/*.txt") == ["out/tagged/a.txt"]


def test_an_object_of_the_same_size_has_another_stamp():
    def stamp() -> str:
        (found,) = files.expand(["memory://stamps/a.txt"], key="text.inputs")
        return found.stamp

    files.publish_bytes("memory://stamps/a.txt", b"one")
    first = stamp()
    assert stamp() == first
    files.publish_bytes("memory://stamps/a.txt", b"two")
    assert stamp() != first
