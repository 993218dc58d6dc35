"""Shards that are wrong although their hashes are right: samples, members of tars, indexes."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.pipeline.verification.rewriting import rewrite_manifest
from tests.tars import member_bytes

from vlmixer.artifacts import manifest
from vlmixer.artifacts.samples import MixedSample, Sample, read_shard, write_shard

SHARD = "mixed-000000.tar"


def rewrite_sample(out: Path, change: Callable[[MixedSample], Sample]) -> list[Sample]:
    """Change the first sample of a shard and rewrite the manifest; the samples as they are now."""
    path = out / "shards" / SHARD
    samples = list(read_shard(str(path)))
    first = samples[0]
    assert isinstance(first, MixedSample)
    samples[0] = change(first)
    with path.open("wb") as file:
        write_shard(file, samples)
    rewrite_manifest(out / "shards")
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
    return replace(sample, replaced=(0,), patches=(), features=sample.features[:0])


def patch_of_no_mention(sample: MixedSample) -> MixedSample:
    return replace(
        sample, patches=(replace(sample.patches[0], mention=9),), replaced=(9,), features=sample.features[:1]
    )


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (another_concept, "a patch has another concept than its mention"),
        (mention_off_by_one, "does not match the text"),
        (box_outside, "is not inside 32×32"),
        (wider_features, "features float16 of width 7"),
        (infinite_features, "not finite"),
        (single_precision, "float32 features"),
        (replaced_without_patch, "patches are for other mentions than those replaced"),
        (patch_of_no_mention, "a reference to a mention that is not there"),
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
    """Pass every member of a shard through `change` and rewrite the manifest."""
    path = out / "shards" / SHARD
    with tarfile.open(path) as tar:
        members = [(member, member_bytes(tar, member)) for member in tar]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, data in members:
            changed = change(member, data)
            member.size = len(changed)
            tar.addfile(member, io.BytesIO(changed))
    rewrite_manifest(out / "shards")


def test_a_member_with_a_time(out, problems):
    seen = []

    def change(member: tarfile.TarInfo, data: bytes) -> bytes:
        seen.append(member.name)
        member.mtime = int(len(seen) == 5)
        return data

    rewrite_members(out, change)
    assert problems(out / "shards") == [(SHARD, f"{seen[4]}: expected a plain file with mtime 0")]


def test_a_member_that_says_a_terabyte(out, problems):
    """Nobody looks for its bytes."""
    member = tarfile.TarInfo("k.json")
    member.size = 1 << 40
    (out / "shards" / SHARD).write_bytes(member.tobuf(tarfile.GNU_FORMAT) + b"{}")
    rewrite_manifest(out / "shards")
    assert SHARD in [name for name, _ in problems(out / "shards")]


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


@pytest.mark.parametrize("write", [lambda info: info["shard_counts"], lambda info: info], ids=["open_clip", "energon"])
def test_sizes_that_are_not_the_shards(out, problems, write):
    path = out / "shards" / ".nv-meta" / ".info.json"
    info = json.loads(path.read_text())
    if write(info) is not info:
        path = out / "shards" / "sizes.json"  # as shards with pictures have it
        path.write_text(json.dumps(write(info)))
        before = manifest.read(str(out / "shards"))
        outputs = [*before.outputs, manifest.output_of(str(out / "shards"), "sizes.json", 1)]
        (out / "shards" / "manifest.json").write_bytes(replace(before, outputs=outputs).to_bytes())
    assert problems(out / "shards") == []
    info["shard_counts"] |= {"mixed-000000.tar": 1}
    path.write_text(json.dumps(write(info)))
    rewrite_manifest(out / "shards")
    name = str(path.relative_to(out / "shards"))
    assert problems(out / "shards") == [(name, "is not the index of these shards")]


def test_what_energon_would_run(out, problems):
    folder = out / "shards" / ".nv-meta"
    path = folder / "dataset.yaml"
    path.write_text(path.read_text().replace("TextSample", "Evil"))
    (folder / "sample_loader.py").write_text("import evil")
    outputs = manifest.read(str(out / "shards")).outputs
    added = replace(outputs[0], name=".nv-meta/sample_loader.py")
    present = [manifest.output_of(str(out / "shards"), each.name, each.rows) for each in (*outputs, added)]
    rewrite_manifest(out / "shards", outputs=sorted(present, key=lambda each: each.name))
    assert problems(out / "shards") == [
        (".nv-meta/dataset.yaml", "is not the index of these shards"),
        (
            ".nv-meta/sample_loader.py",
            "not one of the files that vlmixer writes for energon, which runs code of others",
        ),
    ]


def test_an_index_that_does_not_fit_its_shard(out, problems):
    path = out / "shards" / "mixed-000001.tar.idx"
    offsets = np.fromfile(path, "<u8")
    offsets[3] += 512
    path.write_bytes(offsets.tobytes())
    rewrite_manifest(out / "shards")
    assert ("shards/mixed-000001.tar.idx", "its offsets are not where the samples begin") in problems(out)
