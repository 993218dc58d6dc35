"""Re-reading what lies on disk: every byte against its manifest, every record against the format, counts against rows.

Hashes find any change since writing; the rest would find a fault of the program that wrote.
"""

import json
import os
import random
import tarfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from vlmixer.artifacts import files, manifest, schemas
from vlmixer.artifacts.details import AnyDetails, BankDetails, RegionsDetails, ShardsDetails, TaggedDetails
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.manifest import Manifest, Output
from vlmixer.artifacts.rng import stable_hash
from vlmixer.artifacts.samples import Mention, MixedSample, Sample, read_samples
from vlmixer.artifacts.stages import DETECT, FOLDERS, INDEX, MIX, STAGES, TAG, StageType
from vlmixer.bank import building
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.image.decoding import ImageRejected, decode

AnyStage = StageType[AnyDetails]
AnyManifest = Manifest[AnyDetails]
# What the readers of Parquet, JSON, numpy, tar and FAISS files raise where contents are not what they should be.
_UNREADABLE = (
    UserError, pa.ArrowException, tarfile.TarError, OSError, EOFError, ValueError, TypeError, LookupError,
    AttributeError, RuntimeError,
)  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be, and where."""

    file: str
    what: str


@dataclass
class Report:
    """What was read, and every problem that was found."""

    files: int = 0
    bytes: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing was wrong."""
        return not self.problems

    def add(self, file: str, what: str) -> None:
        """Record a problem."""
        self.problems.append(Problem(file, what))

    def summary(self) -> str:
        """What was read, in a line."""
        rows = ", ".join(f"{number:,} {kind}" for kind, number in sorted(self.rows.items()))
        return f"{self.files:,} files, {self.bytes:,} bytes{', ' if rows else ''}{rows}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "sound": self.sound,
            "files": self.files,
            "bytes": self.bytes,
            "rows": dict(self.rows),
            "problems": [asdict(problem) for problem in self.problems],
        }


@dataclass(frozen=True)
class Depth:
    """How closely to look. `records`: whether files are read as what they should be, beyond their bytes. `sample`: of
    how many files of a stage, drawn anew each time, more than the size is looked at; None: of all."""

    records: bool = True
    sample: int | None = None

    def choose(self, outputs: Sequence[Output]) -> list[Output]:
        """The files to look into."""
        if self.sample is None or self.sample >= len(outputs):
            return list(outputs)
        return sorted(random.sample(outputs, self.sample), key=lambda output: output.name)


EVERYTHING = Depth()


def verify(folder: str, depth: Depth = EVERYTHING) -> Report:
    """Check an output folder, or one stage's folder in it. Raises CallError if it is neither."""
    report = Report()
    paths = {stage: files.join(folder, stage.folder) for stage in STAGES}
    present = {stage: path for stage, path in paths.items() if files.is_folder(path)}
    if present:
        manifests = {stage: _stage(path, report, depth, stage) for stage, path in present.items()}
        _chain(folder, manifests, report)
        if depth == EVERYTHING:
            _rejects(files.join(folder, "rejects"), manifests, report)
        else:
            _rejects_bytes(files.join(folder, "rejects"), manifests, report, depth)
    elif files.exists(files.join(folder, manifest.NAME)):
        _stage(folder, report, depth)
    else:
        raise CallError(f"{folder}: nothing to verify; expected an output folder or one of {', '.join(FOLDERS)}.")
    return report


@contextmanager
def _reading(path: str, report: Report) -> Iterator[None]:
    """Makes a problem of `path` of what reading it raises: a file that cannot be read hides no other's fault."""
    try:
        yield
    except _UNREADABLE as error:
        report.add(path, f"cannot be read as what it should be: {type(error).__name__}: {error}")


def _stage(folder: str, report: Report, depth: Depth, expected: AnyStage | None = None) -> AnyManifest | None:
    """Check one stage's folder, which should be that of the stage `expected`; its manifest, if that is sound."""
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
    known = {output.name: output for output in description.outputs}
    sizes = files.list_sizes(folder)
    lying = set(sizes) - {manifest.NAME}
    for name in sorted(lying - set(known)):
        report.add(files.join(folder, name), "not in the manifest")
    for name in sorted(set(known) - lying):
        report.add(files.join(folder, name), "missing")
    lying_as_told = [output for output in description.outputs if output.name in lying]
    sound = _sound(folder, lying_as_told, sizes, report, depth, description.stage)
    for kind, counts in description.counts.items():
        if not counts.add_up():
            report.add(files.join(folder, manifest.NAME), f"{kind} do not add up: {counts}")
    if not depth.records:
        return description
    with _reading(folder, report):
        CHECKS[description.stage](folder, description, sound, report)
    return description


