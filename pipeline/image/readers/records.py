"""Records of images: their URL and licence, and the record files that img2dataset and others write next to images."""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from vlmixer.artifacts import files
from vlmixer.pipeline.image.formats import ENDINGS

URL_FIELDS = ("url", "image_url", "original_url", "coco_url", "flickr_url")
LICENSE_FIELDS = ("license", "licence", "license_url", "licence_url", "rights")
STATUS_FIELDS = ("status", "error_message")
"""How img2dataset says that a download failed."""
MAX_RECORD_BYTES = 1 << 20


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


def record_files(listed: Collection[str]) -> dict[str, str]:
    """By image file, the .json file of the same name."""
    found: dict[str, str] = {}
    for name in listed:
        stem, ending = os.path.splitext(name)
        if ending[1:].lower() not in ENDINGS:
            continue
        record = f"{stem}.json"
        if record in listed or (not files.is_url(name) and os.path.isfile(record)):
            found[name] = record
    return found
