"""Results of units on disk: one JSON file per unit in the work folder. A unit with a result is done."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlmixer.artifacts import details, files, json_files, manifest
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Counts, Input, Output
from vlmixer.pipeline.units.stage import AnyStage
from vlmixer.pipeline.units.unit import Found, Unit, UnitResult


def publish_result(stage: AnyStage, unit: Unit[Any], result: UnitResult[Any]) -> None:
    """Mark the unit as done. Everything that it wrote must be in place."""
    for kind, counts in result.counts.items():
        if not counts.add_up():
            raise RuntimeError(f"{stage.name} {unit.name}: {kind} do not add up: {counts}")
    files.publish_bytes(stage.stats(unit.name), manifest.canonical(details.to_json(result)))


def read_result(stage: AnyStage, unit: str, kind: type[Found]) -> UnitResult[Found]:
    """The result of a finished unit, whose details are of type `kind`."""
    (result,) = read_results(stage, [unit], kind)
    return result


def read_results(stage: AnyStage, units: Sequence[str], kind: type[Found]) -> list[UnitResult[Found]]:
    """The results of finished units, whose details are of type `kind`."""
    paths = [stage.stats(unit) for unit in units]
    return [_result(path, data, kind) for path, data in zip(paths, files.read_all(paths), strict=True)]


def read_counts(stage: AnyStage, units: Sequence[str]) -> list[dict[str, Counts]]:
    """The counts of finished units of any kind."""
    paths = [stage.stats(unit) for unit in units]
    return [_parse(path, data).counts for path, data in zip(paths, files.read_all(paths), strict=True)]


@dataclass(frozen=True)
class _Stored:
    """What a result's file holds. `details` depend on the kind of unit."""

    details: Any
    counts: dict[str, Counts]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    rejects: tuple[Output, ...]


def _result(path: str, data: bytes, kind: type[Found]) -> UnitResult[Found]:
    stored = _parse(path, data)
    try:
        found = details.from_json(kind, stored.details)
    except ValueError as error:
        raise UserError(
            f"{path}: written by another version of this program (details.{error}). Run the stage with --overwrite."
        ) from None
    return UnitResult(found, stored.counts, stored.inputs, stored.outputs, stored.rejects)


def _parse(path: str, data: bytes) -> _Stored:
    return json_files.parse_file(path, data, _Stored, advice="Run the stage with --overwrite.")
