"""Forged results, by the folder that they are in. benchmarks/forged_results.py has the commands that read them."""

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from tests.pipeline.forging import (
    HUGE,
    INFINITY,
    LONG,
    NAN,
    Forgery,
    Make,
    both,
    bytes_of,
    edited,
    every,
    first,
    forgeries,
    jpeg,
    members,
    more,
    npy,
    record,
    repeated,
    retyped,
    tables,
    without,
)  # fmt: skip

from vlmixer.model.state import packed_state

PART = "part-00000.parquet"
SENTENCE = {"start": 0, "end": 3, "concept": "dog", "surface": "dog", "lemma": "dog"}
MANY = 2_000_000


def of(folder: str, change: Any, file: str = PART, counted: bool = True) -> Make:
    """A forged table."""
    return tables(folder, file, change, counted)


def _mentions(*spans: tuple[int, int], **changes: Any) -> Make:
    return of("tagged", first("mentions", [{**SENTENCE, "start": a, "end": b, **changes} for a, b in spans]))


REGIONS: dict[str, Make] = {
    **{f"box {box}": of("regions", first("box", box)) for box in (
        [NAN] * 4, [0, 0, INFINITY, 5], [-5.0, 0, 5, 5], [0, 0, 1e9, 1e9], [5, 5, 5, 5], [9, 9, 3, 3])},
    **{f"score {score}": of("regions", first("score", score)) for score in (NAN, INFINITY, -1.0, 2.0, HUGE)},
    **{f"feature {value}": of("regions", first("feature", [value] * 6)) for value in (NAN, INFINITY, 65504.0)},
    "all features 65504": of("regions", every("feature", [65504.0, -65504.0] * 3)),
    "all features 0": of("regions", every("feature", [0.0] * 6)),
    "features narrower": of("regions", retyped(
        "feature", lambda n: pa.array([np.zeros(3, np.float16)] * n, pa.list_(pa.float16(), 3)))),
    "features of no width": of("regions", retyped("feature", lambda n: pa.array([[]] * n, pa.list_(pa.float16(), 0)))),
    "features of 10^5": of("regions", retyped(
        "feature", lambda n: pa.array([np.zeros(10**5, np.float16)] * n, pa.list_(pa.float16(), 10**5)))),
    "features of float32": of("regions", retyped(
        "feature", lambda n: pa.array([[0.5] * 6] * n, pa.list_(pa.float32(), 6)))),
    "features of any length": of("regions", retyped(
        "feature", lambda n: pa.array([[0.5]] * n, pa.list_(pa.float32())))),
    **{f"feature_dim {width}": edited("regions", "details", "feature_dim", value=width) for width in (
        0, -1, 3, 7, 2**31, 10**12)},
    "other concept": of("regions", first("concept", "unicorn")),
    "no concept": of("regions", first("concept", "")),
    "long concept": of("regions", first("concept", LONG)),
    **{f"image_id {name[:9]}": of("regions", first("image_id", name))
       for name in (LONG, "../../x", "a.json", "", "a b")},
    "one image_id": of("regions", every("image_id", "a" * 16)),
    "image in two groups": of("regions", lambda table: pa.concat_tables([table.slice(3), table.slice(0, 3)])),
    **{f"patch_id {name[:9]}": of("regions", first("patch_id", name)) for name in (LONG, "../../x", "")},
    "one patch_id": of("regions", every("patch_id", "a" * 16 + "-000")),
    "no rows": of("regions", lambda table: table.slice(0, 0)),
    "no rows, not counted": of("regions", lambda table: table.slice(0, 0), counted=False),
    "two million regions of an image": of("regions", repeated(MANY)),
    "nulls": of("regions", retyped("concept", lambda n: pa.nulls(n, pa.string()))),
    "nested": of("regions", retyped("concept", lambda n: pa.array([[["dog"]]] * n))),
    **{f"no {name}": of("regions", without(name)) for name in ("box", "feature", "crop", "image_id", "source")},
    "size 0": of("regions", first("width", 0)),
    "size -1": of("regions", first("height", -1)),
    "size 2^31 - 1": of("regions", first("width", 2**31 - 1)),
    "crop no picture": of("regions", every("crop", b"no picture")),
    "crop empty": of("regions", every("crop", b"")),
    "crop of 400 megapixels": of("regions", every("crop", jpeg(20_000, 20_000))),
    "source in a device": of("regions", every("source", "/dev/zero.parquet")),
    "source behind a URL": of("regions", every("source", "http://127.0.0.1:9/a.parquet")),
    **{f"images_by_part {value}": edited("regions", "details", "images_by_part", value=value) for value in (
        [], [0], [-1], [3], [10**9], [1, 2, 3])},
    "record of another source": tables("regions", "record/images.parquet", first("source", "elsewhere.jpg")),
    "images_by_part longer": edited("regions", "details", "images_by_part", value=[22, 64, 64, 5]),
    "regions by concept": edited("regions", "details", "regions", value={}),
    "regions of 10^18": edited("regions", "details", "regions", value={"dog": 10**18, "cat": -5}),
    "no counts": edited("regions", "counts", value={}),
    "counts of 10^18": edited("regions", "counts", "images", value={"read": 10**18, "written": 10**18, "rejected": {}}),
    "negative counts": edited("regions", "counts", "images", value={"read": -1, "written": -1, "rejected": {}}),
    "rows of 10^12": edited("regions", "outputs", 0, "rows", value=10**12),
    "rows of -5": edited("regions", "outputs", 0, "rows", value=-5),
    "no outputs": edited("regions", "outputs", value=[]),
}  # fmt: skip

