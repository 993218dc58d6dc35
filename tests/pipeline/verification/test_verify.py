"""`vlmixer verify`: any change of a finished run's files is found, and the file is named."""

import io
import json
import random
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlmixer.artifacts import manifest, schemas
from vlmixer.artifacts.manifest import Counts
from vlmixer.artifacts.samples import MixedSample, Sample, read_shard, write_shard
from vlmixer.pipeline.commands.main import main

FOLDERS = ("tagged", "regions", "bank", "shards", "rejects")


@pytest.fixture
def out(small_run, tmp_path) -> Path:
    """A copy of a finished run's folder."""
    return Path(shutil.copytree(small_run.folder / "out", tmp_path / "out"))


@pytest.fixture
def problems(capsys) -> Callable[[Path], list[tuple[str, str]]]:
    """Verifies a folder; its problems as (file relative to the folder, what), after checking code and report agree."""

    def verify(folder: Path) -> list[tuple[str, str]]:
        capsys.readouterr()
        code = main(["verify", str(folder), "--json"])
        report = json.loads(capsys.readouterr().out)
        assert code == (0 if report["sound"] else 1)
        assert report["sound"] == (not report["problems"])
        return [(problem["file"].removeprefix(f"{folder}/"), problem["what"]) for problem in report["problems"]]

    return verify


