"""Computes what a run will take from what a probe measured. Pure arithmetic; probe.py measures.

Each stage says how many units its passes have for a corpus of a given size, and how many pieces (sentences, images, …)
they process. The time of a pass is the measured time per piece times the pieces. One pass is different: choosing the
patches of a concept costs candidates × patches kept, and both end at a limit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from vlmixer.artifacts import stages
from vlmixer.bank.selection import candidate_limit
from vlmixer.pipeline.config import Config
from vlmixer.pipeline.image.readers.image_files import FILES_PER_PIECE
from vlmixer.pipeline.image.survey import DetectSizes
from vlmixer.pipeline.indexing.units import IndexSizes
from vlmixer.pipeline.mix.units import MixSizes
from vlmixer.pipeline.planning.linear import LinearCost
from vlmixer.pipeline.planning.stage_plan import PassPlan, StagePlan
from vlmixer.pipeline.text.units import TagSizes
from vlmixer.pipeline.units.passes import StagePass, UnitKind

TRAIN = "train"


@dataclass(frozen=True)
class CorpusSize:
    """The inputs: sentences, images, and their bytes.

    text_units: units into which the text files can be divided, None for as many as their bytes make. exact: whether
    everything was counted, not estimated.
    """

    sentences: int
    sentence_bytes: int
    images: int
    image_bytes: int
    text_units: int | None = None
    exact: bool = True

    def scaled(self, sentences: int, images: int) -> "CorpusSize":
        """A corpus of the same kind with this many sentences and images."""
        return CorpusSize(
            sentences,
            round(self.sentence_bytes * sentences / max(self.sentences, 1)),
            images,
            round(self.image_bytes * images / max(self.images, 1)),
            exact=False,
        )


@dataclass(frozen=True)
class StageSizes:
    """The sizes of the stages' units."""

    tag: TagSizes = field(default_factory=TagSizes)
    detect: DetectSizes = field(default_factory=DetectSizes)
    index: IndexSizes = field(default_factory=IndexSizes)
    mix: MixSizes = field(default_factory=MixSizes)


SIZES = StageSizes()


@dataclass(frozen=True)
class Measured:
    """What the probe found: processor seconds, bytes, and shares.

    seconds: per piece, by kind of unit. start: until a worker process can work, if it loads nothing. By kind of unit:
    `loads`, what its worker needs to load, with the imports for it; `warm_loads`, without, because worker processes
    begin with packages imported. By the name of the stage: `launcher`, what the launcher does over the units;
    `memory` of the largest process.
    """

    seconds: Mapping[UnitKind, float] = field(default_factory=dict)
    start: float = 0.0
    loads: Mapping[UnitKind, float] = field(default_factory=dict)
    warm_loads: Mapping[UnitKind, float] = field(default_factory=dict)
    launcher: Mapping[str, LinearCost] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)

    candidates: float = 1.0
    """Share of the sentences that are candidates in tagging."""
    tagged: float = 1.0
    """Share of the sentences that are written."""
    with_regions: float = 1.0
    """Share of the images that are written."""
    regions: float = 0.0
    """Regions per image, over all images."""
    concepts: tuple[float, ...] = ()
    """The share of each concept in the regions."""
    kept: float = 1.0
    """Share of a concept's candidates that are not near-duplicates."""
    written: float = 1.0
    """Share of the views that become samples."""

    concept: LinearCost = field(default_factory=LinearCost)
    """Seconds for choosing the patches of a concept, over its candidates."""
    choose: float = 0.0
    """Seconds for comparing one candidate with one patch that is kept."""

    train_start: float = 0.0
    train_step: float = 0.0

    tagged_bytes: float = 0.0
    """Per sentence that is written."""
    region_bytes: float = 0.0
    bank_bytes: LinearCost = field(default_factory=LinearCost)
    """Over the patches of the bank."""
    mixed_bytes: float = 0.0
    image_sample_bytes: float = 0.0
    reject_bytes: float = 0.0


def plan_stages(
    corpus: CorpusSize,
    measured: Measured,
    config: Config,
    done: Mapping[str, float],
    sizes: StageSizes = SIZES,
) -> list[StagePlan]:
    """The stages' plans for a corpus. done: by the name of the stage, the share that is done already."""
    estimate = _Estimate(corpus, measured, config, sizes)
    plans = [estimate.tag(), estimate.detect(), estimate.index(), estimate.mix()]
    if config.train is not None:
        plans.append(estimate.train(plans[-1].output_bytes))
    return [replace(plan, done=done.get(plan.stage, 0.0)) for plan in plans]


def candidates_of(regions: float, shares: Sequence[float], limit: int) -> list[float]:
    """How many candidates each concept has among this many regions."""
    return [min(regions * share, limit) for share in shares]


