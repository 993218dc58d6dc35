"""Files in an image folder that are not meant to be images: hidden files, labels, captions, records, statistics."""

import os

import numpy as np

from vlmixer.artifacts import files
from vlmixer.pipeline.image.formats import ENDINGS, MAGIC_BYTES, is_hidden, is_image_name, looks_like_image
from vlmixer.pipeline.image.readers.parquet import has_images

AT_ONCE = 4096


def bookkeeping_files(names: files.Strings) -> np.ndarray:
    """Which files are NAME_stats.json, the captions of images, or NAME.parquet with the records of a tar or folder.
    (n,) bool."""
    found = np.zeros(len(names), bool)
    for begin in range(0, len(names), AT_ONCE):
        neighbours: list[str] = []
        rows: list[int] = []
        for row, name in enumerate(names[begin : begin + AT_ONCE], begin):
            found[row] = name.endswith("_stats.json")
            beside = _neighbours(name)
            neighbours += beside
            rows += [row] * len(beside)
        for row in {rows[at] for at in np.flatnonzero(names.find(neighbours) >= 0)}:
            found[row] = names[row].endswith(".txt") or not has_images(names[row])
    return found


def _neighbours(name: str) -> list[str]:
    """The files of which one is there if the file describes it: the image of a caption, the statistics of records."""
    stem, ending = os.path.splitext(name)
    if ending == ".txt":
        return [f"{stem}.{image}" for image in ENDINGS]
    return [f"{stem}_stats.json"] if ending == ".parquet" else []


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