def test_a_sound_run(small_run, capsys):
    assert main(["verify", str(small_run.folder / "out"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    stored = [path for name in FOLDERS for path in (small_run.folder / "out" / name).rglob("*") if path.is_file()]
    assert report["sound"] is True
    assert report["problems"] == []
    assert report["files"] == len(stored)
    assert report["rows"]["samples"] == 564 + 150
    assert report["rows"]["patches"] == 120


def test_a_sound_run_in_words(small_run, capsys):
    assert main(["verify", str(small_run.folder / "out")]) == 0
    assert capsys.readouterr().out.startswith("sound: ")


def flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    bit = chance.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_a_flipped_bit_in_every_file_is_found_and_named(out, problems):
    chance = random.Random(0)
    paths = sorted(path for name in FOLDERS for path in (out / name).rglob("*") if path.is_file())
    paths = [path for path in paths if path.name != "manifest.json"]
    for path in paths:
        flip(path, chance)
    named = {file for file, _ in problems(out)}
    assert {str(path.relative_to(out)) for path in paths} <= named


@pytest.mark.parametrize("folder", ["tagged", "regions", "bank", "shards"])
def test_a_flipped_bit_alone_is_the_only_problem(out, problems, folder):
    chance = random.Random(folder)
    path = chance.choice(sorted(path for path in (out / folder).iterdir() if path.name != "manifest.json"))
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
             "shards/mixed-000003.tar", "shards/sizes.json", "rejects/tag-find-00000.parquet", "tagged/summary.json",
             "tagged/report.html"],
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
    what = "was made from another regions/ than the one that lies here"
    assert problems(out) == [("bank", what), ("shards", what)]


@pytest.mark.parametrize("folder", ["tagged", "regions", "bank", "shards"])
def test_one_stage_alone(out, problems, folder):
    assert problems(out / folder) == []
    path = min(path for path in (out / folder).iterdir() if path.is_file() and path.name != "manifest.json")
    flip(path, random.Random(1))
    assert [file for file, _ in problems(out / folder)] == [path.name]


@pytest.mark.parametrize("place", ["logs", "rejects", "nowhere", "config.yaml"])
def test_what_is_nothing_to_verify(out, capsys, place):
    assert main(["verify", str(out / place)]) == 2
    said = capsys.readouterr()
    assert "nothing to verify" in said.err
    assert said.out == ""


# From here on the hashes are right and the contents are wrong, as a fault of the writing program would leave them.


def describe_again(folder: Path, **changes: object) -> None:
    """Give a stage folder a manifest that tells its files' present sizes and hashes."""
    before = manifest.read(str(folder))
    outputs = [manifest.describe(str(folder), entry.name, entry.rows) for entry in before.outputs]
    (folder / "manifest.json").write_bytes(replace(before, outputs=outputs, **changes).to_bytes())


def test_counts_that_do_not_add_up(out, problems):
    counts = Counts(999, 564, {"no_patch": 1})
    describe_again(out / "shards", counts={"views": counts, "images": Counts(150, 150)})
    assert ("shards/manifest.json", f"views do not add up: {counts}") in problems(out)


@pytest.mark.parametrize(
    ("folder", "kind", "what"),
    [
        ("tagged", "sentences", "282 sentences found, the manifest counts 281"),
        ("regions", "images", "150 images found, the manifest counts 149"),
        ("bank", "regions", "120 regions found, the manifest counts 119"),
        ("shards", "views", "564 views found, the manifest counts 563"),
    ],
)
def test_counts_that_are_not_what_lies_there(out, problems, folder, kind, what):
    counts = manifest.read(str(out / folder)).counts
    fewer = replace(counts[kind], read=counts[kind].read - 1, written=counts[kind].written - 1)
    describe_again(out / folder, counts=counts | {kind: fewer})
    assert (folder, what) in problems(out)


def test_rejects_that_are_not_those_counted(out, problems):
    counts = manifest.read(str(out / "tagged")).counts["sentences"]
    changed = replace(counts, read=counts.read + 1, rejected={"no_mention": 19})
    describe_again(out / "tagged", counts={"sentences": changed})
    what = "stage tag: {'no_mention': 18} listed, the manifest counts {'no_mention': 19}"
    assert ("rejects", what) in problems(out)


def rewrite_rows(path: Path, change: Callable[[list[dict]], None]) -> None:
    """Change the rows of a Parquet file of one row group or many, and describe its folder again."""
    before = pq.ParquetFile(path)
    groups = [before.read_row_group(number).to_pylist() for number in range(before.num_row_groups)]
    change(groups[0])
    with schemas.writing_parquet(str(path), before.schema_arrow) as writer:
        for rows in groups:
            writer.write_table(pa.Table.from_pylist(rows, schema=before.schema_arrow))
    describe_again(path.parent)


def test_a_mention_that_is_not_what_the_text_says(out, problems):
    def change(rows: list[dict]) -> None:
        rows[3]["mentions"][0]["start"] += 1

    rewrite_rows(out / "tagged" / "part-00000.parquet", change)
    found = problems(out / "tagged")
    assert [file for file, _ in found] == ["part-00000.parquet"]
    assert "is not what the text says" in found[0][1]


def test_a_sentence_id_twice(out, problems):
    def change(rows: list[dict]) -> None:
        rows[1]["sentence_id"] = rows[0]["sentence_id"]

    rewrite_rows(out / "tagged" / "part-00000.parquet", change)
    assert any("occurs twice" in what for _, what in problems(out / "tagged"))


def test_columns_of_another_kind(out, problems):
    path = out / "tagged" / "part-00000.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["mentions"]), path)
    describe_again(path.parent)
    assert any(file == path.name and "columns" in what for file, what in problems(out / "tagged"))


@pytest.mark.parametrize("box", [[0.0, 0.0, 33.0, 16.0], [-1.0, 0.0, 16.0, 16.0], [8.0, 0.0, 8.0, 16.0], [np.nan] * 4])
def test_a_box_outside_its_image(out, problems, box):
    rewrite_rows(out / "regions" / "part-00000.parquet", lambda rows: rows[5].update(box=box))
    found = problems(out / "regions")
    assert [file for file, _ in found] == ["part-00000.parquet"]
    assert "is not inside 32×32" in found[0][1]


def test_regions_that_are_not_sound(out, problems):
    def change(rows: list[dict]) -> None:
        rows[0]["crop"] = b"no picture"
        rows[1]["feature"] = [np.float16(np.inf)] * 6
        rows[2]["patch_id"] = rows[3]["patch_id"]

    rewrite_rows(out / "regions" / "part-00000.parquet", change)
    found = " ".join(what for _, what in problems(out / "regions"))
    assert "its crop does not decode" in found
    assert "not finite" in found
    assert "occurs twice" in found


@pytest.mark.parametrize(
    "name", ["tagged/part-00000.parquet", "regions/part-00000.parquet", "bank/concepts.parquet", "bank/patches.parquet",
             "bank/features.npy", "bank/index.faiss", "shards/mixed-000000.tar", "shards/sizes.json"],
)  # fmt: skip
def test_a_file_that_is_nothing_of_its_kind_is_a_problem_and_no_crash(out, problems, name):
    (out / name).write_bytes(b"something else")
    describe_again((out / name).parent)
    assert any(file.startswith(name.partition("/")[0]) for file, _ in problems(out))


def test_an_index_of_fewer_vectors(out, problems):
    path = str(out / "bank" / "index.faiss")
    index = faiss.read_index(path)
    index.remove_ids(np.array([7], np.int64))
    faiss.write_index(index, path)
    describe_again(out / "bank")
    [(file, what)] = problems(out / "bank")
    assert file == "index.faiss"
    assert "119 vectors of 4 concepts, 6-d; expected 120 of 4, 6-d" in what


@pytest.mark.parametrize("shape", [(119, 6), (120, 5), (121, 6)])
def test_bank_features_of_another_shape(out, problems, shape):
    np.save(out / "bank" / "features.npy", np.zeros(shape, np.float16))
    describe_again(out / "bank")
    what = f"float16 of shape {shape}, expected float16 of shape (120, 6)"
    assert problems(out / "bank") == [("features.npy", what)]


def test_bank_features_cut_short(out, problems):
    path = out / "bank" / "features.npy"
    path.write_bytes(path.read_bytes()[:-4])
    describe_again(out / "bank")
    assert problems(out / "bank") == [("features.npy", "4 bytes too few for its shape (120, 6)")]


def test_bank_crops_that_go_on(out, problems):
    with (out / "bank" / "crops.bin").open("ab") as file:
        file.write(b"more")
    describe_again(out / "bank")
    assert [file for file, _ in problems(out / "bank")] == ["crops.bin"]


def test_a_bank_patch_under_another_concept(out, problems):
    rewrite_rows(out / "bank" / "patches.parquet", lambda rows: rows[0].update(concept_id=2))
    [(file, what)] = problems(out / "bank")
    assert file == "patches.parquet"
    assert "concept_id" in what


SHARD = "mixed-000000.tar"


def rewrite_sample(out: Path, change: Callable[[MixedSample], Sample]) -> list[Sample]:
    """Change the first sample of a shard and describe the folder again; the samples as they are now."""
    path = out / "shards" / SHARD
    samples = list(read_shard(str(path)))
    samples[0] = change(samples[0])
    with path.open("wb") as file:
        write_shard(file, samples)
    describe_again(out / "shards")
    return samples


def another_concept(sample: MixedSample) -> MixedSample:
    first = sample.patches[0]
    other = "cat" if first.concept != "cat" else "dog"
    return replace(sample, patches=(replace(first, concept=other), *sample.patches[1:]))


def mention_off_by_one(sample: MixedSample) -> MixedSample:
    first = sample.mentions[0]
    return replace(sample, mentions=(replace(first, end=first.end + 1), *sample.mentions[1:]))


def box_outside(sample: MixedSample) -> MixedSample:
    first = sample.patches[0]
    return replace(sample, patches=(replace(first, box=(0.0, 0.0, 16.0, 99.0)), *sample.patches[1:]))


def wider_features(sample: MixedSample) -> MixedSample:
    return replace(sample, features=np.zeros((len(sample.patches), 7), np.float16))


def infinite_features(sample: MixedSample) -> MixedSample:
    return replace(sample, features=np.full((len(sample.patches), 6), np.inf, np.float16))


def single_precision(sample: MixedSample) -> MixedSample:
    return replace(sample, features=sample.features.astype(np.float32))


def replaced_without_patch(sample: MixedSample) -> MixedSample:
    return replace(sample, replaced=(0, 1, 2))


def patch_of_no_mention(sample: MixedSample) -> MixedSample:
    return replace(
        sample, patches=(replace(sample.patches[0], mention=9),), replaced=(9,), features=sample.features[:1]
    )


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (another_concept, "a patch of another concept than its mention"),
        (mention_off_by_one, "is not what the text says"),
        (box_outside, "is not inside 32×32"),
        (wider_features, "features float16 of width 7"),
        (infinite_features, "not finite"),
        (single_precision, "float32 features"),
        (replaced_without_patch, "replaced (0, 1, 2), patches are for"),
        (patch_of_no_mention, "replaced (9,), patches are for"),
    ],
)
def test_a_sample_that_is_not_sound(out, problems, change, what):
    rewrite_sample(out, change)
    found = [said for file, said in problems(out / "shards") if file == SHARD]
    assert what in found[0]