@dataclass(frozen=True)
class _Estimate:
    corpus: CorpusSize
    measured: Measured
    config: Config
    sizes: StageSizes

    def tag(self) -> StagePlan:
        corpus, measured = self.corpus, self.measured
        written = corpus.sentences * measured.tagged
        return self._stage(
            stages.TAG.name,
            self._tag_passes(),
            items={"sentences": corpus.sentences},
            input_bytes=corpus.sentence_bytes,
            output_bytes=written * measured.tagged_bytes + (corpus.sentences - written) * measured.reject_bytes,
        )

    def detect(self) -> StagePlan:
        corpus, measured = self.corpus, self.measured
        rejected = corpus.images * (1 - measured.with_regions)
        return self._stage(
            stages.DETECT.name,
            self.sizes.detect.passes(corpus.images, FILES_PER_PIECE),
            items={"images": corpus.images},
            input_bytes=corpus.image_bytes,
            output_bytes=self._regions * measured.region_bytes + rejected * measured.reject_bytes,
        )

    def index(self) -> StagePlan:
        measured, patches = self.measured, self._patches
        candidates = self._candidates
        choosing = sum(measured.concept.at(count) for count in candidates)
        if self.config.bank.selection == "diverse":
            choosing += measured.choose * sum(count * self._kept(count) for count in candidates)
        plan = self._stage(
            stages.INDEX.name,
            self.sizes.index.passes(self._regions, len(candidates), patches),
            items={"regions": round(self._regions)},
            input_bytes=self._regions * measured.region_bytes,
            output_bytes=measured.bank_bytes.at(patches) + (self._regions - patches) * measured.reject_bytes,
        )
        gather, choose, finish = plan.passes
        return replace(plan, passes=(gather, replace(choose, seconds=choosing), finish))

    def mix(self) -> StagePlan:
        corpus, measured, settings = self.corpus, self.measured, self.config.mix
        tagged = corpus.sentences * measured.tagged
        views = tagged * settings.views
        images = corpus.images * measured.with_regions * settings.image_samples
        (parts,) = (each.units for each in self._tag_passes() if each.name == "tag")
        layout = self.sizes.mix.layout(round(tagged), settings.views, settings.samples_per_shard, 0)
        inputs = tagged * measured.tagged_bytes + measured.bank_bytes.at(self._patches)
        written = views * measured.written
        outputs = written * measured.mixed_bytes + images * measured.image_sample_bytes
        return self._stage(
            stages.MIX.name,
            self.sizes.mix.passes(layout, views, parts, images, settings.samples_per_shard),
            items={"views": round(views), "image samples": round(images)},
            input_bytes=inputs + self._regions * settings.image_samples * measured.region_bytes,
            output_bytes=outputs + (views - written) * measured.reject_bytes,
        )

    def train(self, shards_bytes: int) -> StagePlan:
        assert self.config.train is not None
        steps, measured = self.config.train.steps, self.measured
        work = PassPlan(TRAIN, 1, steps * measured.train_step)
        memory = measured.memory.get(TRAIN, 0)
        return StagePlan(TRAIN, (work,), measured.train_start, {"steps": steps}, shards_bytes, 0, memory)

    def _tag_passes(self) -> tuple[StagePass, ...]:
        corpus = self.corpus
        candidates = corpus.sentences * self.measured.candidates
        return self.sizes.tag.passes(corpus.sentences, candidates, corpus.sentence_bytes, corpus.text_units)

    @property
    def _regions(self) -> float:
        return self.corpus.images * self.measured.regions

    @property
    def _candidates(self) -> list[float]:
        limit = candidate_limit(self.config.bank.selection, self.config.bank.max_patches_per_concept)
        return candidates_of(self._regions, self.measured.concepts, limit)

    @property
    def _patches(self) -> float:
        return sum(self._kept(count) for count in self._candidates)

    def _kept(self, candidates: float) -> float:
        """Patches kept among the candidates of a concept."""
        return min(candidates * self.measured.kept, self.config.bank.max_patches_per_concept)

    def _stage(
        self,
        name: str,
        passes: Sequence[StagePass],
        *,
        items: Mapping[str, int],
        input_bytes: float,
        output_bytes: float,
    ) -> StagePlan:
        planned = tuple(self._pass(each) for each in passes)
        return StagePlan(
            name,
            planned,
            self.measured.launcher.get(name, LinearCost()).at(sum(each.units for each in planned)),
            items,
            round(input_bytes),
            round(output_bytes),
            self.measured.memory.get(name, 0),
        )

    def _pass(self, planned: StagePass) -> PassPlan:
        seconds = sum(load.pieces * self.measured.seconds.get(load.kind, 0.0) for load in planned.loads)
        load = sum(self.measured.loads.get(each.kind, 0.0) for each in planned.loads)
        warm = sum(self.measured.warm_loads.get(each.kind, 0.0) for each in planned.loads)
        start = self.measured.start + warm if planned.new_job else 0.0
        return PassPlan(planned.name, planned.units, seconds, start, load)
