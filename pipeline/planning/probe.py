"""Measures what a run would take: the stages themselves, with all their units, over a small sample of the real inputs
in a temporary folder. Nothing is written anywhere else. What follows from it is computed in pipeline/plan.py.

The sample is stable: places in the text files and images are drawn by the seed and their names, so that the same
inputs give the same sample.
"""

import json
import logging
import os
import resource
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.details import AnyDetails, RegionsDetails
from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.files import FileStat
from vlmixer.artifacts.manifest import Manifest
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.rng import generator, stable_hash
from vlmixer.artifacts.stages import DETECT, INDEX, NAMES, STAGES, TAG
from vlmixer.bank import selection
from vlmixer.bank.building import FEATURES
from vlmixer.bank.concepts import Vocabulary, load_vocabulary
from vlmixer.model.config import Settings, TrainConfig
from vlmixer.pipeline.config import Config
from vlmixer.pipeline.image.detectors.loading import TSV
from vlmixer.pipeline.image.photos import max_file_bytes
from vlmixer.pipeline.image.readers.base import ImageRef, Unreadable
from vlmixer.pipeline.image.readers.corpus import plan as plan_corpus
from vlmixer.pipeline.image.readers.corpus import read_images, sample
from vlmixer.pipeline.image.readers.image_files import FILES_PER_PIECE
from vlmixer.pipeline.image.survey import IMAGES_PER_UNIT, MAX_UNITS
from vlmixer.pipeline.indexing import units as indexing
from vlmixer.pipeline.indexing.ranking import Ranking, list_places
from vlmixer.pipeline.jobs import index, mix, tag
from vlmixer.pipeline.jobs.detect import run_detect
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.mix import units as mixing
from vlmixer.pipeline.planning import estimate as plan
from vlmixer.pipeline.planning.estimate import Corpus, Line, Measured, Shape
from vlmixer.pipeline.text.readers.base import TextSlice
from vlmixer.pipeline.text.readers.formats import can_split, format_of
from vlmixer.pipeline.text.readers.reader import SentenceReader
from vlmixer.pipeline.text.readers.slices import UNIT_BYTES, plan_slices
from vlmixer.pipeline.units.machine import processors
from vlmixer.pipeline.units.plan import Plan, begin_stage
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.timing import UnitTime, read_times
from vlmixer.pipeline.units.unit import Unit, UnitResult

LOG = logging.getLogger("vlmixer")

FIRST = (400, 16)
"""Sentences and images of the first, smallest sample, by whose speed the second is sized."""
MOST = (60_000, 3_000)
"""Sentences and images of the second sample, at most."""
PLACES = 64
"""Places in the text from which the sample is taken."""
CHOSEN = 1000
"""Candidates of the concept by which the choice of patches is measured."""


@dataclass(frozen=True)
class Sample:
    """Sentences and images of the real inputs, and what all of them are."""

    sentences: Sequence[str]
    images: Sequence[ImageRef]
    corpus: Corpus
    notes: tuple[str, ...] = ()

    def part(self, sentences: int, images: int) -> "Sample":
        """So many of each, from all over the sample."""
        return replace(self, sentences=_spread(self.sentences, sentences), images=_spread(self.images, images))


