"""Files in an image folder that are not meant to be images: hidden files, labels, captions, records, statistics."""

import os
from collections.abc import Collection

from vlmixer.artifacts import files
from vlmixer.pipeline.image.formats import ENDINGS, MAGIC_BYTES, is_hidden, is_image_name, looks_like_image
from vlmixer.pipeline.image.readers.parquet import has_images


def bookkeeping_files(listed: Collection[str]) -> set[str]:
    """NAME_stats.json, the captions of images, and NAME.parquet with the records of a tar or folder."""
    found = set()
    for name in listed:
        stem, ending = os.path.splitext(name)
        caption = ending == ".txt" and any(f"{stem}.{image}" in listed for image in ENDINGS)
        records = ending == ".parquet" and f"{stem}_stats.json" in listed
        if name.endswith("_stats.json") or caption or (records and not has_images(name)):
            found.add(name)
    return found


def may_be_side_file(name: str) -> bool:
    """What `is_side_file` can tell from the name."""
    return is_hidden(name) or not is_image_name(name)


def is_side_file(name: str) -> bool:
    """Whether a file in a folder is not an image: it is hidden, or has neither ending nor first bytes of one."""
    if is_hidden(name):
        return True
    if not may_be_side_file(name):
        return False
    try:
        return not looks_like_image(files.read_start(name, MAGIC_BYTES))
    except OSError:
        return False  # Reading it says what is wrong.
