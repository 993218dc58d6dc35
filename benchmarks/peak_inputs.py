"""Inputs of any size for peak_memory.py, one function per kind of input, and the commands that read them.

Each function writes an input of `number` items into an empty folder and returns the commands to measure, in their
order. Items differ, so none is dropped as a duplicate.
"""

import base64
import gzip
import io
import json
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `benchmarks`

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from benchmarks.generated_regions import write_regions
from benchmarks.watching import vlmixer
from PIL import Image

from vlmixer.artifacts import contents, manifest

DETECTOR = """
import numpy as np
from vlmixer.pipeline.image.detectors.base import Detections

class Corner:
    labels, feature_dim = ("dog",), 4

    def __init__(self, weights, device, score_threshold):
        pass

    def detect(self, images):
        box, score = np.array([[0, 0, 4, 4]], np.float32), np.array([0.9], np.float32)
        return [Detections(box, score, np.array([0]), np.ones((1, 4), np.float32)) for _ in images]
"""
"""One region per image, at once: the memory of the stage is measured, not that of a network."""
CONCEPTS = 80
REGIONS = 20_000
"""Concepts and regions of the bank that sentences are mixed with."""


@dataclass(frozen=True)
class Kind:
    """small: items in the small input. make: writes (folder, items), returns the measured commands by name."""

    small: int
    make: Callable[[Path, int], Mapping[str, list[str]]]


def _tag(folder: Path, pattern: object) -> Mapping[str, list[str]]:
    text = {"inputs": [str(pattern)], "spacy_model": "rules", "field": "text"}
    return {"tag": _stage("tag", folder, text=text)}


def _detect(folder: Path, pattern: object) -> Mapping[str, list[str]]:
    (folder / "corner.py").write_text(DETECTOR)
    images = {"inputs": [str(pattern)], "detector": "corner:Corner"}
    return {"detect": _stage("detect", folder, images=images)}


def _stage(stage: str, folder: Path, **sections: object) -> list[str]:
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"vocabulary": "coco", "max_bad_fraction": 1.0, **sections}))
    return [*_alone(stage, config), "--out", str(folder / "out")]


def _alone(stage: str, config: Path) -> list[str]:
    """The stage with one worker, so that large and small inputs have as many processes."""
    return vlmixer(stage, config, "--workers", 1)


def lines(line: Callable[[int], bytes], *, packed: bool = False) -> Callable[[Path, int], Mapping[str, list[str]]]:
    """A text file of such lines."""

    def make(folder: Path, number: int) -> Mapping[str, list[str]]:
        path = folder / ("a.txt.gz" if packed else "a.txt")
        with gzip.open(path, "wb", 1) if packed else open(path, "wb") as file:
            file.write(b"a dog on the grass\n")
            file.writelines(map(line, range(number)))
        return _tag(folder, path)

    return make


def listed_bad_lines(folder: Path, number: int) -> Mapping[str, list[str]]:
    """Bad lines, all of them listed in rejects/, and the command that shows them."""
    lines(_bad)(folder, number)
    text = {"inputs": [str(folder / "a.txt")], "spacy_model": "rules"}
    return {
        "tag": _stage("tag", folder, rejects="all", text=text),
        "rejects": vlmixer("rejects", folder / "out"),
        "rejects --reason": vlmixer("rejects", folder / "out", "--reason", "not_utf8"),
        "verify": vlmixer("verify", folder / "out"),
    }


def text_rows(folder: Path, number: int) -> Mapping[str, list[str]]:
    """Sentences in one row group of a Parquet file."""
    texts = pa.array([f"a dog number {place}" for place in range(number)])
    pq.write_table(pa.table({"text": texts}), folder / "a.parquet", row_group_size=number)
    return _tag(folder, folder / "a.parquet")


def json_list(folder: Path, number: int) -> Mapping[str, list[str]]:
    """Sentences in one JSON list."""
    with open(folder / "a.json", "w") as file:
        for place in range(number):
            file.write(("," if place else "[") + json.dumps({"id": place, "text": f"a dog number {place}"}))
        file.write("]")
    return _tag(folder, folder / "a.json")


def text_members(folder: Path, number: int) -> Mapping[str, list[str]]:
    """Sentences as members of one tar."""
    _write_tar(folder / "a.tar", "txt", lambda place: b"a dog number %d" % place, number)
    return _tag(folder, folder / "a.tar")


def images_of_a_tar(folder: Path, number: int) -> Mapping[str, list[str]]:
    """Images in one tar."""
    _write_tar(folder / "a.tar", "jpg", _picture, number)
    return _detect(folder, folder / "a.tar")


def other_members(folder: Path, number: int) -> Mapping[str, list[str]]:
    """One image in a tar, and then members that are no images."""
    with tarfile.open(folder / "a.tar", "w") as tar:
        _add(tar, "picture.jpg", _picture(0))
        for place in range(number):
            _add(tar, f"{place:08d}.txt", b"%d" % place)
    return _detect(folder, folder / "a.tar")


def image_files(folder: Path, number: int) -> Mapping[str, list[str]]:
    """Images as files, a thousand per folder."""
    _write_files(folder, number, _picture)
    return _detect(folder, folder / "photos" / "*" / "*.jpg")


def broken_files(folder: Path, number: int) -> Mapping[str, list[str]]:
    """Files of which every second is no image, though its name says so. (If all were, the stage would not begin.)"""
    _write_files(folder, number, lambda place: b"no image %d" % place if place % 2 else _picture(place))
    return _detect(folder, folder / "photos" / "*" / "*.jpg")


