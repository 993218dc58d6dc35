"""The page of photos with captions: the captions that a run finds for each, and how well each word fits each region."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from vlmixer.artifacts import files
from vlmixer.artifacts.rng import generator
from vlmixer.model.checkpoint import load_run
from vlmixer.model.embedding import ImageRegions, embed_images, embed_texts
from vlmixer.model.likelihood import similarity
from vlmixer.model.reference import load_reference
from vlmixer.pipeline.image.decoding import decode
from vlmixer.pipeline.report.labels import place_labels
from vlmixer.pipeline.report.pages import data_uri, write_page
from vlmixer.pipeline.report.retrieval import read_scores

PHOTO_SIDE = 480
SMALLEST_WIDTH = 280
"""Width of a photo in pixels on a narrow telephone."""
LABEL_SIDE = 20
"""Pixels of a region's number, with some space."""
TOP_CAPTIONS = 5
MAX_REGIONS = 8
MAX_PIXELS = 1e9
FULL_TIMES = 20.0
"""A word this many times likelier than elsewhere is drawn in full colour."""


@dataclass(frozen=True)
class RegionView:
    """A region as it is drawn: its number, its box in percent of the photo, the place of the number in percent of the
    box, the caption's likeliest word next to it, and how many times likelier than elsewhere each of the caption's words
    is there."""

    number: int
    left: float
    top: float
    width: float
    height: float
    label: tuple[float, float]
    word: str
    times: tuple[float, ...]


@dataclass(frozen=True)
class WordRow:
    """A word of the photo's caption, and how many times likelier than elsewhere it is next to each region."""

    word: str
    times: tuple[float, ...]


@dataclass(frozen=True)
class PhotoView:
    """A photo with its regions, the captions found for it as (text, how many times likelier than elsewhere, whether its
    own), and its words.

    `rank` is the rank of its first own caption among all captions.
    """

    name: str
    picture: str
    regions: tuple[RegionView, ...]
    tags: tuple[str, ...]
    rank: int
    found: tuple[tuple[str, float, bool], ...]
    words: tuple[WordRow, ...]


def write_alignment_page(
    path: str,
    run: str,
    names: Sequence[str],
    images: Sequence[ImageRegions],
    captions: Sequence[Sequence[str]],
    count: int = 24,
    seed: int = 0,
    measured: Mapping[str, Any] | None = None,
) -> None:
    """Write the page at `path` for `count` photos, drawn at random from `seed`. Photos without a region, and those
    whose first caption is missing or has no word, are left out.

    names: the photos' paths. images: their regions. captions: the captions of each. All captions compete.
    measured: for a table of scores, what RetrievalReport.to_json gives.
    """
    network, tokenizer, settings = load_run(run)
    texts = [caption for group in captions for caption in group]
    owner = np.repeat(np.arange(len(images)), [len(group) for group in captions])
    reference, temperature = load_reference(run), settings.train.temperature

    def times_likelier_in(texts: Sequence[str], images: Sequence[ImageRegions]) -> np.ndarray:
        """(texts, images) float64."""
        embedded = embed_texts(network, tokenizer, settings.model, texts)
        regions = embed_images(network, tokenizer, settings.model, images)
        return np.exp(similarity(embedded, regions, reference, temperature) / temperature)

    scores = times_likelier_in(texts, images)
    seen = [row for row, image in enumerate(images) if len(image.features) and _words(captions[row])]
    drawn = generator(seed, "alignment page").permutation(len(seen))[:count]
    views = []
    for row in sorted(seen[number] for number in drawn):
        image = images[row]
        order = np.argsort(-scores[:, row], kind="stable")
        words = _words(captions[row])
        shown = min(len(image.features), MAX_REGIONS)
        alone = [replace(image, features=image.features[n : n + 1], boxes=image.boxes[n : n + 1]) for n in range(shown)]
        times = times_likelier_in(words, alone)
        boxes = _region_views(image, shown, words, times)
        views.append(
            PhotoView(
                names[row].rsplit("/", 1)[-1],
                _picture(names[row]),
                boxes,
                image.tags,
                int(np.flatnonzero(owner[order] == row)[0]) + 1,
                tuple((texts[i], float(scores[i, row]), bool(owner[i] == row)) for i in order[:TOP_CAPTIONS]),
                tuple(WordRow(word, tuple(map(float, line))) for word, line in zip(words, times, strict=True)),
            )
        )
    write_page(
        path,
        "alignment.html",
        photos=views,
        captions=len(texts),
        most=MAX_REGIONS,
        shade=colour_share,
        times=times_likelier,
        scores=None if measured is None else read_scores(measured),
    )


def _region_views(image: ImageRegions, shown: int, words: Sequence[str], times: np.ndarray) -> tuple[RegionView, ...]:
    """The first `shown` regions. times: (words, shown)."""
    percent = 100 / np.array([image.width, image.height] * 2)
    boxes = [tuple(box) for box in (image.boxes[:shown] * percent).tolist()]
    drawn_height = SMALLEST_WIDTH * image.height / image.width
    size = 100 * LABEL_SIDE / SMALLEST_WIDTH, 100 * LABEL_SIDE / drawn_height
    # Labels of small boxes have fewer places to go.
    order = sorted(range(shown), key=lambda n: (boxes[n][2] - boxes[n][0]) * (boxes[n][3] - boxes[n][1]))
    placed = place_labels([boxes[n] for n in order], [size] * shown, inside=True)
    views = []
    for n, ((left, top, right, bottom), column) in enumerate(zip(boxes, times.T, strict=True)):
        width, height = right - left, bottom - top
        x, y = placed[order.index(n)] or (left, top)
        label = 100 * (x - left) / width, 100 * (y - top) / height
        word = words[int(column.argmax())]
        views.append(RegionView(n + 1, left, top, width, height, label, word, tuple(column.tolist())))
    return tuple(views)


def _words(captions: Sequence[str]) -> list[str]:
    """The words of the first caption, in lower case, each once; [] without captions."""
    return list(dict.fromkeys(re.findall(r"[\w'-]+", captions[0].lower()))) if captions else []


def colour_share(times: float) -> float:
    """The share of full colour: 0 if no likelier than elsewhere, 1 from FULL_TIMES on, logarithmic between."""
    return float(np.clip(np.log(max(times, 1.0)) / np.log(FULL_TIMES), 0.0, 1.0))


def times_likelier(times: float) -> str:
    """As text: "0.3 ×", "12 ×", in one piece."""
    return f"{times:.1f}\N{NO-BREAK SPACE}×" if times < 10 else f"{times:,.0f}\N{NO-BREAK SPACE}×"


def _picture(path: str) -> str:
    photo = Image.fromarray(decode(files.read_bytes(path), max_pixels=MAX_PIXELS))
    photo.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=80)
    return data_uri(buffer.getvalue())
