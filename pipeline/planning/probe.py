"""Measures what a run would take: runs the stages over a small sample of the real inputs in a temporary folder.

Nothing is written anywhere else. estimate.py computes the plan from what is measured here.
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vlmixer.artifacts import files, stages
from vlmixer.artifacts.rng import generator
from vlmixer.artifacts.stages import DETECT, INDEX, MIX, TAG
from vlmixer.bank import selection
from vlmixer.bank.building import FEATURES
from vlmixer.bank.concepts import Vocabulary, load_vocabulary
from vlmixer.model.config import Settings, TrainConfig
from vlmixer.pipeline.config import Config
from vlmixer.pipeline.image import survey
from vlmixer.pipeline.indexing.ranking import Ranking, list_places
from vlmixer.pipeline.indexing.units import CHOOSE, GATHER, IndexSizes
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.worker_server import WorkerServer
from vlmixer.pipeline.mix.units import BUCKET, IMAGES, MIXED, SHUFFLE
from vlmixer.pipeline.planning.estimate import TRAIN, Measured
from vlmixer.pipeline.planning.linear import LinearCost, fit
from vlmixer.pipeline.planning.probe_run import (
    ProbeRun,
    own_memory,
    run_index_stage,
    run_mix_stage,
    run_sample,
    without_messages,
)
from vlmixer.pipeline.planning.sampling import MAX_IMAGES, MAX_SENTENCES, ProbeSample
from vlmixer.pipeline.text.units import DUPLICATES, FIND, PART
from vlmixer.pipeline.units.passes import UnitKind, finish_kind
from vlmixer.pipeline.units.plan import Plan, begin_stage
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult

LOG = logging.getLogger("vlmixer")

FIRST_SENTENCES = 400
FIRST_IMAGES = 16
"""The first, smallest part of the sample. Its speed decides the size of the largest."""
LAUNCHER_PER_UNIT = 2e-4
"""Processor seconds of the launcher for a unit: the job, progress, the manifest, and reading it in a later stage.
It was measured over tens of thousands of units (docs/performance-history.md); a sample has a few."""
TIMED_CANDIDATES = 1000
"""Candidates of the concept by which the choice of patches is timed."""


@dataclass(frozen=True)
class _Runs:
    """The same small sample in a cold and in a warm process, then a larger one."""

    cold: ProbeRun
    small: ProbeRun
    large: ProbeRun

    def warm(self, stage: str) -> list[ProbeRun]:
        """The runs in which nothing was loaded for the first time, and which got to the stage."""
        return [run for run in (self.small, self.large) if run.has(stage)]


def probe(
    config: Config, sample: ProbeSample, seconds: float, import_paths: Sequence[str]
) -> tuple[Measured, list[str]]:
    """Run the stages over parts of the sample, about `seconds` each; what was measured, and notes about it.

    Raises what the stages raise.
    """
    vocabulary = load_vocabulary(config.vocabulary)
    config = replace(config, max_bad_fraction=1.0)
    with tempfile.TemporaryDirectory(prefix="vlmixer-plan-") as name:
        folder, base = Path(name), own_memory()
        first = sample.part(FIRST_SENTENCES, FIRST_IMAGES)
        _say(1, first)
        cold = run_sample(folder / "cold", config, vocabulary, first, import_paths)
        _say(2, first)
        small = run_sample(folder / "small", config, vocabulary, first, import_paths)
        sized = sample.part(
            _wanted(small.work(TAG.name), len(first.sentences), seconds, MAX_SENTENCES),
            _wanted(small.work(DETECT.name), len(first.images), seconds, MAX_IMAGES),
        )
        _say(3, sized)
        large = run_sample(folder / "large", config, vocabulary, sized, import_paths)
        # A sample that has no region or mention by now ends with the stage's own message.
        if not large.has(INDEX.name):
            run_index_stage(large, config, vocabulary)
        if not large.has(MIX.name):
            run_mix_stage(large, config)
        with without_messages():
            start = _start_of_a_process(folder / "start")
        measured = _measured(config, vocabulary, _Runs(cold, small, large), start, base)
        if config.train is not None:
            measured = _with_training(measured, config, large, seconds)
    tagging, detecting = (start + measured.warm_loads[kind] for kind in (PART, survey.DETECT_UNITS))
    notes = [
        f"measured here on {len(sized.sentences):,} sentences and {len(sized.images):,} images of the inputs",
        f"a worker process works after {start:.1f} s, tags after {tagging:.1f} s, detects after {detecting:.1f} s",
    ]
    return measured, notes


def _say(number: int, sample: ProbeSample) -> None:
    LOG.info(
        "plan: sample %d of 3, %s sentences and %s images, through all stages",
        number, f"{len(sample.sentences):,}", f"{len(sample.images):,}",
    )  # fmt: skip


def _wanted(took: float, count: int, seconds: float, limit: int) -> int:
    return int(min(max(seconds * count / max(took, 1e-3), count), limit))


@dataclass(frozen=True)
class _Nothing:
    """Does nothing, in a process of its own."""

    def load(self) -> None:
        return None

    def run(self, unit: Unit[None], resource: None) -> UnitResult[None]:
        return UnitResult(None)


def _start_of_a_process(folder: Path) -> float:
    """Processor seconds of a worker process that does nothing, a copy of one that has imported what workers need."""
    stage = Stage(TAG, str(folder))
    begin_stage(stage, Plan({}, [], {}), overwrite=False)
    units = [Unit(f"nothing-{number}", None) for number in range(2)]
    with WorkerServer() as server:
        engine = Engine(len(units), server=server)
        engine.run(stage, units, type(None), lambda units: units | "Do" >> DoUnits(stage, _Nothing()), label="nothing")
        return server.worked / len(units)


def _measured(config: Config, vocabulary: Vocabulary, runs: _Runs, start: float, base: int) -> Measured:
    large = runs.large
    sentences, images = large.read(TAG.name, "sentences"), large.read(DETECT.name, "images")
    candidates = sentences - large.rejects(FIND)
    tagged, with_regions = large.written(TAG.name, "sentences"), large.written(DETECT.name, "images")
    regions, patches = sum(large.regions.values()), large.written(INDEX.name, "regions")
    views, mixed = large.read(MIX.name, "views"), large.written(MIX.name, "views")
    image_samples = large.written(MIX.name, "images")
    pieces: dict[UnitKind, int] = {
        FIND: sentences, DUPLICATES: candidates, PART: candidates,
        survey.SURVEY_UNITS: images, survey.SPREAD: images, survey.DUPLICATES: images, survey.DETECT_UNITS: images,
        GATHER: regions, SHUFFLE: views, BUCKET: views, MIXED: views, IMAGES: image_samples,
    }  # fmt: skip
    seconds = {kind: large.seconds(kind) / max(count, 1) for kind, count in pieces.items()}
    seconds |= {finish_kind(name): _finish(runs, name) for name in stages.NAMES}
    places = _time_places(config, vocabulary, large)
    seconds[GATHER] += places
    launcher = {name: _launcher(runs, name) for name in stages.NAMES}
    indexing = launcher[INDEX.name]  # includes the places, which are listed outside units
    launcher[INDEX.name] = replace(indexing, fixed=max(indexing.fixed - places * regions, 0.0))
    return Measured(
        seconds=seconds,
        start=start,
        loads=_loads(runs.cold),
        warm_loads=_loads(runs.small),
        launcher=launcher,
        memory=_memory(base, runs.cold, large),
        candidates=candidates / max(sentences, 1),
        tagged=tagged / max(sentences, 1),
        with_regions=with_regions / max(images, 1),
        regions=regions / max(images, 1),
        concepts=tuple(sorted((count / max(regions, 1) for count in large.regions.values()), reverse=True)),
        kept=patches / max(regions, 1) if config.bank.selection == "diverse" else 1.0,
        written=mixed / max(views, 1),
        concept=fit([_concepts(run) for run in runs.warm(INDEX.name)]),
        choose=_time_choice(config, large) if config.bank.selection == "diverse" else 0.0,
        tagged_bytes=large.bytes(TAG.name, PART) / max(tagged, 1),
        region_bytes=large.bytes(DETECT.name) / max(regions, 1),
        bank_bytes=fit([(run.written(INDEX.name, "regions"), run.bytes(INDEX.name)) for run in runs.warm(INDEX.name)]),
        mixed_bytes=large.bytes(MIX.name, MIXED) / max(mixed, 1),
        image_sample_bytes=large.bytes(MIX.name, IMAGES) / max(image_samples, 1),
        reject_bytes=large.reject_bytes,
    )


def _loads(run: ProbeRun) -> dict[UnitKind, float]:
    """Seconds in which a process loads what the units of a kind need."""
    kinds = {PART: TAG.name, survey.DETECT_UNITS: DETECT.name}
    return {kind: sum(each.load for each in run.times(stage)) for kind, stage in kinds.items()}


def _launcher(runs: _Runs, stage: str) -> LinearCost:
    """What the launcher does: what it did in the samples, and more for each unit."""
    alone = [run.launcher(stage) - LAUNCHER_PER_UNIT * len(run.times(stage)) for run in runs.warm(stage)]
    first = max(runs.cold.launcher(stage) - runs.small.launcher(stage), 0.0) if runs.cold.has(stage) else 0.0
    return LinearCost(max(sum(alone) / len(alone), 0.0) + first, LAUNCHER_PER_UNIT)


def _finish(runs: _Runs, stage: str) -> float:
    """Seconds per piece of the stage's last unit. What it needs for any number is left out: in a sample it is most."""
    counts: Mapping[str, Callable[[ProbeRun], int]] = {
        TAG.name: lambda run: run.read(TAG.name, "sentences") - run.rejects(FIND),
        DETECT.name: lambda run: run.read(DETECT.name, "images"),
        INDEX.name: lambda run: run.written(INDEX.name, "regions"),
        MIX.name: lambda run: run.written(MIX.name, "views") + run.written(MIX.name, "images"),
    }
    return fit([(counts[stage](run), run.seconds(finish_kind(stage))) for run in runs.warm(stage)]).each


