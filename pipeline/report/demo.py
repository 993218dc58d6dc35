"""The demo's page: what went through each stage, from sentences and pictures to retrieval, with the numbers beside it.

`gather` reads an OUT folder and the drawn world it was made from, `write_report` draws what was gathered.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.manifest import Counts
from vlmixer.artifacts.rejects import REASONS
from vlmixer.artifacts.samples import ImageSample, Mention, MixedSample
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.demo import captions
from vlmixer.pipeline.demo.captions import Caption
from vlmixer.pipeline.demo.scoring import box_iou
from vlmixer.pipeline.report.bank import record_view
from vlmixer.pipeline.report.charts import HEIGHT, WIDTH, Curve, curve
from vlmixer.pipeline.report.crops import Crops
from vlmixer.pipeline.report.pages import data_uri, write_page
from vlmixer.pipeline.report.samples import ImageRow, SentenceRow, choose_samples, image_row, sentence_row
from vlmixer.pipeline.report.sentences import Mark, PatchView, Piece, cut, mention_mark

SENTENCES, LOOKALIKES, SCENES, PATCHES, MIXED, IMAGES = 8, 8, 12, 12, 12, 3
"""How many of each the page shows; of the patches, in a concept's row."""
LOSSES = {
    "contrastive": "Sentence against its mixed view",
    "masked_language": "Masked words",
    "masked_tags": "Masked tags of images",
}
METHODS = {
    "regions + tags": "regions and tags, trained",
    "regions": "regions alone, trained",
    "tags": "tags alone, trained",
    "tag overlap": "tag overlap, no training",
    "chance": "chance",
}
"""Rows of the retrieval table: the trained network's first, then what it is to be compared with."""
CHECKED = 500
"""Sentences whose grammar is gone through again, which takes some milliseconds each, to measure the tagger."""
OVERLAP = 0.5
"""Intersection over union from which a detection counts as right, if its label is."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class StageCount:
    """How many of a kind of input a stage read and wrote, and how many it left out for which reason."""

    stage: str
    kind: str
    read: int
    written: int
    rejected: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Share:
    """`right` of `total`."""

    right: int
    total: int

    @property
    def percent(self) -> float:
        """In percent; 0 of none."""
        return 100 * self.right / self.total if self.total else 0.0


@dataclass(frozen=True)
class Tagging:
    """The tagger against what the grammar of so many sentences knows: names found, mentions that are names, and
    look-alikes that were taken for names."""

    sentences: int
    found: Share
    correct: Share
    fooled: Share


@dataclass(frozen=True)
class Detection:
    """The detector against the scenes' gold boxes: detections that are right, and things that were found."""

    correct: Share
    found: Share


@dataclass(frozen=True)
class SceneBox:
    """A detection, as percentages of its scene's width and height."""

    label: str
    score: float
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class SceneView:
    """A scene with its detections."""

    picture: str
    width: int
    height: int
    boxes: tuple[SceneBox, ...]


@dataclass(frozen=True)
class ConceptView:
    """A concept's row: how many patches it has, and some of them."""

    name: str
    count: int
    patches: tuple[PatchView, ...]


@dataclass(frozen=True)
class Recall:
    """A number in percent with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RetrievalRow:
    """A method's recall at 1, 5 and 10, and the rank of the right answer (median)."""

    method: str
    trained: bool
    recall: tuple[Recall, ...]
    median_rank: float


@dataclass(frozen=True)
class Retrieval:
    """Scores on true pairs, by direction ("text to image" first)."""

    images: int
    captions: int
    directions: dict[str, tuple[RetrievalRow, ...]]


