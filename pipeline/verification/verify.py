"""Re-reads an output folder: every byte against its manifest, every record against the format, counts against rows.

Hashes find any change since the files were written; the checks of records would find a fault of the program that wrote
them, or of somebody who wrote the manifests anew. Each stage has a checker in a file of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vlmixer.artifacts import contents, files, manifest
from vlmixer.artifacts.dataset_cards import CARD, CROISSANT
from vlmixer.artifacts.details import AnyDetails, ShardsDetails
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.manifest import Manifest
from vlmixer.artifacts.stages import DETECT, FINETUNE, FOLDERS, INDEX, MIX, TAG, TRAIN, WITH_MANIFEST, StageType
from vlmixer.pipeline.verification import bank, regions, shards, tagged
from vlmixer.pipeline.verification.chain import check_chain, check_counts, check_reject_bytes, check_rejects
from vlmixer.pipeline.verification.checks import StageFolder
from vlmixer.pipeline.verification.descriptions import check_details, check_settings
from vlmixer.pipeline.verification.integrity import EVERYTHING, Depth, unchanged
from vlmixer.pipeline.verification.record import check_plain, check_record
from vlmixer.pipeline.verification.report import VerifyReport
from vlmixer.pipeline.verification.ties import Ties


def _check_run(stage: StageFolder[Any]) -> None:
    from vlmixer.pipeline.verification import run  # needs the packages of training, but for torch

    run.check(stage)


CHECKERS: Mapping[str, Callable[[StageFolder[Any]], None]] = {
    TAG.name: tagged.check,
    DETECT.name: regions.check,
    INDEX.name: bank.check,
    MIX.name: shards.check,
    TRAIN.name: _check_run,
    FINETUNE.name: _check_run,
}
ENERGON_INDEX = (".nv-meta/index.sqlite", ".nv-meta/index.uuid")
"""What `energon prepare --tar-index-only` adds to shards."""
BESIDE_RUN = ("checkpoints/", "tensorboard/", "log.jsonl", "lock", "wandb-id", "mlflow-id", CARD)
BESIDE: Mapping[str, tuple[str, ...]] = {
    MIX.name: (CARD, CROISSANT, *ENERGON_INDEX),
    TRAIN.name: BESIDE_RUN,
    FINETUNE.name: BESIDE_RUN,
}
"""What folders may have besides the files of their manifest."""
IN_THIS_ORDER = (TAG, INDEX, DETECT, MIX, TRAIN)
"""regions/ is compared with bank/, and samples with all of them."""


def verify(folder: str, depth: Depth = EVERYTHING) -> VerifyReport:
    """Check an output folder, or the folder of one stage or run. Raises CallError if it is neither."""
    report = VerifyReport()
    paths = {stage: files.join(folder, stage.folder) for stage in WITH_MANIFEST}
    present = {stage: path for stage, path in paths.items() if files.is_folder(path)}
    if present or files.has_file(files.join(folder, contents.NAME)):
        found = {stage: _check_files(path, report, depth, stage) for stage, path in present.items()}
        manifests = {stage: None if one is None else one.manifest for stage, one in found.items()}
        check_record(folder, {stage.folder: description for stage, description in manifests.items()}, report)
        made_of_these = check_chain(folder, manifests, report)
        if made_of_these:
            check_counts(folder, manifests, report)
            check_details(folder, manifests, report)
        check_plain(files.join(folder, "rejects"), report)
        if depth.records:
            ties = _ties(manifests.get(MIX)) if made_of_these else None
            for stage in IN_THIS_ORDER:
                _check_records(found.get(stage), ties)
        if depth == EVERYTHING:
            check_rejects(folder, manifests, report)
        else:
            check_reject_bytes(folder, manifests, report, depth)
    elif files.exists(files.join(folder, manifest.NAME)):
        alone = _check_files(folder, report, depth)
        if depth.records:
            _check_records(alone, None)
    else:
        raise CallError(
            f"{folder}: nothing to verify. Expected an output folder, one of {', '.join(FOLDERS)}, or a finished run."
        )
    return report


def _check_files(
    folder: str, report: VerifyReport, depth: Depth, expected: StageType[AnyDetails] | None = None
) -> StageFolder[AnyDetails] | None:
    """Check the manifest and the files of a stage's or run's folder, which must be that of `expected` if this is given.
    Returns what to read records from, None if there is no sound manifest."""
    check_plain(folder, report)
    try:
        description = manifest.read(folder)
    except UserError as error:
        path = files.join(folder, manifest.NAME)
        report.add(path, str(error).removeprefix(f"{path}: "))
        return None
    if expected is not None and expected.name != description.stage:
        report.add(files.join(folder, manifest.NAME), f"of stage {description.stage!r}, expected {expected.name!r}")
        return None
    report.files += 1
    sizes = files.list_sizes(folder)
    for name in sorted(set(sizes) - {manifest.NAME, *(output.name for output in description.outputs)}):
        if not name.startswith(BESIDE.get(description.stage, ())):
            report.add(files.join(folder, name), "not in the manifest")
    sound = unchanged(folder, description.outputs, sizes, report, depth, description.stage)
    check_settings(folder, description, report)
    for kind, counts in description.counts.items():
        if not counts.add_up():
            report.add(files.join(folder, manifest.NAME), f"{kind} do not add up: {counts}")
    return StageFolder(folder, description, sound, report)


def _ties(shards: Manifest[AnyDetails] | None) -> Ties:
    """What records must have in common, still empty."""
    settings = shards.details.settings if shards is not None and isinstance(shards.details, ShardsDetails) else {}
    return Ties(narrowed=settings.get("phrases") == "head")


def _check_records(stage: StageFolder[AnyDetails] | None, ties: Ties | None) -> None:
    """Read the records of a stage, and compare them with those of others if `ties` are given."""
    if stage is not None:
        with stage.report.reading(stage.folder):
            CHECKERS[stage.manifest.stage](stage if ties is None else replace(stage, ties=ties))
