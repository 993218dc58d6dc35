"""The chain of stages: what lies on disk afterwards, read by nothing of ours, and what its bytes depend on."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.pipeline.jobs.small_corpus import PHOTOS, Corpus, contents, run
from tests.tars import member_bytes

COMMAND = [sys.executable, "-m", "vlmixer"]
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def finished(small_run: Corpus) -> tuple[Corpus, Path]:
    """A corpus, and the folder of a whole run over it by one worker."""
    return small_run, small_run.folder / "out"


def rejects(out: Path, stage: str) -> Counter:
    """Reject rows of a stage by reason."""
    tables = [pq.read_table(path).to_pylist() for path in sorted((out / "rejects").glob(f"{stage}-*.parquet"))]
    return Counter(row["reason"] for rows in tables for row in rows)


def members(out: Path, pattern: str) -> dict[str, dict[str, bytes]]:
    """Samples of the shards by key, as plain members."""
    samples: dict[str, dict[str, bytes]] = {}
    for shard in sorted((out / "shards").glob(pattern)):
        with tarfile.open(shard) as tar:
            for member in tar:
                assert member.mtime == 0
                assert member.isfile()
                key, dot, extension = member.name.partition(".")
                assert dot == "."
                assert extension in ("json", "txt", "npy")
                assert extension not in samples.setdefault(key, {}), f"{key} twice"
                samples[key][extension] = member_bytes(tar, member)
    return samples


def test_mixed_samples_are_what_the_format_says(finished):
    corpus, out = finished
    sentences = corpus.captions.read_text().splitlines()
    wanted = [line for line in sentences if any(word in line for word in ("dog", "puppy", "cat", "kite"))]
    samples = members(out, "mixed-*.tar")
    assert len(samples) == 2 * len(wanted)
    texts: Counter[str] = Counter()
    replaced_share = []
    for key, parts in samples.items():
        record = json.loads(parts["json"])
        features = np.load(io.BytesIO(parts["npy"]), allow_pickle=False)
        text = parts["txt"].decode()
        texts[text] += 1
        assert record["key"] == key
        assert record["kind"] == "mixed"
        assert record["text"] == text
        assert features.dtype == np.float16
        assert features.shape == (len(record["patches"]), 6)
        for mention in record["mentions"]:
            assert text[mention["start"] : mention["end"]] == mention["surface"]
            assert mention["surface"] in ("dog", "dogs", "puppy", "cat", "kite", "kites")
        assert record["replaced"], "at least one mention is replaced"
        per_mention = Counter(patch["mention"] for patch in record["patches"])
        assert list(per_mention) == record["replaced"]
        for number, count in per_mention.items():
            assert count == (3 if record["mentions"][number]["surface"].endswith("s") else 1)
        for patch in record["patches"]:
            assert patch["concept"] == record["mentions"][patch["mention"]]["concept"]
            assert 0 <= patch["box"][0] < patch["box"][2] <= patch["width"] == 32
        replaced_share.append(len(record["replaced"]) / len(record["mentions"]))
    assert texts == Counter(dict.fromkeys(wanted, 2))
    assert 0.5 < np.mean(replaced_share) < 1


def test_patches_are_the_regions_they_name(finished):
    _, out = finished
    regions = {}
    for part in sorted((out / "regions").glob("part-*.parquet")):
        for row in pq.read_table(part).to_pylist():
            assert row["patch_id"] not in regions
            regions[row["patch_id"]] = row
    for parts in members(out, "mixed-*.tar").values():
        features = np.load(io.BytesIO(parts["npy"]))
        for patch, feature in zip(json.loads(parts["json"])["patches"], features, strict=True):
            row = regions[patch["patch_id"]]
            assert (patch["concept"], patch["image_id"]) == (row["concept"], row["image_id"])
            assert patch["box"] == row["box"]
            assert feature.tolist() == row["feature"]


def test_image_samples_hold_all_regions_and_their_tags(finished):
    _, out = finished
    samples = members(out, "images-*.tar")
    of_images: dict[str, list] = {}
    for part in sorted((out / "regions").glob("part-*.parquet")):
        for row in pq.read_table(part).to_pylist():
            of_images.setdefault(row["image_id"], []).append(row)
    assert samples.keys() == of_images.keys()
    for key, parts in samples.items():
        record = json.loads(parts["json"])
        concepts = [row["concept"] for row in of_images[key]]
        assert [patch["concept"] for patch in record["patches"]] == concepts
        assert record["tags"] == list(dict.fromkeys(concepts))
        assert parts["txt"].decode() == ", ".join(record["tags"])
        assert np.load(io.BytesIO(parts["npy"])).tolist() == [row["feature"] for row in of_images[key]]


def test_shards_are_near_their_size_and_mix_the_corpus(finished):
    corpus, out = finished
    sizes = json.loads((out / "shards" / ".nv-meta" / ".info.json").read_text())["shard_counts"]
    mixed = {name: size for name, size in sizes.items() if name.startswith("mixed")}
    assert sum(mixed.values()) == len(members(out, "mixed-*.tar"))
    assert all(30 < size < 90 for size in mixed.values())
    days = [int(line.rsplit(" ", 1)[1]) for line in corpus.captions.read_text().splitlines()]
    for shard in sorted(mixed):
        read = [json.loads(parts["json"])["text"] for parts in members(out, shard).values()]
        found = [int(text.rsplit(" ", 1)[1]) for text in read]
        assert found != sorted(found)
        assert max(found) - min(found) > len(days) / 2


def test_counts_add_up_and_rejects_are_listed(finished):
    _, out = finished
    read = {"tagged": ("sentences", 300), "regions": ("images", PHOTOS)}
    for stage, folder in (("tag", "tagged"), ("detect", "regions"), ("index", "bank"), ("mix", "shards")):
        manifest = json.loads((out / folder / "manifest.json").read_text())
        counted: Counter[str] = Counter()
        for counts in manifest["counts"].values():
            assert counts["read"] == counts["written"] + sum(counts["rejected"].values())
            counted.update(counts["rejected"])
        if folder in read:
            kind, number = read[folder]
            assert manifest["counts"][kind]["read"] == number
        assert rejects(out, stage) == counted
    bank = json.loads((out / "bank" / "manifest.json").read_text())["counts"]["regions"]
    regions = sum(pq.read_metadata(part).num_rows for part in (out / "regions").glob("part-*.parquet"))
    assert bank["read"] == regions
    assert bank["written"] <= 3 * 40
    assert bank["rejected"]["over_limit"] > 0


def test_two_workers_and_another_folder_give_the_same_bytes(finished):
    corpus, out = finished
    other = corpus.folder / "elsewhere" / "two"
    assert run(corpus.write_config(), other, workers=2) == 0
    assert contents(other) == contents(out)


def test_another_seed_draws_other_patches(finished):
    corpus, out = finished
    other = corpus.folder / "seed"
    assert run(corpus.write_config("seed.yaml", seed=4), other) == 0
    before, after = contents(out), contents(other)
    assert before["tagged/part-00000.parquet"] == after["tagged/part-00000.parquet"]
    assert before["shards/mixed-000000.tar"] != after["shards/mixed-000000.tar"]


def start(config: Path, out: Path, workers: int = 1) -> subprocess.Popen:
    """The command as a process group of its own."""
    call = [*COMMAND, "run", str(config), "--out", str(out), "--workers", str(workers)]
    return subprocess.Popen(call, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def test_killed_at_any_moment_it_resumes_to_the_same_bytes(finished, tmp_path, monkeypatch):
    corpus, reference = finished
    config, log, other = corpus.write_config(), tmp_path / "calls", tmp_path / "killed"
    monkeypatch.setenv("QUADRANTS_DELAY", "0.02")
    monkeypatch.setenv("QUADRANTS_LOG", str(log))
    moments = random.Random(0)
    # Each kill waits for another sign of progress that stays, so that whatever the machine's speed no stage is spared.
    signs = ["tagged", "regions/part-00001.parquet", "bank/concepts.parquet", "shards/mixed-000001.tar"]
    kills = 0
    for sign in signs:
        process = start(config, other, workers=1 + kills % 2)
        deadline = time.monotonic() + 120
        while process.poll() is None and not (other / sign).exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(moments.random() * 0.3)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
    assert kills >= 3
    process = start(config, other)
    _, said = process.communicate(timeout=180)
    assert process.returncode == 0, said.decode()
    assert contents(other) == contents(reference)
    # Units that were done were not done again: at most the photos of a unit a worker were seen anew for each kill.
    assert len(log.read_text().splitlines()) <= PHOTOS + kills * 2 * 64


def test_a_finished_run_is_left_alone(finished):
    corpus, out = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    assert run(corpus.write_config(), out) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == before


def test_a_changed_config_is_refused_until_overwrite(corpus: Corpus, capsys):
    out = corpus.folder / "out"
    assert run(corpus.write_config(), out) == 0
    changed = corpus.write_config("changed.yaml", mix={"replace_probability": 1.0})
    before = contents(out)
    assert run(changed, out) == 1
    said = capsys.readouterr().err
    assert "shards" in said
    assert "vlmixer mix … --overwrite" in said
    assert contents(out) == before
    page = out / "reports" / "run.html"
    page.write_text("of the run before")
    assert run(changed, out, "--overwrite", command="mix") == 0
    assert "<svg" in page.read_text()
    after = contents(out)
    assert after["bank/manifest.json"] == before["bank/manifest.json"]
    assert after["shards/mixed-000000.tar"] != before["shards/mixed-000000.tar"]
    records = [json.loads(parts["json"]) for parts in members(out, "mixed-*.tar").values()]
    assert all(len(record["replaced"]) == len(record["mentions"]) for record in records)


def test_an_unfinished_stage_refuses_a_changed_config_and_says_what_changed(corpus: Corpus, capsys):
    out = corpus.folder / "out"
    strict = corpus.write_config(images={"detector_options": {"broken": "nan"}})
    assert run(strict, out) == 1
    assert "bad_feature" in capsys.readouterr().err
    mended = corpus.write_config("mended.yaml")
    assert run(mended, out) == 1
    assert "setting detector" in capsys.readouterr().err
    assert run(mended, out, "--overwrite") == 0


def test_a_later_stage_of_a_redone_one_is_refused(corpus: Corpus, capsys):
    out = corpus.folder / "out"
    assert run(corpus.write_config(), out) == 0
    fewer = corpus.write_config("fewer.yaml", images={"max_regions": 1})
    assert run(fewer, out, "--overwrite", command="detect") == 0
    assert run(fewer, out, command="index") == 1
    assert "bank" in capsys.readouterr().err
