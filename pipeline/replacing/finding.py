"""Which images and sentences of an output folder a take-down request means."""

import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from vlmixer.artifacts import files, manifest, schemas
from vlmixer.artifacts.image_names import (
    MOST_COMPARED,
    SIMILAR_TO,
    ImageName,
    ImageNames,
    SimilarNames,
    WantedNames,
    is_ambiguous,
)
from vlmixer.artifacts.parquet import reading
from vlmixer.artifacts.stages import TAG
from vlmixer.pipeline.image.record import each_group
from vlmixer.pipeline.text.record import NOT_MEANT
from vlmixer.pipeline.text.record import SCHEMA as NOT_MEANT_SCHEMA
from vlmixer.pipeline.text.units import PART

_NAMES = ("image_id", "source", "key", "url", "photo")
_PATCH_ID = re.compile("[0-9a-fA-F]{16}-[0-9]{3,}")
_SHA256 = re.compile("[0-9a-fA-F]{64}")
_SENTENCE = re.compile("([0-9a-fA-F]{12}-[0-9]{12,}(?:-[0-9]{5,})?)(?:-[0-9]{2,4})?")
"""The id of a sentence (its first group), or the key of a mixed sample."""


@dataclass(frozen=True)
class FoundImages:
    """ids: those to drop, exact copies of the named images included. files: their names, of files that hold only the
    image. missing: names that were not found, with similar ones. ambiguous: names that may mean images of several
    files, with these files."""

    ids: frozenset[str] = frozenset()
    copies: int = 0
    files: frozenset[str] = frozenset()
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ambiguous: dict[str, tuple[str, ...]] = field(default_factory=dict)


def find_images(regions: str, names: Sequence[str], most_compared: int = MOST_COMPARED) -> FoundImages:
    """The images that the names mean, among all that stage `detect` read. regions: its folder.

    A name may be an image id, a patch id, or the name of a file or of an image in it (artifacts.image_names).
    most_compared: how many names are compared to find those that are similar to a missing one.
    """
    if not names:
        return FoundImages()
    known = ImageNames(_candidates(regions, [_image_of(name) for name in names]))
    wanted: set[str] = set()
    missing: list[str] = []
    ambiguous: dict[str, tuple[str, ...]] = {}
    for name in names:
        found = known.find(_image_of(name))
        if not found:
            missing.append(name)
        elif is_ambiguous(found):
            ambiguous[name] = tuple(sorted({image.source for image in found}))
        else:
            wanted |= {image.image_id for image in found}
    ids = wanted | _copies(regions, wanted)
    similar = _similar(regions, missing, most_compared)
    return FoundImages(
        frozenset(ids),
        len(ids) - len(wanted),
        _alone(regions, ids),
        {name: similar.to(name) for name in missing},
        ambiguous,
    )


def _image_of(name: str) -> str:
    """The name of the image, for that of a patch."""
    return name.rpartition("-")[0] if _PATCH_ID.fullmatch(name) else name


def _candidates(regions: str, names: Sequence[str]) -> Iterator[ImageName]:
    """The images that the names may mean."""
    wanted = WantedNames(names)
    for group in each_group(regions, _NAMES):
        text = group.cast(pa.schema([pa.field(name, pa.string()) for name in _NAMES]))
        paths = [text[name] for name in ("source", "key", "photo")]
        may_mean = wanted.may_mean([text["image_id"], text["url"], *paths], paths)
        yield from _names(text.filter(pa.array(may_mean)))


def _names(rows: pa.Table) -> Iterator[ImageName]:
    """The names of the images in these rows of the record."""
    for row in rows.to_pylist():
        yield ImageName(row["image_id"], row["source"], row["key"], row["url"])
        if row["photo"]:
            yield ImageName(row["image_id"], row["photo"])