def _memory(base: int, cold: ProbeRun, large: ProbeRun) -> dict[str, int]:
    """By stage, bytes of a process that does this stage alone: what it loads, and what it needs beyond."""
    found = {stage: base + cold.grown.get(stage, 0) + large.grown[stage] for stage in large.grown}
    # A detector may need libraries that tagging loaded before it, such as torch.
    found[DETECT.name] += cold.grown[TAG.name]
    return found


def _concepts(run: ProbeRun) -> tuple[float, float]:
    """(candidates, seconds) of a concept, on average."""
    counts = run.regions.values()
    return sum(counts) / max(len(counts), 1), run.seconds(CHOOSE) / max(len(counts), 1)


def _time_places(config: Config, vocabulary: Vocabulary, run: ProbeRun) -> float:
    """Seconds per region of the first pass of indexing, which has no units."""
    limit = selection.candidate_limit(config.bank.selection, config.bank.max_patches_per_concept)
    folder = files.join(run.folder, DETECT.folder)
    ranking = Ranking(config.bank.selection, limit, config.seed, vocabulary.ids, folder)
    outputs = run.manifests[DETECT.name].parts
    before = time.thread_time()
    for group in IndexSizes().plan_groups(outputs):
        list_places(group, ranking)
    return (time.thread_time() - before) / max(sum(entry.rows for entry in outputs), 1)


