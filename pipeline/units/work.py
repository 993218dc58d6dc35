"""Plan, then work, then publish: how every stage runs, resumes and finishes. Knows nothing of Beam.

A stage has units of work. A unit writes its files (each published by rename) and, last, its stats under
OUT/work/STAGE; a unit with stats is done and is never done again. When all are done, the stage's manifest is made
from the stats and published, and the work folder goes. A plan that differs from the one that was begun is refused.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from vlmixer.artifacts import details, files, manifest
from vlmixer.artifacts.details import AnyDetails
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.manifest import SCHEMA_VERSION, Counts, Input, Manifest, Output
from vlmixer.artifacts.rejects import BAD, RejectLog, bad_count
from vlmixer.artifacts.stages import Details, Details_co, StageType

Content = TypeVar("Content")
Content_co = TypeVar("Content_co", covariant=True)
Resource = TypeVar("Resource")
Content_contra = TypeVar("Content_contra", contravariant=True)
Found = TypeVar("Found")
Found_co = TypeVar("Found_co", covariant=True)
_ERROR = ".error"


@dataclass(frozen=True)
class Unit(Generic[Content_co]):
    """One piece of work. `name` is unique in the stage and names the unit's stats file; `content` is what its kind of
    worker expects: numbers, text, and tuples and frozen dataclasses of these."""

    name: str
    content: Content_co


@dataclass(frozen=True)
class UnitResult(Generic[Found_co]):
    """What a unit did. `outputs` are files of the stage folder, `rejects` of OUT/rejects; `details` is what its kind of
    unit found: a frozen dataclass, or None."""

    details: Found_co
    counts: dict[str, Counts] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    rejects: tuple[Output, ...] = ()


class Worker(Protocol[Content_contra, Resource]):
    """Does units. Travels to the workers as it stands, so it holds settings only; `load` makes what is heavy, once
    in every process."""

    def load(self) -> Resource: ...

    def run(self, unit: Unit[Content_contra], resource: Resource) -> UnitResult[Any]: ...


@dataclass(frozen=True)
class Stage(Generic[Details_co]):
    """Where a stage keeps its things. `out` is made absolute: workers may run in another folder."""

    type: StageType[Details_co]
    out: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", files.absolute(self.out))

    @property
    def name(self) -> str:
        """Of its command."""
        return self.type.name

    @property
    def folder(self) -> str:
        """The stage's results, OUT/tagged and so on."""
        return files.join(self.out, self.type.folder)

    @property
    def work(self) -> str:
        """Plan and unit stats of a stage that is under way."""
        return files.join(self.out, "work", self.name)

    @property
    def rejects(self) -> str:
        """OUT/rejects, shared by all stages; a stage's files there begin with its name."""
        return files.join(self.out, "rejects")

    @property
    def plan(self) -> str:
        """The file that says what is being done; it is there while the stage is under way."""
        return files.join(self.work, "plan.json")

    def stats(self, unit: str) -> str:
        """The stats file of a unit."""
        return files.join(self.work, f"{unit}.json")

    def publish_rejects(self, unit: str, log: RejectLog) -> tuple[Output, ...]:
        """Write the unit's rejects, if there are any."""
        name = f"{self.name}-{unit}.parquet"
        rows = log.publish(files.join(self.rejects, name))
        return (manifest.describe(self.rejects, name, rows),) if rows else ()


@dataclass(frozen=True)
class Plan:
    """What a stage's bytes depend on: its settings and its inputs (names and sizes, or upstream content hashes)."""

    settings: Mapping[str, Any]
    inputs: Sequence[Any]
    versions: Mapping[str, str]

    @property
    def hash(self) -> str:
        """Covers settings and inputs."""
        return manifest.digest([SCHEMA_VERSION, self.settings, self.inputs])

    def to_json(self) -> dict[str, Any]:
        """The plan as OUT/work/STAGE/plan.json keeps it, and as reading that file gives it back."""
        plan = {
            "plan_hash": self.hash,
            "settings": dict(self.settings),
            "inputs": manifest.digest(list(self.inputs)),
            "versions": dict(self.versions),
        }
        as_read: dict[str, Any] = json.loads(manifest.canonical(plan))
        return as_read