def test_a_key_twice_in_a_shard(out, problems):
    key = [sample.key for sample in read_shard(str(out / "shards" / SHARD))][1]
    rewrite_sample(out, lambda sample: replace(sample, key=key))
    assert f"key {key} occurs twice" in [what for _, what in problems(out / "shards")]


def test_a_key_twice_in_two_shards(out, problems):
    other = next(iter(read_shard(str(out / "shards" / "mixed-000001.tar"))))
    rewrite_sample(out, lambda sample: other)
    assert f"key {other.key} occurs twice" in [what for _, what in problems(out / "shards")]


def rewrite_members(out: Path, change: Callable[[tarfile.TarInfo, bytes], bytes]) -> None:
    """Pass every member of a shard through `change` and describe the folder again."""
    path = out / "shards" / SHARD
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, data in members:
            changed = change(member, data)
            member.size = len(changed)
            tar.addfile(member, io.BytesIO(changed))
    describe_again(out / "shards")


def test_a_member_with_a_time(out, problems):
    seen = []

    def change(member: tarfile.TarInfo, data: bytes) -> bytes:
        seen.append(member.name)
        member.mtime = int(len(seen) == 5)
        return data

    rewrite_members(out, change)
    assert problems(out / "shards") == [(SHARD, f"{seen[4]}: expected a plain file with mtime 0")]