def _sound(
    folder: str, outputs: Sequence[Output], sizes: Mapping[str, int], report: Report, depth: Depth, label: str
) -> list[Output]:
    """Those of the files that are looked into and whose bytes are what the manifest says; hashed side by side."""
    sized = [output for output in outputs if _size_matches(folder, output, sizes[output.name], report)]
    chosen = depth.choose(sized)
    # Hashing lets other threads run; more of them than cores keep the disk busy.
    with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        hashes = pool.map(lambda output: files.sha256(files.join(folder, output.name)), chosen)
        found = list(tqdm(hashes, desc=f"verify {label}", unit="file", total=len(chosen), disable=None))
    sound = []
    for output, hashed in zip(chosen, found, strict=True):
        report.bytes += output.bytes
        if hashed == output.sha256:
            sound.append(output)
        else:
            report.add(files.join(folder, output.name), "its bytes changed: the SHA-256 is not the manifest's")
    return sound


def _size_matches(folder: str, output: Output, size: int, report: Report) -> bool:
    report.files += 1
    if size != output.bytes:
        report.add(files.join(folder, output.name), f"{size} bytes, expected {output.bytes}")
    return size == output.bytes


def _chain(folder: str, manifests: Mapping[AnyStage, AnyManifest | None], report: Report) -> None:
    """Whether each stage was made from what lies there now."""
    hashes = {stage.folder: found.content_hash for stage, found in manifests.items() if found is not None}
    lying = {stage.folder for stage in manifests}
    for stage, found in manifests.items():
        for entry in found.inputs if found is not None and stage in (INDEX, MIX) else []:
            if entry.name not in FOLDERS:  # a bank that this one was made of
                continue
            if entry.name not in lying:
                report.add(files.join(folder, entry.name), f"missing; {stage.folder}/ was made from it")
            elif entry.name in hashes and hashes[entry.name] != entry.sha256:
                report.add(
                    files.join(folder, stage.folder),
                    f"was made from another {entry.name}/ than the one that lies here",
                )


def _rejects(folder: str, manifests: Mapping[AnyStage, AnyManifest | None], report: Report) -> None:
    """Whether every reject file is there, unchanged, and tells as many rows a reason as the manifests count."""
    known: dict[str, Output] = {}
    sizes = files.list_sizes(folder)
    for stage, found in manifests.items():
        if found is None:
            continue
        reasons: Counter[str] = Counter()
        for output in found.rejects:
            known[output.name] = output
            path = files.join(folder, output.name)
            if output.name not in sizes:
                report.add(path, "missing")
            elif _sound(folder, [output], sizes, report, EVERYTHING, "rejects"):
                with _reading(path, report):
                    for table in _parquet(folder, output, schemas.REJECTS, report):
                        reasons.update(table["reason"].to_pylist())
        made = files.join(files.parent(folder), stage.folder)
        for output in found.outputs:
            if output.name == building.LEFT_OUT:
                with _reading(files.join(made, output.name), report):
                    for table in _parquet(made, output, schemas.REJECTS, report):
                        reasons.update(table["reason"].to_pylist())
        counted: Counter[str] = Counter()
        for counts in found.counts.values():
            counted.update(counts.rejected)
        if reasons != counted and all(output.name in sizes for output in found.rejects):
            report.add(folder, f"stage {stage.name}: {dict(reasons)} listed, the manifest counts {dict(counted)}")
    # What a stage without a manifest wrote is under way, or was reported with the stage.
    unfinished = tuple(f"{stage.name}-" for stage in STAGES if manifests.get(stage) is None)
    for name in sizes:
        if name not in known and not name.startswith(unfinished):
            report.add(files.join(folder, name), "not in the manifest")


def _rejects_bytes(folder: str, manifests: Mapping[AnyStage, AnyManifest | None], report: Report, depth: Depth) -> None:
    """Whether the reject files are there and unchanged."""
    outputs = [output for found in manifests.values() if found is not None for output in found.rejects]
    lying = files.list_sizes(folder)
    for output in outputs:
        if output.name not in lying:
            report.add(files.join(folder, output.name), "missing")
    _sound(folder, [output for output in outputs if output.name in lying], lying, report, depth, "rejects")