TAGGED: dict[str, Make] = {
    **{f"span {a} to {b}": _mentions((a, b)) for a, b in ((-5, 3), (0, 10**6), (7, 3), (3, 3), (2**31 - 2, 2**31 - 1))},
    "spans that overlap": _mentions((0, 3), (1, 4)),
    "span twice": _mentions((2, 5), (2, 5)),
    "spans in no order": _mentions((8, 11), (2, 5)),
    "other surface": _mentions((0, 3), surface="kite"),
    "surface of blanks": _mentions((0, 3), surface="   "),
    "surface empty": _mentions((0, 3), surface="", lemma=""),
    "long surface": _mentions((0, 3), surface=LONG),
    "other concept": _mentions((0, 3), concept="unicorn"),
    "no mentions": _mentions(),
    "a million mentions": _mentions(*[(0, 3)] * 1_000_000),
    "long text": of("tagged", first("text", LONG)),
    "text empty": of("tagged", first("text", "")),
    **{f"sentence_id {name[:9]}": of("tagged", first("sentence_id", name)) for name in (LONG, "../../x", "a.json", "")},
    "one sentence_id": of("tagged", every("sentence_id", "a" * 12 + "-000000000001")),
    "no rows": of("tagged", lambda table: table.slice(0, 0)),
    "no rows, not counted": of("tagged", lambda table: table.slice(0, 0), counted=False),
    "two million rows": of("tagged", repeated(MANY)),
    "nulls": of("tagged", retyped("text", lambda n: pa.nulls(n, pa.string()))),
    "no text": of("tagged", without("text")),
    "no mentions column": of("tagged", without("mentions")),
    "mentions of texts": of("tagged", retyped("mentions", lambda n: pa.array([["dog"]] * n))),
    "no counts": edited("tagged", "counts", value={}),
    "counts of 10^18": edited(
        "tagged", "counts", "sentences", value={"read": 10**18, "written": 10**18, "rejected": {}}),
    "negative counts": edited("tagged", "counts", "sentences", value={"read": -1, "written": -1, "rejected": {}}),
    "rows of 10^12": edited("tagged", "outputs", 1, "rows", value=10**12),
    "rows of -5": edited("tagged", "outputs", 0, "rows", value=-5),
    "mentions of 5": edited("tagged", "details", "mentions", "dog", value=5),
    "not meant of 5": edited("tagged", "details", "not_meant", value={"dog": 5}),
    "mentions of -5": edited("tagged", "details", "mentions", value={"dog": -5, "cat": 10**18}),
    "sources": edited("tagged", "details", "sources", value={"../..": "/dev/zero"}),
}  # fmt: skip


def _patches(change: Any) -> Make:
    return of("bank", change, "patches.parquet")


def _concepts(change: Any) -> Make:
    return of("bank", change, "concepts.parquet")