@dataclass(frozen=True)
class DemoReport:
    """All that the demo's page shows."""

    seed: int
    counts: tuple[StageCount, ...]
    steps: int
    sentences: tuple[tuple[Piece, ...], ...]
    lookalikes: tuple[tuple[Piece, ...], ...]
    tagging: Tagging
    scenes: tuple[SceneView, ...]
    detection: Detection
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
    not finished or damaged, ValueError if the world is another seed's.
    """
    lines = files.read_bytes(files.join(world_folder, "captions.txt")).decode().splitlines()[:CHECKED]
    told = list(captions.sentences(seed, "sentences", len(lines)))
    if [caption.text for caption in told] != lines:
        raise ValueError(f"{world_folder}/captions.txt is not the world of seed {seed}")
    tagged = _tagged(files.join(out, "tagged"))
    sentences, lookalikes = _chosen_sentences(told, tagged)
    scenes, detection = _scenes(files.join(out, "regions"), world_folder)
    bank = PatchBank.open(files.join(out, "bank"))
    crops = Crops(bank)
    samples = choose_samples(files.join(out, "shards"), 4 * MIXED)
    mixed = [sample for sample in samples if isinstance(sample, MixedSample)]
    images = [sample for sample in samples if isinstance(sample, ImageSample)]
    images.sort(key=lambda sample: -len(sample.patches))
    log = _log(files.join(out, "run", "log.jsonl"))
    retrieval = _retrieval(scores)
    return DemoReport(
        seed=seed,
        counts=tuple(_counts(out)),
        steps=int(log[-1]["step"]) if log else 0,
        sentences=sentences,
        lookalikes=lookalikes,
        tagging=_tagging(told, tagged),
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
    for folder in ("tagged", "regions", "bank", "shards"):
        content = manifest.read(files.join(out, folder))
        for kind, counts in content.counts.items():
            yield StageCount(content.stage, kind, counts.read, counts.written, _reasons(counts))


def _reasons(counts: Counts) -> tuple[tuple[str, int], ...]:
    return tuple((REASONS[reason], number) for reason, number in counts.rejected.items())


def _tagged(folder: str) -> dict[str, list[Mention]]:
    """The mentions of each tagged text."""
    mentions: dict[str, list[Mention]] = {}
    for entry in (output for output in manifest.read(folder).outputs if output.name.endswith(".parquet")):
        with files.open_read(files.join(folder, entry.name)) as file:
            for row in pq.read_table(file, columns=["text", "mentions"], use_threads=False).to_pylist():
                mentions[row["text"]] = [Mention(**mention) for mention in row["mentions"]]
    return mentions


def _chosen_sentences(
    told: Sequence[Caption], tagged: Mapping[str, list[Mention]]
) -> tuple[tuple[tuple[Piece, ...], ...], tuple[tuple[Piece, ...], ...]]:
    """Plain sentences, spread over those told, and one with each of several look-alikes."""
    plain = [caption for caption in told if not caption.decoys]
    sentences = [plain[place * len(plain) // SENTENCES] for place in range(min(SENTENCES, len(plain)))]
    lookalikes: dict[str, Caption] = {}
    for caption in told:
        for decoy in caption.decoys:
            lookalikes.setdefault(caption.text[decoy.start : decoy.end], caption)
    chosen = list(dict.fromkeys(lookalikes.values()))[:LOOKALIKES]
    return (
        tuple(_pieces(caption, tagged.get(caption.text, [])) for caption in sentences),
        tuple(_pieces(caption, tagged.get(caption.text, [])) for caption in chosen),
    )


def _pieces(caption: Caption, mentions: Sequence[Mention]) -> tuple[Piece, ...]:
    """The sentence with its mentions, and the look-alikes that were left alone."""
    marks = [mention_mark(caption.text, mention) for mention in mentions]
    for decoy in caption.decoys:
        if not any(mark.start < decoy.end and decoy.start < mark.end for mark in marks):
            word = caption.text[decoy.start : decoy.end]
            marks.append(Mark(decoy.start, decoy.end, Piece("lookalike", word, f"only looks like {decoy.category}")))
    return tuple(cut(caption.text, marks, caption.text))


def _tagging(told: Sequence[Caption], tagged: Mapping[str, list[Mention]]) -> Tagging:
    names = mentions = right = decoys = fooled = 0
    for caption in told:
        found = {(mention.start, mention.end, mention.concept) for mention in tagged.get(caption.text, [])}
        gold = {(name.start, name.end, name.category) for name in caption.names}
        names += len(gold)
        mentions += len(found)
        right += len(found & gold)
        decoys += len(caption.decoys)
        taken = {(start, end) for start, end, _ in found}
        fooled += sum((decoy.start, decoy.end) in taken for decoy in caption.decoys)
    return Tagging(len(told), Share(right, names), Share(right, mentions), Share(fooled, decoys))


def _scenes(folder: str, world_folder: str) -> tuple[tuple[SceneView, ...], Detection]:
    """The first scenes of regions/, which lie there in the order of a hash, and the score of all."""
    gold: dict[str, list[tuple[str, Box]]] = {}
    for line in files.read_bytes(files.join(world_folder, "boxes.jsonl")).decode().splitlines():
        entry = json.loads(line)
        gold[entry["image"]] = [(thing["label"], tuple(thing["xyxy"])) for thing in entry["boxes"]]
    views: list[SceneView] = []
    detections = right = 0
    columns = ["box", "concept", "score", "width", "height", "source"]
    for part in manifest.read(folder).outputs:
        with files.open_read(files.join(folder, part.name)) as file:
            rows = pq.read_table(file, columns=columns, use_threads=False).to_pylist()
        by_scene: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_scene.setdefault(row["source"].rsplit("/", 1)[-1], []).append(row)
        for name, found in by_scene.items():
            detections += len(found)
            right += _right(found, gold[name])
            if len(views) < SCENES:
                views.append(_scene_view(files.join(world_folder, "photos", name), found))
    things = sum(len(boxes) for boxes in gold.values())
    return tuple(views), Detection(Share(right, detections), Share(right, things))


def _right(found: Sequence[Mapping[str, Any]], gold: Sequence[tuple[str, Box]]) -> int:
    """How many detections, best first, are a thing of their label that no better one has found."""
    shared = box_iou(np.array([row["box"] for row in found]), np.array([box for _, box in gold]).reshape(-1, 4))
    free = [True] * len(gold)
    right = 0
    for row, detection in enumerate(found):
        fits = [
            (shared[row, thing], thing)
            for thing, (label, _) in enumerate(gold)
            if free[thing] and label == detection["concept"] and shared[row, thing] >= OVERLAP
        ]
        if fits:
            free[max(fits)[1]] = False
            right += 1
    return right


def _scene_view(path: str, found: Sequence[Mapping[str, Any]]) -> SceneView:
    width, height = found[0]["width"], found[0]["height"]
    boxes = []
    for row in found:
        left, top, right, bottom = row["box"]
        across, down = 100 / width, 100 / height
        place = (left * across, top * down, (right - left) * across, (bottom - top) * down)
        boxes.append(SceneBox(row["concept"], row["score"], *place))
    return SceneView(data_uri(files.read_bytes(path)), width, height, tuple(boxes))


def _concepts(bank: PatchBank) -> Iterator[ConceptView]:
    for concept in bank.concepts:
        records = bank.patches(concept.name)[:PATCHES] if bank.counts[concept.name] else ()
        views = tuple(record_view(bank, record, longest=None) for record in records)
        yield ConceptView(concept.name, bank.counts[concept.name], views)


def _log(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in files.read_bytes(path).decode().splitlines()]


def _curves(log: Sequence[Mapping[str, Any]]) -> Iterator[Curve]:
    """A curve for each loss; one that was switched off is 0 throughout and has none."""
    steps = [int(line["step"]) for line in log]
    for name, title in LOSSES.items():
        values = [float(line[name]) for line in log]
        if any(values):
            yield curve(title, steps, values)


def _retrieval(scores: Mapping[str, Any]) -> Retrieval:
    directions: dict[str, tuple[RetrievalRow, ...]] = {}
    for direction in ("text to image", "image to text"):
        of_method = {entry["method"]: entry for entry in scores["scores"] if entry["direction"] == direction}
        directions[direction] = tuple(
            RetrievalRow(
                method=label,
                trained=method not in ("tag overlap", "chance"),
                recall=tuple(_recall(estimate) for estimate in of_method[method]["recall"].values()),
                median_rank=of_method[method]["median_rank"]["value"],
            )
            for method, label in METHODS.items()
            if method in of_method
        )
    return Retrieval(scores["images"], scores["captions"], directions)


def _recall(estimate: Mapping[str, float]) -> Recall:
    return Recall(estimate["value"], estimate["low"], estimate["high"])


def conclusion(retrieval: Retrieval) -> str:
    """What the scores say, in a sentence or two: the network that sees regions and tags against tag overlap."""
    rows = {row.method: row for row in retrieval.directions["text to image"]}
    trained, overlap, chance = (rows[METHODS[name]] for name in ("regions + tags", "tag overlap", "chance"))
    ours, theirs = trained.recall[0], overlap.recall[0]
    told = (
        f"For {ours.value:.1f} % of the sentences the trained network puts the right picture first among "
        f"{retrieval.images:,}; comparing tags without any training does so for {theirs.value:.1f} %, "
        f"chance for {chance.recall[0].value:.1f} %."
    )
    if ours.low > theirs.high:
        return f"{told} The intervals lie apart: training without one pair adds to what the tags tell."
    if ours.high < theirs.low:
        return f"{told} The intervals lie apart: this short training has not caught up with the tags."
    return f"{told} The intervals overlap, so this run does not settle which of the two is better."
