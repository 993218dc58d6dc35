"""What a run will take: arithmetic on what a probe measured. Pure; pipeline/jobs/probe.py measures.

A stage is a line of passes. A pass has units of work, which workers share, and costs a process start a worker where
there is more than one; the launcher's own work comes on top and is shared by nobody. All that is measured a piece
(a sentence, an image, …) grows with the pieces; what does not is computed the way the stages do it: patches kept of a
concept end at a limit, choosing them takes the product of candidates and patches kept.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from vlmixer.artifacts import stages

STAGES = (*stages.NAMES, "train")
EFFICIENCY = 0.8
"""Of so much use is each of several workers. With two, 0.84 was measured for tagging, 0.76 for detection."""


@dataclass(frozen=True)
class Corpus:
    """What goes in: how many sentences and images, and their bytes. text_units: those into which the files can be
    divided, 0 for as many as their bytes make. exact: whether all was counted, not inferred."""

    sentences: int
    sentence_bytes: int
    images: int
    image_bytes: int
    text_units: int = 0
    exact: bool = True

    def scaled(self, sentences: int, images: int) -> "Corpus":
        """A corpus of the same kind with so many of each."""
        return Corpus(
            sentences,
            round(self.sentence_bytes * sentences / max(self.sentences, 1)),
            images,
            round(self.image_bytes * images / max(self.images, 1)),
            exact=False,
        )


@dataclass(frozen=True)
class Line:
    """Seconds (or bytes) that grow with pieces: `fixed`, and `each` for every piece."""

    fixed: float = 0.0
    each: float = 0.0

    def at(self, pieces: float) -> float:
        """For so many pieces."""
        return self.fixed + self.each * pieces


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """The line through measured (pieces, value) by least squares, neither part of it below 0."""
    count = len(points)
    if not count:
        return Line()
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    each = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    if each <= 0:
        return Line(max(mean_y, 0.0), 0.0)
    if mean_y - each * mean_x < 0:  # then through the origin, by the same measure
        return Line(0.0, sum(x * y for x, y in points) / sum(x * x for x, _ in points))
    return Line(mean_y - each * mean_x, each)


@dataclass(frozen=True)
class Measured:
    """What the probe found, in seconds of a processor, bytes, and shares.

    A seconds value is for one piece unless it says otherwise. By stage: `starts`, seconds until a new process can work,
    "any" for one that loads nothing; `loads`, what of it a process that is there needs, too; `launcher`, what one
    process does however many workers there are, over the stage's units (in indexing, over the patches kept); `memory`
    of the largest process.
    """

    find: float = 0.0  # a sentence in the first pass of tagging
    candidates: float = 1.0  # share of the sentences that go on to the second
    duplicates: float = 0.0  # a candidate that is compared with the others
    tag: float = 0.0  # a candidate that is tagged
    tagged: float = 1.0  # share of the sentences that are written
    survey: float = 0.0  # an image
    detect: float = 0.0  # an image
    with_regions: float = 1.0  # share of the images that are written
    regions: float = 0.0  # of an image, over all images
    places: float = 0.0  # a region in the first pass of indexing
    gather: float = 0.0  # a region in the second
    concept: Line = field(default_factory=Line)  # a concept in the third, over its candidates
    choose: float = 0.0  # for one candidate against one patch that is kept
    kept: float = 1.0  # share of candidates that are no near-duplicates
    concepts: tuple[float, ...] = ()  # each concept's share of the regions
    deal: float = 0.0  # a view that is dealt out
    bucket: float = 0.0  # a view that is sorted into its shard
    mixed: float = 0.0  # a mixed sample
    image_sample: float = 0.0
    written: float = 1.0  # share of the views that become samples
    train_start: float = 0.0
    train_step: float = 0.0
    starts: Mapping[str, float] = field(default_factory=dict)
    loads: Mapping[str, float] = field(default_factory=dict)
    launcher: Mapping[str, Line] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    tagged_bytes: float = 0.0  # a sentence that is written
    region_bytes: float = 0.0
    bank_bytes: Line = field(default_factory=Line)  # over its patches
    mixed_bytes: float = 0.0
    image_sample_bytes: float = 0.0
    reject_bytes: float = 0.0


@dataclass(frozen=True)
class Shape:
    """The settings and constants of the stages that shape their units."""

    find_bytes: int
    bucket_bytes: int
    part_rows: int
    parts_wanted: int
    most_batches: int
    images_a_unit: int
    most_images_units: int
    survey_images: int
    regions_a_group: int
    most_groups: int
    most_concept_units: int
    max_patches: int
    candidate_limit: int
    diverse: bool
    views: int
    image_samples: bool
    samples_per_shard: int
    views_a_deal: int
    views_a_bucket: int
    train_steps: int | None = None


@dataclass(frozen=True)
class Pass:
    """So many equal units with so much work in all. A single worker is the launcher's own process, which needs `load`
    seconds first; several are new processes, which need `start`, side by side."""

    name: str
    units: int
    seconds: float
    start: float = 0.0
    load: float = 0.0

    def begin(self, workers: int) -> float:
        """Seconds until work begins."""
        return self.start if self._used(workers) > 1 else self.load * (self.units > 0)

    def work(self, workers: int, efficiency: float) -> float:
        """Seconds of work by the clock; a unit is done by one worker."""
        used = self._used(workers)
        return self.seconds * math.ceil(self.units / used) / self.units / efficiency if used > 1 else self.seconds

    def _used(self, workers: int) -> int:
        return min(workers, self.units)


@dataclass(frozen=True)
class StagePlan:
    """What a stage will take. items: what goes in, by kind; done: the share that is done already."""

    stage: str
    passes: tuple[Pass, ...]
    launcher: float
    items: Mapping[str, int]
    input_bytes: int
    output_bytes: int
    memory: int
    done: float = 0.0

    @property
    def units(self) -> int:
        """Of all passes."""
        return sum(each.units for each in self.passes)

    @property
    def work(self) -> float:
        """Seconds of a processor that are left, starts of processes left aside."""
        return (self.launcher + sum(each.seconds for each in self.passes)) * (1 - self.done)

    def time(self, workers: int, efficiency: float = EFFICIENCY) -> float:
        """Seconds by the clock that are left."""
        if self.done >= 1:
            return 0.0
        work = self.launcher + sum(each.work(workers, efficiency) for each in self.passes)
        return work * (1 - self.done) + sum(each.begin(workers) for each in self.passes)

    def cost(self, workers: int, price: float, efficiency: float = EFFICIENCY) -> float:
        """All workers, paid while the stage lasts; price: of one for an hour."""
        return workers * price * self.time(workers, efficiency) / 3600


def candidates_of(regions: float, shares: Sequence[float], limit: int) -> list[float]:
    """How many candidates each concept has among so many regions."""
    return [min(regions * share, limit) for share in shares]


def plan_stages(corpus: Corpus, measured: Measured, shape: Shape, done: Mapping[str, float]) -> list[StagePlan]:
    """The stages' plans for a corpus. done: by stage, the share that is done already."""
    plans = [_tag(corpus, measured, shape), _detect(corpus, measured, shape)]
    regions = corpus.images * measured.regions
    candidates = candidates_of(regions, measured.concepts, shape.candidate_limit)
    patches = sum(min(count * measured.kept, shape.max_patches) for count in candidates)
    plans.append(_index(measured, shape, regions, candidates, patches))
    plans.append(_mix(corpus, measured, shape, patches))
    if shape.train_steps is not None:
        steps = Pass("train", 1, shape.train_steps * measured.train_step)
        items, shards = {"steps": shape.train_steps}, plans[-1].output_bytes
        plans.append(
            StagePlan("train", (steps,), measured.train_start, items, shards, 0, measured.memory.get("train", 0))
        )
    return [replace(plan, done=done.get(plan.stage, 0.0)) for plan in plans]


