"""Lists of images and their captions, in the layouts that people have: finds the files, counts what it reads.

JSON lines or a JSON list of {"image": name, "captions": [text, …]}, one caption or several per line; COCO's caption
files; Karpathy's dataset_*.json; tables (evaluation.pair_tables).
"""

import json
import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.json_stream import BrokenJson, json_records
from vlmixer.pipeline.evaluation.pair_tables import is_table, read_table
from vlmixer.pipeline.text.readers.base import MAX_LINE_BYTES, BlankLines, TextSlice
from vlmixer.pipeline.text.readers.json_list import is_json_lines
from vlmixer.pipeline.text.readers.lines import lines
from vlmixer.pipeline.text.readers.packing import ERRORS, head_of, unpack, unpacked_name

LINE = '{"image": name, "captions": [text, …]}'
EXPECTED = (
    f"Expected lines of {LINE}, COCO's captions_*.json, Karpathy's dataset_*.json, Flickr's token file, or a "
    "table with columns image and caption"
)
TEST = "test"
"""The split of Karpathy's files that is read if none is named."""


@dataclass(frozen=True)
class ListCounts:
    """What a list holds. Captions and images are counted once the list is read, whether their files can be used or not.

    records: lines or items. without_captions: images that stay in the gallery as wrong answers. respelled: records that
    name an image by another path than an earlier one. unknown: captions of images that the list does not have.
    other_splits: records of splits that were not asked for.
    """

    records: int = 0
    images: int = 0
    captions: int = 0
    without_captions: int = 0
    blank_captions: int = 0
    respelled: int = 0
    unknown: int = 0
    other_splits: int = 0
    split: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def describe(self) -> str:
        """One line for people: what is in the list, and what needs a word."""
        parts = [f"{self.records:,} records, {self.images:,} images, {self.captions:,} captions"]
        if self.split:
            parts.append(f"split {self.split!r} ({self.other_splits:,} records of others; --split chooses)")
        if self.without_captions:
            parts.append(f"{self.without_captions:,} images without a caption, which stay in the gallery")
        if self.blank_captions:
            parts.append(f"{self.blank_captions:,} blank captions left out")
        if self.respelled:
            parts.append(f"{self.respelled:,} records name an image by another path than before; merged")
        if self.unknown:
            parts.append(f"{self.unknown:,} captions of images that the list does not have, left out")
        return "; ".join(parts)


@dataclass(frozen=True)
class PairList:
    """captions: those of each image by its path, in the list's order; an image may have none."""

    captions: dict[str, list[str]]
    counts: ListCounts


class _Entry(NamedTuple):
    """Names of one image to try in turn, and captions of it. split: "" if the record has none."""

    names: Sequence[str]
    captions: Sequence[str]
    split: str = ""