def _spread(items: Sequence, count: int) -> list:
    return [items[index * len(items) // count] for index in range(count)] if count < len(items) else list(items)


def take_sample(config: Config) -> Sample:
    """The sample, and the size of the whole corpus. Raises CallError for inputs that are not there."""
    if not config.text.inputs:
        raise CallError("text.inputs: empty; expected files, folders or globs with sentences.")
    if config.images.detector.startswith(TSV):
        raise CallError("images.detector: plan cannot measure tsv: yet, region features that are there already.")
    if not config.images.inputs:
        raise CallError("images.inputs: empty; expected files, folders or globs with images.")
    inputs = files.expand(config.text.inputs, key="text.inputs")
    sentences, total = _sample_text(inputs, config)
    size_of_text = sum(entry.size for entry in inputs)
    images = sample(plan_corpus(config.images.inputs), MOST[1])
    notes = ["sentences were counted by their bytes in the sample"]
    if not images.counted:
        notes.append("images in tars and lists were counted by their bytes in the sample")
    return Sample(
        sentences,
        images.refs,
        Corpus(total, size_of_text, images.images, images.bytes, len(plan_slices(inputs)), exact=False),
        tuple(notes),
    )


def _sample_text(inputs: Sequence[FileStat], config: Config) -> tuple[list[str], int]:
    """Up to MOST[0] sentences from PLACES stretches of the text, and how many there are in all."""
    total = sum(entry.size for entry in inputs)
    if not total:
        raise CallError("text.inputs: the files are empty.")
    pieces: list[tuple[TextSlice, int]] = []
    begin = 0
    for entry in inputs:
        # The stretches of equal length that begin in this file; of one that cannot be split, all are at its beginning.
        cuts = [-(-total * place // PLACES) for place in range(PLACES + 1)]
        starts = [max(cut - begin, 0) for cut in cuts if begin <= cut < begin + entry.size]
        if not starts or starts[0]:
            starts = [0, *starts]
        if can_split(entry.name):
            ends = [*starts[1:], entry.size]
            pieces += [(TextSlice(entry.name, entry.size, *ends), 1) for ends in zip(starts, ends, strict=True)]
        else:
            pieces.append((TextSlice(entry.name, entry.size), len(starts)))
        begin += entry.size
    texts: list[str] = []
    # By format, as packed files hold more a byte.
    read: Counter[str] = Counter()
    length: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for entry in inputs:
        size[_format(entry.name)] += entry.size
    most = -(-MOST[0] // PLACES)
    for piece, stretches in _spread(sorted(pieces, key=lambda pair: _drawn(pair[0], config.seed)), 4 * PLACES):
        reading = SentenceReader(RejectLog("tag"), field=config.text.field)
        found, used = reading.sample(piece, most * stretches)
        texts += found
        read[_format(piece.name)] += reading.read
        length[_format(piece.name)] += used
    overall = read.total() / max(length.total(), 1)
    return texts, round(sum(size[form] * (read[form] / length[form] if length[form] else overall) for form in size))


def _format(name: str) -> str:
    return f"{type(format_of(name)).__name__} {can_split(name)}"


def _drawn(piece: TextSlice, seed: int) -> int:
    return stable_hash(seed, "probe", piece.name, piece.start)


@dataclass
class Chain:
    """What the stages over one sample took and gave."""

    folder: str
    manifests: dict[str, Manifest[AnyDetails]] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    grown: dict[str, int] = field(default_factory=dict)
    watching: float = 0.0

    def times(self, stage: str, prefix: str = "") -> list[UnitTime]:
        """The units of a stage whose names begin so."""
        return [each for each in read_times(self.folder) if each.stage == stage and each.unit.startswith(prefix)]

    def seconds(self, stage: str, prefix: str = "") -> float:
        """All that these units took."""
        return sum(each.seconds for each in self.times(stage, prefix))

    def launcher(self, stage: str) -> float:
        """What the process did besides."""
        return max(self.cpu[stage] - sum(each.cpu for each in self.times(stage)), 0.0)

    def read(self, stage: str, kind: str) -> int:
        """How many of a kind went into the stage."""
        return self.manifests[stage].counts[kind].read

    def written(self, stage: str, kind: str) -> int:
        """How many of a kind came out of it."""
        return self.manifests[stage].counts[kind].written

    @property
    def regions(self) -> Mapping[str, int]:
        """Regions found, by concept."""
        details = self.manifests["detect"].details
        assert isinstance(details, RegionsDetails)
        return details.regions

    def bytes(self, stage: str, begin: str = "", end: str = "") -> int:
        """Of the stage's files named so."""
        outputs = self.manifests[stage].outputs
        return sum(entry.bytes for entry in outputs if entry.name.startswith(begin) and entry.name.endswith(end))


def probe(
    config: Config, sample: Sample, seconds: float, import_paths: Sequence[str]
) -> tuple[Measured, Shape, list[str]]:
    """Run the stages over parts of the sample, about `seconds` each. Raises what the stages raise."""
    vocabulary = load_vocabulary(config.vocabulary)
    config = replace(config, max_bad_fraction=1.0)
    with tempfile.TemporaryDirectory(prefix="vlmixer-plan-") as name:
        folder, base = Path(name), own_memory()
        first = sample.part(*FIRST)
        _say(1, first)
        cold = _run(folder / "cold", config, vocabulary, first, import_paths)
        _say(2, first)
        small = _run(folder / "small", config, vocabulary, first, import_paths)
        sized = sample.part(
            _wanted(small.seconds("tag"), len(first.sentences), seconds, MOST[0]),
            _wanted(small.seconds("detect"), len(first.images), seconds, MOST[1]),
        )
        _say(3, sized)
        large = _run(folder / "large", config, vocabulary, sized, import_paths)
        for stage in ("index", "mix"):  # by now, or there is nothing to build a bank or samples of
            if stage not in large.manifests:
                _run_rest(large, config, vocabulary, stage)
        with _without_messages():
            start = _start_of_a_process(folder / "start")
        measured = _measured(config, vocabulary, (cold, small, large), start, base)
        if config.train is not None:
            measured = _with_training(measured, config, large, seconds)
    notes = [
        f"measured here on {len(sized.sentences):,} sentences and {len(sized.images):,} images of the inputs",
        f"a new process needs {measured.starts['any']:.1f} s until it works, {measured.starts['tag']:.1f} s to tag, "
        f"{measured.starts['detect']:.1f} s to detect",
    ]
    return measured, _shape(config), notes


def _say(number: int, sample: Sample) -> None:
    LOG.info(
        "plan: sample %d of 3, %s sentences and %s images, through all stages",
        number, f"{len(sample.sentences):,}", f"{len(sample.images):,}",
    )  # fmt: skip


def _wanted(took: float, count: int, seconds: float, most: int) -> int:
    return int(min(max(seconds * count / max(took, 1e-3), count), most))


@contextmanager
def _without_messages() -> Iterator[None]:
    """The stages' own messages would be about the sample."""
    level = LOG.level
    LOG.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOG.setLevel(level)


def _run(folder: Path, config: Config, vocabulary: Vocabulary, sample: Sample, import_paths: Sequence[str]) -> Chain:
    """All stages over a sample; index and mix only where it has regions and mentions."""
    folder.mkdir()
    texts, images = folder / "sentences.jsonl", folder / "images.jsonl"
    texts.write_text("".join(json.dumps({config.text.field: text}) + "\n" for text in sample.sentences))
    with open(images, "w") as file:
        file.writelines(json.dumps({"path": path}) + "\n" for path in _paths(sample.images, folder, config))
    config = _over(config, folder)
    chain = Chain(config.out)
    engine = Engine(1)
    with _measuring(chain, "tag"):
        chain.manifests["tag"] = tag.run_tag(config, vocabulary, engine, overwrite=False)
    with _measuring(chain, "detect"):
        chain.manifests["detect"] = run_detect(config, vocabulary, engine, overwrite=False, import_paths=import_paths)
    if chain.written("detect", "images"):
        _run_rest(chain, config, vocabulary, "index")
        if chain.written("tag", "sentences"):
            _run_rest(chain, config, vocabulary, "mix")
    return chain


def _over(config: Config, folder: Path) -> Config:
    return replace(
        config,
        out=str(folder / "out"),
        text=replace(config.text, inputs=(str(folder / "sentences.jsonl"),)),
        images=replace(config.images, inputs=(str(folder / "images.jsonl"),)),
    )


def _run_rest(chain: Chain, config: Config, vocabulary: Vocabulary, stage: str) -> None:
    config = replace(config, out=chain.folder)
    with _measuring(chain, stage):
        if stage == "index":
            chain.manifests[stage] = index.run_index(config, vocabulary, Engine(1), overwrite=False)
        else:
            chain.manifests[stage] = mix.run_mix(config, Engine(1), overwrite=False)


def _paths(refs: Sequence[ImageRef], folder: Path, config: Config) -> Iterator[str]:
    """Paths of the images: their own, or those of copies where they lie in a tar or Parquet."""
    for ref in refs:
        if ref.position < 0 and not ref.reason:
            yield ref.source if files.is_url(ref.source) else os.path.abspath(ref.source)
            continue
        ((_, data),) = read_images([ref], max_file_bytes(config.images.max_megapixels * 1e6))
        if not isinstance(data, Unreadable):
            copy = folder / f"{ref.image_id}.img"
            copy.write_bytes(data)
            yield str(copy)


@contextmanager
def _measuring(chain: Chain, stage: str) -> Iterator[None]:
    """Processor time of this process, all threads, and how much its memory grows."""
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(chain, stage, own_memory(), stop), daemon=True)
    watcher.start()
    before = time.process_time()
    try:
        with _without_messages():
            yield
    finally:
        stop.set()
        watcher.join()
        chain.cpu[stage] = time.process_time() - before - chain.watching


def _watch(chain: Chain, stage: str, before: int, stop: threading.Event) -> None:
    while True:
        last = stop.wait(0.1)
        chain.grown[stage] = max(chain.grown.get(stage, 0), own_memory() - before)
        if last:
            chain.watching = time.thread_time()
            return


def own_memory() -> int:
    """Bytes of memory that this process holds, pages of mapped files left aside where the system tells."""
    try:
        with open("/proc/self/status") as file:
            return 1024 * int(next(line for line in file if line.startswith("RssAnon")).split()[1])
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@dataclass(frozen=True)
class _Nothing:
    """Does nothing, in a process of its own."""

    def load(self) -> None:
        return None

    def run(self, unit: Unit[None], resource: None) -> UnitResult[None]:
        return UnitResult(None)


def _start_of_a_process(folder: Path) -> float:
    """Processor seconds of a worker process that does nothing."""
    stage = Stage(TAG, str(folder))
    begin_stage(stage, Plan({}, [], {}), overwrite=False)
    units = [Unit(f"nothing-{number}", None) for number in range(2)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    Engine(2).run(stage, units, type(None), lambda units: units | "Do" >> DoUnits(stage, _Nothing()), label="nothing")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 2


def _measured(
    config: Config, vocabulary: Vocabulary, chains: tuple[Chain, Chain, Chain], start: float, base: int
) -> Measured:
    cold, small, large = chains
    sentences, images = large.read("tag", "sentences"), large.read("detect", "images")
    found = sum(entry.rows for entry in large.manifests["tag"].rejects if entry.name.startswith("tag-find-"))
    regions = sum(large.regions.values())
    patches = large.written("index", "regions")
    views = large.read("mix", "views")
    image_samples = large.written("mix", "images") if "images" in large.manifests["mix"].counts else 0
    loads = {stage: sum(each.load for each in cold.times(stage)) for stage in ("tag", "detect")}
    launcher = {}
    for stage in NAMES:
        warm = [chain for chain in (small, large) if stage in chain.manifests]
        line = plan.fit([(_pieces(chain, stage), chain.launcher(stage)) for chain in warm])
        first = max(cold.launcher(stage) - small.launcher(stage), 0.0) if stage in cold.manifests else 0.0
        launcher[stage] = Line(line.fixed + first, line.each)
    places = _time_places(config, vocabulary, large)
    index_line = launcher["index"]  # in which the places are, as they are no units
    launcher["index"] = Line(max(index_line.fixed - places * regions, 0.0), index_line.each)
    rejects = [entry for chain in large.manifests.values() for entry in chain.rejects]
    reject_rows = sum(entry.rows for entry in rejects)
    return Measured(
        find=large.seconds("tag", "find-") / max(sentences, 1),
        candidates=(sentences - found) / max(sentences, 1),
        duplicates=large.seconds("tag", "duplicates-") / max(sentences - found, 1),
        tag=large.seconds("tag", "part-") / max(sentences - found, 1),
        tagged=large.written("tag", "sentences") / max(sentences, 1),
        survey=large.seconds("detect", "survey-") / max(images, 1),
        detect=large.seconds("detect", "part-") / max(images, 1),
        with_regions=large.written("detect", "images") / max(images, 1),
        regions=regions / max(images, 1),
        places=places,
        gather=large.seconds("index", "candidates-") / max(regions, 1),
        concept=plan.fit([_concepts(chain) for chain in (small, large) if "index" in chain.manifests]),
        choose=_time_choice(config, large) if config.bank.selection == "diverse" else 0.0,
        kept=patches / max(regions, 1) if config.bank.selection == "diverse" else 1.0,
        concepts=tuple(sorted((count / max(regions, 1)
                               for count in large.regions.values()), reverse=True)),
        deal=large.seconds("mix", "shuffle-") / max(views, 1),
        bucket=large.seconds("mix", "bucket-") / max(views, 1),
        mixed=large.seconds("mix", "mixed-") / max(views, 1),
        image_sample=large.seconds("mix", "images-") / max(image_samples, 1),
        written=large.written("mix", "views") / max(views, 1),
        starts={"any": start, **{stage: start + loads[stage] for stage in loads}},
        loads=loads,
        launcher=launcher,
        memory=_memory(base, cold, large),
        tagged_bytes=large.bytes("tag", "part-") / max(large.written("tag", "sentences"), 1),
        region_bytes=large.bytes("detect") / max(regions, 1),
        bank_bytes=plan.fit(
            [(c.written("index", "regions"), c.bytes("index")) for c in (small, large) if "index" in c.manifests]
        ),
        mixed_bytes=large.bytes("mix", "mixed-") / max(large.written("mix", "views"), 1),
        image_sample_bytes=large.bytes("mix", "images-") / max(image_samples, 1),
        reject_bytes=sum(entry.bytes for entry in rejects) / max(reject_rows, 1),
    )  # fmt: skip


def _memory(base: int, cold: Chain, large: Chain) -> dict[str, int]:
    """Of a process that does this stage alone: what it loads, and what it needs beyond."""
    found = {stage: base + cold.grown.get(stage, 0) + large.grown[stage] for stage in large.grown}
    # A detector may need libraries that tagging had loaded before it, spaCy's torch.
    found["detect"] += cold.grown["tag"]
    return found


def _pieces(chain: Chain, stage: str) -> int:
    """By what the launcher's part grows: patches, where it puts a bank together, else units, whose results it reads."""
    return chain.written(stage, "regions") if stage == "index" else len(chain.times(stage))


def _concepts(chain: Chain) -> tuple[float, float]:
    """(candidates, seconds) of a concept, on average."""
    units = chain.times("index", "concepts-")
    counts = chain.regions.values()
    return sum(counts) / max(len(counts), 1), sum(unit.seconds for unit in units) / max(len(counts), 1)


def _time_places(config: Config, vocabulary: Vocabulary, chain: Chain) -> float:
    """Seconds a region of the first pass of indexing, which has no units."""
    ranking = Ranking(
        config.bank.selection,
        selection.candidate_limit(config.bank.selection, config.bank.max_patches_per_concept),
        config.seed,
        vocabulary.ids,
        files.join(chain.folder, DETECT.folder),
    )
    outputs = chain.manifests["detect"].outputs
    before = time.thread_time()
    for group in indexing.DEFAULT_UNITS.plan_groups(outputs):
        list_places(group, ranking)
    return (time.thread_time() - before) / max(sum(entry.rows for entry in outputs), 1)


def _time_choice(config: Config, chain: Chain) -> float:
    """Seconds for one candidate against one kept patch, by a concept made of the sample's patches and noise."""
    with files.open_read(files.join(chain.folder, INDEX.folder, FEATURES)) as file:
        known = np.lib.format.read_array(file, allow_pickle=False).astype(np.float32)
    rng = generator(config.seed, "probe")
    rows = known[np.arange(CHOSEN) % len(known)]
    rows = rows + rng.normal(0, float(rows.std()) + 1e-3, rows.shape).astype(np.float32)
    wanted = CHOSEN // selection.CANDIDATES_PER_PATCH
    before = time.thread_time()
    chosen = selection.choose("diverse", rows, wanted, config.bank.duplicate_similarity)
    return (time.thread_time() - before) / (CHOSEN * max(len(chosen.kept), 1))


def _with_training(measured: Measured, config: Config, chain: Chain, seconds: float) -> Measured:
    """Seconds of a training step, on all processors of this machine as training uses them, and until the first."""
    import torch

    from vlmixer.model.training import train

    torch.set_num_threads(os.cpu_count() or 1)
    assert config.train is not None

    def took(steps: int, name: str) -> float:
        short = replace(config.train or TrainConfig(), steps=steps, shards=None, checkpoint_every=steps)
        began = time.monotonic()
        train(Settings(config.seed, chain.folder, model=config.model, train=short), out=files.join(chain.folder, name))
        return time.monotonic() - began

    few = 2
    first = took(few, "run-0")
    again = took(few, "run-1")
    more = int(min(max(seconds / max(again / few, 1e-3), 4), 200))
    longer = took(more + few, "run-2")
    step = max(longer - again, 0.0) / more
    memory = {**measured.memory, "train": own_memory()}
    return replace(measured, train_step=step, train_start=max(first - few * step, 0.0), memory=memory)


def _shape(config: Config) -> Shape:
    limit = selection.candidate_limit(config.bank.selection, config.bank.max_patches_per_concept)
    return Shape(
        find_bytes=UNIT_BYTES,
        bucket_bytes=tag.SIZES.bucket_bytes,
        part_rows=tag.SIZES.rows_per_batch,
        parts_wanted=tag.SIZES.parts_wanted,
        most_batches=tag.SIZES.max_batches_per_part,
        images_a_unit=IMAGES_PER_UNIT,
        most_images_units=MAX_UNITS,
        survey_images=FILES_PER_PIECE,
        regions_a_group=indexing.DEFAULT_UNITS.regions_per_group,
        most_groups=indexing.DEFAULT_UNITS.max_groups,
        most_concept_units=indexing.DEFAULT_UNITS.max_concept_units,
        max_patches=config.bank.max_patches_per_concept,
        candidate_limit=limit,
        diverse=config.bank.selection == "diverse",
        views=config.mix.views,
        image_samples=config.mix.image_samples,
        samples_per_shard=config.mix.samples_per_shard,
        views_a_deal=mixing.DEFAULT_UNITS.views_per_shuffle,
        views_a_bucket=mixing.DEFAULT_UNITS.views_per_bucket,
        train_steps=None if config.train is None else config.train.steps,
    )


def done_before(out: str, stages: Sequence[str], plans: Mapping[str, int]) -> dict[str, float]:
    """By stage, the share of its units that is done in OUT already. plans: how many units each has."""
    known = {stage.name: stage for stage in STAGES}
    found: dict[str, float] = defaultdict(float)
    for stage in stages:
        if stage == "train":
            found[stage] = float(files.exists(files.join(out, "run", "model.safetensors")))
            continue
        place = Stage(known[stage], out)
        if files.exists(files.join(place.folder, manifest.NAME)):
            manifest.read(place.folder)
            found[stage] = 1.0
        else:
            names = [name for name in files.list_files(place.work) if name.endswith(".json") and name != "plan.json"]
            found[stage] = min(len(names) / max(plans.get(stage, 1), 1), 0.99)
    return dict(found)


def plan_run(
    config: Config,
    *,
    scale: float | None = None,
    sentences: int | None = None,
    images: int | None = None,
    workers: Sequence[int] = (),
    price: float | None = None,
    seconds: float = 5.0,
    import_paths: Sequence[str] = (),
) -> plan.Report:
    """What `vlmixer run` will take here, or with corpora of another size. Raises CallError, UserError."""
    sample = take_sample(config)
    measured, shape, notes = probe(config, sample, seconds, import_paths)
    corpus = sample.corpus
    done: Mapping[str, float] = {}
    if scale or sentences or images:
        times = scale or 1.0
        corpus = corpus.scaled(sentences or round(corpus.sentences * times), images or round(corpus.images * times))
        notes.append("sizes are those that were asked for; what is in the output folder is left aside")
    else:
        fresh = plan.plan_stages(corpus, measured, shape, {})
        done = done_before(config.out, [each.stage for each in fresh], {each.stage: each.units for each in fresh})
    cores = processors()
    return plan.Report(
        corpus,
        plan.plan_stages(corpus, measured, shape, done),
        sorted({1, cores, *workers}),
        cores,
        price,
        plan.EFFICIENCY,
        (*notes, *sample.notes, *ASSUMPTIONS),
    )


ASSUMPTIONS = (
    "every worker has a processor to itself, like this machine's, and the memory in the table; files are read and "
    "written as fast as here",
    f"of several workers each does {plan.EFFICIENCY:.0%} of what one alone does; the launcher's part is not shared",
    "the corpus is like the sample: as many mentions, regions and concepts; duplicates all over it, of which a sample "
    "has hardly any, are taken for new",
)
