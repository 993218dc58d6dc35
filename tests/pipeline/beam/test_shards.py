"""WriteShards: the same bytes from any order of samples, nothing lost, and what it refuses."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from tests.pipeline.beam.test_transforms import all_samples, plain, run

from vlmixer.artifacts.samples import ImageSample, Mention, MixedSample, Patch, Sample
from vlmixer.bank.concepts import Concept, Vocabulary
from vlmixer.pipeline.beam import WriteShards
from vlmixer.pipeline.beam.sample_coder import SampleCoder

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


def write(samples: Sequence[Sample], out: Path, size: int = 5) -> dict[str, int]:
    """Write the samples from a pipeline; returns its counters."""
    return run(lambda pipeline: pipeline | beam.Create(list(samples)) | WriteShards(str(out), size, vocabulary=WORDS))


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


def test_a_shard_that_no_sample_falls_on_is_there(tmp_path):
    write(list(map(mixed, range(3))), tmp_path, size=1)
    rows = json.loads((tmp_path / ".nv-meta" / ".info.json").read_text())["shard_counts"]
    assert sorted(rows) == ["mixed-000000.tar", "mixed-000001.tar", "mixed-000002.tar"]
    assert sorted(rows.values()) == [0, 1, 2]
    assert len(all_samples(tmp_path, "mixed-*.tar")) == 3


@pytest.mark.parametrize(
    ("samples", "said"),
    [([mixed(1), mixed(2), replace(mixed(1), text="a dog too")], "two samples have the key 's1-00'"),
     ([mixed(1, key="a.b")], "a sample has the key 'a.b'"),
     ([mixed(1, key="a/b")], "a sample has the key 'a/b'"),
     ([mixed(1), mixed(2, width=4)], r"features of widths \[3, 4\]"),
     ([replace(mixed(1), patches=(replace(mixed(1).patches[0], concept="horse"),))], "no concept 'horse'"),
     ([], "no sample for")],
)  # fmt: skip
def test_what_is_refused(tmp_path, samples, said):
    with pytest.raises(Exception, match=said):
        write(samples, tmp_path)
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


@pytest.mark.parametrize("sample", [mixed(5), image(5), replace(mixed(5), text="ein Hund — 犬")])
def test_samples_travel_as_the_members_of_their_tars(sample):
    coder = SampleCoder()
    assert repr(plain(coder.decode(coder.encode(sample)))) == repr(plain(sample))
    for kind in (MixedSample, ImageSample):
        assert isinstance(beam.coders.registry.get_coder(kind), SampleCoder)
