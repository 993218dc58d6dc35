"""Checks bank/: its tables against each other, crops, features, index."""

import numpy as np
import pyarrow.compute as pc

from vlmixer.artifacts import files, schemas
from vlmixer.artifacts.details import BankDetails
from vlmixer.artifacts.manifest import Counts
from vlmixer.artifacts.parquet import read_parquet
from vlmixer.artifacts.stages import DETECT
from vlmixer.bank import building
from vlmixer.bank.concepts import Vocabulary
from vlmixer.bank.index import stored_lists
from vlmixer.bank.records import ConceptPatches
from vlmixer.bank.selection import normalised
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.verification.checks import StageFolder, UniqueKeys, check_box, check_crop
from vlmixer.pipeline.verification.report import VerifyReport
from vlmixer.pipeline.verification.ties import Digests, of_id, of_record, of_record_and_origin

ROUNDING = 2e-3
"""How far numbers of vectors of length 1 may be from those computed here: they are float16."""


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
    _check_index(stage, bank, comparable)
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
        if not _contexts_possible(patches, concept.id):
            report.add(
                files.join(stage.folder, building.PATCHES),
                f"{concept.name}: contexts are not the other concepts of an image, each once",
            )
        rows += len(patches)
    stage.ties.patch_ids = patch_ids
    stage.ties.patches = as_in_samples if comparable else None
    # A bank made from other banks has patches of images that regions/ may lack.
    made_here = any(entry.name == DETECT.folder for entry in stage.manifest.inputs)
    _check_counts(stage, bank, made_here)
    stage.ties.regions = as_in_regions if made_here and comparable else None
    if crops_end != by_name[building.CROPS].bytes:
        report.add(crops, f"{by_name[building.CROPS].bytes} bytes, crops end at {crops_end}")
    if len(bank) != rows or by_name[building.PATCHES].rows != rows:
        report.add(files.join(stage.folder, building.CONCEPTS), f"counts {len(bank)} patches, there are {rows}")
    stage.check_count("regions", rows)
    stage.check_unique("patch_id", ids)
    report.rows["patches"] += rows


def _check_index(stage: StageFolder[BankDetails], bank: PatchBank, comparable: bool) -> None:
    """Whether FAISS reads the index, and, if features are `comparable`, it has those of each patch under its concept
    and its row."""
    path = files.join(stage.folder, building.INDEX)
    counts = [bank.counts[concept.name] for concept in bank.concepts]
    with stage.report.reading(path), files.open_read(path) as file:
        if not bank.indexed or not comparable:  # raises if it is none, or another bank's
            return
        first = 0
        lists = stored_lists(file, files.size(path), bank.feature_dim, counts)
        for concept, (vectors, rows) in zip(bank.concepts, lists, strict=True):
            expected = np.arange(first, first + len(rows))
            near = np.abs(normalised(bank.features(expected)) - vectors.astype(np.float32)) <= ROUNDING
            if not np.array_equal(rows, expected) or not near.all():
                stage.report.add(path, f"{concept.name}: its vectors are not those of the patches' features")
            first += len(rows)


def _contexts_possible(patches: ConceptPatches, concept: int) -> bool:
    """Whether each patch's context is ascending, and without its own concept."""
    if not len(patches):
        return True
    context = patches.columns["context"]
    named, of_patch = context.flatten().to_numpy(), pc.list_parent_indices(context).to_numpy()
    return not (((np.diff(named) <= 0) & (np.diff(of_patch) == 0)).any() or (named == concept).any())


def _check_counts(stage: StageFolder[BankDetails], bank: PatchBank, made_here: bool) -> None:
    """What concepts.parquet counts, and the words in it, against the manifest."""
    path = files.join(stage.folder, building.CONCEPTS)
    for name, candidates in bank.candidates.items():
        if candidates < bank.counts[name] + bank.near_duplicates[name]:
            stage.report.add(path, f"{name}: fewer candidates than patches and near-duplicates")
    read = stage.manifest.counts.get("regions", Counts(0, 0)).read
    if made_here and sum(bank.candidates.values()) > read:
        stage.report.add(path, f"{sum(bank.candidates.values())} candidates, the manifest counts {read} regions read")
    if Vocabulary("", bank.concepts).hash != stage.manifest.details.vocabulary_hash:
        stage.report.add(path, "names and synonyms are not those of the manifest's vocabulary_hash")


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
