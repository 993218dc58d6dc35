"""The input files of a stage as they were when it was planned: OUT/work/STAGE-inputs.parquet.

The plan knows names and sizes, which depend on nothing but the corpus. Here is what tells a file from another of the
same name and size: the time of its last change, or what its store says. Times are in no result.

They are compared when a stage is resumed, when its results are used again, and when it ends.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from vlmixer.artifacts import files, memory, schemas
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.files import FileStat
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


@dataclass(frozen=True)
class InputFiles:
    """The inputs of a stage.

    found: as they are now. look_again: finds them again, which takes as much memory. same_content: whether a file has
    the content that the stage read; None if that cannot be told.
    """

    found: Sequence[FileStat]
    look_again: Callable[[], Sequence[FileStat]]
    same_content: Callable[[Manifest, KnownInput], bool | None]

    def keep(self, stage: AnyStage, known: Iterable[KnownInput] = ()) -> None:
        """Write the file. known: more that the stage found out about its inputs, or other files that it read. It is
        not held: of many images it would take most of the memory."""
        _write(stage, self._all(known))

    def _all(self, known: Iterable[KnownInput], changed: list[str] | None = None) -> Iterator[KnownInput]:
        """Those that are known, then the rest of the inputs. changed: takes the names of other files whose stamps are
        no longer those that are known."""
        left: dict[str, str | None] = {entry.name: entry.stamp for entry in self.found}
        for entry in known:
            if entry.name in left:
                left[entry.name] = None
            elif changed is not None and files.stamp(entry.name) != entry.stamp:
                changed.append(entry.name)
            yield entry
        yield from (KnownInput(name, stamp) for name, stamp in left.items() if stamp is not None)

    def changed(self, stage: AnyStage) -> list[str]:
        """The files that are not those that the stage was begun with; [] if nothing is known about them."""
        known = _read(stage)
        return [] if known is None else [entry.name for entry in self._differing(known)]

    def require_same(self, stage: AnyStage, finished: Manifest) -> None:
        """Raises PlanChanged if the finished stage's results are those of other inputs. Files whose stamps changed, or
        that nothing is known about, are compared by content."""
        known = _read(stage)
        unknown = known is None
        if known is None:
            known = [KnownInput(entry.name, "not known") for entry in self.found]
        differing = self._differing(known)
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
        now = {entry.name: entry.stamp for entry in self.found}
        self.keep(
            stage,
            [KnownInput(each.name, now.get(each.name) or files.stamp(each.name), each.digest) for each in known],
        )

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
        now = {entry.name: entry.stamp for entry in self.look_again()}
        return [entry.name for entry in self.found if now.get(entry.name) != entry.stamp]

    def _differing(self, known: Sequence[KnownInput]) -> list[KnownInput]:
        """Those that have another stamp now. A list may name files that are not among those found; of these, and of
        dropped inputs, those that are gone do not count."""
        now = {entry.name: entry.stamp for entry in self.found}
        differing = []
        for each in known:
            stamp = now[each.name] if each.name in now else files.stamp(each.name) or each.stamp
            if stamp != each.stamp:
                differing.append(each)
        return differing


def path(stage: AnyStage) -> str:
    """The file."""
    return files.join(stage.out, "work", f"{stage.name}-inputs.parquet")


def leave_out(stage: AnyStage, gone: Callable[[str], bool]) -> None:
    """Remove the files with these names from what is known."""
    known = _read(stage) or []
    left = [entry for entry in known if not gone(entry.name)]
    if len(left) < len(known):
        _write(stage, iter(left))


def _write(stage: AnyStage, rows: Iterator[KnownInput]) -> None:
    with schemas.writing_parquet(path(stage), SCHEMA) as writer:
        while part := list(islice(rows, ROWS_AT_ONCE)):
            columns = ([getattr(row, name) for row in part] for name in SCHEMA.names)
            writer.write_table(pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA))
    memory.give_back()


def _read(stage: AnyStage) -> list[KnownInput] | None:
    """What is known about the inputs; None if nothing is, because the file is missing or damaged."""
    try:
        with files.open_read(path(stage)) as file:
            table = read_parquet(file)
        if not table.schema.equals(SCHEMA):
            return None
        return [KnownInput(**row) for row in table.to_pylist()]
    except (OSError, pa.ArrowException):
        return None
