"""The shards as other programs read them, and the files by which these know the shards.

webdataset 0.2.86, open_clip and timm do not fit beside webdataset 1.x: `make install` puts them into a folder of their
own (readers.txt), and processes of their own read with them. Energon is tried by benchmarks/readers.py, which makes
an environment for it: it brings too much.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset as wds
import yaml
from benchmarks.readers import PAGE, ROOT, blocks
from PIL import Image
from tests.pipeline.jobs.small_corpus import Corpus, run

from vlmixer.artifacts.samples import read_shard, sample_record
from vlmixer.bank import PatchBank, write_webdataset

KINDS = ("mixed", "images")
READERS = Path(sys.prefix) / "readers"
BLOCKS = [block for block in blocks(PAGE.read_text(encoding="utf-8")) if "energon" not in " ".join(block.packages)]


@pytest.fixture(scope="module")
def crops(small_run: Corpus, tmp_path_factory) -> Path:
    return mixed_again(small_run, tmp_path_factory.mktemp("pictures"), {"crops": True})


@pytest.fixture(scope="module")
def plain(small_run: Corpus) -> Path:
    return small_run.folder / "out" / "shards"


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "crops"])
def shards(request, small_run: Corpus, tmp_path_factory) -> Path:
    settings = {"crops": request.param, "min_replaced": 0, "patches_per_word": 2}
    return mixed_again(small_run, tmp_path_factory.mktemp("readers"), settings)


def mixed_again(small_run: Corpus, folder: Path, settings: dict[str, Any]) -> Path:
    """The shards of the small run with other settings of `mix`."""
    out = shutil.copytree(small_run.folder / "out", folder / "out", ignore=shutil.ignore_patterns("shards"))
    assert run(small_run.write_config("mixed-again.yaml", mix=settings), out, command="mix") == 0
    return out / "shards"


def ours(path: Path):
    return {sample.key: sample for sample in read_shard(str(path))}


@pytest.mark.parametrize("kind", KINDS)
def test_webdataset(shards, kind):
    path = shards / f"{kind}-000001.tar"
    expected = ours(path)
    found = list(wds.WebDataset(str(path), shardshuffle=False).decode("pil"))
    assert [entry["__key__"] for entry in found] == list(expected)
    for entry in found:
        sample = expected[entry["__key__"]]
        assert np.array_equal(entry["npy"], sample.features)
        assert [patch["patch_id"] for patch in entry["json"]["patches"]] == [patch.patch_id for patch in sample.patches]
        if sample.picture is not None:
            assert entry["jpg"].size == Image.open(io.BytesIO(sample.picture)).size


@pytest.mark.parametrize("kind", KINDS)
def test_hugging_face_datasets(shards, kind, tmp_path, monkeypatch):
    """By the folder alone: README.md says what the tars hold."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    data = datasets.load_dataset(str(shards), kind, split="train", cache_dir=str(tmp_path))
    expected = {key: sample for path in shards.glob(f"{kind}-*.tar") for key, sample in ours(path).items()}
    assert set(data["__key__"]) == set(expected)
    for entry in data.select(range(0, len(data), 7)):
        sample = expected[entry["__key__"]]
        assert np.array_equal(np.array(entry["npy"], np.float16).reshape(sample.features.shape), sample.features)
        plain = json.loads(json.dumps(sample_record(sample)))
        assert entry["json"] == plain
        if sample.picture is not None:
            assert entry["jpg"].size == Image.open(io.BytesIO(sample.picture)).size
    streamed = datasets.load_dataset(str(shards), kind, split="train", streaming=True)
    assert streamed.features == data.features
    assert [entry["__key__"] for entry in streamed] == data["__key__"][:]


