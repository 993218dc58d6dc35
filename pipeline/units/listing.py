"""Lists of units in the work folder, from which a job reads its units: its graph does not grow with them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic

from vlmixer.artifacts import details, files, json_files, manifest
from vlmixer.pipeline.units.stage import AnyStage
from vlmixer.pipeline.units.unit import Content, Unit

MAX_LINE_BYTES = 1 << 14
"""A longer line is read by who does its unit."""


def publish_units(stage: AnyStage, units: Sequence[Unit[object]]) -> str:
    """List the units in a file of the work folder; its name."""
    # Named by its contents: a run that finds another run's list reads the same units. The lines of many files would
    # take much memory, so they are made twice.
    hashed = hashlib.sha256()
    for unit in units:
        hashed.update(_line(unit))
    name = f"units-{hashed.hexdigest()[:16]}.jsonl"
    with files.publishing(files.join(stage.work, name)) as file:
        file.writelines(map(_line, units))
    return name


def _line(unit: Unit[object]) -> bytes:
    return manifest.canonical({"name": unit.name, "content": details.to_json(unit.content)})


def read_units(stage: AnyStage, name: str, content: type[Content]) -> Iterator[Unit[Content]]:
    """The units, whose contents are of type `content`, that `publish_units` listed in file `name`."""
    with files.open_read(files.join(stage.work, name)) as file:
        for line in file:
            yield _parsed(line, content)


@dataclass(frozen=True)
class Listed(Generic[Content]):
    """Stands for the content of a unit: its line in a list of units, from byte `start` to `stop`."""

    name: str
    start: int
    stop: int
    kind: type[Content]


def each_unit(stage: AnyStage, name: str, content: type[Content]) -> Iterator[Unit[Content | Listed[Content]]]:
    """As `read_units`, but a unit with a long line has `Listed` for its content.

    A local engine holds all units of a job. Those of image files would be a list of all their names.
    """
    at = 0
    with files.open_read(files.join(stage.work, name)) as file:
        for line in file:
            if len(line) <= MAX_LINE_BYTES:
                yield _parsed(line, content)
            else:
                yield Unit(json_files.parse(line)["name"], Listed(name, at, at + len(line), content))
            at += len(line)


def with_content(stage: AnyStage, unit: Unit[Content | Listed[Content]]) -> Unit[Content]:
    """The unit with its content, which is read if `Listed` stands for it."""
    if not isinstance(unit.content, Listed):
        return Unit(unit.name, unit.content)
    listed = unit.content
    (line,) = files.read_ranges(files.join(stage.work, listed.name), [(listed.start, listed.stop)])
    return _parsed(line, listed.kind)


def _parsed(line: bytes, content: type[Content]) -> Unit[Content]:
    raw = json_files.parse(line)
    return Unit(raw["name"], details.from_json(content, raw["content"]))
