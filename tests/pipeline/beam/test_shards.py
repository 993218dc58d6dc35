"""WriteShards: the same bytes from any order of samples, nothing lost, and what it refuses."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from tests.pipeline.beam.test_transforms import all_samples, plain, run

from vlmixer.artifacts import files
from vlmixer.artifacts.manifest import read as read_manifest
from vlmixer.artifacts.samples import ImageSample, Mention, MixedSample, Patch, Sample
from vlmixer.artifacts.tars import plain_members
from vlmixer.bank.concepts import Concept, Vocabulary
from vlmixer.pipeline.beam import WriteShards, WrittenFile
from vlmixer.pipeline.beam.sample_coder import SampleCoder
from vlmixer.pipeline.beam.shards import Found, _publish
from vlmixer.pipeline.mix.reader_indexes import own_tars
from vlmixer.pipeline.report.samples import choose_samples
from vlmixer.pipeline.verification.verify import verify

WORDS = Vocabulary("words", (Concept(0, "dog", ()), Concept(1, "cat", ())))


def mixed(number: int, *, width: int = 3, key: str = "") -> MixedSample:
    """A sentence with one patch."""
    patch = Patch(0, f"p{number}", f"i{number}", "dog", 0.5, (0.0, 1.0, 2.0, 3.0), 8, 9)
    features = np.full((1, width), number, np.float16)
    name = key or f"s{number}-00"
    return MixedSample(name, f"s{number}", 0, "a dog", (Mention(2, 5, "dog", "dog", "dog"),), (0,), (patch,), features)


def image(number: int) -> ImageSample:
    """An image with a region and a picture."""
    patch = Patch(None, f"i{number}-000", f"i{number}", "cat", 0.5, (0.0, 1.0, 2.0, 3.0), 8, 9, (0, 0, 2, 2))
    return ImageSample(
        f"i{number}", f"i{number}", "a.jpg", 8, 9, ("cat",), (patch,), np.ones((1, 3), np.float16), b"jpeg"
    )


def of_a_horse() -> MixedSample:
    """A sentence with a concept that is not among WORDS."""
    sample = mixed(1)
    patches = (replace(sample.patches[0], concept="horse"),)
    return replace(sample, mentions=(replace(sample.mentions[0], concept="horse"),), patches=patches)


def write(samples: Sequence[Any], out: Path, size: int = 5, **options: Any) -> dict[str, int]:
    """Write the samples from a pipeline; returns its counters."""
    shards = WriteShards(str(out), size, vocabulary=WORDS, **options)
    return run(lambda pipeline: pipeline | beam.Create(list(samples)) | shards)


def test_equal_samples_in_any_order_give_equal_bytes(tmp_path):
    samples: list[Sample] = [*map(mixed, range(23)), *map(image, range(7))]
    counters = write(samples, tmp_path / "one")
    random.Random(0).shuffle(samples)
    write(samples, tmp_path / "other")
    one, other = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "one", tmp_path / "other")
    )
    assert one == other
    tars = sorted(path.name for path in (tmp_path / "one").glob("*.tar"))
    assert tars == [f"images-{number:06d}.tar" for number in range(2)] + [
        f"mixed-{number:06d}.tar" for number in range(5)
    ]
    assert counters["write/shards"] == 7
    found = [*all_samples(tmp_path / "one", "mixed-*.tar"), *all_samples(tmp_path / "one", "images-*.tar")]
    assert sorted(map(repr, map(plain, found))) == sorted(map(repr, map(plain, samples)))
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert manifest["counts"] == {
        "images": {"read": 7, "rejected": {}, "written": 7},
        "views": {"read": 23, "rejected": {}, "written": 23},
    }
    assert manifest["details"]["replaced"] == {"dog": 23}
    sizes = json.loads((tmp_path / "one" / ".nv-meta" / ".info.json").read_text())["shard_counts"]
    assert sum(sizes.values()) == 30
    assert set(sizes) == set(tars)


def test_what_is_written_last_does_not_depend_on_the_order_of_shards(tmp_path):
    write(list(map(mixed, range(23))), tmp_path)
    tars = [output for output in read_manifest(str(tmp_path)).outputs if output.name.endswith(".tar")]
    shards = [((WrittenFile(**vars(output)),), Found().to_json()) for output in tars]
    assert len(shards) == 5
    contents = []
    for order in (shards, shards[::-1]):
        _publish(order, str(tmp_path), 0, WORDS, False, [])
        contents.append({path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()})
    assert contents[0] == contents[1]


def test_a_shard_that_no_sample_falls_on_is_there(tmp_path):
    write(list(map(mixed, range(3))), tmp_path, size=1)
    rows = json.loads((tmp_path / ".nv-meta" / ".info.json").read_text())["shard_counts"]
    assert sorted(rows) == ["mixed-000000.tar", "mixed-000001.tar", "mixed-000002.tar"]
    assert sorted(rows.values()) == [0, 1, 2]
    assert len(all_samples(tmp_path, "mixed-*.tar")) == 3


@pytest.mark.parametrize(
    ("samples", "said"),
    [([mixed(1), mixed(2), replace(mixed(1), text="a dog too")], "two samples have the key 's1-00'"),
     ([mixed(1, key="a"), replace(image(1), key="a")], "two samples have the key 'a'"),
     *(([mixed(1, key=key)], "a sample has the key '") for key in ("a.b", "a/b", "né", "a\nb", "a\0b", "x" * 96)),
     ([replace(mixed(1), key="")], "a sample has the key ''"),
     ([replace(mixed(1), key=5)], "a sample with the key '5' cannot be written"),  # type: ignore[arg-type]
     ([replace(mixed(1), features=np.ones((1, 3)))], "'s1-00' cannot be written: float64 features"),
     ([b"jpeg"], "an element is b'jpeg', expected a MixedSample, an ImageSample, or a dict"),
     ([{"jpg": b"jpeg"}], "a sample has the key None"),
     ([{"__key__": "a", "jpg": b""}, {"__key__": "a", "png": b""}], "two samples have the key 'a'"),
     ([{"__key__": "a"}], "the sample 'a' has no member"),
     ([{"__key__": "a", "json": {"b": 1}}], "the sample 'a' has dict as its member 'json', expected bytes or str"),
     ([{"__key__": "a", "jpg": b"1", ".jpg": b"2"}], "member '.jpg', expected bytes or str by extension, .* each once"),
     ([{"__key__": "x" * 93, "segment": b""}], "a str of 1 to 92 printable ASCII"),
     ([mixed(1), mixed(2, width=4)], r"features of widths \[3, 4\]"),
     ([of_a_horse()], "no concept 'horse'"),
     ([], "no sample for")],
)  # fmt: skip
def test_what_is_refused(tmp_path, samples, said):
    with pytest.raises(Exception, match=said):
        write(samples, tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_dicts_of_webdataset_are_written_beside_the_others(tmp_path):
    others = [
        {"__key__": f"o{number}", "__url__": "x.tar", "txt": "né", ".jpg": b"jpeg", "cls": None} for number in range(7)
    ]
    samples = [*others, mixed(1)]
    write(samples, tmp_path / "one")
    write(samples[::-1], tmp_path / "other")
    names = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    found: dict[str, bytes] = {}
    for number in range(2):
        with open(tmp_path / "one" / f"samples-{number:06d}.tar", "rb") as file:
            found |= dict(plain_members(file))
    assert found == {f"o{number}.jpg": b"jpeg" for number in range(7)} | {
        f"o{number}.txt": "né".encode() for number in range(7)
    }
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert {kind: counts["written"] for kind, counts in manifest["counts"].items()} == {"samples": 7, "views": 1}
    splits = json.loads((tmp_path / "one" / "_info.json").read_text())["splits"]
    assert {name: split["num_samples"] for name, split in splits.items()} == {"mixed": 1, "samples": 7}
    assert own_tars(str(tmp_path)) == ["one/mixed-000000.tar", "other/mixed-000000.tar"]
    assert [sample.key for sample in choose_samples(str(tmp_path / "one"), 9)] == ["s1-00"]
    assert verify(str(tmp_path / "one")).problems == []


def test_dicts_alone_are_what_energon_trains_on(tmp_path):
    write([{"__key__": "a", "npy": b"x"}], tmp_path)
    parts = json.loads((tmp_path / ".nv-meta" / "split.yaml").read_text())["split_parts"]
    assert parts == {"images": [], "test": [], "train": ["samples-000000.tar"], "val": []}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".nv-meta", "manifest.json", "samples-000000.tar", "samples-000000.tar.idx",
    ]  # fmt: skip
    assert verify(str(tmp_path)).problems == []


def test_without_a_sample_there_is_no_folder_unless_it_is_allowed(tmp_path):
    with pytest.raises(Exception, match=r"no sample for .* allow_empty=True writes a folder without shards"):
        write([], tmp_path)
    write([], tmp_path, allow_empty=True)
    assert json.loads((tmp_path / "manifest.json").read_text())["counts"] == {}
    assert verify(str(tmp_path)).problems == []


def test_shards_that_are_there_are_replaced(tmp_path):
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "notes.tar").write_bytes(b"mine")
    write([*map(mixed, range(23)), image(1)], tmp_path / "again")
    write([mixed(30)], tmp_path / "again")
    write([mixed(30)], tmp_path / "new")
    one, other = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "again", tmp_path / "new")
    )
    assert one.pop(Path("notes.tar")) == b"mine"
    assert one == other


def test_a_card_that_describes_none_of_the_samples_is_removed_unless_it_is_somebody_elses(tmp_path):
    others = [{"__key__": "a", "jpg": b"jpeg"}]
    write([mixed(1)], tmp_path / "again")
    write(others, tmp_path / "again")
    write(others, tmp_path / "new")
    assert not (tmp_path / "new" / "README.md").exists()
    assert files.list_files(str(tmp_path / "again")) == files.list_files(str(tmp_path / "new"))
    (tmp_path / "new" / "README.md").write_bytes(b"mine")
    write(others, tmp_path / "new")
    assert (tmp_path / "new" / "README.md").read_bytes() == b"mine"


def test_a_folder_whose_shards_could_not_be_replaced_is_not_complete(tmp_path):
    write([mixed(1)], tmp_path)
    with pytest.raises(Exception, match="two samples have the key"):
        write([mixed(2), mixed(2)], tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_unbounded_and_windowed_collections_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must be bounded"):
        run(
            lambda pipeline: (
                pipeline
                | beam.Create([mixed(1)])
                | beam.WindowInto(beam.window.FixedWindows(60))
                | WriteShards(str(tmp_path), vocabulary=WORDS)
            )
        )
    with pytest.raises(ValueError, match="samples_per_shard is 0"):
        WriteShards(str(tmp_path), 0)
    with pytest.raises(ValueError, match=r"samples_per_shard is 2\.5"):
        WriteShards(str(tmp_path), 2.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("sample", [mixed(5), image(5), replace(mixed(5), text="a dog — 犬")])
def test_samples_travel_as_the_members_of_their_tars(sample):
    coder = SampleCoder()
    assert repr(plain(coder.decode(coder.encode(sample)))) == repr(plain(sample))
    for kind in (MixedSample, ImageSample):
        assert isinstance(beam.coders.registry.get_coder(kind), SampleCoder)
