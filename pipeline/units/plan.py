"""The plan of a stage: what its bytes depend on. Begins the stage, and says which units are left to do."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import SCHEMA_VERSION, Manifest
from vlmixer.artifacts.stages import Details
from vlmixer.pipeline.units.stage import AnyStage, Stage
from vlmixer.pipeline.units.unit import Content, Unit


@dataclass(frozen=True)
class Plan:
    """What a stage's bytes depend on: its settings and its inputs (names and sizes, or upstream content hashes)."""

    settings: Mapping[str, Any]
    inputs: Sequence[Any]
    versions: Mapping[str, str]

    @property
    def hash(self) -> str:
        """Of settings and inputs."""
        return manifest.digest([SCHEMA_VERSION, self.settings, self.inputs])

    def to_json(self) -> dict[str, Any]:
        """The content of OUT/work/STAGE/plan.json, as reading that file gives it."""
        plan = {
            "plan_hash": self.hash,
            "settings": dict(self.settings),
            "inputs": manifest.digest(list(self.inputs)),
            "versions": dict(self.versions),
        }
        as_read: dict[str, Any] = json.loads(manifest.canonical(plan))
        return as_read


def begin_stage(stage: Stage[Details], plan: Plan, *, overwrite: bool) -> Manifest[Details] | None:
    """Prepare the stage for work. Returns its manifest if it is finished, None if there is work to do.

    Raises UserError if the stage was begun with another plan and `overwrite` is off.
    """
    if overwrite:
        _clear(stage)
    if files.exists(files.join(stage.folder, manifest.NAME)):
        finished = manifest.read(stage.folder, stage.type)
        if finished.plan_hash != plan.hash:
            raise UserError(_changed(stage, stage.folder, ["its settings or its inputs"]))
        files.remove(stage.work)
        return finished
    if files.exists(stage.plan):
        begun, wanted = json.loads(files.read_bytes(stage.plan)), plan.to_json()
        if begun != wanted:
            raise UserError(_changed(stage, stage.work, _differences(begun, wanted)))
    else:
        _clear(stage)
        files.publish_bytes(stage.plan, manifest.canonical(plan.to_json(), indent=1))
    for folder in (stage.folder, stage.work, stage.rejects):
        files.sweep_temporaries(folder)
    return None


def _clear(stage: AnyStage) -> None:
    # The manifest goes first: without it nothing counts as finished, even if this is interrupted.
    files.remove(files.join(stage.folder, manifest.NAME))
    files.remove(stage.plan)
    files.remove(stage.work)
    files.remove(stage.folder)
    for name in files.list_files(stage.rejects):
        if name.startswith(f"{stage.name}-"):
            files.remove(files.join(stage.rejects, name))


def _differences(begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    found = []
    for part in ("settings", "versions"):
        before, now = begun.get(part, {}), wanted[part]
        keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
        found += [f"{part[:-1]} {key} (was {before.get(key)!r}, is {now.get(key)!r})" for key in keys]
    if begun.get("inputs") != wanted["inputs"]:
        found.append("the input files")
    return found


def _changed(stage: AnyStage, where: str, differences: Sequence[str]) -> str:
    return (
        f"{where}: stage {stage.name!r} was run with something else: {'; '.join(differences)} changed since. "
        f"Use another --out, undo the change, or run `vlmixer {stage.name} … --overwrite` to redo the stage."
    )


def pending(stage: AnyStage, units: Sequence[Unit[Content]]) -> list[Unit[Content]]:
    """The units that have no result yet."""
    done = set(files.list_files(stage.work))
    return [unit for unit in units if f"{unit.name}.json" not in done]