def test_hugging_face_datasets_loads_patches_of_a_query(crops, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    hits = PatchBank.open(str(crops.parent / "bank")).search("dog", k=5)
    write_webdataset(hits, str(tmp_path / "dogs"), per_shard=3)
    data = datasets.load_dataset(str(tmp_path / "dogs"), split="train", cache_dir=str(tmp_path / "cache"))
    assert data["json"][:] == [json.loads(json.dumps(hit.to_json())) for hit in hits]
    assert [picture.size for picture in data["jpg"]] == [hit.patch.picture.size for hit in hits]
    assert data["txt"][:] == ["dog"] * 5


def test_the_card_tells_what_is_in_the_folder(shards):
    head, text = (shards / "README.md").read_text().removeprefix("---\n").split("---\n\n")
    assert [part["config_name"] for part in yaml.safe_load(head)["configs"]] == list(KINDS)
    for kind in KINDS:
        tars = list(shards.glob(f"{kind}-*.tar"))
        assert f"| `{kind}` | {sum(len(ours(path)) for path in tars)} | {len(tars)} |" in text
    assert ("`jpg`, a picture of the patches" in text) == any(
        sample.picture for path in shards.glob("*.tar") for sample in ours(path).values()
    )


@pytest.mark.parametrize(("section", "said"), [("open_clip", "--train-num-samples"), ("timm", "_info.json")])
def test_readers_of_pictures_refuse_shards_without_any(plain, section, said, tmp_path):
    """open_clip would wait for a picture for ever."""
    (block,) = [block for block in BLOCKS if block.section == section]
    done = run_block(block, plain, tmp_path)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{block.section} {' '.join(block.packages[:2])}" for block in BLOCKS])
def test_every_block_of_the_page_runs(crops, block, tmp_path):
    """Energon's apart. What a section installs is what it gets, if it is kept in two versions."""
    done = run_block(block, crops, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def run_block(block, shards, tmp_path):
    (tmp_path / "out").symlink_to(shards.parent)
    old = any(package == "webdataset==0.2.86" for package in block.packages)
    path = [str(ROOT), *([str(READERS)] if old else [])]
    code = f"import sys\nsys.path[:0] = {path[::-1]!r}\n{block.code}"
    if "webdataset" in " ".join(block.packages):
        code += f"\nimport webdataset\nassert webdataset.__version__.startswith({'0.2.86' if old else '1.'!r})\n"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment, check=False
    )


def test_what_every_reader_relies_on(shards):
    """Plain USTAR files; members of a sample together; keys without dots, unique; the same members in every sample."""
    keys = []
    for path in sorted(shards.glob("*.tar")):
        names = []
        with tarfile.open(path) as tar:
            assert not tar.pax_headers
            for member in tar:
                assert member.isreg()
                names.append(tuple(member.name.split(".")))
        extensions = (
            ["json", "txt", "npy", "jpg"] if any(name[1] == "jpg" for name in names) else ["json", "txt", "npy"]
        )
        step = len(extensions)
        assert len(names) % step == 0
        for at in range(0, len(names), step):
            (key,) = {name[0] for name in names[at : at + step]}
            assert [name[1:] for name in names[at : at + step]] == [(extension,) for extension in extensions]
            keys.append(key)
    assert len(set(keys)) == len(keys)


def test_index_files_tell_the_shards_sizes(shards):
    sizes = {path.name: len(ours(path)) for path in shards.glob("*.tar")}
    pictures = any(sample.picture is not None for path in shards.glob("*.tar") for sample in ours(path).values())
    assert {(shards / name).exists() for name in ("sizes.json", "_info.json")} == {pictures}
    if pictures:
        assert json.loads((shards / "sizes.json").read_text()) == sizes
        info = json.loads((shards / "_info.json").read_text())["splits"]
        assert set(info) == set(KINDS)
        told = [dict(zip(split["filenames"], split["shard_lengths"], strict=True)) for split in info.values()]
        assert {**told[0], **told[1]} == sizes
    energon = json.loads((shards / ".nv-meta" / ".info.json").read_text())
    assert energon["shard_counts"] == sizes
    parts = json.loads((shards / ".nv-meta" / "split.yaml").read_text())["split_parts"]
    assert sorted(name for names in parts.values() for name in names) == sorted(sizes)
    assert parts["train"] == sorted(name for name in sizes if name.startswith("mixed"))


def test_energons_index_tells_where_samples_begin(shards):
    for path in shards.glob("*.tar"):
        offsets = np.fromfile(f"{path}.idx", "<u8")
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        begins = [member.offset for member in members if member.name.endswith(".json")]
        assert offsets[:-1].tolist() == begins
        last = members[-1]
        assert offsets[-1] == last.offset_data + -(-last.size // 512) * 512