def image_rows(folder: Path, number: int) -> Mapping[str, list[str]]:
    """Images in one row group of a Parquet file."""
    rows = pa.array([_picture(place) for place in range(number)], pa.binary())
    pq.write_table(pa.table({"image": rows}), folder / "a.parquet", row_group_size=number)
    return _detect(folder, folder / "a.parquet")


def listed_images(folder: Path, number: int) -> Mapping[str, list[str]]:
    """Images that a list names."""
    _write_files(folder, number, _picture)
    paths = sorted((folder / "photos").glob("*/*.jpg"))
    (folder / "list.csv").write_text("path\n" + "".join(f"{path}\n" for path in paths))
    return _detect(folder, folder / "list.csv")


def feature_lines(folder: Path, number: int) -> Mapping[str, list[str]]:
    """Lines of region features, with one region each."""
    feature = base64.b64encode(bytes(16)).decode()
    region = {"rect": [0, 0, 4, 4], "class": "dog", "conf": 0.9, "feature": feature}
    record = json.dumps({"image_w": 8, "image_h": 8, "objects": [region]})
    with open(folder / "a.tsv", "w") as file:
        file.writelines(f"{place}\t{record}\n" for place in range(number))
    return {"detect": _stage("detect", folder, images={"detector": f"tsv:{folder / 'a.tsv'}"})}


def blank_rows(folder: Path, number: int) -> Mapping[str, list[str]]:
    """Blank lines in a table, between two rows."""
    row = b"1,a dog on the grass\n"
    (folder / "a.csv").write_bytes(b"id,text\n" + row + b"\n" * number + row)
    return _tag(folder, folder / "a.csv")


def regions(folder: Path, number: int) -> Mapping[str, list[str]]:
    """Regions of few concepts, so that each concept's list of candidates is full in the small input too."""
    config = _generated(folder, number)
    out = folder / "out"
    return {"index": _alone("index", config), "verify": vlmixer("verify", out), "manifest": vlmixer("manifest", out),
            "bank stats": vlmixer("bank", "stats", out / "bank"),
            "bank query": vlmixer("bank", "query", out / "bank", "--concept", "thing 0001")}  # fmt: skip


def sentences_to_mix(folder: Path, number: int) -> Mapping[str, list[str]]:
    """Sentences with two mentions each, through all commands after `tag`; the bank stays as it is."""
    with open(folder / "a.txt", "w") as file:
        for place in range(number):
            file.write(f"a thing {place % CONCEPTS:04d} and a thing {place * 7 % CONCEPTS:04d}, number {place}\n")
    config, out = _generated(folder, REGIONS), folder / "out"
    train = ["--set", "train.steps=30", "--set", "train.batch_size=16", "--set", "train.device=cpu"]
    return {"tag": _alone("tag", config), "index": _alone("index", config), "mix": _alone("mix", config),
            "verify": vlmixer("verify", out), "verify --bytes": vlmixer("verify", out, "--bytes"),
            "show": vlmixer("show", out, "--html", folder / "page.html"), "manifest": vlmixer("manifest", out),
            "train": vlmixer("train", config, "--out", out / "run", *train)}  # fmt: skip


def _generated(folder: Path, number: int) -> Path:
    """OUT/regions with so many regions, recorded; returns a config."""
    out = folder / "out"
    write_regions(out, number, concepts=CONCEPTS, feature_dim=16)
    contents.put(str(out), {"regions": manifest.read(str(out / "regions")).content_hash})
    content = {"vocabulary": str(out / "words.txt"), "out": str(out),
               "text": {"inputs": [str(folder / "a.txt")], "spacy_model": "rules"}}  # fmt: skip
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(content))
    (out / "config.yaml").unlink()
    return config


def _write_files(folder: Path, number: int, content: Callable[[int], bytes]) -> None:
    for place in range(number):
        path = folder / "photos" / f"{place // 1000:04d}" / f"{place:08d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(place))


def _write_tar(path: Path, ending: str, content: Callable[[int], bytes], number: int) -> None:
    with tarfile.open(path, "w") as tar:
        for place in range(number):
            _add(tar, f"{place:08d}.{ending}", content(place))


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _picture(place: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), "green").save(data, "JPEG", comment=b"%d" % place)
    return data.getvalue()


def _bad(place: int) -> bytes:
    return b"\xff\xfe %d\n" % place


KINDS: Mapping[str, Kind] = {
    "sentences": Kind(200_000, lines(lambda place: b"a dog number %d\n" % place)),
    "blank lines, packed": Kind(200_000, lines(lambda _: b"\n", packed=True)),
    "bad lines": Kind(200_000, lines(_bad)),
    "bad lines, all listed": Kind(200_000, listed_bad_lines),
    "sentences without a mention": Kind(200_000, lines(lambda place: b"no word here %d\n" % place)),
    "equal sentences": Kind(200_000, lines(lambda _: b"a dog\n")),
    "rows of text in one row group": Kind(200_000, text_rows),
    "a list in JSON": Kind(200_000, json_list),
    "blank lines in a table": Kind(30_000_000, blank_rows),
    "texts in one tar": Kind(100_000, text_members),
    "images in one tar": Kind(5_000, images_of_a_tar),
    "other members beside an image": Kind(100_000, other_members),
    "image files": Kind(5_000, image_files),
    "broken image files": Kind(5_000, broken_files),
    "images in one row group": Kind(5_000, image_rows),
    "images in a list": Kind(5_000, listed_images),
    "lines of region features": Kind(20_000, feature_lines),
    "regions": Kind(100_000, regions),
    "sentences to mix": Kind(100_000, sentences_to_mix),
}