def begin(stage: Stage[Details], plan: Plan, *, overwrite: bool) -> Manifest[Details] | None:
    """Get the stage ready for work: its manifest if it is finished already, None if there is work to do.

    Raises UserError if what lies there was begun by another plan and `overwrite` is off.
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


def _clear(stage: Stage[AnyDetails]) -> None:
    # The manifest goes first: without it nothing here counts as finished, wherever this is interrupted.
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


def _changed(stage: Stage[AnyDetails], where: str, differences: Sequence[str]) -> str:
    return (
        f"{where}: stage {stage.name!r} was run with something else: {'; '.join(differences)} changed since. "
        f"Use another --out, put the change back, or run `vlmixer {stage.name} … --overwrite` to do the stage afresh."
    )


def pending(stage: Stage[AnyDetails], units: Sequence[Unit[Content]]) -> list[Unit[Content]]:
    """The units that have no stats yet."""
    done = set(files.list_files(stage.work))
    return [unit for unit in units if f"{unit.name}.json" not in done]


def publish_units(stage: Stage[AnyDetails], units: Sequence[Unit[Any]]) -> str:
    """List the units in a file of the work folder; its name."""
    lines = b"".join(
        manifest.canonical({"name": unit.name, "content": details.to_json(unit.content)}) for unit in units
    )
    # Named by what it holds: a run that comes upon another's list reads the same.
    name = f"units-{hashlib.sha256(lines).hexdigest()[:16]}.jsonl"
    files.publish_bytes(files.join(stage.work, name), lines)
    return name


def read_units(stage: Stage[AnyDetails], name: str, content: type[Content]) -> Iterator[Unit[Content]]:
    """The units, whose contents are of type `content`, that `publish_units` listed in file `name`."""
    with files.open_read(files.join(stage.work, name)) as file:
        for line in file:
            raw = json.loads(line)
            yield Unit(raw["name"], details.from_json(content, raw["content"]))


def publish_result(stage: Stage[AnyDetails], unit: Unit[Any], result: UnitResult[Any]) -> None:
    """Mark the unit done: everything it wrote is in place."""
    for kind, counts in result.counts.items():
        if not counts.add_up():
            raise RuntimeError(f"{stage.name} {unit.name}: {kind} do not add up: {counts}")
    files.publish_bytes(stage.stats(unit.name), manifest.canonical(details.to_json(result)))


def read_result(stage: Stage[AnyDetails], unit: str, kind: type[Found]) -> UnitResult[Found]:
    """The stats of a unit that is done and whose details are of type `kind`."""
    (result,) = read_results(stage, [unit], kind)
    return result


def read_results(stage: Stage[AnyDetails], units: Sequence[str], kind: type[Found]) -> list[UnitResult[Found]]:
    """The stats of units that are done and whose details are of type `kind`."""
    paths = [stage.stats(unit) for unit in units]
    return [_result(path, data, kind) for path, data in zip(paths, files.read_all(paths), strict=True)]


def read_counts(stage: Stage[AnyDetails], units: Sequence[str]) -> list[dict[str, Counts]]:
    """What units that are done counted, whatever kinds of units they are."""
    return [_counts(json.loads(data)) for data in files.read_all([stage.stats(unit) for unit in units])]


def _result(path: str, data: bytes, kind: type[Found]) -> UnitResult[Found]:
    raw = json.loads(data)
    try:
        found = details.from_json(kind, raw["details"])
    except ValueError as error:
        raise UserError(
            f"{path}: written by another version of this program (details.{error}). Run the stage with --overwrite."
        ) from None
    return UnitResult(
        counts=_counts(raw),
        inputs=tuple(Input(**entry) for entry in raw["inputs"]),
        outputs=tuple(Output(**entry) for entry in raw["outputs"]),
        rejects=tuple(Output(**entry) for entry in raw["rejects"]),
        details=found,
    )


def _counts(raw: Mapping[str, Any]) -> dict[str, Counts]:
    return {kind: Counts(**entry) for kind, entry in raw["counts"].items()}


def publish_error(stage: Stage[AnyDetails], unit: str, error: UserError) -> None:
    """Keep what stopped a unit, for the launcher to find whatever the engine."""
    content = {"call": isinstance(error, CallError), "message": str(error)}
    files.publish_bytes(files.join(stage.work, f"{unit}{_ERROR}"), manifest.canonical(content))


def forget_errors(stage: Stage[AnyDetails]) -> None:
    """Remove errors of an earlier run."""
    for name in _errors(stage):
        files.remove(files.join(stage.work, name))


def failed(stage: Stage[AnyDetails]) -> bool:
    """Whether a unit met an error in this run."""
    return bool(_errors(stage))


def raise_error(stage: Stage[AnyDetails]) -> None:
    """Raise the first unit's error, if any unit met one."""
    for name in _errors(stage):
        content = json.loads(files.read_bytes(files.join(stage.work, name)))
        raise (CallError if content["call"] else UserError)(content["message"])