def _features(value: float) -> Make:
    def change(data: bytes) -> bytes:
        return data[:128] + struct.pack("<e", value) * ((len(data) - 128) // 2)

    return bytes_of("bank", "features.npy", change)


def _settings(**values: Any) -> Make:
    return both(*(edited("bank", "details", "selection", name, value=value) for name, value in values.items()))


BANK: dict[str, Make] = {
    **{f"features {value}": _features(value) for value in (NAN, INFINITY, 65504.0, 0.0)},
    "features of float32": bytes_of(
        "bank", "features.npy", lambda data: npy(np.zeros((len(data) // 12, 6), np.float32))),
    "features of objects": bytes_of("bank", "features.npy", lambda data: npy(np.array([[{}]], object))),
    "features of 10^12": bytes_of(
        "bank", "features.npy", lambda data: npy(np.zeros((3, 6), "<f2"), b"(1000000000000, 6)")),
    "features big-endian": bytes_of("bank", "features.npy", lambda data: data.replace(b"<f2", b">f2")),
    **{f"box {box}": _patches(first("box", box)) for box in ([NAN] * 4, [-5.0, 0, 5, 5], [0, 0, 1e9, 1e9])},
    **{f"score {score}": _patches(first("score", score)) for score in (NAN, INFINITY, -1.0, 2.0, HUGE)},
    **{f"patch_id {name[:9]}": _patches(first("patch_id", name)) for name in (LONG, "../../x", "")},
    "one patch_id": _patches(every("patch_id", "a" * 16 + "-000")),
    **{f"image_id {name[:9]}": _patches(every("image_id", name)) for name in (LONG, "../../x", "")},
    "other concept": _patches(first("concept_id", 2)),
    "context 10^6": _patches(first("context", [10**6])),
    "context -1": _patches(first("context", [-1])),
    "context twice": _patches(first("context", [1, 1])),
    "context long": _patches(first("context", [1] * 1_000_000)),
    "size 0": _patches(first("width", 0)),
    **{f"crop_start {value}": _patches(first("crop_start", value)) for value in (-1, 2**62)},
    **{f"crop_bytes {value}": _patches(first("crop_bytes", value)) for value in (-1, 2**31 - 1, 0)},
    "crops no pictures": bytes_of("bank", "crops.bin", lambda data: bytes(len(data))),
    "crops empty": bytes_of("bank", "crops.bin", lambda data: b""),
    "long source": _patches(first("source", LONG)),
    "source a device": _patches(every("source", "/dev/zero")),
    "no patches": _patches(lambda table: table.slice(0, 0)),
    **{f"{name} {value}": _concepts(first(name, value)) for name in ("count", "first", "candidates") for value in (
        -1, 2**62)},
    "candidates 0": _concepts(first("candidates", 0)),
    "name twice": _concepts(every("name", "dog")),
    "name empty": _concepts(first("name", "")),
    "long name": _concepts(first("name", LONG)),
    "many synonyms": _concepts(first("synonyms", [f"word {number}" for number in range(300_000)])),
    "no concepts": _concepts(lambda table: table.slice(0, 0)),
    "index empty": bytes_of("bank", "index.faiss", lambda data: b""),
    "index cut": bytes_of("bank", "index.faiss", lambda data: data[: len(data) // 2]),
    "index of zeros": bytes_of("bank", "index.faiss", lambda data: data[:200] + bytes(len(data) - 200)),
    "index of ones": bytes_of(
        "bank", "index.faiss", lambda data: data[: len(data) // 2] + b"\xff" * -(-len(data) // 2)),
    **{f"feature_dim {width}": edited("bank", "details", "feature_dim", value=width) for width in (0, -1, 3, 10**12)},
    "most patches -1": _settings(max_patches_per_concept=-1),
    "most patches 10^18": _settings(max_patches_per_concept=10**18),
    "similarity NaN": _settings(duplicate_similarity=-1e308),
    "seed huge": _settings(seed=10**30),
    "no counts": edited("bank", "counts", value={}),
    "detector ours": edited("bank", "details", "detector", "name", value="torchvision:fasterrcnn_resnet50_fpn_v2"),
    "detector's parts": edited("bank", "details", "detector", "features", value=[{"width": 10**9}, None, {}]),
}  # fmt: skip


def _set(*at: str | int, value: Any) -> Make:
    """Another value in the record of the first mixed sample."""

    def change(content: Any) -> None:
        for key in at[:-1]:
            content = content[key]
        content[at[-1]] = value

    return record(change)


def _array(array: np.ndarray, header: bytes | None = None) -> Make:
    return members(lambda sample: {**sample, "npy": npy(array, header)})


def _member(ending: str, change: Callable[[bytes, dict[str, bytes]], bytes] | None) -> Make:
    """Another member of the first mixed sample, or none."""

    def changed(sample: dict[str, bytes]) -> dict[str, bytes]:
        others = {name: data for name, data in sample.items() if name != ending}
        return {name: change(data, sample) if name == ending and change else data
                for name, data in (sample if change else others).items()}  # fmt: skip

    return members(changed)


def _features_as(width: int = 6, kind: str = "<f2", value: float = 0.5) -> Make:
    """Other features of the first mixed sample, one for each of its patches."""

    def change(data: bytes, sample: dict[str, bytes]) -> bytes:
        with np.errstate(all="ignore"):
            return npy(np.full((len(json.loads(sample["json"])["patches"]), width), value).astype(kind))

    return _member("npy", change)


SHARDS: dict[str, Make] = {
    **{f"features {value}": _features_as(value=value) for value in (NAN, INFINITY, 65504.0)},
    **{f"features of {kind}": _features_as(kind=kind) for kind in (">f2", "<f4", "<i2")},
    **{f"features {width} wide": _features_as(width=width) for width in (0, 3, 7, 100_000)},
    "features of objects": _array(np.array([[{}]], object)),
    "features of 10^12": _array(np.zeros((1, 6), "<f2"), b"(1000000000000, 6)"),
    "features of -1": _array(np.zeros((1, 6), "<f2"), b"(-1, 6)"),
    "features a .npz": members(lambda sample: {**sample, "npy": b"PK\x03\x04" + bytes(200)}),
    "features more than patches": _array(np.zeros((50, 6), "<f2")),
    **{f"mention {a} to {b}": both(_set("mentions", 0, "start", value=a), _set("mentions", 0, "end", value=b))
       for a, b in ((-5, 3), (0, 10**6), (7, 3), (3, 3), (2**31 - 2, 2**31 - 1))},
    "other surface": _set("mentions", 0, "surface", value="zebra"),
    "replaced none": _set("replaced", value=[]),
    "replaced twice": _set("replaced", value=[0, 0, 0]),
    "replaced beyond": _set("replaced", value=[99]),
    "patch of another concept": _set("patches", 0, "concept", value="unicorn"),
    **{f"score {value}": _set("patches", 0, "score", value=value) for value in (NAN, -1.0, 2.0, 10**400)},
    **{f"box {value}": _set("patches", 0, "box", value=value) for value in ([NAN] * 4, [0, 0, 10**6, 10**6], [1, 2])},
    "long text": _set("text", value=LONG),
    "no view": _set("view", value=-1),
    "deep": members(lambda sample: {**sample, "json": b"[" * 100_000}),
    "huge number": _member("json", lambda data, sample: re.sub(rb'"view": \d', b'"view": ' + b"9" * 10**5, data)),
    "long JSON": members(lambda sample: {**sample, "json": sample["json"] + b" " * (64 << 20)}),
    **{f"no .{ending}": _member(ending, None) for ending in ("json", "txt", "npy")},
    "a member more": members(lambda sample: {**sample, "pyd": b"\x80\x04N."}),
    "a picture that is none": members(lambda sample: {**sample, "jpg": b"no picture"}),
    "a picture of 400 megapixels": members(lambda sample: {**sample, "jpg": jpeg(20_000, 20_000)}),
    "no samples": both(
        members(lambda sample: {}), edited("shards", "outputs", 0, "rows", value=0)),
    "key elsewhere": members(lambda sample: {f"../../{name}": data for name, data in sample.items()}),
    **{f"feature_dim {width}": edited("shards", "details", "feature_dim", value=width) for width in (0, -1, 3, 10**9)},
    "no counts": edited("shards", "counts", value={}),
    "seed huge": edited("shards", "details", "seed", value=10**30),
    "settings": edited("shards", "details", "settings", value={"views": -1}),
    "replaced of -5": edited("shards", "details", "replaced", value={"dog": -5}),
    "replaced of 5": edited("shards", "details", "replaced", "dog", value=5),
    "energon's class": bytes_of("shards", ".nv-meta/dataset.yaml", lambda data: data.replace(b"TextSample", b"Evil")),
    "energon's code": more("shards", ".nv-meta/sample_loader.py", b"import evil"),
}  # fmt: skip


def _config(folder: str, section: str, **values: Any) -> Make:
    def change(data: bytes) -> bytes:
        content = yaml.safe_load(data)
        inner = content[section] if section else content
        inner |= values
        return yaml.safe_dump(content).encode()

    return bytes_of(folder, "config.yaml", change)


def _weights(folder: str, value: float, name: str = "model.safetensors") -> Make:
    """Finite, infinite or other numbers in all weights, in the same shapes."""

    def change(data: bytes) -> bytes:
        from safetensors.numpy import load, save

        return save({key: np.full_like(array, value) for key, array in load(data).items()}, {"format": "pt"})

    return bytes_of(folder, name, change)


def _state(**values: Any) -> Make:
    """Another state.json of the last checkpoint, with the hash that belongs to it."""

    def make(out: Path) -> None:
        path = sorted((out / "run" / "checkpoints").glob("step-*"))[-1] / "state.json"
        content = {key: value for key, value in json.loads(path.read_bytes()).items() if key != "content_hash"}
        path.write_bytes(packed_state({**content, **values}))

    return make


def _tokens(change: Any) -> Make:
    def changed(data: bytes) -> bytes:
        content = json.loads(data)
        change(content)
        return json.dumps(content).encode()

    return bytes_of("run", "tokenizer.json", changed)


def _of_run(folder: str) -> dict[str, Make]:
    return {
        **{f"weights {value}": _weights(folder, value) for value in (NAN, INFINITY, HUGE, 0.0)},
        "hidden size of 10^6": _config(folder, "model", hidden_size=10**6, heads=1),
        "layers of 10^9": _config(folder, "model", layers=10**9),
        "feature width of 10^12": _config(folder, "model", feature_dim=10**12),
        "feature width of -1": _config(folder, "model", feature_dim=-1),
        "text of 10^12": _config(folder, "model", max_text_tokens=10**12),
        "no regions": _config(folder, "model", max_regions=0),
        "init": _config(folder, "model", init="/dev/zero"),
        "tokenizer": _config(folder, "model", tokenizer="/dev/zero"),
        "a seed of text": _config(folder, "", seed="x"),
        "a seed of 10^400": _config(folder, "", seed=10**400),
        "no seed": _config(folder, "", seed=None),
        "no counts": edited(folder, "counts", value={"x": {"read": -1, "written": 5, "rejected": {}}}),
        "width": edited(folder, "details", "feature_dim", value=-5),
        "steps": edited(folder, "details", "steps", value=-5),
    }


RUN: dict[str, Make] = {
    **_of_run("run"),
    **{f"reference {value}": _weights("run", value, "reference.safetensors") for value in (NAN, INFINITY)},
    "temperature 0": _config("run", "train", temperature=0.0),
    "batch of 10^9": _config("run", "train", batch_size=10**9),
    "pieces of 10^7": _tokens(lambda content: content["model"]["vocab"].update({"x": 10**7})),
    "pieces negative": _tokens(lambda content: content["model"]["vocab"].update({"x": -1})),
    "piece twice": _tokens(lambda content: content["model"]["vocab"].update({"a": 7, "b": 7})),
    "no pieces": _tokens(lambda content: content["model"].update(vocab={})),
    "truncation": _tokens(lambda content: content.update(
        truncation={"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 0})),
    "padding": _tokens(lambda content: content.update(
        padding={"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "a",
                 "pad_to_multiple_of": None})),
    "state: step": _state(step=10**9),
    "state: loss": _state(loss=1e308),
    "state: losses": _state(since=[1.0] * 10**6),
    "state: epoch": _state(epoch=-1),
    "state: precision": _state(config={"seed": 1, "model": {}, "train": {"precision": []}}),
}  # fmt: skip
VQA: dict[str, Make] = {
    **_of_run("vqa"),
    "regions elsewhere": _config("vqa", "task", regions="/dev"),
    "tags a device": _config("vqa", "task", tags="/dev/zero"),
    "validation a device": _config("vqa", "task", validation=["/dev/zero"]),
    "pooling": _config("vqa", "task", text_tokens=10**9),
    "other task": edited("vqa", "details", "task", value="retrieval"),
    "no such task": edited("vqa", "details", "task", value="x"),
    "a million answers": bytes_of("vqa", "labels.json", lambda data: json.dumps(
        {"answers": [f"answer {number}" for number in range(10**6)]}).encode()),
}  # fmt: skip

FORGERIES: tuple[Forgery, ...] = (
    *forgeries(REGIONS, "regions", "feature 65504.0", "size 2^31 - 1", "source in a device", "source behind a URL"),
    *forgeries(TAGGED, "tagged"),
    *forgeries(BANK, "bank"),
    *forgeries(SHARDS, "shards"),
    *forgeries(RUN, "run"),
    *forgeries(VQA, "vqa", "regions elsewhere", "tags a device", "validation a device"),
)  # fmt: skip
