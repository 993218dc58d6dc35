"""croissant.json by MLCommons' own library: valid, and it finds the keys and texts of all samples."""

import json
import os
import subprocess
import sys

import pytest

from vlmixer.artifacts import manifest
from vlmixer.artifacts.samples import MixedSample, read_shard

READ = """
import json, sys, mlcroissant
described = mlcroissant.Dataset(sys.argv[1])
assert described.metadata.ctx.issues.errors == set(), described.metadata.ctx.issues.report()
kind = sys.argv[2]
print(json.dumps({entry[f"{kind}/key"].decode(): entry[f"{kind}/text"].decode() for entry in described.records(kind)}))
"""


def text_of(sample):
    return sample.text if isinstance(sample, MixedSample) else ", ".join(sample.tags)


@pytest.mark.parametrize("kind", ["mixed", "images"])
def test_the_records_are_the_samples_keys_and_texts(small_run, kind, tmp_path):
    """In a process of its own, because the library reads at its start where to unpack tars, by their names alone."""
    shards = small_run.folder / "out" / "shards"
    environment = os.environ | {"CROISSANT_CACHE": str(tmp_path)}
    call = [sys.executable, "-c", READ, str(shards / "croissant.json"), kind]
    done = subprocess.run(call, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    samples = [sample for path in shards.glob(f"{kind}-*.tar") for sample in read_shard(str(path))]
    assert json.loads(done.stdout) == {sample.key: text_of(sample) for sample in samples}


def test_every_tar_is_named_with_its_hash(small_run):
    shards = small_run.folder / "out" / "shards"
    content = json.loads((shards / "croissant.json").read_text())
    tars = {output.name: output.sha256 for output in manifest.read(str(shards)).outputs if output.name.endswith(".tar")}
    named = {each["name"]: each["sha256"] for each in content["distribution"] if each["@type"] == "cr:FileObject"}
    assert named == tars