def _errors(stage: Stage[AnyDetails]) -> list[str]:
    return [name for name in files.list_files(stage.work) if name.endswith(_ERROR)]


def finish(
    stage: Stage[Details],
    plan: Plan,
    results: Sequence[UnitResult[Any]],
    *,
    details: Details,
    max_bad_fraction: float,
    extra_inputs: Sequence[Input] = (),
    extra_outputs: Sequence[Output] = (),
) -> Manifest[Details]:
    """Publish the stage's manifest, made of its units' results, and remove the work folder.

    Raises UserError if more than `max_bad_fraction` of the inputs were bad.
    """
    counts: dict[str, Counts] = {}
    for result in results:
        for kind, entry in result.counts.items():
            counts[kind] = counts[kind] + entry if kind in counts else entry
    for kind, entry in counts.items():
        bad = bad_count(entry.rejected.items())
        if entry.read and bad > max_bad_fraction * entry.read:
            reasons = ", ".join(f"{number} {reason}" for reason, number in entry.rejected.items() if reason in BAD)
            raise UserError(
                f"{stage.folder}: {bad} of {entry.read} {kind} were bad ({reasons}); at most "
                f"{max_bad_fraction:.0%} is allowed. See {stage.rejects}/{stage.name}-*.parquet; mend the inputs, "
                "or raise max_bad_fraction and run again (what is done is kept)."
            )
    finished = Manifest(
        stage=stage.name,
        config_hash=manifest.digest(dict(plan.settings)),
        plan_hash=plan.hash,
        versions=dict(plan.versions),
        inputs=[*extra_inputs, *(entry for result in results for entry in result.inputs)],
        outputs=sorted(
            [*extra_outputs, *(entry for result in results for entry in result.outputs)], key=lambda entry: entry.name
        ),
        rejects=sorted((entry for result in results for entry in result.rejects), key=lambda entry: entry.name),
        counts=counts,
        details=details,
    )
    # An engine that lost a worker has done its units again, and nobody else takes away what that one had begun.
    for folder in (stage.folder, stage.rejects):
        files.sweep_temporaries(folder)
    manifest.publish(stage.folder, finished)
    files.remove(stage.work)
    return finished


def upstream(stage: StageType[Details], out: str) -> Manifest[Details]:
    """The manifest of the stage that this one reads from. Raises UserError if it has not finished."""
    folder = files.join(out, stage.folder)
    if not files.exists(files.join(folder, manifest.NAME)):
        raise UserError(
            f"{folder}: not there or not finished. Run `vlmixer {stage.name}` with the same config and --out first."
        )
    return manifest.read(folder, stage)
