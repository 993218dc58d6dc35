"""tagged/ without some sentences: only the parts that have them are written again."""

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vlmixer.artifacts import files, json_files, manifest, schemas
from vlmixer.artifacts.details import TaggedDetails
from vlmixer.artifacts.manifest import Counts, Manifest, Output
from vlmixer.artifacts.parquet import reading
from vlmixer.artifacts.rejects import RejectFile, read_rejects
from vlmixer.artifacts.stages import TAG
from vlmixer.pipeline.replacing.finding import FoundSentences
from vlmixer.pipeline.report.tagging import EXAMPLES, Examples
from vlmixer.pipeline.text.record import NOT_MEANT, mentions_of
from vlmixer.pipeline.text.record import SCHEMA as NOT_MEANT_SCHEMA
from vlmixer.pipeline.text.tagger import Tagged


@dataclass
class _Without:
    """The next result's tagged/ (target), made from the present one (source). The counters are of what stays."""

    source: str
    target: str
    gone: FoundSentences
    mentions: Counter[str]
    not_meant: Counter[str]
    rejected: Counter[str]
    read: int
    written: int
    outputs: dict[str, Output] = field(default_factory=dict)
    rejects: list[Output] = field(default_factory=list)
    was_written: set[str] = field(default_factory=set)
    not_written: dict[str, tuple[str, ...]] = field(default_factory=dict)


def write_without(out: str, made: str, gone: FoundSentences) -> Manifest[TaggedDetails]:
    """Write tagged/ of the next result `made`: that of `out` without the sentences, as if they had not been read."""
    source, target = files.join(out, TAG.folder), files.join(made, TAG.folder)
    present = manifest.read(source, TAG)
    counts, details = present.counts["sentences"], present.details
    work = _Without(
        source, target, gone, Counter(details.mentions), Counter(details.not_meant), Counter(counts.rejected),
        counts.read - len(gone.ids), counts.written,
    )  # fmt: skip
    for output in present.outputs:
        if output.name in gone.by_part:
            _write_part(work, output.name)
        elif output.name == NOT_MEANT:
            _write_not_meant(work)
        elif output.name != EXAMPLES:
            files.link(files.join(source, output.name), files.join(target, output.name))
            work.outputs[output.name] = output
    for part, ids in gone.by_part.items():
        work.not_written[part] = tuple(each for each in ids if each not in work.was_written)
    for output in present.rejects:
        _write_rejects(work, out, made, output, details.sources)
    details = replace(details, mentions=_positive(work.mentions), not_meant=_positive(work.not_meant))
    _write_examples(work, present, len(details.mentions))
    finished = replace(
        present,
        outputs=sorted(work.outputs.values(), key=lambda output: output.name),
        rejects=work.rejects,
        counts={"sentences": Counts(work.read, work.written, _positive(work.rejected))},
        details=details,
    )
    manifest.publish(target, finished)
    return finished


def _write_part(work: _Without, name: str) -> None:
    """Write a part without the sentences, and subtract their mentions."""
    with schemas.writing_parquet(files.join(work.target, name), schemas.TAGGED) as writer:
        rows = 0
        for stays, leaves in _filtered(files.join(work.source, name), schemas.TAGGED, work.gone.ids):
            for row in leaves["mentions"].to_pylist():
                work.mentions.subtract(mention["concept"] for mention in row)
            work.written -= len(leaves)
            work.was_written.update(leaves["sentence_id"].to_pylist())
            if len(stays):
                writer.write_table(stays)
                rows += len(stays)
    work.outputs[name] = manifest.output_of(work.target, name, rows)


def _write_not_meant(work: _Without) -> None:
    """Write not-meant.parquet without the sentences, and subtract their words."""
    with schemas.writing_parquet(files.join(work.target, NOT_MEANT), NOT_MEANT_SCHEMA) as writer:
        rows = 0
        for stays, leaves in _filtered(files.join(work.source, NOT_MEANT), NOT_MEANT_SCHEMA, work.gone.ids):
            for row in leaves["not_meant"].to_pylist():
                work.not_meant.subtract(mention["concept"] for mention in row)
            writer.write_table(stays)
            rows += len(stays)
    work.outputs[NOT_MEANT] = manifest.output_of(work.target, NOT_MEANT, rows)


def _write_rejects(work: _Without, out: str, made: str, output: Output, sources: Mapping[str, str]) -> None:
    """Write a file of rejects without the sentences that were not meant. Duplicates stay: their texts are not known."""
    source, target = (files.join(folder, "rejects", output.name) for folder in (out, made))
    here = {_place(each, sources) for each in work.not_written.get(output.name.removeprefix(f"{TAG.name}-"), ())}
    if not here:
        files.link(source, target)
        work.rejects.append(output)
        return
    unlisted = Counter(place[0] for place in here)
    with RejectFile(TAG.name, target, list_all=True) as log:
        for reject in read_rejects(source):
            if reject.reason == "not_meant" and (reject.source, reject.key) in here:
                unlisted[reject.source] -= 1
                continue
            if reject.reason == "not_meant" and not reject.key:  # those that are not listed each
                reject = replace(reject, number=reject.number - unlisted[reject.source])
            if reject.number:
                log.keep(reject)
    work.rejected["not_meant"] -= len(here)
    if log.rows:
        work.rejects.append(manifest.output_of(files.join(made, "rejects"), output.name, log.rows))


def _place(sentence_id: str, sources: Mapping[str, str]) -> tuple[str, str]:
    """Source and key of a sentence, as the rejects have them."""
    source, *numbers = sentence_id.split("-")
    return sources.get(source, ""), "-".join(str(int(number)) for number in numbers)


def _filtered(path: str, schema: pa.Schema, gone: frozenset[str]) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The row groups of a file: the rows that stay, and those whose id is among `gone`."""
    values = pa.array(sorted(gone))
    with reading(path, schema) as parquet:
        for number in range(len(parquet.row_groups)):
            table = parquet.read_row_group(number)
            leaves = pc.is_in(table["sentence_id"], value_set=values)
            yield table.filter(pc.invert(leaves)).combine_chunks(), table.filter(leaves)


def _write_examples(work: _Without, present: Manifest[TaggedDetails], concepts: int) -> None:
    """Write the examples. Others take the place of those that are gone."""
    path = files.join(work.target, EXAMPLES)
    content = json_files.read(files.join(work.source, EXAMPLES), advice="Run `vlmixer verify`.")
    marks = {zlib.crc32(each.encode()) for each in work.gone.ids}
    if any(entry[0] in marks for kind in content.values() for found in kind.values() for entry in found):
        examples = Examples()
        for name in (output.name for output in present.parts if work.outputs[output.name].rows):
            for row in _rows(files.join(work.target, name), schemas.TAGGED):
                examples.add(row["sentence_id"], row["text"], Tagged(mentions_of(row["mentions"]), ()))
        for row in _rows(files.join(work.target, NOT_MEANT), NOT_MEANT_SCHEMA) if NOT_MEANT in work.outputs else ():
            examples.add(row["sentence_id"], row["text"], Tagged((), mentions_of(row["not_meant"])))
        content = examples.to_json()
    files.publish_bytes(path, manifest.canonical(content))
    work.outputs[EXAMPLES] = manifest.output_of(work.target, EXAMPLES, concepts)


def _rows(path: str, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    with reading(path, schema) as parquet:
        for number in range(len(parquet.row_groups)):
            yield from parquet.read_row_group(number).to_pylist()


def _positive(counts: Counter[str]) -> dict[str, int]:
    return {name: number for name, number in sorted(counts.items()) if number > 0}