def _copies(regions: str, ids: Collection[str]) -> set[str]:
    """The ids of images with the content of those with these ids. The same picture under another name is the same
    picture. Files without content are not."""

    def rows(column: str, values: pa.Array) -> Iterator[pa.Table]:
        if len(values):
            for group in each_group(regions, ["image_id", "bytes", "sha256"]):
                found = pc.and_(pc.is_in(group[column], value_set=values), pc.greater(group["bytes"], 0))
                yield group.filter(found)

    contents = {each for table in rows("image_id", pa.array(sorted(ids), pa.string())) for each in table["sha256"]}
    values = pa.array((each.as_py() for each in contents), pa.binary(32))
    return {each for table in rows("sha256", values) for each in table["image_id"].to_pylist()}


def _alone(regions: str, ids: Collection[str]) -> frozenset[str]:
    """The names of files that hold only one of the images with these ids."""
    values = pa.array(sorted(ids), pa.string())
    rows = (
        row
        for group in (each_group(regions, ["image_id", "source", "key", "photo"]) if ids else ())
        for row in group.filter(pc.is_in(group["image_id"], value_set=values)).to_pylist()
    )
    return frozenset(row["photo"] or row["source"] for row in rows if row["photo"] or not row["key"])


def _similar(regions: str, missing: Sequence[str], most_compared: int) -> SimilarNames:
    """What is similar to the first names that are missing. A comparison takes up to 50 µs, so there is a limit."""
    few = missing[:SIMILAR_TO]
    similar = SimilarNames(few)
    left = most_compared
    for group in each_group(regions, _NAMES) if few else ():
        similar.look(_names(group.slice(0, left // len(few))))
        left -= len(few) * len(group)
        if left <= 0:
            break
    return similar


@dataclass(frozen=True)
class FoundSentences:
    """by_part: ids of the sentences to drop, by part of tagged/. texts: of these sentences. missing: what was not
    found."""

    by_part: dict[str, tuple[str, ...]] = field(default_factory=dict)
    texts: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the sentences."""
        return frozenset(each for ids in self.by_part.values() for each in ids)

    @property
    def names(self) -> frozenset[str]:
        """All that the sentences may be called: their texts, the hashes of these, and their ids."""
        return self.ids | self.texts | {hashlib.sha256(text.encode()).hexdigest() for text in self.texts}


def find_sentences(tagged: str, names: Sequence[str]) -> FoundSentences:
    """The tagged sentences that the names mean. tagged: the folder of stage `tag`.

    A name may be a sentence id, the key of a mixed sample, the SHA-256 of the sentence in UTF-8, or the sentence.
    """
    if not names:
        return FoundSentences()
    by_text = dict(zip(names, names, strict=True))
    by_hash = {name.lower(): name for name in names if _SHA256.fullmatch(name)}
    by_id = {match[1].lower(): name for name in names if (match := _SENTENCE.fullmatch(name))}
    found: set[str | None] = set()
    texts: set[str] = set()
    by_part: dict[str, list[str]] = {}
    for part, sentence_id, text in _sentences(tagged):
        hashed = hashlib.sha256(text.encode()).hexdigest() if by_hash else ""
        meant = {by_id.get(sentence_id), by_text.get(text), by_hash.get(hashed)} - {None}
        if meant:
            found |= meant
            texts.add(text)
            by_part.setdefault(part, []).append(sentence_id)
    parts = {part: tuple(dict.fromkeys(ids)) for part, ids in by_part.items()}
    return FoundSentences(parts, frozenset(texts), tuple(name for name in names if name not in found))


def _sentences(tagged: str) -> Iterator[tuple[str, str, str]]:
    """(part, id, text) of the sentences in tagged/: of those with mentions, and of those with words that are not
    meant."""
    for output in manifest.read(tagged, TAG).outputs:
        if output.name != NOT_MEANT and not output.name.startswith(PART.prefix):
            continue
        schema = NOT_MEANT_SCHEMA if output.name == NOT_MEANT else schemas.TAGGED
        with reading(files.join(tagged, output.name), schema) as parquet:
            for number in range(len(parquet.row_groups)):
                table = parquet.read_row_group(number, ["sentence_id", "text"])
                part = f"{PART.name(number)}.parquet" if output.name == NOT_MEANT else output.name
                for sentence_id, text in zip(table["sentence_id"].to_pylist(), table["text"].to_pylist(), strict=True):
                    yield part, sentence_id, text
