"""Checks bank/: its tables against each other, crops, features, index."""

import numpy as np

from vlmixer.artifacts import files, schemas
from vlmixer.artifacts.details import BankDetails
from vlmixer.artifacts.parquet import read_parquet
from vlmixer.artifacts.stages import DETECT
from vlmixer.bank import building
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.verification.checks import StageFolder, UniqueKeys, check_box, check_crop
from vlmixer.pipeline.verification.report import VerifyReport
from vlmixer.pipeline.verification.ties import Digests, of_id, of_record, of_record_and_origin


def check(stage: StageFolder[BankDetails]) -> None:
    """Read every patch. Does nothing if a file is missing or damaged: a bank can only be read as a whole."""
    if not stage.complete:
        return
    report, bank = stage.report, PatchBank.open(stage.folder)
    by_name = {output.name: output for output in stage.outputs}
    crops, features = files.join(stage.folder, building.CROPS), files.join(stage.folder, building.FEATURES)
    _check_tables(stage, bank)
    ids = UniqueKeys(lambda: stage.column([by_name[building.PATCHES]], "patch_id"))
    rows = crops_end = 0
    patch_ids, as_in_samples, as_in_regions = Digests(), Digests(), Digests()
    comparable = False
    with report.reading(features):
        comparable = _check_features(features, len(bank), bank.feature_dim, report)
    for concept in bank.concepts:
        patches = bank.patches(concept.name, keep=False)
        if patches.first != rows or len(patches) != bank.counts[concept.name]:
            report.add(
                files.join(stage.folder, building.PATCHES), f"{concept.name}: rows are not where concepts.parquet says"
            )
        own = bank.features(np.arange(patches.first, patches.first + len(patches))) if comparable else None
        for place, record in enumerate(patches):
            ids.add(record.patch_id)
            check_box(stage.folder, record.patch_id, record.box, record.width, record.height, report)
            if record.crop_start != crops_end:
                report.add(crops, f"{record.patch_id}: crops do not follow one another")
            crops_end = record.crop_start + record.crop_bytes
            crop = bank.crop(record)
            check_crop(crops, record.patch_id, crop, report)
            patch_ids.add(of_id(record.patch_id))
            if own is not None:
                as_in_samples.add(of_record(record, own[place]))
                as_in_regions.add(of_record_and_origin(record, own[place], crop))
        rows += len(patches)
    stage.ties.patch_ids = patch_ids
    stage.ties.patches = as_in_samples if comparable else None
    # A bank made from other banks has patches of images that regions/ may lack.
    made_here = any(entry.name == DETECT.folder for entry in stage.manifest.inputs)
    stage.ties.regions = as_in_regions if made_here and comparable else None
    if crops_end != by_name[building.CROPS].bytes:
        report.add(crops, f"{by_name[building.CROPS].bytes} bytes, crops end at {crops_end}")
    if len(bank) != rows or by_name[building.PATCHES].rows != rows:
        report.add(files.join(stage.folder, building.CONCEPTS), f"counts {len(bank)} patches, there are {rows}")
    with report.reading(files.join(stage.folder, building.INDEX)):
        _ = bank.indexed
    stage.check_count("regions", rows)
    stage.check_unique("patch_id", ids)
    report.rows["patches"] += rows


def _check_tables(stage: StageFolder[BankDetails], bank: PatchBank) -> None:
    """Schemas and numbers of rows, and that each patch is in the rows of its own concept."""
    for output in stage.outputs:
        if output.name in (building.CONCEPTS, building.PATCHES):
            schema = schemas.CONCEPTS if output.name == building.CONCEPTS else schemas.PATCHES
            for _ in stage.tables(output, schema):
                pass
    path = files.join(stage.folder, building.PATCHES)
    with files.open_read(path) as file:
        found = read_parquet(file, ["concept_id"])["concept_id"].to_numpy()
    counts = [bank.counts[concept.name] for concept in bank.concepts]
    if len(found) != len(bank) or not np.array_equal(found, np.repeat(np.arange(len(counts)), counts)):
        stage.report.add(path, "concept_id is not what concepts.parquet says about the rows")


def _check_features(path: str, patches: int, feature_dim: int, report: VerifyReport) -> bool:
    """Shape, dtype and values of features.npy, one block of rows at a time. Returns whether its rows can be read."""
    with files.open_read(path) as file:
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if shape != (patches, feature_dim) or dtype != np.float16 or fortran:
            report.add(path, f"{dtype} of shape {shape}, expected float16 of shape {(patches, feature_dim)}")
            return False
        left = 2 * patches * feature_dim
        while block := file.read(2 * feature_dim * 4096):
            left -= len(block)
            if not np.isfinite(np.frombuffer(block, np.float16)).all():
                report.add(path, "features are not finite")
        if left:
            report.add(path, f"{abs(left)} bytes too {'few' if left > 0 else 'many'} for its shape {shape}")
    return not left
