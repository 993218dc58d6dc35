"""Runs the stages over a sample in a folder, and measures each: seconds of units, processor time, memory, bytes."""

import json
import logging
import os
import resource
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.details import AnyDetails, RegionsDetails
from vlmixer.artifacts.manifest import Manifest
from vlmixer.artifacts.parquet import read_parquet
from vlmixer.artifacts.stages import DETECT, INDEX, MIX, TAG, StageType
from vlmixer.bank.concepts import Vocabulary
from vlmixer.pipeline.config import Config
from vlmixer.pipeline.image.boxes.index import NamesOfRows
from vlmixer.pipeline.image.photos import max_file_bytes
from vlmixer.pipeline.image.readers.base import ImageRef, Unreadable
from vlmixer.pipeline.image.readers.corpus import read_images
from vlmixer.pipeline.jobs.detect import run_detect
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.index import run_index
from vlmixer.pipeline.jobs.mix import run_mix
from vlmixer.pipeline.jobs.tag import run_tag
from vlmixer.pipeline.planning.sampling import ProbeSample
from vlmixer.pipeline.units.passes import UnitKind
from vlmixer.pipeline.units.timing import UnitTime, read_times

LOG = logging.getLogger("vlmixer")


@dataclass
class ProbeRun:
    """The stages over one sample: by stage's name, manifests, processor seconds, and bytes by which memory grew."""

    folder: str
    manifests: dict[str, Manifest[AnyDetails]] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    grown: dict[str, int] = field(default_factory=dict)

    def times(self, stage: str) -> list[UnitTime]:
        """The times of all units of a stage."""
        return [each for each in read_times(self.folder) if each.stage == stage]

    def times_of(self, kind: UnitKind) -> list[UnitTime]:
        """The times of the units of a kind."""
        return [each for each in self.times(kind.stage) if kind.includes(each.unit)]

    def seconds(self, kind: UnitKind) -> float:
        """Seconds of all units of a kind."""
        return sum(each.seconds for each in self.times_of(kind))

    def work(self, stage: str) -> float:
        """Seconds of all units of a stage."""
        return sum(each.seconds for each in self.times(stage))

    def launcher(self, stage: str) -> float:
        """Processor seconds of the stage outside its units."""
        return max(self.cpu[stage] - sum(each.cpu for each in self.times(stage)), 0.0)

    def read_manifest(self, stage: StageType[AnyDetails]) -> None:
        """Take the stage as finished."""
        self.manifests[stage.name] = manifest.read(files.join(self.folder, stage.folder), stage)

    def has(self, stage: str) -> bool:
        """Whether the stage was run."""
        return stage in self.manifests

    def read(self, stage: str, kind: str) -> int:
        """Number of inputs of a kind."""
        counts = self.manifests[stage].counts
        return counts[kind].read if kind in counts else 0

    def written(self, stage: str, kind: str) -> int:
        """Number of outputs of a kind."""
        counts = self.manifests[stage].counts
        return counts[kind].written if kind in counts else 0

    @property
    def regions(self) -> Mapping[str, int]:
        """Regions by concept."""
        details = self.manifests[DETECT.name].details
        assert isinstance(details, RegionsDetails)
        return details.regions

    def bytes(self, stage: str, kind: UnitKind | None = None) -> int:
        """Bytes of the stage's files, or of those that units of a kind wrote."""
        outputs = self.manifests[stage].outputs
        return sum(entry.bytes for entry in outputs if kind is None or kind.includes(entry.name))

    def rejects(self, kind: UnitKind) -> int:
        """Inputs that units of a kind rejected."""
        found = 0
        for entry in self.manifests[kind.stage].rejects:
            if kind.includes(entry.name.removeprefix(f"{kind.stage}-")):
                with files.open_read(files.join(self.folder, "rejects", entry.name)) as file:
                    found += sum(read_parquet(file, ["number"])["number"].to_pylist())
        return found

    @property
    def reject_bytes(self) -> float:
        """Bytes of all files of rejects, per rejected input."""
        found = self.manifests.values()
        inputs = sum(sum(counts.rejected.values()) for each in found for counts in each.counts.values())
        return sum(entry.bytes for each in found for entry in each.rejects) / max(inputs, 1)