def _parquet(folder: str, output: Output, schema: pa.Schema, report: Report) -> Iterator[pa.Table]:
    """The row groups of a file, its schema and its rows checked."""
    path = files.join(folder, output.name)
    with files.open_read(path) as file:
        # Without threads: pyarrow's, still starting or ending when the process ends, abort it now and then.
        parquet = pq.ParquetFile(file, pre_buffer=False)
        if not parquet.schema_arrow.equals(schema):
            report.add(path, f"columns {parquet.schema_arrow.names}, expected {schema.names} of the documented types")
            return
        if parquet.metadata.num_rows != output.rows:
            report.add(path, f"{parquet.metadata.num_rows} rows, the manifest says {output.rows}")
        for group in range(parquet.num_row_groups):
            yield parquet.read_row_group(group, use_threads=False)


class _Keys:
    """Keys that must be unique; eight bytes are held of each, and those that are not unique are read again."""

    def __init__(self, read_again: Callable[[], Iterable[str]]) -> None:
        self._hashes = array("Q")
        self._read_again = read_again

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, key: str) -> None:
        """Remember a key."""
        self._hashes.append(stable_hash(key))

    def twice(self) -> list[str]:
        """Those that were added more than once."""
        values, counts = np.unique(np.frombuffer(self._hashes, np.uint64), return_counts=True)
        again = set(values[counts > 1].tolist())
        return sorted({key for key in self._read_again() if stable_hash(key) in again}) if again else []


def _column(folder: str, outputs: Sequence[Output], column: str) -> Iterator[str]:
    """A column of all the Parquet files among these that can be read."""
    for output in outputs:
        with suppress(*_UNREADABLE), files.open_read(files.join(folder, output.name)) as file:
            parquet = pq.ParquetFile(file, pre_buffer=False)
            for group in range(parquet.num_row_groups):
                yield from parquet.read_row_group(group, columns=[column], use_threads=False)[column].to_pylist()


def _tagged(folder: str, description: Manifest[TaggedDetails], outputs: list[Output], report: Report) -> None:
    parts = [entry for entry in outputs if entry.name.endswith(".parquet")]
    ids = _Keys(lambda: _column(folder, parts, "sentence_id"))
    for output in parts:
        path = files.join(folder, output.name)
        with _reading(path, report):
            for table in _parquet(folder, output, schemas.TAGGED, report):
                for row in table.to_pylist():
                    ids.add(row["sentence_id"])
                    for mention in row["mentions"]:
                        _mention_stands(path, row["sentence_id"], row["text"], Mention(**mention), report)
    _rows_add_up(folder, description, "sentences", len(ids), outputs, report)
    for key in ids.twice():
        report.add(folder, f"sentence_id {key} occurs twice")
    report.rows["sentences"] += len(ids)


def _mention_stands(path: str, key: str, text: str, mention: Mention, report: Report) -> None:
    if not 0 <= mention.start < mention.end or text[mention.start : mention.end] != mention.surface:
        report.add(path, f"{key}: {mention} is not what the text says")


def _rows_add_up(
    folder: str, description: AnyManifest, kind: str, found: int, outputs: list[Output], report: Report
) -> None:
    """Rows against the manifest's count, where every file could be read."""
    written = description.counts[kind].written
    if len(outputs) == len(description.outputs) and found != written:
        report.add(folder, f"{found} {kind} found, the manifest counts {written}")


def _regions(folder: str, description: Manifest[RegionsDetails], outputs: list[Output], report: Report) -> None:
    ids = _Keys(lambda: _column(folder, outputs, "patch_id"))
    images = _Keys(lambda: _images(folder, outputs))
    schema = schemas.regions(description.details.feature_dim)
    for output in outputs:
        path = files.join(folder, output.name)
        with _reading(path, report):
            for table in _parquet(folder, output, schema, report):
                if not np.isfinite(building.feature_rows(table["feature"])).all():
                    report.add(path, "features that are not finite")
                rows = table.drop_columns(["feature"]).to_pylist()
                for image in dict.fromkeys(row["image_id"] for row in rows):
                    images.add(image)
                for row in rows:
                    ids.add(row["patch_id"])
                    _box_inside(path, row["patch_id"], row["box"], row["width"], row["height"], report)
                    _decodes(path, row["patch_id"], row["crop"], report)
    _rows_add_up(folder, description, "images", len(images), outputs, report)
    for key in ids.twice():
        report.add(folder, f"patch_id {key} occurs twice")
    for key in images.twice():
        report.add(folder, f"image_id {key} occurs twice")
    report.rows["regions"] += len(ids)


