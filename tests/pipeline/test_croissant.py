"""croissant.json by MLCommons' own library: valid, and it finds the keys and texts of all samples."""

import json

import mlcroissant
import pytest

from vlmixer.artifacts import manifest
from vlmixer.artifacts.samples import MixedSample, read_shard


def text_of(sample):
    return sample.text if isinstance(sample, MixedSample) else ", ".join(sample.tags)


@pytest.mark.parametrize("kind", ["mixed", "images"])
def test_the_records_are_the_samples_keys_and_texts(small_run, kind):
    shards = small_run.folder / "out" / "shards"
    described = mlcroissant.Dataset(str(shards / "croissant.json"))
    assert described.metadata.ctx.issues.errors == set()
    found = {entry[f"{kind}/key"].decode(): entry[f"{kind}/text"].decode() for entry in described.records(kind)}
    samples = [sample for path in shards.glob(f"{kind}-*.tar") for sample in read_shard(str(path))]
    assert found == {sample.key: text_of(sample) for sample in samples}


def test_every_tar_is_named_with_its_hash(small_run):
    shards = small_run.folder / "out" / "shards"
    content = json.loads((shards / "croissant.json").read_text())
    tars = {output.name: output.sha256 for output in manifest.read(str(shards)).outputs if output.name.endswith(".tar")}
    named = {each["name"]: each["sha256"] for each in content["distribution"] if each["@type"] == "cr:FileObject"}
    assert named == tars