def _time_choice(config: Config, run: ProbeRun) -> float:
    """Seconds for one candidate and one kept patch, timed on a concept made of the sample's patches and noise."""
    with files.open_read(files.join(run.folder, INDEX.folder, FEATURES)) as file:
        known = np.lib.format.read_array(file, allow_pickle=False).astype(np.float32)
    rng = generator(config.seed, "probe")
    rows = known[np.arange(TIMED_CANDIDATES) % len(known)]
    rows = rows + rng.normal(0, float(rows.std()) + 1e-3, rows.shape).astype(np.float32)
    wanted = TIMED_CANDIDATES // selection.CANDIDATES_PER_PATCH
    before = time.thread_time()
    chosen = selection.choose("diverse", rows, wanted, config.bank.duplicate_similarity)
    return (time.thread_time() - before) / (TIMED_CANDIDATES * max(len(chosen.kept), 1))


def _with_training(measured: Measured, config: Config, run: ProbeRun, seconds: float) -> Measured:
    """Seconds of a training step, on all processors of this machine as training uses them, and until the first step."""
    import torch

    from vlmixer.model.training import train

    torch.set_num_threads(os.cpu_count() or 1)
    assert config.train is not None

    def took(steps: int, name: str) -> float:
        short = replace(config.train or TrainConfig(), steps=steps, shards=None, checkpoint_every=steps)
        began = time.monotonic()
        train(Settings(config.seed, run.folder, model=config.model, train=short), out=files.join(run.folder, name))
        return time.monotonic() - began

    few = 2
    first = took(few, "run-0")
    second = took(few, "run-1")
    more = int(min(max(seconds / max(second / few, 1e-3), 4), 200))
    longer = took(more + few, "run-2")
    step = max(longer - second, 0.0) / more
    memory = {**measured.memory, TRAIN: own_memory()}
    return replace(measured, train_step=step, train_start=max(first - few * step, 0.0), memory=memory)
