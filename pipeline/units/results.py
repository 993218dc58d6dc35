"""Results of units on disk: one JSON file per unit in the work folder. A unit with a result is done."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vlmixer.artifacts import details, files, json_files, manifest
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Counts, Input, Output
from vlmixer.pipeline.units.stage import AnyStage
from vlmixer.pipeline.units.unit import Found, Unit, UnitResult

READ_AT_ONCE = 512
"""Results that are read together; those of an object store in parallel."""


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
    return list(each_result(stage, units, kind))


def each_result(stage: AnyStage, units: Sequence[str], kind: type[Found]) -> Iterator[UnitResult[Found]]:
    """As `read_results`, one after the other: the details of all units together may be large."""
    return (_result(path, stored, kind) for path, stored in _each(stage, units))


def read_counts(stage: AnyStage, units: Sequence[str]) -> list[dict[str, Counts]]:
    """The counts of finished units of any kind."""
    return [stored.counts for _, stored in _each(stage, units)]


@dataclass(frozen=True)
class _Stored:
    """What a result's file holds. `details` depend on the kind of unit."""

    details: Any
    counts: dict[str, Counts]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    rejects: tuple[Output, ...]

    def result(self, found: Found) -> UnitResult[Found]:
        """With these details."""
        return UnitResult(found, self.counts, self.inputs, self.outputs, self.rejects)


def _each(stage: AnyStage, units: Sequence[str]) -> Iterator[tuple[str, _Stored]]:
    """The paths of these units' results, and what is stored there."""
    for start in range(0, len(units), READ_AT_ONCE):
        paths = [stage.stats(unit) for unit in units[start : start + READ_AT_ONCE]]
        for path, data in zip(paths, files.read_all(paths), strict=True):
            yield path, json_files.parse_file(path, data, _Stored, advice="Run the stage with --overwrite.")


def _result(path: str, stored: _Stored, kind: type[Found]) -> UnitResult[Found]:
    try:
        found = details.from_json(kind, stored.details)
    except ValueError as error:
        raise UserError(
            f"{path}: written by another version of this program (details.{error}). Run the stage with --overwrite."
        ) from None
    return stored.result(found)
