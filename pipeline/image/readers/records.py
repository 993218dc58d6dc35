"""Records of images: their URL and licence, and the record files that img2dataset and others write next to images."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vlmixer.artifacts import files
from vlmixer.pipeline.image.formats import ENDINGS

URL_FIELDS = ("url", "image_url", "original_url", "coco_url", "flickr_url")
LICENSE_FIELDS = ("license", "licence", "license_url", "licence_url", "rights")
STATUS_FIELDS = ("status", "error_message")
"""How img2dataset says that a download failed."""
MAX_RECORD_BYTES = 1 << 20
NO_RECORD, UNLISTED = -1, -2
AT_ONCE = 4096


def provenance(record: Any) -> tuple[str, str]:
    """(URL, licence) in an image's record, "" for what it lacks. Fields: URL_FIELDS, LICENSE_FIELDS, in any case."""
    if not isinstance(record, Mapping):
        return "", ""
    lower = {str(name).lower(): value for name, value in record.items()}

    def first(names: Sequence[str]) -> str:
        values = (lower.get(name) for name in names)
        found = next((value for value in values if isinstance(value, str | int) and value != ""), "")
        return str(found).encode(errors="replace").decode()

    return first(URL_FIELDS), first(LICENSE_FIELDS)


def failed_download(record: Any) -> str:
    """How the download of the image failed, as its record says; "" if it did not, or the record does not say."""
    found = {str(name).lower(): value for name, value in record.items()} if isinstance(record, Mapping) else {}
    said = [str(found[name]) for name in STATUS_FIELDS if found.get(name)]
    return "" if said[:1] == ["success"] else ": ".join(said)


def parse_provenance(data: bytes) -> tuple[str, str] | None:
    """`provenance` of a JSON record; None if it is not valid JSON."""
    try:
        return provenance(json.loads(data))
    except (ValueError, RecursionError):
        return None


def read_provenance(path: str) -> tuple[str, str] | None:
    """`provenance` of a record file; None if it cannot be used. The image counts without it."""
    try:
        return parse_provenance(files.read_bytes(path)) if files.size(path) <= MAX_RECORD_BYTES else None
    except OSError:
        return None


def record_of(name: str) -> str:
    """The record of an image file, if it has one: the .json file of the same name."""
    return f"{os.path.splitext(name)[0]}.json"


def find_records(names: files.Strings) -> np.ndarray:
    """For each file, the row of its record among the names; UNLISTED if the record is not among them but exists, and
    NO_RECORD without. (n,) int64."""
    found = np.full(len(names), NO_RECORD)
    for begin in range(0, len(names), AT_ONCE):
        part = names[begin : begin + AT_ONCE]
        images = [at for at, name in enumerate(part) if os.path.splitext(name)[1][1:].lower() in ENDINGS]
        records = [record_of(part[at]) for at in images]
        rows = names.find(records)
        for at in np.flatnonzero(rows == NO_RECORD):
            if not files.is_url(records[at]) and os.path.isfile(records[at]):
                rows[at] = UNLISTED
        found[begin + np.array(images, np.int64)] = rows
    return found
