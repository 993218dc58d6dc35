"""Finishing a stage: its manifest, made from the results of its units. And the manifests of earlier stages.

The manifest of a large stage has tens of thousands of entries. The launcher writes down what is known before the work
(`publish_known`), the stage's last unit completes it with what all others left (`complete_manifest`), and the launcher
publishes it unread (`finish_stage`).
"""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Generic

from vlmixer.artifacts import contents, details, files, manifest, memory
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Counts, Input, Manifest, Output
from vlmixer.artifacts.rejects import bad_count, is_bad
from vlmixer.artifacts.stages import FOLDERS, Details, Details_co, StageType
from vlmixer.pipeline.units.passes import finish_kind
from vlmixer.pipeline.units.plan import Plan
from vlmixer.pipeline.units.results import read_result
from vlmixer.pipeline.units.stage import AnyStage, Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult

KNOWN, COMPLETE = "known", "complete"
"""Folders in the work folder, each with a manifest: what is known before the work, and the one to publish."""

Complete = Callable[[Manifest[Any]], Manifest[Any]]
"""Completes a manifest with what the units of a stage left, and writes what is made from all of them. It is sent to a
worker."""


@dataclass(frozen=True)
class Finished(Generic[Details_co]):
    """What a command says of a finished stage: its manifest without the files, which may be many."""

    stage: str
    counts: dict[str, Counts]
    details: Details_co
    content_hash: str

    @classmethod
    def of(cls, made: Manifest[Details_co]) -> "Finished[Details_co]":
        """Of a manifest."""
        return cls(made.stage, made.counts, made.details, made.content_hash)


def publish_known(
    stage: Stage[Details],
    plan: Plan,
    known: Details,
    inputs: Sequence[Input] = (),
    outputs: Sequence[Output] = (),
    rejects: Sequence[Output] = (),
    counts: Mapping[str, Counts] = MappingProxyType({}),
) -> None:
    """Write down what the manifest says already before the work. known: details, which the last unit completes."""
    made = Manifest(
        stage=stage.name,
        config_hash=manifest.digest(dict(plan.settings)),
        plan_hash=plan.hash,
        versions=dict(plan.versions),
        inputs=list(inputs),
        outputs=list(outputs),
        rejects=list(rejects),
        counts=dict(counts),
        details=known,
        settings=dict(plan.to_json()["settings"]),
    )
    manifest.publish(files.join(stage.work, KNOWN), made)


def finish_unit(stage: AnyStage) -> Unit[None]:
    """The last unit of a stage."""
    return Unit(finish_kind(stage.name).name(0), None)


def complete_manifest(stage: AnyStage, complete: Complete) -> UnitResult[Finished[Any]]:
    """What the last unit does. The manifest waits in the work folder."""
    made = complete(manifest.read(files.join(stage.work, KNOWN), stage.type))
    manifest.publish(files.join(stage.work, COMPLETE), made)
    memory.give_back()  # Parquet holds a description of each row group, and there is one per unit
    return UnitResult(Finished.of(made))


def with_results(
    known: Manifest[Details], results: Iterable[UnitResult[object]], outputs: Sequence[Output] = ()
) -> Manifest[Details]:
    """The manifest with the results of units, and with more files of the folder."""
    counts = dict(known.counts)
    inputs, written, rejects = [*known.inputs], [*known.outputs, *outputs], [*known.rejects]
    for result in results:
        for kind, entry in result.counts.items():
            counts[kind] = counts[kind] + entry if kind in counts else entry
        inputs += result.inputs
        written += result.outputs
        rejects += result.rejects
    written.sort(key=lambda entry: entry.name)
    rejects.sort(key=lambda entry: entry.name)
    return replace(known, inputs=inputs, outputs=written, rejects=rejects, counts=counts)


def with_outputs(made: Manifest[Details], outputs: Sequence[Output]) -> Manifest[Details]:
    """The manifest with more files of the folder."""
    return replace(made, outputs=sorted([*made.outputs, *outputs], key=lambda entry: entry.name))


def completed(stage: Stage[Details]) -> Finished[Details]:
    """What the last unit made."""
    found = read_result(stage, finish_unit(stage).name, Finished[Any]).details
    return replace(found, details=details.from_json(stage.type.details, found.details))


def finish_stage(stage: Stage[Details], *, max_bad_fraction: float) -> Finished[Details]:
    """Publish the manifest that the last unit made, record it, and remove the work folder.

    Raises UserError if more than `max_bad_fraction` of the inputs were bad.
    """
    finished = completed(stage)
    for kind, entry in finished.counts.items():
        bad = bad_count(entry.rejected.items())
        if entry.read and bad > max_bad_fraction * entry.read:
            reasons = ", ".join(f"{number} {reason}" for reason, number in entry.rejected.items() if is_bad(reason))
            raise UserError(
                f"{stage.folder}: {bad} of {entry.read} {kind} were bad ({reasons}), but max_bad_fraction allows only "
                f"{max_bad_fraction:.0%}. See {stage.rejects}/{stage.name}-*.parquet. Fix the inputs, or raise "
                "max_bad_fraction and rerun the command; finished work is kept."
            )
    known = manifest.read(files.join(stage.work, KNOWN), stage.type)
    # If the engine lost a worker, others redid its units, and the temporary files of the lost one are still there.
    for folder in (stage.folder, stage.rejects):
        files.sweep_temporaries(folder)
    with (
        files.open_read(files.join(stage.work, COMPLETE, manifest.NAME)) as source,
        files.publishing(files.join(stage.folder, manifest.NAME)) as target,
    ):
        shutil.copyfileobj(source, target)
    made_from = {entry.name: entry.sha256 for entry in known.inputs if entry.name in FOLDERS}
    contents.put(stage.out, {**made_from, stage.type.folder: finished.content_hash})
    files.remove(stage.work)
    return finished


def upstream(stage: StageType[Details], out: str) -> Manifest[Details]:
    """The manifest of an earlier stage. Raises UserError if that stage has not finished."""
    folder = files.join(out, stage.folder)
    if not files.exists(files.join(folder, manifest.NAME)):
        raise UserError(
            f"{folder}: missing or unfinished. Run `vlmixer {stage.name}` with the same config and --out first."
        )
    return manifest.read(folder, stage)
