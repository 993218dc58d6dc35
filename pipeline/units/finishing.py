"""Finishing a stage: its manifest, made from the results of its units. And the manifests of earlier stages."""

from collections.abc import Sequence

from vlmixer.artifacts import contents, files, manifest
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Counts, Input, Manifest, Output
from vlmixer.artifacts.rejects import bad_count, is_bad
from vlmixer.artifacts.stages import FOLDERS, Details, StageType
from vlmixer.pipeline.units.plan import Plan
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import UnitResult


def finish_stage(
    stage: Stage[Details],
    plan: Plan,
    results: Sequence[UnitResult[object]],
    *,
    details: Details,
    max_bad_fraction: float,
    extra_inputs: Sequence[Input] = (),
    extra_outputs: Sequence[Output] = (),
) -> Manifest[Details]:
    """Publish the stage's manifest, made from the results of its units, record it, and remove the work folder.

    Raises UserError if more than `max_bad_fraction` of the inputs were bad.
    """
    counts: dict[str, Counts] = {}
    for result in results:
        for kind, entry in result.counts.items():
            counts[kind] = counts[kind] + entry if kind in counts else entry
    for kind, entry in counts.items():
        bad = bad_count(entry.rejected.items())
        if entry.read and bad > max_bad_fraction * entry.read:
            reasons = ", ".join(f"{number} {reason}" for reason, number in entry.rejected.items() if is_bad(reason))
            raise UserError(
                f"{stage.folder}: {bad} of {entry.read} {kind} were bad ({reasons}), but max_bad_fraction allows only "
                f"{max_bad_fraction:.0%}. See {stage.rejects}/{stage.name}-*.parquet. Fix the inputs, or raise "
                "max_bad_fraction and rerun the command; finished work is kept."
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
        settings=dict(plan.to_json()["settings"]),
    )
    # If the engine lost a worker, others redid its units, and the temporary files of the lost one are still there.
    for folder in (stage.folder, stage.rejects):
        files.sweep_temporaries(folder)
    manifest.publish(stage.folder, finished)
    made_from = {entry.name: entry.sha256 for entry in extra_inputs if entry.name in FOLDERS}
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