def _images(folder: str, outputs: Sequence[Output]) -> Iterator[str]:
    """The image ids of regions/, each once a run of its rows."""
    return (image for image, _ in groupby(_column(folder, outputs, "image_id")))


def _box_inside(path: str, key: str, box: Iterable[float], width: int, height: int, report: Report) -> None:
    left, top, right, bottom = box
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        report.add(path, f"{key}: box {[left, top, right, bottom]} is not inside {width}×{height}")


def _decodes(path: str, key: str, crop: bytes, report: Report) -> None:
    try:
        decode(crop, max_pixels=1e8)
    except ImageRejected as rejected:
        report.add(path, f"{key}: its crop does not decode: {rejected}")


def _bank(folder: str, description: Manifest[BankDetails], outputs: list[Output], report: Report) -> None:
    if len(outputs) != len(description.outputs):
        return
    bank = PatchBank.open(folder)
    by_name = {output.name: output for output in outputs}
    _bank_tables(folder, by_name, bank, report)
    ids = _Keys(lambda: _column(folder, [by_name[building.PATCHES]], "patch_id"))
    at = crop_at = 0
    for concept in bank.concepts:
        patches = bank.patches(concept.name)
        if patches.first != at or len(patches) != bank.counts[concept.name]:
            report.add(
                files.join(folder, building.PATCHES), f"{concept.name}: rows are not where concepts.parquet says"
            )
        for record in patches:
            ids.add(record.patch_id)
            _box_inside(folder, record.patch_id, record.box, record.width, record.height, report)
            if record.crop_start != crop_at:
                report.add(files.join(folder, building.CROPS), f"{record.patch_id}: crops do not follow one another")
            crop_at = record.crop_start + record.crop_bytes
            _decodes(files.join(folder, building.CROPS), record.patch_id, bank.crop(record), report)
        at += len(patches)
    if crop_at != by_name[building.CROPS].bytes:
        report.add(files.join(folder, building.CROPS), f"{by_name[building.CROPS].bytes} bytes, crops end at {crop_at}")
    if len(bank) != at or by_name[building.PATCHES].rows != at:
        report.add(files.join(folder, building.CONCEPTS), f"counts {len(bank)} patches, there are {at}")
    with _reading(files.join(folder, building.INDEX), report):
        _ = bank.indexed
    with _reading(files.join(folder, building.FEATURES), report):
        _bank_features(files.join(folder, building.FEATURES), at, bank.feature_dim, report)
    _rows_add_up(folder, description, "regions", at, outputs, report)
    for key in ids.twice():
        report.add(folder, f"patch_id {key} occurs twice")
    report.rows["patches"] += at


def _bank_tables(folder: str, by_name: dict[str, Output], bank: PatchBank, report: Report) -> None:
    """The schemas of a bank's tables, their rows, and that a patch stands with its own concept."""
    for name, schema in ((building.CONCEPTS, schemas.CONCEPTS), (building.PATCHES, schemas.PATCHES)):
        for _ in _parquet(folder, by_name[name], schema, report):
            pass
    with files.open_read(files.join(folder, building.PATCHES)) as file:
        found = pq.read_table(file, columns=["concept_id"], use_threads=False)["concept_id"].to_pylist()
    expected = [concept.id for concept in bank.concepts for _ in range(bank.counts[concept.name])]
    if found != expected:
        report.add(files.join(folder, building.PATCHES), "concept_id is not what concepts.parquet says of the rows")


def _bank_features(path: str, patches: int, feature_dim: int, report: Report) -> None:
    """Shape and values of features.npy, a block of rows at a time."""
    with files.open_read(path) as file:
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if shape != (patches, feature_dim) or dtype != np.float16 or fortran:
            report.add(path, f"{dtype} of shape {shape}, expected float16 of shape {(patches, feature_dim)}")
            return
        left = 2 * patches * feature_dim
        while block := file.read(2 * feature_dim * 4096):
            left -= len(block)
            if not np.isfinite(np.frombuffer(block, np.float16)).all():
                report.add(path, "features that are not finite")
        if left:
            report.add(path, f"{abs(left)} bytes too {'few' if left > 0 else 'many'} for its shape {shape}")


