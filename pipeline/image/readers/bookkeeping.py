"""Files in an image folder that hold no images and are not meant to: img2dataset's captions, records and statistics."""

import os

from vlmixer.pipeline.image.readers.parquet import has_images
from vlmixer.pipeline.image.readers.records import IMAGE_ENDINGS


def bookkeeping_files(listed: set[str]) -> set[str]:
    """NAME_stats.json, the captions of images, and NAME.parquet with the records of a tar or folder."""
    found = set()
    for name in listed:
        stem, ending = os.path.splitext(name)
        caption = ending == ".txt" and any(f"{stem}.{image}" in listed for image in IMAGE_ENDINGS)
        records = ending == ".parquet" and f"{stem}_stats.json" in listed
        if name.endswith("_stats.json") or caption or (records and not has_images(name)):
            found.add(name)
    return found