@dataclass
class _Merging:
    """Joins the records of one image, however each spells its path."""

    list_path: str
    folder: str | None
    captions: dict[str, list[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    _paths: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, entry: _Entry) -> None:
        """Take in a record."""
        place, resolved = self._resolve(entry.names)
        path, spelled = self._paths.setdefault(resolved, (place, entry.names[0]))
        self.counts["respelled"] += spelled != entry.names[0]
        kept = [caption for caption in entry.captions if caption.strip()]
        self.counts["blank_captions"] += len(entry.captions) - len(kept)
        self.captions.setdefault(path, []).extend(kept)

    def _resolve(self, names: Sequence[str]) -> tuple[str, str]:
        places = [place_of(name, self.list_path, self.folder) for name in names]
        place = next((place for place in places if len(places) > 1 and files.exists(place)), places[0])
        return place, place if files.is_url(place) else os.path.realpath(place)


def read_pairs(path: str, split: str | None = None, folder: str | None = None) -> PairList:
    """The images of a list with their captions; records of one image are merged, whatever path they give.

    split: the records to read, where they have splits; by default "test" of Karpathy's files, and all of other lists.
    folder: where the images are. Without it, names are relative to the list's folder or to `images/` in it. Raises
    CallError that names the line or item.
    """
    merging = _Merging(path, folder)
    splits: Counter[str] = Counter()
    try:
        karpathy, entries = _entries(path, merging.counts)
        wanted = split or (TEST if karpathy else None)
        for entry in entries:
            splits[entry.split] += 1
            if wanted is None or entry.split == wanted:
                merging.add(entry)
    except FileNotFoundError:
        raise CallError(f"{path}: no such file. {EXPECTED}.") from None
    except BrokenJson as error:
        raise CallError(f"{path}: not valid JSON, or no list: {error}. {EXPECTED}.") from None
    except UnicodeDecodeError as error:
        raise CallError(f"{path}: expected UTF-8 text: {error}") from None
    except ERRORS as error:
        raise CallError(f"{path}: cannot be read: {error}") from None
    if wanted is not None and not splits[wanted]:
        named = ", ".join(f"{name} ({count:,})" for name, count in sorted(splits.items()) if name) or "none"
        raise CallError(f"{path}: no record of the split {wanted!r}. Splits in it: {named}. Choose with --split.")
    if not any(merging.captions.values()):
        raise CallError(f"{path}: contains no image with captions. {EXPECTED}.")
    groups = merging.captions.values()
    return PairList(
        merging.captions,
        ListCounts(
            records=splits.total(),
            images=len(groups),
            captions=sum(map(len, groups)),
            without_captions=sum(not group for group in groups),
            other_splits=0 if wanted is None else splits.total() - splits[wanted],
            split=wanted or "",
            **merging.counts,
        ),
    )


def place_of(name: str, list_path: str, folder: str | None = None) -> str:
    """The path of an image that a list names: in `folder` if it is given; else in the list's folder, in `images/`
    in it, or as it is."""
    name = name if files.is_url(name) else posixpath.normpath(name)
    if folder is not None:
        return files.join(folder, name)
    near = files.parent(list_path)
    places = [files.join(near, name), files.join(near, "images", name)]
    return next((place for place in places if files.exists(place)), name)


def json_lines(path: str, expected: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, object) of each line that is not blank. expected: what a line is. Raises CallError for others."""
    number = 0
    with files.open_read(path) as file:
        for _, line in lines(TextSlice(path, files.size(path)), file):
            if isinstance(line, BlankLines):
                number += len(line.positions)
                continue
            number += 1
            if line is None:
                raise CallError(f"{path}, line {number}: expected {expected}, found more than {MAX_LINE_BYTES:,} bytes")
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            if not text.strip():
                continue
            try:
                record = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise CallError(f"{path}, line {number}: expected {expected}: {error}") from None
            if not isinstance(record, dict):
                raise CallError(f"{path}, line {number}: expected {expected}, found {type(record).__name__}")
            yield number, record


def _entries(path: str, counts: Counter[str]) -> tuple[bool, Iterator[_Entry]]:
    """Whether the file is Karpathy's, and its records."""
    if is_table(path):
        return False, (_Entry([name], captions, split) for name, captions, split in read_table(path))
    items = iter(()) if _is_lines(path) else _stream(path, "images")
    first = next(items, None)
    if first is None:  # JSON lines, or a single line of them
        records = json_lines(path, LINE)
        return False, (_entry(record, f"{path}, line {number}") for number, record in records)
    items = chain([first], items)
    found = first if isinstance(first, dict) else {}
    if "sentences" in found:
        return True, (_karpathy(item, f"{path}, images[{row}]") for row, item in enumerate(items))
    if "file_name" in found and "id" in found:
        return False, _coco(path, items, counts)
    return False, (_entry(item, f"{path}, item {row}") for row, item in enumerate(items))


def _is_lines(path: str) -> bool:
    """Whether the file has JSON lines, not one JSON list or object."""
    if unpacked_name(path).endswith((".jsonl", ".ndjson")):
        return True
    with files.open_read(path) as file:
        head = head_of(path, file, MAX_LINE_BYTES + 1)
    return is_json_lines(head, MAX_LINE_BYTES) or head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] not in (b"[", b"{")


def _stream(path: str, key: str) -> Iterator[Any]:
    with files.open_read(path) as file:
        yield from json_records(unpack(path, file), key)


def _entry(record: Any, where: str) -> _Entry:
    """From an object with `image` and with `captions` or `caption`."""
    found = record if isinstance(record, dict) else {}
    name = found.get("image")
    captions: Any = found.get("captions", found.get("caption"))
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(name, str) or not name or not _are_texts(captions):
        raise CallError(f"{where}: expected {LINE}; image must be text, captions a text or a list of texts.")
    return _Entry([name], captions, str(found.get("split", "")))


def _karpathy(item: Any, where: str) -> _Entry:
    """From {filepath, filename, split, sentences: [{raw}]}; Flickr's files have no filepath."""
    try:
        name, captions = item["filename"], [sentence["raw"] for sentence in item["sentences"]]
        names = [f"{item['filepath']}/{name}", name] if item.get("filepath") else [name]
        split = str(item["split"])
    except (KeyError, TypeError) as error:
        raise CallError(f"{where}: expected filename, split and sentences with raw text: {error!r}") from None
    if not _are_texts([*names, *captions]):
        raise CallError(f"{where}: filename and the raw text of sentences must be texts.")
    return _Entry(names, captions, split)


def _coco(path: str, images: Iterator[Any], counts: Counter[str]) -> Iterator[_Entry]:
    """From {images: [{id, file_name}], annotations: [{image_id, caption}]}."""
    captions: dict[Any, list[str]] = {}
    for row, note in enumerate(_stream(path, "annotations")):
        if not isinstance(note, dict) or not isinstance(note.get("caption"), str):
            raise CallError(
                f"{path}, annotations[{row}]: no caption. Give COCO's captions_*.json, not instances_*.json."
            )
        captions.setdefault(note.get("image_id"), []).append(note["caption"])
    for row, image in enumerate(images):
        if not isinstance(image, dict) or not isinstance(image.get("file_name"), str) or "id" not in image:
            raise CallError(f"{path}, images[{row}]: expected id and file_name.")
        yield _Entry([image["file_name"]], captions.pop(image["id"], []))
    counts["unknown"] += sum(map(len, captions.values()))


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)
