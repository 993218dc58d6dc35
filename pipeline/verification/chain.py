"""Checks across stages: whether each was made from what is there now, and the rejects against all manifests' counts."""

from collections import Counter
from collections.abc import Mapping

from vlmixer.artifacts import files, manifest, schemas
from vlmixer.artifacts.details import AnyDetails, RegionsDetails, ShardsDetails
from vlmixer.artifacts.manifest import Counts, Manifest, Output
from vlmixer.artifacts.stages import DETECT, FOLDERS, INDEX, MIX, STAGES, TRAIN, StageType
from vlmixer.bank import building
from vlmixer.pipeline.verification.checks import read_tables
from vlmixer.pipeline.verification.integrity import EVERYTHING, Depth, unchanged
from vlmixer.pipeline.verification.report import VerifyReport

Manifests = Mapping[StageType[AnyDetails], Manifest[AnyDetails] | None]
"""The manifests of the stages whose folders are there; None for a manifest that is missing or damaged."""
NOTHING = Counts(0, 0)


def check_chain(out: str, manifests: Manifests, report: VerifyReport) -> bool:
    """Whether each stage was made from what is in `out` now. Returns whether the stages were."""
    made_of_these = True
    hashes = {stage.folder: found.content_hash for stage, found in manifests.items() if found is not None}
    present = {stage.folder for stage in manifests}
    for stage, found in manifests.items():
        for entry in found.inputs if found is not None and stage in (INDEX, MIX, TRAIN) else []:
            if entry.name not in FOLDERS:  # the inputs of a merged bank are banks, and a run may have other shards
                continue
            made_of_these &= stage == TRAIN or hashes.get(entry.name) == entry.sha256
            if entry.name not in present:
                report.add(files.join(out, entry.name), f"missing; {stage.folder}/ was made from it")
            elif entry.name in hashes and hashes[entry.name] != entry.sha256:
                report.add(files.join(out, stage.folder), f"was made from another {entry.name}/ than the present one")
    return made_of_these


def check_counts(out: str, manifests: Manifests, report: VerifyReport) -> None:
    """Whether each stage read as much as the stages before it wrote. For stages that were made of these."""
    tagged, regions, bank, shards = (manifests.get(stage) for stage in STAGES)
    made_here = bank is not None and any(entry.name == DETECT.folder for entry in bank.inputs)
    if bank is not None and made_here and regions is not None and isinstance(regions.details, RegionsDetails):
        _compare(out, INDEX, bank, "regions", sum(regions.details.regions.values()), report)
    if shards is not None and isinstance(shards.details, ShardsDetails):
        settings = shards.details.settings
        if tagged is not None:
            views = settings.get("views", 1) * tagged.counts.get("sentences", NOTHING).written
            _compare(out, MIX, shards, "views", views, report)
        if regions is not None:
            images = regions.counts.get("images", NOTHING).written if settings.get("image_samples", True) else 0
            _compare(out, MIX, shards, "images", images, report)


def _compare(
    out: str, stage: StageType[AnyDetails], found: Manifest[AnyDetails], kind: str, expected: int, report: VerifyReport
) -> None:
    read = found.counts.get(kind, NOTHING).read
    if read != expected:
        path = files.join(out, stage.folder, manifest.NAME)
        report.add(path, f"{read} {kind} read, but there are {expected} in what it was made from")


def check_rejects(out: str, manifests: Manifests, report: VerifyReport) -> None:
    """Whether every file of rejects is there and unchanged, and has as many rows per reason as the manifests count."""
    folder = files.join(out, "rejects")
    sizes = files.list_sizes(folder)
    for stage, found in manifests.items():
        if found is None:
            continue
        listed = _reasons(folder, unchanged(folder, found.rejects, sizes, report, EVERYTHING, "rejects"), report)
        left_out = [output for output in found.outputs if output.name == building.LEFT_OUT]
        listed.update(_reasons(files.join(out, stage.folder), left_out, report))
        counted: Counter[str] = Counter()
        for counts in found.counts.values():
            counted.update(counts.rejected)
        if listed != counted and all(output.name in sizes for output in found.rejects):
            report.add(folder, f"stage {stage.name}: {dict(listed)} listed, the manifest counts {dict(counted)}")
    known = {output.name for found in manifests.values() if found is not None for output in found.rejects}
    # A stage without a manifest is still under way, or was reported on its own.
    unfinished = tuple(f"{stage.name}-" for stage in STAGES if manifests.get(stage) is None)
    for name in sizes:
        if name not in known and not name.startswith(unfinished):
            report.add(files.join(folder, name), "not in the manifest")


def _reasons(folder: str, outputs: list[Output], report: VerifyReport) -> Counter[str]:
    """The inputs in files of rejects, by reason."""
    found: Counter[str] = Counter()
    for output in outputs:
        path = files.join(folder, output.name)
        with report.reading(path):
            for table in read_tables(path, output, schemas.REJECTS, report):
                for reason, number in zip(table["reason"].to_pylist(), table["number"].to_pylist(), strict=True):
                    found[reason] += number
    return found


def check_reject_bytes(out: str, manifests: Manifests, report: VerifyReport, depth: Depth) -> None:
    """Whether the files of rejects are there and unchanged."""
    folder = files.join(out, "rejects")
    outputs = [output for found in manifests.values() if found is not None for output in found.rejects]
    unchanged(folder, outputs, files.list_sizes(folder), report, depth, "rejects")
