"""The input files of a stage as they were when it was planned: OUT/work/STAGE-inputs.parquet.

The plan knows names and sizes, which depend on nothing but the corpus. Here is what tells a file from another of the
same name and size: the time of its last change, or what its store says. Times are in no result.

They are compared when a stage is resumed, when its results are used again, and when it ends.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import pyarrow as pa

from vlmixer.artifacts import files, memory, schemas
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.files import FileStat, FileStats
from vlmixer.artifacts.manifest import Manifest
from vlmixer.artifacts.parquet import read_parquet
from vlmixer.artifacts.unchanged import changed_while_running, listed
from vlmixer.pipeline.units.changes import PlanChanged
from vlmixer.pipeline.units.stage import AnyStage

LOG = logging.getLogger("vlmixer")
SCHEMA = pa.schema(
    [pa.field("name", pa.string()), pa.field("stamp", pa.string()), pa.field("digest", pa.binary())]
)  # fmt: skip
ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class KnownInput:
    """A file that a stage read. digest: of its content, as its stage computes it; b"" if it is not known."""

    name: str
    stamp: str
    digest: bytes = b""


Named = TypeVar("Named", KnownInput, FileStat)


@dataclass(frozen=True)
class InputFiles:
    """The inputs of a stage.

    found: as they are now. look_again: finds them again, which takes as much memory. same_content: whether a file has
    the content that the stage read; None if that cannot be told.
    """

    found: FileStats
    look_again: Callable[[], FileStats]
    same_content: Callable[[Manifest, KnownInput], bool | None]

    def keep(self, stage: AnyStage, known: Iterable[KnownInput] = ()) -> None:
        """Write the file. known: more that the stage found out about its inputs, or other files that it read. It is
        not held: of many images it would take most of the memory."""
        _write(stage, self._all(known))

    def _all(self, known: Iterable[KnownInput], changed: list[str] | None = None) -> Iterator[KnownInput]:
        """Those that are known, then the rest of the inputs. changed: takes the names of other files whose stamps are
        no longer those that are known."""
        left = np.ones(len(self.found), bool)
        known = iter(known)
        while part := list(islice(known, ROWS_AT_ONCE)):
            rows = self.found.names.find([entry.name for entry in part])
            left[rows[rows >= 0]] = False
            for entry, row in zip(part, rows, strict=True):
                if row < 0 and changed is not None and files.stamp(entry.name) != entry.stamp:
                    changed.append(entry.name)
                yield entry
        for begin in range(0, len(self.found), ROWS_AT_ONCE):
            found = self.found[begin : begin + ROWS_AT_ONCE]
            first = self.found.names.find([file.name for file in found])  # a file of boxes may be there twice
            for row, file in enumerate(found, begin):
                if left[row] and first[row - begin] == row:
                    yield KnownInput(file.name, file.stamp)

    def changed(self, stage: AnyStage) -> list[str]:
        """The files that are not those that the stage was begun with; [] if nothing is known about them."""
        known = _read(stage)
        return [] if known is None else [entry.name for entry in self._differing(_each(known))]

    def require_same(self, stage: AnyStage, finished: Manifest) -> None:
        """Raises PlanChanged if the finished stage's results are those of other inputs. Files whose stamps changed, or
        that nothing is known about, are compared by content."""
        known = _read(stage)
        unknown = known is None
        if known is None:
            known = pa.Table.from_batches(_batches(KnownInput(name, "not known") for name in self.found.names), SCHEMA)
        differing = self._differing(_each(known))
        if not differing:
            return
        LOG.info(
            "%s: comparing %d input files by content, because %s",
            stage.name,
            len(differing),
            "nothing is known about when they were changed" if unknown else "they have another time of change",
        )
        same = {entry.name: self.same_content(finished, entry) for entry in differing}
        changed = [name for name, verdict in same.items() if verdict is False]
        untold = [name for name, verdict in same.items() if verdict is None and not unknown]
        if untold and not changed:
            raise PlanChanged(
                f"{listed(untold)}: another time of change than when stage {stage.name!r} was run, and no hash of the "
                f"content was recorded, so nobody can tell whether {stage.folder} is made of the present inputs. If it "
                f"is, restore the time (`touch -d`). If not, run `vlmixer {stage.name} … --overwrite` to redo the "
                "stage.",
                inputs_only=True,
            )
        if changed:
            raise PlanChanged(
                f"{listed(changed)}: changed since stage {stage.name!r} was run, so {stage.folder} is not made of "
                f"the present inputs. Run `vlmixer {stage.name} … --overwrite` to redo the stage, or use another --out."
                " `vlmixer run … --extend` takes in what changed and keeps what is done.",
                inputs_only=True,
            )
        if None in same.values():
            LOG.warning(
                "%s: %s cannot be compared and are taken as unchanged; --overwrite redoes the stage.",
                stage.name,
                listed([name for name, verdict in same.items() if verdict is None]),
            )
        self.keep(
            stage,
            (KnownInput(each.name, now or files.stamp(each.name), each.digest)
             for each, now in _with_stamps(self.found, _each(known))),
        )  # fmt: skip

    def finish(self, stage: AnyStage, known: Iterable[KnownInput] = ()) -> None:
        """Raises UserError if a file was changed since the stage was planned. known: as for `keep`."""
        changed = self._changed_since()
        _write(stage, self._all(known, changed))
        if changed:
            raise UserError(changed_while_running(changed))

    def _changed_since(self) -> list[str]:
        """The files that are no longer as they were found. Local ones are looked at one by one. Only if one of them has
        another stamp, or none, or there are files behind URLs, all are listed again."""
        if all(entry.stamp and files.stamp(entry.name) == entry.stamp for entry in self.found):
            return []
        again = self.look_again()
        return [entry.name for entry, now in _with_stamps(again, self.found) if now != entry.stamp]

    def _differing(self, known: Iterable[KnownInput]) -> list[KnownInput]:
        """Those that have another stamp now. A list may name files that are not among those found; of these, and of
        dropped inputs, those that are gone do not count."""
        differing = []
        for each, now in _with_stamps(self.found, known):
            if (files.stamp(each.name) or each.stamp if now is None else now) != each.stamp:
                differing.append(each)
        return differing


def _with_stamps(found: FileStats, entries: Iterable[Named]) -> Iterator[tuple[Named, str | None]]:
    """Each entry with the stamp of the file of its name; None if that is not among those found."""
    entries = iter(entries)
    while part := list(islice(entries, ROWS_AT_ONCE)):
        rows = found.names.find([entry.name for entry in part])
        for entry, row in zip(part, rows, strict=True):
            yield entry, found.stamps[row] if row >= 0 else None


def path(stage: AnyStage) -> str:
    """The file."""
    return files.join(stage.out, "work", f"{stage.name}-inputs.parquet")


def leave_out(stage: AnyStage, gone: Callable[[str], bool]) -> None:
    """Remove the files with these names from what is known."""
    known = _read(stage)
    if known is not None and any(gone(entry.name) for entry in _each(known)):
        _write(stage, (entry for entry in _each(known) if not gone(entry.name)))


def _write(stage: AnyStage, rows: Iterable[KnownInput]) -> None:
    with schemas.writing_parquet(path(stage), SCHEMA) as writer:
        for batch in _batches(rows):
            writer.write_batch(batch)
    memory.give_back()


def _batches(rows: Iterable[KnownInput]) -> Iterator[pa.RecordBatch]:
    rows = iter(rows)
    while part := list(islice(rows, ROWS_AT_ONCE)):
        columns = [[getattr(row, name) for row in part] for name in SCHEMA.names]
        yield pa.RecordBatch.from_arrays(
            [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
        )


def _read(stage: AnyStage) -> pa.Table | None:
    """What is known about the inputs; None if nothing is, because the file is missing or damaged."""
    try:
        with files.open_read(path(stage)) as file:
            table = read_parquet(file)
        return table if table.schema.equals(SCHEMA) else None
    except (OSError, pa.ArrowException):
        return None


def _each(known: pa.Table) -> Iterator[KnownInput]:
    for batch in known.to_batches(ROWS_AT_ONCE):
        yield from (KnownInput(**row) for row in batch.to_pylist())
