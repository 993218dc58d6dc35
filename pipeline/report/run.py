"""One page about a whole run: what each stage read and wrote, sentences, photos with their regions, patches, mixed
samples, and, once there are any, the losses of the training and the scores of its evaluation.

The demo's page is this one with more on it (pipeline/report/demo/).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from vlmixer.artifacts import files, json_files, manifest, schemas
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.parquet import WidthOf, reading
from vlmixer.artifacts.rejects import meaning
from vlmixer.artifacts.samples import ImageSample, Mention, MixedSample
from vlmixer.artifacts.stages import DETECT, FOLDERS, INDEX, MIX, TAG, TRAIN
from vlmixer.bank.records import PatchRecord
from vlmixer.bank.store import PatchBank
from vlmixer.model.scoring import RetrievalReport
from vlmixer.pipeline.report.bank import image_uri, record_view
from vlmixer.pipeline.report.charts import HEIGHT, WIDTH, Curve, curve
from vlmixer.pipeline.report.crops import EmbeddedCrops
from vlmixer.pipeline.report.labels import Place, place_labels
from vlmixer.pipeline.report.pages import write_page
from vlmixer.pipeline.report.retrieval import Retrieval, read_scores
from vlmixer.pipeline.report.samples import ImageRow, Images, SentenceRow, choose_samples, image_row, sentence_row
from vlmixer.pipeline.report.sentences import PatchView, TextSpan, cut_into_spans, mention_mark
from vlmixer.pipeline.report.stages import FOLDER, RUN, SCORES, StageReport

SENTENCES, SCENES, CONCEPTS, PATCHES, MIXED, IMAGES = 8, 12, 30, 12, 12, 3
"""Sentences, photos, concepts, patches of a concept, mixed sentences and image samples on the page."""
SCENE_WIDTH, LETTER, LINE = 226, 7, 19
"""Pixels: the least width of a photo, the width of a letter of a label, and the height of a label."""
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
class SceneBox:
    """A region. Its place and size, and the place of its label, are percentages of the photo's width and height;
    `label_place` is None if there is no room for the label."""

    label: str
    score: float
    left: float
    top: float
    width: float
    height: float
    label_place: Place | None


@dataclass(frozen=True)
class SceneView:
    """A photo with its regions. `picture` is a data URI."""

    picture: str
    width: int
    height: int
    boxes: tuple[SceneBox, ...]


@dataclass(frozen=True)
class ConceptView:
    """A concept's row: its number of patches, and some of them."""

    name: str
    count: int
    patches: tuple[PatchView, ...]


@dataclass(frozen=True)
class RunReport:
    """All that the page shows. steps: of the training, 0 if there was none. retrieval: None if it was not measured."""

    counts: tuple[StageCount, ...]
    steps: int
    sentences: tuple[tuple[TextSpan, ...], ...]
    scenes: tuple[SceneView, ...]
    concepts: tuple[ConceptView, ...]
    mixed: tuple[SentenceRow, ...]
    images: tuple[ImageRow, ...]
    curves: tuple[Curve, ...]
    retrieval: Retrieval | None

    @property
    def by_kind(self) -> dict[tuple[str, str], StageCount]:
        """The counts by stage and kind."""
        return {(count.stage, count.kind): count for count in self.counts}


def write_run_report(out: str) -> str:
    """Write the page of the finished run in `out`; returns its path. Raises UserError."""
    path = StageReport(out, RUN).page
    # The name alone: a page that is passed on tells nothing about the machine.
    draw(path, gather_run(out), "run.html", out=files.absolute(out).rstrip("/").rpartition("/")[2])
    return path


def renew_run_report(out: str) -> None:
    """Write the page of the result as it is now. If it is not whole or does not fit together, there is no page."""
    files.remove(StageReport(out, RUN).page)
    if all(files.exists(files.join(out, folder, manifest.NAME)) for folder in FOLDERS):
        with suppress(UserError):
            write_run_report(out)


def draw(path: str, report: RunReport, template: str, **content: Any) -> None:
    """Write the page at `path`."""
    write_page(path, template, report=report, by_kind=report.by_kind, width=WIDTH, height=HEIGHT, **content)


def gather_run(out: str, scores: Mapping[str, Any] | None = None, concepts: int | None = CONCEPTS) -> RunReport:
    """Read what the page shows.

    out: a finished run's folder. scores: what RetrievalReport.to_json gives; None for those of the last evaluation, if
    any. concepts: maximum number, those with the most patches; None for all, in the vocabulary's order. Raises
    UserError for folders that are not finished or damaged.
    """
    bank = PatchBank.open(files.join(out, INDEX.folder))
    crops, whole = EmbeddedCrops(bank), Images(bank)
    samples = choose_samples(files.join(out, MIX.folder), 4 * MIXED)
    mixed = [sample for sample in samples if isinstance(sample, MixedSample)]
    images = [sample for sample in samples if isinstance(sample, ImageSample)]
    images.sort(key=lambda sample: -len(sample.patches))
    log = _log(files.join(out, TRAIN.folder, "log.jsonl"))
    found = scores or _scores(files.join(out, FOLDER, SCORES))
    return RunReport(
        counts=tuple(_counts(out)),
        steps=int(log[-1]["step"]) if log else 0,
        sentences=tuple(_sentences(files.join(out, TAG.folder))),
        scenes=tuple(_scenes(files.join(out, DETECT.folder), bank)),
        concepts=tuple(_concepts(bank, concepts)),
        mixed=tuple(sentence_row(sample, crops) for sample in mixed[:MIXED]),
        images=tuple(_image_row(sample, crops, whole) for sample in images[:IMAGES]),
        curves=tuple(_curves(log)),
        retrieval=None if found is None else read_scores(found),
    )


