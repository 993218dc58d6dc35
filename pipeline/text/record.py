"""What tagging found besides mentions: tagged/record/not-meant.parquet, with one row group per part of tagged/.

It has the sentences with words that are not meant as things. With it and the parts, no sentence in which a word was
found need be tagged again (`vlmixer run --extend`), and `vlmixer drop` can take sentences out of all counts.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa

from vlmixer.artifacts import files, manifest, schemas
from vlmixer.artifacts.manifest import Output
from vlmixer.artifacts.parquet import reading
from vlmixer.artifacts.samples import Mention
from vlmixer.artifacts.stages import TAG
from vlmixer.pipeline.text.readers.reader import SourceSentence
from vlmixer.pipeline.text.readers.slices import source_id
from vlmixer.pipeline.text.tagger import Tagged, Tagger
from vlmixer.pipeline.text.units import PART

NOT_MEANT = schemas.NOT_MEANT_FILE
SCHEMA = schemas.NOT_MEANT
PARTS_HELD = 3


def record_table(found: Iterable[tuple[SourceSentence, Tagged]]) -> pa.Table:
    """The rows of these sentences, for those that have one."""
    rows = [
        {"sentence_id": sentence.sentence_id, "text": sentence.text, "not_meant": list(map(vars, tagged.not_meant))}
        for sentence, tagged in found
        if tagged.not_meant
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def write_unit(path: str, tables: Sequence[pa.Table]) -> None:
    """Write the rows of a unit, for `join_units`."""
    with schemas.writing_parquet(path, SCHEMA) as writer:
        writer.write_table(pa.concat_tables([SCHEMA.empty_table(), *tables]).combine_chunks())


def join_units(folder: str, paths: Iterable[str]) -> Output:
    """Write not-meant.parquet to `folder`, of the rows of all units, in order."""
    rows = 0
    with schemas.writing_parquet(files.join(folder, NOT_MEANT), SCHEMA) as writer:
        for path in paths:
            with reading(path, SCHEMA) as part:
                table = part.read()
            writer.write_table(table)
            rows += len(table)
    return manifest.output_of(folder, NOT_MEANT, rows)


def part_number(name: str) -> int:
    """The number of a part of tagged/, and of its row group in not-meant.parquet."""
    return int(name.removeprefix(f"{PART.prefix}-").partition(".")[0])


def mentions_of(row: Sequence[Mapping[str, Any]]) -> tuple[Mention, ...]:
    """Mentions from their column."""
    return tuple(Mention(**mention) for mention in row)


class EarlierSentences:
    """What an earlier run found in sentences. A part of tagged/ is read when one that may be in it is looked up."""

    def __init__(self, folder: str) -> None:
        """folder: tagged/ of the earlier run."""
        tagged = manifest.read(folder, TAG)
        self._folder = folder
        self._places = {
            source_id(name): place for place, name in enumerate(dict.fromkeys(entry.name for entry in tagged.inputs))
        }
        parts = [output.name for output in tagged.parts if output.rows]
        self._parts = sorted((self._order(self._first_id(name)), name) for name in parts)
        self._read = lru_cache(PARTS_HELD)(self._read_part)

    def find(self, sentence: SourceSentence) -> Tagged | None:
        """What was found in the sentence; None if it, or its text, is new."""
        name = sentence.sentence_id
        if name.partition("-")[0] not in self._places:
            return None
        at = bisect_right(self._parts, self._order(name), key=lambda part: part[0]) - 1
        if at < 0:
            return None
        text, tagged = self._read(self._parts[at][1]).get(name, ("", None))
        return tagged if text == sentence.text else None

    def _order(self, some_id: str) -> tuple[int, str]:
        return self._places.get(some_id.partition("-")[0], len(self._places)), some_id

    def _first_id(self, part: str) -> str:
        with reading(files.join(self._folder, part), schemas.TAGGED) as table:
            first: str = table.read_row_group(0, ["sentence_id"])["sentence_id"][0].as_py()
        return first

    def _read_part(self, part: str) -> dict[str, tuple[str, Tagged]]:
        """Text and findings of the sentences of a part, by id."""
        with reading(files.join(self._folder, part), schemas.TAGGED) as table:
            rows = table.read().to_pylist()
        found = {row["sentence_id"]: (row["text"], Tagged(mentions_of(row["mentions"]), ())) for row in rows}
        with reading(files.join(self._folder, NOT_MEANT), SCHEMA) as table:
            others = table.read_row_group(part_number(part)).to_pylist()
        for row in others:
            _, tagged = found.get(row["sentence_id"], ("", Tagged((), ())))
            found[row["sentence_id"]] = (row["text"], Tagged(tagged.mentions, mentions_of(row["not_meant"])))
        return found


def tag_new(
    sentences: Sequence[SourceSentence], tagger: Tagger, earlier: EarlierSentences | None
) -> list[tuple[SourceSentence, Tagged]]:
    """What is found in each sentence. Those that an earlier run tagged are not tagged again."""
    known = [None if earlier is None else earlier.find(sentence) for sentence in sentences]
    new = [sentence.text for sentence, tagged in zip(sentences, known, strict=True) if tagged is None]
    fresh = iter(tagger.tag(new) if new else ())
    return [
        (sentence, next(fresh) if tagged is None else tagged) for sentence, tagged in zip(sentences, known, strict=True)
    ]
