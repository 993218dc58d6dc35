"""The page of a fine-tuned run's answers: photos, the regions that mattered, question, answer, what people said."""

import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vlmixer.artifacts import files
from vlmixer.artifacts.rng import generator
from vlmixer.model.tasks.base import Answer, Encoded, Example
from vlmixer.model.tasks.data import Encoding, ExampleSet
from vlmixer.model.tasks.evaluation import Scored
from vlmixer.model.tasks.photos import Photo
from vlmixer.pipeline.image.decoding import ImageRejected, decode
from vlmixer.pipeline.report.pages import data_uri, write_page

PHOTO_SIDE = 480
MAX_REGIONS = 8
MAX_PIXELS = 1e9
LEAST = 0.005
"""A region is drawn if the answer's probability changes by at least this much without it."""


@dataclass(frozen=True)
class RegionShown:
    """A region that mattered: its box in percent of the photo, its concept, and the percentage points of probability
    that the answer loses without it. `strength`: that of its colour, 0 … 1."""

    left: float
    top: float
    width: float
    height: float
    concept: str
    points: float
    strength: float


@dataclass(frozen=True)
class PhotoShown:
    """A photo as a data URI, its name, its tags, and the regions that mattered, the most important first. `right`: the
    boxes that are right, each as left, top, width and height in percent."""

    picture: str
    name: str
    tags: Sequence[str]
    regions: Sequence[RegionShown]
    found: int
    right: Sequence[tuple[float, float, float, float]] = ()


@dataclass(frozen=True)
class AnswerShown:
    """An example with its answer. `verdict`: see `verdict_of`. `score`: in percent, where there is no right or wrong.
    `given`: right answers, each with the number of people."""

    key: str
    text: str
    answer: str
    confidence: float | None
    verdict: str
    score: float | None
    given: Sequence[tuple[str, int]]
    groups: Sequence[tuple[str, str]]
    photos: Sequence[PhotoShown]


def write_answers_page(path: str, scored: Scored, count: int = 48, seed: int = 0) -> None:
    """Write the page at `path` for `count` examples, drawn at random from `seed`."""
    rows = np.sort(generator(seed, "answers page").permutation(len(scored.examples))[:count])
    chosen = ExampleSet(
        tuple(scored.examples.examples[row] for row in rows), scored.examples.photos[rows], scored.examples.counts
    )
    tuned = scored.tuned
    encoded = Encoding(tuned.task, tuned.setup, scored.photos).encode(chosen, 0, len(chosen), training=False)
    photos = scored.photos.read(np.unique(chosen.photos).tolist(), tuned.setup.feature_dim)
    middle = float(np.median([answer.value for answer in scored.evaluation.answers if answer.value is not None] or [0]))
    shown = [
        _shown(scored, example, one, [photos[number] for number in numbers], scored.evaluation.answers[row], middle)
        for row, example, one, numbers in zip(rows, chosen.examples, encoded, chosen.photos.tolist(), strict=True)
    ]
    scores = [(measure.name, estimate) for measure, estimate in scored.estimates()]
    verdicts = Counter(each.verdict for each in shown)
    write_page(
        path, "answers.html", title=tuned.task.title, answers=shown, scores=scores, verdicts=verdicts,
        regions_note=tuned.task.regions_note, examples=len(scored.examples), counts=scored.counts,
    )  # fmt: skip


def _shown(
    scored: Scored, example: Example, encoded: Encoded, photos: Sequence[Photo], answer: Answer, middle: float
) -> AnswerShown:
    tuned = scored.tuned
    lost = tuned.task.mattered(tuned.setup, tuned.network, encoded, answer.answer)
    views: list[PhotoShown] = []
    for photo, number, of_photo in zip(photos, encoded.photos, lost or [np.zeros(0)] * len(photos), strict=True):
        image = scored.photos.source(number)
        name = example.images[len(views)] if image is None else (image.key or image.source).rpartition("/")[2]
        picture, mattered = _picture(scored, number, photo), _regions(photo, of_photo)
        boxes = tuned.task.right_boxes(example) if not views else np.zeros((0, 4), np.float32)
        right = [_percent(box, photo) for box in boxes]
        views.append(PhotoShown(picture, name, photo.tags, mattered, len(photo.boxes), right))
    given = Counter(example.answers).most_common()
    right_from = tuned.task.right_from
    verdict = verdict_of(answer.value, right_from, middle)
    score = None if right_from is not None or answer.value is None else 100 * answer.value
    return AnswerShown(
        example.key, example.text, answer.answer, answer.confidence, verdict, score, given,
        list(example.groups.items()), views,
    )  # fmt: skip


def verdict_of(value: float | None, right_from: float | None, middle: float) -> str:
    """The filter's name for an answer's value: right, partly or wrong; of values without right or wrong better and
    worse, than the `middle`; unknown without a value."""
    if value is None:
        return "unknown"
    if right_from is None:
        return "better" if value >= middle else "worse"
    return "right" if value >= right_from else "partly" if value > 0 else "wrong"


def _regions(photo: Photo, lost: np.ndarray) -> list[RegionShown]:
    """The regions without which the answer is less likely, the most important first. lost: (regions,)."""
    order = [int(row) for row in np.argsort(-lost, kind="stable")[:MAX_REGIONS] if lost[row] >= LEAST]
    found = []
    for row in order:
        strength = float(lost[row] / lost[order[0]])
        box = _percent(photo.boxes[row], photo)
        found.append(RegionShown(*box, photo.concepts[row], 100 * float(lost[row]), strength))
    return found


def _percent(box: np.ndarray, photo: Photo) -> tuple[float, float, float, float]:
    """Left, top, width and height of a box in percent of the photo."""
    left, top, right, bottom = (box * (100 / np.array([photo.width, photo.height] * 2))).tolist()
    return left, top, right - left, bottom - top


def _picture(scored: Scored, number: int, photo: Photo) -> str:
    """The photo; where its file is gone, or is part of another file, the crops of its regions on grey."""
    image = scored.photos.source(number)
    if image is not None and not image.key and os.path.isfile(image.source):
        try:
            return _jpeg(Image.fromarray(decode(files.read_bytes(image.source), max_pixels=MAX_PIXELS)))
        except (ImageRejected, OSError):
            pass
    scale = min(1.0, PHOTO_SIDE / max(photo.width, photo.height))
    whole = Image.new("RGB", (max(round(photo.width * scale), 1), max(round(photo.height * scale), 1)), "#888")
    for box, crop in reversed(list(zip(photo.boxes * scale, scored.photos.crops(number), strict=False))):
        if not crop:
            continue
        left, top, right, bottom = (round(side) for side in box.tolist())
        with Image.open(io.BytesIO(crop)) as part:
            whole.paste(part.convert("RGB").resize((max(right - left, 1), max(bottom - top, 1))), (left, top))
    return _jpeg(whole)


def _jpeg(image: Image.Image) -> str:
    image.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return data_uri(buffer.getvalue())