@pytest.mark.parametrize(
    ("extension", "content"),
    [
        ("json", b"{"),
        ("json", b"[]"),
        ("json", b'{"kind": "other"}'),
        ("txt", b"\xff\xfe"),
        ("txt", b"another text"),
        ("npy", b"no array"),
        ("npy", b""),
    ],
)
def test_a_member_that_does_not_decode(out, problems, extension, content):
    names = []

    def change(member: tarfile.TarInfo, data: bytes) -> bytes:
        if member.name.endswith(extension):
            names.append(member.name)
        return content if member.name in names[:1] else data

    rewrite_members(out, change)
    found = [what for file, what in problems(out / "shards") if file == SHARD]
    assert names[0].partition(".")[0] in found[0]


def test_a_record_with_values_of_another_type(out, problems):
    def change(member: tarfile.TarInfo, data: bytes) -> bytes:
        if not member.name.endswith("json"):
            return data
        record = json.loads(data)
        record["mentions"][0]["start"] = "two"
        return json.dumps(record).encode()

    rewrite_members(out, change)
    assert SHARD in {file for file, _ in problems(out / "shards")}


def test_sizes_that_are_not_the_shards(out, problems):
    path = out / "shards" / "sizes.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {SHARD: 1}))
    describe_again(out / "shards")
    assert problems(out / "shards") == [("sizes.json", "does not tell the shards' sizes as the manifest does")]


def test_bytes_alone_find_changed_bytes_and_read_no_record(out, capsys, monkeypatch):
    monkeypatch.setattr("vlmixer.pipeline.verification.verify.read_samples", None)
    monkeypatch.setattr("vlmixer.pipeline.verification.verify.pq", None)
    assert main(["verify", str(out), "--bytes", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    stored = [path for name in FOLDERS for path in (out / name).rglob("*") if path.is_file()]
    assert report["files"] == len(stored)
    assert report["bytes"] == sum(path.stat().st_size for path in stored if path.name != "manifest.json")
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
    assert report["files"] == sum(path.is_file() for path in (out / "shards").rglob("*"))
    sizes = [path.stat().st_size for path in (out / "shards").rglob("*") if path.is_file()]
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


def test_an_index_that_does_not_fit_its_shard(out, problems):
    path = out / "shards" / "mixed-000001.tar.idx"
    offsets = np.fromfile(path, "<u8")
    offsets[3] += 512
    path.write_bytes(offsets.tobytes())
    describe_again(out / "shards")
    assert ("shards/mixed-000001.tar.idx", "does not tell where the samples begin") in problems(out)
