"""The plan of a stage: what its bytes depend on. Begins the stage, and says which units are left to do."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from vlmixer.artifacts import contents, files, json_files, manifest
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import SCHEMA_VERSION, Manifest
from vlmixer.artifacts.stages import Details
from vlmixer.artifacts.unchanged import listed
from vlmixer.pipeline.units.changes import PlanChanged
from vlmixer.pipeline.units.inputs import InputFiles
from vlmixer.pipeline.units.inputs import path as inputs_path
from vlmixer.pipeline.units.passes import UnitKind
from vlmixer.pipeline.units.stage import AnyStage, Stage
from vlmixer.pipeline.units.unit import Content, Unit

_RESULT = re.compile(r"[^/]*-\d+\.json")
"""The names of units' results."""


@dataclass(frozen=True)
class Plan:
    """What a stage's bytes depend on: its settings and its inputs (names and sizes, or upstream content hashes)."""

    settings: Mapping[str, Any]
    inputs: Collection[Any]
    versions: Mapping[str, str]

    @property
    def hash(self) -> str:
        """Of settings and inputs."""
        return manifest.digest_of_many(self.inputs, [SCHEMA_VERSION, self.settings])

    def to_json(self) -> dict[str, Any]:
        """The content of OUT/work/STAGE/plan.json, as reading that file gives it."""
        plan = {
            "plan_hash": self.hash,
            "settings": dict(self.settings),
            "inputs": manifest.digest_of_many(self.inputs),
            "versions": dict(self.versions),
        }
        as_read: dict[str, Any] = json_files.parse(manifest.canonical(plan))
        return as_read


@dataclass(frozen=True)
class _Begun:
    """What plan.json holds."""

    plan_hash: str
    settings: dict[str, Any]
    inputs: str
    versions: dict[str, str]


def begin_stage(
    stage: Stage[Details],
    plan: Plan,
    *,
    overwrite: bool,
    preparation: Sequence[UnitKind] = (),
    inputs: InputFiles | None = None,
    alone: bool = True,
) -> Manifest[Details] | None:
    """Prepare the stage for work. Returns its manifest if it is finished, None if there is work to do.

    If no unit is done yet, the stage takes the new plan. preparation: units of these kinds do not count as done.
    inputs: the files that the stage reads, if it reads others than those of earlier stages. alone: whether no other
    process works on the stage.
    Raises PlanChanged, which names what changed, if the stage was begun or finished with another plan and `overwrite`
    is off.
    """
    for folder in (stage.folder, files.parent(stage.work), stage.work, stage.rejects):
        files.refuse_link(folder)
    if overwrite:
        _clear(stage)
    if files.exists(files.join(stage.folder, manifest.NAME)):
        finished = manifest.read(stage.folder, stage.type)
        if finished.plan_hash != plan.hash:
            raise _changed(stage, stage.folder, _differences_when_finished(finished, plan))
        if inputs is not None:
            inputs.require_same(stage, finished)
        contents.put(stage.out, {stage.type.folder: finished.content_hash})  # unless a kill prevented it
        files.remove(stage.work)
        return finished
    begun, wanted = _begun(stage), plan.to_json()
    changed = [] if begun is None or inputs is None else inputs.changed(stage)
    if begun is not None and (changed or begun != wanted) and (not alone or _any_done(stage, preparation)):
        differences = _differences(begun, wanted) or [
            f"the time of change, and perhaps the content, of {listed(changed)}"
        ]
        raise _changed(stage, stage.work, differences)
    if changed or begun != wanted:
        _clear(stage)
        if inputs is not None:
            inputs.keep(stage)
        files.publish_bytes(stage.plan, manifest.canonical(plan.to_json(), indent=1))
    for folder in (stage.folder, stage.work, stage.rejects) if alone else ():
        files.sweep_temporaries(folder)
    return None


def recorded_settings(stage: Stage[Details]) -> dict[str, Any] | None:
    """The settings with which the stage was finished or begun, None if it was not."""
    if files.exists(files.join(stage.folder, manifest.NAME)):
        return manifest.read(stage.folder, stage.type).settings
    begun = _begun(stage)
    return None if begun is None else begun["settings"]


