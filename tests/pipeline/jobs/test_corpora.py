"""Stage detect over corpora of several kinds at once: every image once, with its origin, for any number of workers."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.pipeline.jobs.small_corpus import PHOTOS, Corpus, contents, run

ROOT = Path(__file__).parents[3]


@pytest.fixture
def mixed(corpus: Corpus) -> Corpus:
    """The small corpus's photos dealt out to a folder, a tar, a Parquet file and a list, every tenth one twice."""
    photos = sorted(corpus.photos.iterdir())
    kinds = {kind: photos[start::4] for start, kind in enumerate(("tar", "parquet", "list", "folder"))}
    kinds["parquet"] += kinds["tar"][::10]
    kinds["tar"] += kinds["folder"][::10]
    with tarfile.open(corpus.folder / "some.tar", "w") as tar:
        for number, photo in enumerate(kinds["tar"]):
            record = json.dumps({"url": f"http://tar/{number}", "license": "by"}).encode()
            for ending, data in (("jpg", photo.read_bytes()), ("json", record)):
                member = tarfile.TarInfo(f"{number:06d}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    table = pa.table({"jpg": [photo.read_bytes() for photo in kinds["parquet"]]})
    pq.write_table(table, corpus.folder / "some.parquet", row_group_size=16)
    (corpus.folder / "list.txt").write_text("".join(f"photos/{photo.name}\n" for photo in kinds["list"]))
    (corpus.folder / "folder").mkdir()
    for photo in kinds["folder"]:
        os.link(photo, corpus.folder / "folder" / photo.name)
    return corpus


def config_of(corpus: Corpus, name: str = "mixed.yaml", **images: object) -> Path:
    inputs = [str(corpus.folder / part) for part in ("folder", "some.tar", "some.parquet", "list.txt")]
    return corpus.write_config(name, images={"inputs": inputs, **images})


def rows(out: Path) -> list[dict]:
    return [row for part in sorted((out / "regions").glob("part-*")) for row in pq.read_table(part).to_pylist()]


def counts(out: Path) -> dict:
    return json.loads((out / "regions" / "manifest.json").read_text())["counts"]["images"]


def test_every_image_is_used_once_and_keeps_its_origin(mixed: Corpus):
    out = mixed.folder / "out"
    assert run(config_of(mixed), out, command="detect") == 0
    assert counts(out) == {"read": PHOTOS + 8, "written": PHOTOS, "rejected": {"duplicate": 8}}
    found = rows(out)
    # What the photos give when they are read one by one.
    assert run(mixed.write_config(), mixed.folder / "plain", command="detect") == 0
    plain = rows(mixed.folder / "plain")
    what = ("concept", "score", "feature", "crop", "width", "height")
    assert sorted(str([row[key] for key in what]) for row in found) == sorted(
        str([row[key] for key in what]) for row in plain
    )
    by_source: dict[str, Any] = {}
    for row in found:
        by_source.setdefault(Path(row["source"]).name, {})[row["key"]] = (row["url"], row["license"])
    assert by_source["some.tar"]["000003.jpg"] == ("http://tar/3", "by")
    assert set(by_source["some.parquet"]) == {str(number) for number in range(38)}, "the four behind are duplicates"
    assert not (out / "work" / "detect").exists()
    duplicates = [row for part in (out / "rejects").glob("detect-*") for row in pq.read_table(part).to_pylist()]
    # Of equal images the first in the order of the inputs stays.
    assert {Path(row["source"]).suffix for row in duplicates} == {".tar", ".parquet"}
    assert {row["detail"].split("/")[-1].split(" ")[0] for row in duplicates if row["source"].endswith(".parquet")} == {
        "some.tar"
    }


def test_duplicates_may_stay(mixed: Corpus):
    out = mixed.folder / "out"
    assert run(config_of(mixed, drop_duplicates=False), out, command="detect") == 0
    assert counts(out) == {"read": PHOTOS + 8, "written": PHOTOS + 8, "rejected": {}}


def test_what_is_named_twice_is_used_once_even_so(mixed: Corpus):
    config = mixed.write_config(
        images={"inputs": [str(mixed.photos), str(mixed.folder / "list.txt")], "drop_duplicates": False}
    )
    assert run(config, mixed.folder / "out", command="detect") == 0
    listed = len((mixed.folder / "list.txt").read_text().splitlines())
    assert counts(mixed.folder / "out") == {
        "read": PHOTOS + listed, "written": PHOTOS, "rejected": {"duplicate": listed},
    }  # fmt: skip


def test_copies_of_a_broken_image_are_broken(corpus: Corpus):
    for number in range(3):
        (corpus.photos / f"broken-{number}.jpg").write_bytes(b"broken")
    assert run(corpus.write_config(), corpus.folder / "out", command="detect") == 0
    assert counts(corpus.folder / "out")["rejected"] == {"not_an_image": 3}


def test_two_workers_and_a_kill_give_the_same_bytes(mixed: Corpus):
    config = config_of(mixed, detector_options={"delay": 0.01})
    assert run(config, mixed.folder / "one", command="detect") == 0
    expected = contents(mixed.folder / "one")
    assert run(config, mixed.folder / "two", command="detect", workers=2) == 0
    assert contents(mixed.folder / "two") == expected
    out = mixed.folder / "killed"
    for sign in ("work/detect/survey-00002.json", "regions/part-00001.parquet"):
        call = [sys.executable, "-m", "vlmixer", "detect", str(config), "--out", str(out), "--workers", "1"]
        process = subprocess.Popen(call, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while process.poll() is None and not (out / sign).exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        assert process.poll() is None, "it was done before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert run(config, out, command="detect") == 0
    assert contents(out) == expected