def run_sample(
    folder: Path, config: Config, vocabulary: Vocabulary, sample: ProbeSample, import_paths: Sequence[str]
) -> ProbeRun:
    """All stages over a sample. `index` and `mix` run only if it has regions and mentions."""
    folder.mkdir()
    texts, images = folder / "sentences.jsonl", folder / "images.jsonl"
    texts.write_text("".join(json.dumps({config.text.field: text}) + "\n" for text in sample.sentences))
    with open(images, "w") as file:
        file.writelines(json.dumps({"path": path}) + "\n" for path in _paths(sample.images, folder, config))
    run = ProbeRun(str(folder / "out"))
    config = replace(
        config,
        out=run.folder,
        text=replace(config.text, inputs=(str(texts),)),
        images=replace(config.images, inputs=(str(images),)),
    )
    engine = Engine(1)
    with _measuring(run, TAG.name):
        run_tag(config, vocabulary, engine, overwrite=False)
        run.read_manifest(TAG)
    with _measuring(run, DETECT.name):
        run_detect(config, vocabulary, engine, overwrite=False, import_paths=import_paths)
        run.read_manifest(DETECT)
    if run.written(DETECT.name, "images"):
        run_index_stage(run, config, vocabulary)
        if run.written(TAG.name, "sentences"):
            run_mix_stage(run, config)
    return run


def run_index_stage(run: ProbeRun, config: Config, vocabulary: Vocabulary) -> None:
    """The stage `index` after the others. Raises UserError if the sample has no region."""
    with _measuring(run, INDEX.name):
        config = replace(config, out=run.folder)
        run_index(config, vocabulary, Engine(1), overwrite=False)
        run.read_manifest(INDEX)


def run_mix_stage(run: ProbeRun, config: Config) -> None:
    """The stage `mix` after the others. Raises UserError if the sample has no mention."""
    with _measuring(run, MIX.name):
        run_mix(replace(config, out=run.folder), Engine(1), overwrite=False)
        run.read_manifest(MIX)


def _paths(refs: Sequence[ImageRef], folder: Path, config: Config) -> Iterator[str]:
    """Paths of the images: their own, or those of copies if they are in a tar or in Parquet."""
    names = NamesOfRows()
    for ref in refs:
        if ref.position < 0 and not ref.reason:
            yield ref.source if files.is_url(ref.source) else os.path.abspath(ref.source)
            continue
        ((_, data),) = read_images([ref], max_file_bytes(config.images.max_megapixels * 1e6))
        if not isinstance(data, Unreadable):
            copy = folder / ref.image_id / os.path.basename(names(ref) or ref.image_id)  # boxes: go by names
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(data)
            yield str(copy)


@contextmanager
def without_messages() -> Iterator[None]:
    """The stages' own messages would be about the sample."""
    level = LOG.level
    LOG.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOG.setLevel(level)


@contextmanager
def _measuring(run: ProbeRun, stage: str) -> Iterator[None]:
    """Measure the processor time of this process, all threads, and how much its memory grows."""
    watcher = _MemoryWatcher()
    watcher.start()
    before = time.process_time()
    try:
        with without_messages():
            yield
    finally:
        watcher.stop()
        run.grown[stage] = watcher.grown
        run.cpu[stage] = time.process_time() - before - watcher.cpu


class _MemoryWatcher(threading.Thread):
    """Looks at the memory of this process ten times a second. grown: bytes above the start; cpu: seconds it took."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.grown = 0
        self.cpu = 0.0
        self._before = own_memory()
        self._stop_asked = threading.Event()

    def run(self) -> None:
        last = False
        while not last:
            last = self._stop_asked.wait(0.1)
            self.grown = max(self.grown, own_memory() - self._before)
        self.cpu = time.thread_time()

    def stop(self) -> None:
        """Look once more and end."""
        self._stop_asked.set()
        self.join()


def own_memory() -> int:
    """Bytes of memory that this process holds, on Linux without the pages of mapped files."""
    try:
        with open("/proc/self/status") as file:
            return 1024 * int(next(line for line in file if line.startswith("RssAnon")).split()[1])
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