def _begun(stage: AnyStage) -> dict[str, Any] | None:
    """The plan that the stage was begun with, None if it was not begun."""
    if not files.exists(stage.plan):
        return None
    return asdict(json_files.read(stage.plan, _Begun, advice=f"Run `vlmixer {stage.name} … --overwrite`."))


def _any_done(stage: AnyStage, preparation: Sequence[UnitKind]) -> bool:
    """Whether a unit has a result, other than those of the preparation."""
    done = [name for name in files.list_files(stage.work) if _RESULT.fullmatch(name)]
    return any(not any(kind.includes(name) for kind in preparation) for name in done)


def _clear(stage: AnyStage) -> None:
    contents.take_off(stage.out, stage.type.folder)
    # Then the manifest goes: without it nothing counts as finished, even if this is interrupted.
    files.remove(files.join(stage.folder, manifest.NAME))
    files.remove(stage.plan)
    files.remove(inputs_path(stage))
    files.remove(stage.work)
    files.remove(stage.folder)
    for name in files.list_files(stage.rejects):
        if name.startswith(f"{stage.name}-"):
            files.remove(files.join(stage.rejects, name))


INPUTS_WHILE_UNDER_WAY = "the input files"
INPUTS_WHEN_FINISHED = "the input files or the results of an earlier stage"


def _differences(begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    found = []
    for part in ("settings", "versions"):
        found += [f"{part[:-1]} {change}" for change in _changed_keys(begun.get(part, {}), wanted[part])]
    if begun.get("inputs") != wanted["inputs"]:
        found.append(INPUTS_WHILE_UNDER_WAY)
    return found


def _differences_when_finished(finished: Manifest[Details], plan: Plan) -> list[str]:
    """What differs from the plan of a finished stage. Its inputs are known only by the plan's hash."""
    if finished.settings is None:
        return ["its settings or its inputs"]
    wanted = plan.to_json()["settings"]
    found = [f"setting {change}" for change in _changed_keys(finished.settings, wanted)]
    settings_alone = replace(plan, settings=finished.settings).hash == finished.plan_hash
    return found if settings_alone else [*found, INPUTS_WHEN_FINISHED]


def check_extendable(earlier: Manifest[Details], plan: Plan, where: str) -> None:
    """Raises UserError if more than the inputs differs from a finished stage, so that its results do not fit."""
    wanted = plan.to_json()
    found = [f"setting {change}" for change in _changed_keys(earlier.settings or {}, wanted["settings"])]
    found += [f"version {change}" for change in _changed_keys(earlier.versions, wanted["versions"])]
    if found:
        raise UserError(
            f"{where}: cannot be extended, because more than its inputs changed: {'; '.join(found)}. Undo the change, "
            "or run with --overwrite to redo everything."
        )


def _changed_keys(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The keys whose values differ, as "images.detector (was …, is …)"; keys of nested mappings are joined by dots."""
    found = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _changed_keys(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key} (was {_shown(old)}, is {_shown(new)})")
    return found


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]} … {text[-18:]}"


def _changed(stage: AnyStage, where: str, differences: Sequence[str]) -> PlanChanged:
    inputs_only = set(differences) <= {INPUTS_WHILE_UNDER_WAY, INPUTS_WHEN_FINISHED}
    extend = ""
    if inputs_only and where == stage.folder:
        extend = "`vlmixer run … --extend` takes in new inputs and keeps what is done. Or use "
    return PlanChanged(
        f"{where}: stage {stage.name!r} was run with something else: {'; '.join(differences)} changed since. "
        f"{extend or 'Use '}another --out, undo the change, or run `vlmixer {stage.name} … --overwrite` to redo the "
        "stage.",
        inputs_only=inputs_only,
    )


def pending(stage: AnyStage, units: Sequence[Unit[Content]]) -> list[Unit[Content]]:
    """The units that have no result yet."""
    done = set(files.list_files(stage.work))
    return [unit for unit in units if f"{unit.name}.json" not in done]
