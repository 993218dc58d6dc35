"""What a run did not use: OUT/rejects/, counted by stage, reason and source, and some of it listed."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from vlmixer.artifacts import files, schemas
from vlmixer.artifacts.errors import one_line
from vlmixer.artifacts.parquet import reading
from vlmixer.artifacts.rejects import is_bad, meaning
from vlmixer.artifacts.stages import MIX, STAGES

FOLDER = "rejects"
SOURCES_SHOWN = 5
SOURCES_COUNTED = 100_000
"""Of each reason. Where each input is a source of its own (images, sentences), counting them all would need memory."""


@dataclass(frozen=True)
class ReasonCount:
    """Inputs that a stage did not use for one reason. bad: whether they are faulty. sources: the first files (of `mix`,
    sentences) that they come from, the most frequent first, with numbers; `other_sources` more are not named."""

    stage: str
    reason: str
    meaning: str
    bad: bool
    number: int
    sources: dict[str, int]
    other_sources: int


@dataclass(frozen=True)
class Rejected:
    """One input that was not used, or `number` of them that are not listed each."""

    stage: str
    source: str
    key: str
    reason: str
    detail: str
    number: int


@dataclass(frozen=True)
class RejectReport:
    """The counts, in the order of the stages, largest first; and the first inputs, if any were asked for."""

    counts: tuple[ReasonCount, ...]
    listed: tuple[Rejected, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def to_table(self) -> str:
        """What is printed."""
        if not self.counts:
            return "nothing: every input was used"
        lines = []
        for entry in self.counts:
            lines.append(
                f"{entry.number:>12,}  {entry.stage}  {entry.reason}{' (bad)' if entry.bad else ''}: {entry.meaning}"
            )
            if entry.stage != MIX.name:  # where a source is the id of a sentence
                lines += [f"{number:>16,}  {source}" for source, number in entry.sources.items()]
                if entry.other_sources:
                    lines.append(f"{'':>16}  … and {entry.other_sources:,} more")
        if self.listed:
            lines.append("")
            lines += [_line(reject) for reject in self.listed]
        return "\n".join(map(one_line, lines))


def _line(reject: Rejected) -> str:
    place = f" at {reject.key}" if reject.key else ""
    detail = f": {reject.detail}" if reject.detail else ""
    more = f" ({reject.number:,} inputs)" if reject.number > 1 else ""
    return f"{reject.stage}  {reject.reason}  {reject.source}{place}{detail}{more}"


def read_rejects(out: str, *, reason: str | None = None, stage: str | None = None, listed: int = 0) -> RejectReport:
    """Count what the run in `out` did not use, also of stages that have not finished.

    reason, stage: count these alone. listed: how many inputs to list. Raises UserError for a damaged file.
    """
    numbers: Counter[tuple[str, str]] = Counter()
    sources: dict[tuple[str, str], Counter[str]] = {}
    first: list[Rejected] = []
    folder = files.join(out, FOLDER)
    for name in files.list_files(folder):
        if (
            name.endswith(".parquet")
            and not files.is_temporary(name)
            and (stage is None or name.startswith(f"{stage}-"))
        ):
            for batch in _batches(files.join(folder, name)):
                for row in batch.to_pylist():
                    if reason is not None and row["reason"] != reason:
                        continue
                    kind = row["stage"], row["reason"]
                    numbers[kind] += row["number"]
                    own = sources.setdefault(kind, Counter())
                    if row["source"] in own or len(own) < SOURCES_COUNTED:
                        own[row["source"]] += row["number"]
                    if len(first) < listed:
                        first.append(Rejected(**row))
    order = {entry.name: place for place, entry in enumerate(STAGES)}
    kinds = sorted(numbers, key=lambda kind: (order.get(kind[0], len(order)), -numbers[kind], kind))
    counts = []
    for kind in kinds:
        most = dict(sorted(sources[kind].items(), key=lambda entry: (-entry[1], entry[0]))[:SOURCES_SHOWN])
        other = len(sources[kind]) - len(most)
        counts.append(ReasonCount(*kind, meaning(kind[1]), is_bad(kind[1]), numbers[kind], most, other))
    return RejectReport(tuple(counts), tuple(first))


def _batches(path: str) -> Iterator[pa.RecordBatch]:
    with reading(path, schemas.REJECTS) as table:
        for group in range(len(table.row_groups)):
            yield from table.read_row_group(group).to_batches()
