"""Results of units on disk: one JSON file per unit in the work folder. A unit with a result is done."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vlmixer.artifacts import details, files, manifest
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