def _counts(out: str) -> Iterator[StageCount]:
    for folder in FOLDERS:
        content = manifest.read(files.join(out, folder))
        for kind, counts in content.counts.items():
            rejected = tuple((meaning(reason), number) for reason, number in counts.rejected.items())
            yield StageCount(content.stage, kind, counts.read, counts.written, rejected)


def _first_rows(folder: str, schema: pa.Schema | WidthOf, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of the first row group of each part."""
    for part in manifest.read(folder).parts:
        if part.rows:
            with reading(files.join(folder, part.name), schema) as table:
                rows = table.read_row_group(0, columns).to_pylist()
            yield from rows


def _sentences(tagged: str) -> Iterator[tuple[TextSpan, ...]]:
    """Sentences of the first part, evenly spread, with their mentions."""
    parts = _first_rows(tagged, schemas.TAGGED, ["text", "mentions"])
    rows = [row for row, _ in zip(parts, range(1000), strict=False)]
    for place in range(min(SENTENCES, len(rows))):
        row = rows[place * len(rows) // min(SENTENCES, len(rows))]
        marks = [mention_mark(row["text"], Mention(**mention)) for mention in row["mentions"]]
        yield tuple(cut_into_spans(row["text"], marks, row["text"]))


def _scenes(regions: str, bank: PatchBank) -> Iterator[SceneView]:
    """The first photos that can be shown. Photos are in the order of a hash, so the first are a fair choice."""
    columns = ["image_id", "patch_id", "box", "concept", "score", "width", "height", *schemas.PROVENANCE]
    by_photo: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in _first_rows(regions, schemas.regions_as_wide_as, columns):
        if row["image_id"] not in by_photo and len(by_photo) == 2 * SCENES:
            break
        by_photo[row["image_id"]].append(row)
    shown = 0
    for found in by_photo.values():
        picture = image_uri(bank, _as_record(found[0])) if shown < SCENES else ""
        if picture:
            shown += 1
            yield SceneView(picture, found[0]["width"], found[0]["height"], _scene_boxes(found))


def _as_record(row: Mapping[str, Any]) -> PatchRecord:
    """A region as if it were a patch of the bank."""
    provenance = {name: row[name] for name in schemas.PROVENANCE}
    place = (row["image_id"], row["concept"], row["score"], tuple(row["box"]), row["width"], row["height"])
    return PatchRecord(-1, row["patch_id"], *place, provenance, (), 0, 0)


def _scene_boxes(rows: Sequence[Mapping[str, Any]]) -> tuple[SceneBox, ...]:
    """The regions of a photo."""
    width, height = rows[0]["width"], rows[0]["height"]
    across, down = 100 / width, 100 / height
    boxes = [(x0 * across, y0 * down, x1 * across, y1 * down) for x0, y0, x1, y1 in (row["box"] for row in rows)]
    smallest = SCENE_WIDTH / 100, SCENE_WIDTH * height / width / 100
    sizes = [((len(row["concept"]) * LETTER + 12) / smallest[0], LINE / smallest[1]) for row in rows]
    places = place_labels(boxes, sizes, inside=False)
    return tuple(
        SceneBox(row["concept"], row["score"], left, top, right - left, bottom - top, place)
        for row, (left, top, right, bottom), place in zip(rows, boxes, places, strict=True)
    )


def _concepts(bank: PatchBank, most: int | None) -> Iterator[ConceptView]:
    names = [concept.name for concept in bank.concepts]
    if most is not None:
        names = sorted(filter(bank.counts.get, names), key=lambda name: -bank.counts[name])[:most]
    for name in names:
        records = bank.patches(name)[:PATCHES] if bank.counts[name] else ()
        yield ConceptView(name, bank.counts[name], tuple(record_view(bank, record, longest=None) for record in records))


def _image_row(sample: ImageSample, crops: EmbeddedCrops, whole: Images) -> ImageRow:
    """An image sample with its whole image, if that can be read."""
    image = whole(next(filter(None, map(crops.record, sample.patches)), None))
    picture = whole.held.get(image, "")
    return replace(image_row(sample, crops), image=image if picture else "", picture=picture)


def _log(path: str) -> list[dict[str, float]]:
    try:
        data = json_files.read_limited(path, advice="")
    except (FileNotFoundError, NotADirectoryError, UserError):
        return []
    return [line for _, line in json_files.whole_lines(data, dict[str, float]) if "step" in line]


def _scores(path: str) -> dict[str, Any] | None:
    try:
        return json_files.read(path, RetrievalReport, advice="").to_json()
    except (FileNotFoundError, NotADirectoryError, UserError):
        return None


def _curves(log: Sequence[Mapping[str, float]]) -> Iterator[Curve]:
    """One curve per loss, none for a loss that was off (0 throughout)."""
    steps = [int(line["step"]) for line in log]
    for name, title in LOSSES.items():
        values = [float(line.get(name, 0.0)) for line in log]
        if any(values):
            yield curve(title, steps, values)
