"""What somebody does in Python with a result, on a folder that may be forged."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError, UserError


def call(read: Callable[[str], object], folder: str) -> int:
    """Read as the command does: a UserError is a line, and an exit code."""
    try:
        read(folder)
    except UserError as error:
        print("error:", error, file=sys.stderr)
        return 2 if isinstance(error, CallError) else 1
    return 0


def regions(folder: str) -> None:
    """All photos of regions/, with their crops."""
    from vlmixer.model.tasks.photos import Photos

    photos = Photos(folder, "detector")
    for number, photo in photos.read(range(20), photos.feature_dim or 0).items():
        assert photo.features.shape == (len(photo.boxes), photos.feature_dim)
        photos.crops(number)


def bank(folder: str) -> None:
    """Whatever a PatchBank offers."""
    from vlmixer.bank.store import PatchBank

    bank = PatchBank.open(folder)
    rng = np.random.default_rng(0)
    for concept in bank.concepts:
        for patch in bank.sample(concept.name, 5, rng):
            found = bank.features([patch.row, patch.row])
            assert found.shape == (2, bank.feature_dim)
            assert np.isfinite(found).all()
            assert patch.picture.size
            patch._repr_html_()
            for hits in (bank.search(concept.name, like=patch), bank.search(like=patch, context=["dog"], k=5)):
                assert np.isfinite(hits.similarities).all()
        bank.patches(concept.name).rows_by_image  # noqa: B018
    bank.search_batch(np.ones((3, bank.feature_dim)), k=4)
    bank._repr_html_()


def serve(folder: str) -> None:
    """The answers of `bank serve`: none may be an error of its own."""
    from starlette.testclient import TestClient

    from vlmixer.bank.store import PatchBank
    from vlmixer.pipeline.report.server import make_app

    opened = PatchBank.open(folder)
    client = TestClient(make_app(opened, max_k=64, hosts=["testserver"]))
    asked = [client.get(path) for path in ("/", "/api/bank", "/api/concepts/0", "/api/concepts/1")]
    asked.append(client.post("/api/search", json={"concept": "dog", "context": ["cat"], "k": 8}))
    for patch_id in opened.patches("dog").patch_ids[:2]:
        asked.append(client.post("/api/search", json={"like": patch_id}))
        asked += [client.get(f"/crops/{patch_id}"), client.get(f"/images/{patch_id}")]
    if any(answer.status_code == 500 and "damaged" not in answer.text for answer in asked):
        raise AssertionError([answer.text[:300] for answer in asked if answer.status_code == 500])


def mix(out: str) -> None:
    """Mixing without shards, as docs/reading-shards.md shows it."""
    from vlmixer.artifacts import schemas
    from vlmixer.artifacts.parquet import reading
    from vlmixer.bank.store import PatchBank
    from vlmixer.pipeline.mix import CutMixSettings, Sentence, mix_sentences

    bank = PatchBank.open(f"{out}/bank")
    with reading(f"{out}/tagged/part-00000.parquet", schemas.TAGGED) as table:
        rows = table.read().slice(0, 96).to_pylist()
    mix_sentences([Sentence.from_row(row, view=7) for row in rows], bank, CutMixSettings(), seed=0)


def shards(folder: str) -> None:
    """All samples."""
    from vlmixer.artifacts.samples import read_shard

    for name in sorted(files.list_files(folder)):
        if name.endswith(".tar"):
            for sample in read_shard(f"{folder}/{name}"):
                assert np.isfinite(sample.features).all()


def loader(folder: str) -> None:
    """A few batches."""
    from tests.model.runs import SHORT, SMALL

    from vlmixer.model.data import Loader
    from vlmixer.model.shards import open_shards
    from vlmixer.model.tokenizer import learn

    opened = open_shards(folder)
    tokenizer = learn(opened.texts(), 100)
    batches = Loader(opened, tokenizer, SMALL, SHORT, seed=0).batches(0)
    for _ in range(5):
        next(batches)


def webdataset(folder: str) -> None:
    """As docs/reading-shards.md shows it; its own errors are not ours."""
    import webdataset as wds

    try:
        for _ in wds.WebDataset(sorted(map(str, Path(folder).glob("mixed-*.tar"))), shardshuffle=False).decode("pil"):
            pass
    except Exception as error:
        raise UserError(f"{type(error).__name__}: {str(error)[:100]}") from None


def run(folder: str) -> None:
    """The network of a run, on a sentence."""
    from vlmixer.model.checkpoint import load_run
    from vlmixer.model.reference import load_reference

    network, tokenizer, _ = load_run(folder)
    load_reference(folder)
    tokenizer.encode(["a dog and a cat"])
    with tempfile.TemporaryFile() as file:
        file.write(str(network).encode())