def _ceil(amount: float, size: float) -> int:
    return math.ceil(amount / size) if amount > 0 else 0


def count_parts(candidates: float, finds: int, shape: Shape) -> int:
    """Units of the second pass of tagging; the last of each unit of the first is smaller, half of it on average."""
    batches = _ceil(candidates, shape.part_rows)
    size = min(max(batches // shape.parts_wanted, 1), shape.most_batches)
    return max(_ceil(batches, size), min(finds, batches))


def _tag(corpus: Corpus, measured: Measured, shape: Shape) -> StagePlan:
    sentences = corpus.sentences
    finds = corpus.text_units or _ceil(corpus.sentence_bytes, shape.find_bytes)
    buckets = 1 + corpus.sentence_bytes // shape.bucket_bytes
    candidates = sentences * measured.candidates
    written = sentences * measured.tagged
    start = measured.starts.get("any", 0.0)
    passes = (
        Pass("read", finds, sentences * measured.find, start),
        Pass("duplicates", buckets, candidates * measured.duplicates, start),
        Pass("tag", count_parts(candidates, finds, shape), candidates * measured.tag,
             measured.starts.get("tag", start), measured.loads.get("tag", 0.0)),
    )  # fmt: skip
    return StagePlan(
        "tag",
        passes,
        measured.launcher.get("tag", Line()).at(sum(each.units for each in passes)),
        {"sentences": sentences},
        corpus.sentence_bytes,
        round(written * measured.tagged_bytes + (sentences - written) * measured.reject_bytes),
        measured.memory.get("tag", 0),
    )


def _detect(corpus: Corpus, measured: Measured, shape: Shape) -> StagePlan:
    images = corpus.images
    regions = images * measured.regions
    start = measured.starts.get("any", 0.0)
    passes = (
        Pass("survey", _ceil(images, shape.survey_images), images * measured.survey, start),
        Pass("detect", min(_ceil(images, shape.images_a_unit), shape.most_images_units), images * measured.detect,
             measured.starts.get("detect", start), measured.loads.get("detect", 0.0)),
    )  # fmt: skip
    return StagePlan(
        "detect",
        passes,
        measured.launcher.get("detect", Line()).at(sum(each.units for each in passes)),
        {"images": images},
        corpus.image_bytes,
        round(regions * measured.region_bytes + images * (1 - measured.with_regions) * measured.reject_bytes),
        measured.memory.get("detect", 0),
    )


def _index(measured: Measured, shape: Shape, regions: float, candidates: Sequence[float], patches: float) -> StagePlan:
    groups = min(_ceil(regions, shape.regions_a_group), shape.most_groups)
    choosing = sum(measured.concept.at(count) for count in candidates)
    if shape.diverse:
        choosing += measured.choose * sum(count * min(count * measured.kept, shape.max_patches) for count in candidates)
    passes = (  # of one pipeline, so that its processes start once
        Pass("gather", groups, regions * (measured.places + measured.gather), measured.starts.get("any", 0.0)),
        Pass("choose", min(len(candidates), shape.most_concept_units), choosing),
    )
    return StagePlan(
        "index",
        passes,
        measured.launcher.get("index", Line()).at(patches),
        {"regions": round(regions)},
        round(regions * measured.region_bytes),
        round(measured.bank_bytes.at(patches) + (regions - patches) * measured.reject_bytes),
        measured.memory.get("index", 0),
    )


def _mix(corpus: Corpus, measured: Measured, shape: Shape, patches: float) -> StagePlan:
    tagged = corpus.sentences * measured.tagged
    views = tagged * shape.views
    images = corpus.images * measured.with_regions if shape.image_samples else 0.0
    regions = corpus.images * measured.regions if shape.image_samples else 0.0
    finds = corpus.text_units or _ceil(corpus.sentence_bytes, shape.find_bytes)
    parts = count_parts(corpus.sentences * measured.candidates, finds, shape)
    shards, image_shards = _ceil(views, shape.samples_per_shard), _ceil(images, shape.samples_per_shard)
    deals = min(_ceil(views, shape.views_a_deal), parts)
    buckets = _ceil(shards, max(min(math.isqrt(shards), shape.views_a_bucket // shape.samples_per_shard), 1))
    passes = (
        Pass("deal", deals, views * measured.deal, measured.starts.get("any", 0.0)),
        Pass("sort", buckets, views * measured.bucket),
        Pass("mix", shards + image_shards, views * measured.mixed + images * measured.image_sample),
    )
    inputs = tagged * measured.tagged_bytes + measured.bank_bytes.at(patches) + regions * measured.region_bytes
    written = views * measured.written
    outputs = written * measured.mixed_bytes + images * measured.image_sample_bytes
    return StagePlan(
        "mix",
        passes,
        measured.launcher.get("mix", Line()).at(sum(each.units for each in passes)),
        {"views": round(views), "image samples": round(images)},
        round(inputs),
        round(outputs + (views - written) * measured.reject_bytes),
        measured.memory.get("mix", 0),
    )


def duration(seconds: float) -> str:
    """Seconds under ten minutes, else hours and minutes."""
    if seconds < 600:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,}:{minutes % 60:02d} h"


def size(amount: float) -> str:
    """Bytes in a decimal unit."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 100 else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:,.3g} TB" if amount < 1000 else f"{amount:,.0f} TB"


@dataclass(frozen=True)
class Report:
    """A whole plan, for people and for programs."""

    corpus: Corpus
    stages: Sequence[StagePlan]
    workers: Sequence[int]
    cores: int
    price: float | None
    efficiency: float
    assumptions: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """Plain data; seconds, bytes, and the price's own currency."""
        return {
            "corpus": asdict(self.corpus),
            "cores": self.cores,
            "efficiency": self.efficiency,
            "stages": [self._stage_json(plan) for plan in self.stages],
            "seconds": {str(count): self._total(count) for count in self.workers},
            "cost": None if self.price is None else {str(count): self._total_cost(count) for count in self.workers},
            "assumptions": list(self.assumptions),
        }

    def _stage_json(self, plan: StagePlan) -> dict[str, Any]:
        costs = None
        if self.price is not None:
            costs = {str(count): plan.cost(count, self.price, self.efficiency) for count in self.workers}
        return {
            "stage": plan.stage,
            "done": plan.done,
            "units": plan.units,
            "items": dict(plan.items),
            "input_bytes": plan.input_bytes,
            "output_bytes": plan.output_bytes,
            "work_seconds": plan.work,
            "launcher_seconds": plan.launcher,
            "passes": [{"pass": each.name, "units": each.units, "work_seconds": each.seconds} for each in plan.passes],
            "seconds": {str(count): plan.time(count, self.efficiency) for count in self.workers},
            "cost": costs,
            "memory_bytes": plan.memory,
        }

    def _total(self, workers: int) -> float:
        return sum(plan.time(workers, self.efficiency) for plan in self.stages)

    def _total_cost(self, workers: int) -> float:
        return sum(plan.cost(workers, self.price or 0.0, self.efficiency) for plan in self.stages)

    def to_table(self) -> str:
        """For people."""
        head = ["stage", "units", "what goes in", "", "on disk", "memory",
                *(f"{count} worker{'s' * (count > 1)}" for count in self.workers)]  # fmt: skip
        rows = [head]
        for plan in self.stages:
            items = " + ".join(f"{number:,} {kind}" for kind, number in plan.items.items())
            times = [
                "done" if plan.done >= 1 else duration(plan.time(count, self.efficiency)) for count in self.workers
            ]
            name = plan.stage if not 0 < plan.done < 1 else f"{plan.stage} ({plan.done:.0%} done)"
            rows.append(
                [
                    name,
                    f"{plan.units:,}",
                    items,
                    size(plan.input_bytes),
                    size(plan.output_bytes),
                    size(plan.memory),
                    *times,
                ]
            )
        total = sum(plan.output_bytes for plan in self.stages)
        times = [duration(self._total(count)) for count in self.workers]
        rows.append(["all", f"{sum(plan.units for plan in self.stages):,}", "", "", size(total), "", *times])
        if self.price is not None:
            costs = [f"{self._total_cost(count):,.2f}" for count in self.workers]
            rows.append([f"cost, at {self.price:g} a worker hour", "", "", "", "", "", *costs])
        return "\n".join([_aligned(rows), "", *(f"- {text}" for text in self.assumptions)])


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    left = {0, 2}
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