def _shards(folder: str, description: Manifest[ShardsDetails], outputs: list[Output], report: Report) -> None:
    tars = [output for output in outputs if output.name.endswith(".tar")]
    keys = _Keys(lambda: _sample_keys(folder, tars))
    written = Counter[str]()
    dim = description.details.feature_dim
    sized = {output.name: output.rows for output in description.outputs if output.name.endswith(".tar")}
    for output in tars:
        path = files.join(folder, output.name)
        rows = 0
        with _reading(path, report):
            _members(path, report)
            with files.open_read(path) as file:
                for sample in read_samples(file, path):
                    rows += 1
                    keys.add(sample.key)
                    written["views" if isinstance(sample, MixedSample) else "images"] += 1
                    _sample(path, sample, dim, report)
        if rows != output.rows:
            report.add(path, f"{rows} samples, the manifest says {output.rows}")
    _indexes(folder, outputs, report)
    if len(outputs) == len(description.outputs):
        for kind, counts in description.counts.items():
            if counts.written != written[kind]:
                report.add(folder, f"{written[kind]} {kind} found, the manifest counts {counts.written}")
    sizes = files.join(folder, "sizes.json")
    if any(output.name == "sizes.json" for output in outputs):
        with _reading(sizes, report):
            if json.loads(files.read_bytes(sizes)) != sized:
                report.add(sizes, "does not tell the shards' sizes as the manifest does")
    for key in keys.twice():
        report.add(folder, f"key {key} occurs twice")
    report.rows["samples"] += len(keys)


def _sample_keys(folder: str, tars: Sequence[Output]) -> Iterator[str]:
    """The keys of the samples in shards, as far as these can be read."""
    for output in tars:
        path = files.join(folder, output.name)
        with suppress(*_UNREADABLE), files.open_read(path) as file:
            yield from (sample.key for sample in read_samples(file, path))


def _indexes(folder: str, outputs: Sequence[Output], report: Report) -> None:
    """Whether energon's index of a shard tells where its samples begin."""
    names = {output.name for output in outputs}
    for name in sorted(name for name in names if name.endswith(".tar") and f"{name}.idx" in names):
        path = files.join(folder, f"{name}.idx")
        with _reading(path, report):
            begins = np.frombuffer(files.read_bytes(path), "<u8")
            with files.open_read(files.join(folder, name)) as file, tarfile.open(fileobj=file, mode="r:") as tar:
                found = [member.offset for member in tar if member.name.endswith(".json")]
            if begins[:-1].tolist() != found:
                report.add(path, "does not tell where the samples begin")


def _members(path: str, report: Report) -> None:
    with files.open_read(path) as file, tarfile.open(fileobj=file, mode="r|") as tar:
        for member in tar:
            if member.mtime or not member.isfile():
                report.add(path, f"{member.name}: expected a plain file with mtime 0")


def _sample(path: str, sample: Sample, dim: int, report: Report) -> None:
    if "." in sample.key:
        report.add(path, f"key {sample.key} has a dot")
    if sample.features.dtype != np.float16 or sample.features.shape[1] != dim:
        report.add(path, f"{sample.key}: features {sample.features.dtype} of width {sample.features.shape[1]}")
    elif not np.isfinite(sample.features).all():
        report.add(path, f"{sample.key}: features that are not finite")
    for patch in sample.patches:
        _box_inside(path, f"{sample.key} {patch.patch_id}", patch.box, patch.width, patch.height, report)
    if not isinstance(sample, MixedSample):
        return
    for mention in sample.mentions:
        _mention_stands(path, sample.key, sample.text, mention, report)
    replaced = sorted({patch.mention for patch in sample.patches if patch.mention is not None})
    if list(sample.replaced) != replaced or not all(0 <= index < len(sample.mentions) for index in replaced):
        report.add(path, f"{sample.key}: replaced {sample.replaced}, patches are for {replaced}")
    elif any(
        patch.mention is None or sample.mentions[patch.mention].concept != patch.concept for patch in sample.patches
    ):
        report.add(path, f"{sample.key}: a patch of another concept than its mention")


CHECKS: dict[str, Callable[[str, Any, list[Output], Report], None]] = {
    TAG.name: _tagged,
    DETECT.name: _regions,
    INDEX.name: _bank,
    MIX.name: _shards,
}
"""By stage: checks the records of its folder, given its manifest and those of its files whose bytes are sound."""
