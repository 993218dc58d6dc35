"""All that the demo's page shows: `gather` reads an OUT folder and its drawn world, `write_report` draws the page."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.rejects import REASONS
from vlmixer.artifacts.samples import ImageSample, MixedSample
from vlmixer.artifacts.stages import FOLDERS
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.report.bank import record_view
from vlmixer.pipeline.report.charts import HEIGHT, WIDTH, Curve, curve
from vlmixer.pipeline.report.crops import EmbeddedCrops
from vlmixer.pipeline.report.demo.detection import DetectionScore, SceneView, gather_detection
from vlmixer.pipeline.report.demo.retrieval import Retrieval, conclusion, read_scores
from vlmixer.pipeline.report.demo.tagging import TaggingPart, gather_tagging
from vlmixer.pipeline.report.pages import write_page
from vlmixer.pipeline.report.samples import ImageRow, SentenceRow, choose_samples, image_row, sentence_row
from vlmixer.pipeline.report.sentences import PatchView

PATCHES, MIXED, IMAGES = 12, 12, 3
"""Patches of a concept, mixed sentences and image samples on the page."""
LOSSES = {
    "contrastive": "Sentence against its mixed view",
    "masked_language": "Masked words of mixed sentences",
    "masked_text": "Masked words of sentences",
    "replaced_words": "Words under patches",
    "masked_tags": "Masked tags of images",
}


@dataclass(frozen=True)
class StageCount:
    """How many inputs of a kind a stage read and wrote, and how many it rejected for which reason."""

    stage: str
    kind: str
    read: int
    written: int
    rejected: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class ConceptView:
    """A concept's row: its number of patches, and some of them."""

    name: str
    count: int
    patches: tuple[PatchView, ...]


@dataclass(frozen=True)
class DemoReport:
    """All that the demo's page shows."""

    seed: int
    counts: tuple[StageCount, ...]
    steps: int
    tagging: TaggingPart
    scenes: tuple[SceneView, ...]
    detection: DetectionScore
    concepts: tuple[ConceptView, ...]
    mixed: tuple[SentenceRow, ...]
    images: tuple[ImageRow, ...]
    curves: tuple[Curve, ...]
    retrieval: Retrieval
    conclusion: str


def write_report(path: str, report: DemoReport) -> None:
    """Write the page at `path`."""
    by_kind = {(count.stage, count.kind): count for count in report.counts}
    write_page(path, "demo.html", report=report, by_kind=by_kind, width=WIDTH, height=HEIGHT)


def gather(out: str, world_folder: str, scores: Mapping[str, Any], seed: int) -> DemoReport:
    """Read what the page shows.

    out: a finished demo's folder (tagged/, regions/, bank/, shards/, rejects/, run/). world_folder: the world it was
    made from, written with `seed`. scores: what RetrievalReport.to_json gives. Raises UserError for folders that are
    not finished or damaged, ValueError if the world is that of another seed.
    """
    tagging = gather_tagging(files.join(out, "tagged"), world_folder, seed)
    scenes, detection = gather_detection(files.join(out, "regions"), world_folder)
    bank = PatchBank.open(files.join(out, "bank"))
    crops = EmbeddedCrops(bank)
    samples = choose_samples(files.join(out, "shards"), 4 * MIXED)
    mixed = [sample for sample in samples if isinstance(sample, MixedSample)]
    images = [sample for sample in samples if isinstance(sample, ImageSample)]
    images.sort(key=lambda sample: -len(sample.patches))
    log = _log(files.join(out, "run", "log.jsonl"))
    retrieval = read_scores(scores)
    return DemoReport(
        seed=seed,
        counts=tuple(_counts(out)),
        steps=int(log[-1]["step"]) if log else 0,
        tagging=tagging,
        scenes=scenes,
        detection=detection,
        concepts=tuple(_concepts(bank)),
        mixed=tuple(sentence_row(sample, crops) for sample in mixed[:MIXED]),
        images=tuple(image_row(sample, crops) for sample in images[:IMAGES]),
        curves=tuple(_curves(log)),
        retrieval=retrieval,
        conclusion=conclusion(retrieval),
    )


def _counts(out: str) -> Iterator[StageCount]:
    for folder in FOLDERS:
        content = manifest.read(files.join(out, folder))
        for kind, counts in content.counts.items():
            rejected = tuple((REASONS[reason], number) for reason, number in counts.rejected.items())
            yield StageCount(content.stage, kind, counts.read, counts.written, rejected)


def _concepts(bank: PatchBank) -> Iterator[ConceptView]:
    for concept in bank.concepts:
        records = bank.patches(concept.name)[:PATCHES] if bank.counts[concept.name] else ()
        views = tuple(record_view(bank, record, longest=None) for record in records)
        yield ConceptView(concept.name, bank.counts[concept.name], views)


def _log(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in files.read_bytes(path).decode().splitlines()]


def _curves(log: Sequence[Mapping[str, Any]]) -> Iterator[Curve]:
    """One curve per loss, none for a loss that was off (0 throughout)."""
    steps = [int(line["step"]) for line in log]
    for name, title in LOSSES.items():
        values = [float(line.get(name, 0.0)) for line in log]
        if any(values):
            yield curve(title, steps, values)
