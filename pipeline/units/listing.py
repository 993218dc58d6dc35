"""Lists of units in the work folder, from which a job reads its units: its graph does not grow with them."""

import hashlib
from collections.abc import Iterator, Sequence

from vlmixer.artifacts import details, files, json_files, manifest
from vlmixer.pipeline.units.stage import AnyStage
from vlmixer.pipeline.units.unit import Content, Unit


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
            raw = json_files.parse(line)
            yield Unit(raw["name"], details.from_json(content, raw["content"]))
