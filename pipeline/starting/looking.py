"""What folders hold: captions, with the field that has their text, and images. Looks into a file of each kind.

Files are grouped by their ending and, for captions, their folder. What is said of a group holds for its first file that
can be read.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.pipeline.image.formats import is_image_name
from vlmixer.pipeline.image.readers import corpus
from vlmixer.pipeline.image.readers.records import find_records
from vlmixer.pipeline.text.readers.base import ReadOptions, TextSlice
from vlmixer.pipeline.text.readers.fields import column_number
from vlmixer.pipeline.text.readers.formats import OTHER, format_of, is_side_file
from vlmixer.pipeline.text.readers.packing import unpacked_name

FIELDS = (
    "caption", "captions", "text", "TEXT", "raw", "sentence", "sentences", "phrase", "comment", "description", "title",
    "images.*.sentences.*.raw", "regions.*.phrase", "captions.*", "conversations.*.value", "questions.*.question",
    "column 2", "column 1", "column 3",
)  # fmt: skip
"""Fields that are tried, in this order (docs/configuration.md, "Captions as data sets ship them")."""
PLAIN = "txt"
"""The ending of plain text; files with endings that no format has are not taken for captions."""
RECORDS = 200
FILES_TRIED = 3
FOLDERS_TRIED = 20
ENOUGH = 0.5
"""Share of the records looked at that must have a sentence."""
_WORD = re.compile(r"[^\W\d_]+")
WORDS = 3
"""How many words a sentence has at least."""


@dataclass(frozen=True)
class Captions:
    """Files with sentences.

    `pattern`: matches them; `number`: how many; `field`: with their text, "" for plain text; `example`: one sentence.
    """

    pattern: str
    number: int
    field: str
    example: str


@dataclass(frozen=True)
class Images:
    """Files with images: a `pattern` that matches them, and how many files."""

    pattern: str
    number: int


@dataclass(frozen=True)
class Found:
    """What the folders hold, the most files first. `ignored`: endings of other files, with their number."""

    captions: tuple[Captions, ...]
    images: tuple[Images, ...]
    ignored: dict[str, int]


def look(folders: Sequence[str]) -> Found:
    """Look at all files in the folders. Raises CallError for one that is missing or empty."""
    captions: list[Captions] = []
    images: list[Images] = []
    ignored: dict[str, int] = {}
    for folder in folders:
        if not files.is_folder(folder):
            raise CallError(f"{folder}: not a folder. Give folders with captions and with photos.")
        names = files.expand([folder], key="init").names
        rows = find_records(names)
        records = set(names.at(rows[rows >= 0]))
        groups: dict[str, list[str]] = defaultdict(list)
        for name in names:
            if name not in records and (is_image_name(name) or not is_side_file(name)):
                groups[_ending(name)].append(name)
        for ending, group in groups.items():
            pattern = files.join(folder, f"**/*.{ending}") if ending else folder
            if is_image_name(group[0]):
                images.append(Images(pattern, len(group)))
                continue
            found = _captions(pattern, group)
            captions += found
            if ending in ("tar", "parquet") and _holds_images(group):
                images.append(Images(pattern, len(group)))
            else:
                left = len(group) - sum(each.number for each in found)
                ignored |= {ending: left} if left else {}
    captions.sort(key=lambda each: (-each.number, each.pattern))
    images.sort(key=lambda each: (-each.number, each.pattern))
    return Found(tuple(captions), tuple(images), dict(ignored))


def _ending(name: str) -> str:
    """The ending as the name has it, with that of its packing: "jpg", "txt.gz"."""
    base = name.rpartition("/")[2]
    packed = base[len(unpacked_name(base)) :]
    _, dot, ending = base[: len(base) - len(packed)].rpartition(".")
    return f"{ending}{packed}" if dot else ""


def _holds_images(names: Iterable[str]) -> bool:
    """Whether there is an image in the first of these tars or Parquet files that can be read."""
    for name in islice(names, FILES_TRIED):
        try:
            planned = corpus.plan([name])
            return any(not ref.reason for ref in corpus.sample(planned, most=8, max_pieces=1).refs)
        except (UserError, OSError, ValueError, pa.ArrowException):
            continue
    return False


def _captions(pattern: str, names: Sequence[str]) -> list[Captions]:
    """One entry for all files if those of every folder have the same field; else one for each folder with sentences."""
    if format_of(names[0]) is OTHER and not unpacked_name(names[0]).endswith(f".{PLAIN}"):
        return []
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_folder[files.parent(name)].append(name)
    asked = list(islice(by_folder.items(), FOLDERS_TRIED))
    found = [(folder, group, _field(group)) for folder, group in asked]
    fields = {field and field[0] for _, _, field in found}
    if len(fields) == 1:
        (_, _, field), *_ = found
        return [] if field is None else [Captions(pattern, len(names), *field)]
    last = pattern.rpartition("/")[2]
    return [
        Captions(files.join(folder, last), len(group), *field) for folder, group, field in found if field is not None
    ]


def _field(names: Sequence[str]) -> tuple[str, str] | None:
    """The field of the first file with sentences, and a sentence; None if none has any."""
    for name in names[:FILES_TRIED]:
        for field in ("",) if format_of(name) is OTHER else FIELDS:
            example = _sentence(name, field)
            if example is not None:
                return field, example
    return None


def _sentence(name: str, field: str) -> str | None:
    """A sentence of the file if enough of its first records have one in this field."""
    kind = format_of(name)
    if column_number(field) is not None and not unpacked_name(name).endswith((".csv", ".tsv")):
        return None
    met = 0
    found: list[str] = []
    try:
        with files.open_read(name) as file:
            part = TextSlice(name, files.size(name))
            for record in islice(kind.read(part, file, ReadOptions(field or "caption")), RECORDS):
                content = record.content
                texts = [content] if isinstance(content, str) else content if isinstance(content, list) else []
                met += 1
                found += [text for text in texts if isinstance(text, str) and _is_sentence(text)][:1]
    except (UserError, OSError, ValueError, EOFError, pa.ArrowException, *kind.errors):
        pass  # what was read before counts
    return found[0] if met and len(found) >= ENOUGH * met else None


def _is_sentence(text: str) -> bool:
    return "://" not in text and len(text.split()) >= WORDS and len(_WORD.findall(text)) >= WORDS
