"""Checks shards/: every member of every tar, every sample, and the indexes that other loaders read."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO, Any

import numpy as np

from vlmixer.artifacts import files, json_files
from vlmixer.artifacts.details import ShardsDetails
from vlmixer.artifacts.manifest import Output
from vlmixer.artifacts.samples import MixedSample, Sample, read_samples
from vlmixer.artifacts.tars import open_tar
from vlmixer.pipeline.mix.reader_indexes import (
    ENERGON_FOLDER,
    ENERGON_VERSION,
    OTHERS,
    VERSION,
    is_others,
    reader_indexes,
)
from vlmixer.pipeline.verification.checks import ByConcept, StageFolder, UniqueKeys
from vlmixer.pipeline.verification.report import UNREADABLE, VerifyReport
from vlmixer.pipeline.verification.ties import Digests, Ties, of_id, of_image_sample, of_patch, of_sample


def check(stage: StageFolder[ShardsDetails]) -> None:
    """Read every sample."""
    report, tars = stage.report, stage.named(".tar")
    keys = UniqueKeys(lambda: _keys(stage, tars))
    written, replaced = Counter[str](), ByConcept(stage.manifest.details.replaced)
    for output in tars:
        path = stage.path(output)
        rows = 0
        asked = _Asked(stage.ties)
        with report.reading(path):
            _check_members(path, report)
            with files.open_read(path) as file:
                if is_others(output.name):
                    for key, _ in _begins(file):
                        rows += 1
                        written[OTHERS] += 1
                        keys.add(key)
                for sample in () if is_others(output.name) else read_samples(file, path):
                    rows += 1
                    asked.add(sample)
                    keys.add(sample.key)
                    written["views" if isinstance(sample, MixedSample) else "images"] += 1
                    if isinstance(sample, MixedSample):
                        replaced.add(sample.mentions[place].concept for place in sample.replaced)
                    _check_sample(path, sample, stage.manifest.details.feature_dim, report)
        asked.check(path, report)
        if rows != output.rows:
            report.add(path, f"{rows} samples, the manifest says {output.rows}")
    _check_offsets(stage)
    _check_indexes(stage)
    stage.check_by_concept("replaced", replaced)
    for kind in ("views", "images", OTHERS):
        stage.check_count(kind, written[kind])
    stage.check_unique("key", keys)
    report.rows["samples"] += len(keys)


class _Asked:
    """The samples of a shard, compared with what they were made from all at once."""

    def __init__(self, ties: Ties) -> None:
        self._ties = ties
        self._sentences: list[tuple[str, int]] = []
        self._images: list[tuple[str, int]] = []
        self._patches: list[tuple[str, int]] = []
        self._ids: list[tuple[str, int]] = []

    def add(self, sample: Sample) -> None:
        """Keep the digests of a sample."""
        if not isinstance(sample, MixedSample):
            if self._ties.images is not None:
                self._images.append((sample.key, of_image_sample(sample)))
            return
        if self._ties.sentences is not None:
            self._sentences.append((sample.key, of_sample(sample, narrowed=self._ties.narrowed)))
        for patch, feature in zip(sample.patches, sample.features, strict=True):
            if self._ties.patches is not None:
                name = f"{sample.key}: patch {patch.patch_id}"
                self._patches.append((name, of_patch(patch, feature)))
                self._ids.append((name, of_id(patch.patch_id)))

    def check(self, path: str, report: VerifyReport) -> None:
        """Report the samples that differ from what they were made from."""
        unknown = dict.fromkeys(_lacking(self._ids, self._ties.patch_ids))
        for name in unknown:
            report.add(path, f"{name} is not in bank/")
        for name in _lacking(self._patches, self._ties.patches):
            if name not in unknown:
                report.add(path, f"{name} has another feature, concept, score, box or size in bank/")
        for key in _lacking(self._sentences, self._ties.sentences):
            report.add(path, f"{key}: tagged/ has no such sentence with this text and these mentions")
        for key in _lacking(self._images, self._ties.images):
            report.add(path, f"{key}: regions/ has no such image with these regions")


def _lacking(asked: Sequence[tuple[str, int]], known: Digests | None) -> Iterator[str]:
    """The names of those whose digests are not known."""
    if known is not None and asked:
        for (name, _), lacks in zip(asked, known.lacks([digest for _, digest in asked]), strict=True):
            if lacks:
                yield name


def _keys(stage: StageFolder[ShardsDetails], tars: Sequence[Output]) -> Iterator[str]:
    """The keys of the samples in the shards, as far as these can be read."""
    for output in tars:
        path = stage.path(output)
        with suppress(*UNREADABLE), files.open_read(path) as file:
            yield from (key for key, _ in _begins(file))


def _begins(file: IO[bytes]) -> Iterator[tuple[str, int]]:
    """The keys of the samples in a tar, and where they begin."""
    current = None
    with open_tar(file) as tar:
        for member in tar:
            key, _, _ = member.name.partition(".")
            if key != current:
                yield key, member.offset
            current = key


def _check_members(path: str, report: VerifyReport) -> None:
    with files.open_read(path) as file, open_tar(file) as tar:
        for member in tar:
            if member.mtime or not member.isfile():
                report.add(path, f"{member.name}: expected a plain file with mtime 0")


def _check_sample(path: str, sample: Sample, feature_dim: int, report: VerifyReport) -> None:
    """What `read_samples` leaves open."""
    if "." in sample.key:
        report.add(path, f"key {sample.key} has a dot")
    if sample.features.shape[1] != feature_dim:
        report.add(path, f"{sample.key}: features {sample.features.dtype} of width {sample.features.shape[1]}")


def _check_offsets(stage: StageFolder[ShardsDetails]) -> None:
    """Energon's index of a shard (NAME.tar.idx) must hold where its samples begin."""
    names = {output.name for output in stage.outputs}
    for name in sorted(name for name in names if name.endswith(".tar") and f"{name}.idx" in names):
        path = files.join(stage.folder, f"{name}.idx")
        with stage.report.reading(path):
            begins = np.frombuffer(files.read_bytes(path), "<u8")
            with files.open_read(files.join(stage.folder, name)) as file:
                found = [offset for _, offset in _begins(file)]
            if begins[:-1].tolist() != found:
                stage.report.add(path, "its offsets are not where the samples begin")


def _check_indexes(stage: StageFolder[ShardsDetails]) -> None:
    """What energon, open_clip and timm read must be what these shards need, and no more: energon makes objects of the
    classes that its files name, and runs those that are Python."""
    expected = reader_indexes([entry for entry in stage.manifest.outputs if entry.name.endswith(".tar")], pictures=True)
    for output in stage.outputs:
        path = stage.path(output)
        if output.name in expected:
            with stage.report.reading(path):
                found = json_files.parse(json_files.read_limited(path, advice=""), dict[str, Any])
                if found | {VERSION: ENERGON_VERSION} != expected[output.name] | {VERSION: ENERGON_VERSION}:
                    stage.report.add(path, "is not the index of these shards")
        elif output.name.startswith(ENERGON_FOLDER):
            stage.report.add(path, "not one of the files that vlmixer writes for energon, which runs code of others")
