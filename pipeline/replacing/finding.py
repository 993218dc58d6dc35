"""Which images and sentences of an output folder a take-down request means."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vlmixer.artifacts import files, manifest, schemas
from vlmixer.artifacts.image_names import ImageName, ImageNames, is_ambiguous
from vlmixer.artifacts.parquet import reading
from vlmixer.artifacts.stages import TAG
from vlmixer.pipeline.image.record import read_record
from vlmixer.pipeline.text.record import NOT_MEANT
from vlmixer.pipeline.text.record import SCHEMA as NOT_MEANT_SCHEMA
from vlmixer.pipeline.text.units import PART

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


def find_images(regions: str, names: Sequence[str]) -> FoundImages:
    """The images that the names mean, among all that stage `detect` read. regions: its folder.

    A name may be an image id, a patch id, or the name of a file or of an image in it (artifacts.image_names).
    """
    if not names:
        return FoundImages()
    table = read_record(regions, ["image_id", "source", "key", "url", "photo", "bytes", "sha256"])
    rows = list(zip(*(table[name].to_pylist() for name in ("image_id", "source", "key", "url", "photo")), strict=True))
    known = ImageNames(
        name
        for image_id, source, key, url, photo in rows
        for name in [ImageName(image_id, source, key, url), *([ImageName(image_id, photo)] if photo else [])]
    )
    wanted: set[str] = set()
    missing: dict[str, tuple[str, ...]] = {}
    ambiguous: dict[str, tuple[str, ...]] = {}
    for name in names:
        found = known.find(name.rpartition("-")[0] if _PATCH_ID.fullmatch(name) else name)
        if not found:
            missing[name] = tuple(known.near(name))
        elif is_ambiguous(found):
            ambiguous[name] = tuple(sorted({image.source for image in found}))
        else:
            wanted |= {image.image_id for image in found}
    # The same picture under another name is the same picture. Files without content are not.
    sizes = table["bytes"].to_pylist()
    read = [
        (each[0], content) for each, content, size in zip(rows, table["sha256"].to_pylist(), sizes, strict=True) if size
    ]
    contents = {content for image_id, content in read if image_id in wanted}
    ids = wanted | {image_id for image_id, content in read if content in contents}
    alone = {photo or source for image_id, source, key, _, photo in rows if image_id in ids and (photo or not key)}
    return FoundImages(frozenset(ids), len(ids) - len(wanted), frozenset(alone), missing, ambiguous)


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
