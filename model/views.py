"""The views of a sample that the network reads: pure functions from samples and word pieces to arrays.

A view is a text and a set of regions. The encoder attends in all directions, so the place of a patch in the sentence is
given by its position alone, not by its index in the array: a patch pasted over a word carries the position of the
word's first piece. The other pieces of the sentence keep their positions. Regions of an image, and patches without
their sentence, are a set and carry no position.

Padding is left to model.padding, batches to model.batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from vlmixer.artifacts.samples import MixedSample, Patch
from vlmixer.model.tokenizer import Pieces, Tokenizer

NOWHERE = -1  # the position of a patch without one, and the word number of [CLS], [SEP] and padding
IGNORED = -100  # the target of a piece that is not predicted
BOX_NUMBERS = 6

TEXT_SEGMENT, TAG_SEGMENT = 0, 1


@dataclass(frozen=True, slots=True)
class Regions:
    """Regions of an image or patches of a sentence.

    `features`: (n, D) float16. `geometry`: (n, 6) float32, see `geometry`. `positions`: (n,) int64, positions in
    the sentence or NOWHERE.
    """

    features: np.ndarray
    geometry: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, slots=True)
class View:
    """One sequence for the encoder.

    `ids`, `positions`, `words`, `segments`: (t,) int64: the pieces with [CLS] and [SEP], their positions, the number of
    the word (or tag) that each belongs to, NOWHERE for [CLS] and [SEP], and the segment of each.
    """

    ids: np.ndarray
    positions: np.ndarray
    words: np.ndarray
    segments: np.ndarray
    regions: Regions

    def __len__(self) -> int:
        return len(self.ids) + len(self.regions)


def geometry(boxes: np.ndarray, width: np.ndarray | float, height: np.ndarray | float) -> np.ndarray:
    """(n, 6) float32: x1/W, y1/H, x2/W, y2/H, w/W, h/H, as in Oscar and VinVL.

    `boxes`: (n, 4), xyxy in pixels. `width`, `height`: of the images in pixels, a number or (n,).
    """
    numbers = np.empty((len(boxes), BOX_NUMBERS), np.float32)
    numbers[:, 0:4:2] = boxes[:, 0::2] / np.reshape(width, (-1, 1))
    numbers[:, 1:4:2] = boxes[:, 1::2] / np.reshape(height, (-1, 1))
    numbers[:, 4:] = numbers[:, 2:4] - numbers[:, :2]
    return numbers


def regions_of(patches: Sequence[Patch], features: np.ndarray, limit: int) -> Regions:
    """The first `limit` patches of an image sample, as a set without positions."""
    rows = [(*patch.box, patch.width, patch.height) for patch in patches[:limit]]
    numbers = np.array(rows, np.float32).reshape(-1, 6)
    nowhere = np.full(len(rows), NOWHERE, np.int64)
    return Regions(features[:limit], geometry(numbers[:, :4], numbers[:, 4], numbers[:, 5]), nowhere)


def no_regions(feature_dim: int) -> Regions:
    """The empty set, for views that are only text."""
    return Regions(
        np.zeros((0, feature_dim), np.float16), np.zeros((0, BOX_NUMBERS), np.float32), np.zeros(0, np.int64)
    )


def without_region(view: View, region: int) -> View:
    """The view without one of its regions, to see what that contributes."""
    left = np.arange(len(view.regions)) != region
    regions = view.regions
    parts = (regions.features, regions.geometry, regions.positions)
    return replace(view, regions=Regions(*(part[left] for part in parts)))


def text_view(pieces: Pieces, tokenizer: Tokenizer, limit: int, regions: Regions) -> View:
    """[CLS] text [SEP], at most `limit` pieces, and `regions`."""
    return _framed(pieces.ids[: limit - 2], pieces.words[: limit - 2], tokenizer, TEXT_SEGMENT, regions)


def text_views(pieces: Sequence[Pieces], tokenizer: Tokenizer, limit: int, regions: Regions) -> list[View]:
    """`text_view` of each, sharing arrays."""
    lengths = np.array([min(len(one.ids), limit - 2) + 2 for one in pieces], np.int64)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    ids, words = np.full(lengths.sum(), tokenizer.end), np.full(lengths.sum(), NOWHERE)
    inner = np.ones(len(ids), bool)
    inner[starts] = inner[ends - 1] = False
    ids[starts] = tokenizer.begin
    for part, name in ((ids, "ids"), (words, "words")):
        part[inner] = np.concatenate([np.zeros(0, np.int64), *(getattr(one, name)[: limit - 2] for one in pieces)])
    # A reader holds the views of some 50,000 texts: what is the same in all of them is there once.
    longest = lengths.max(initial=0)
    positions, segments = np.arange(longest), np.full(longest, TEXT_SEGMENT)
    return [
        View(ids[start:end], positions[: end - start], words[start:end], segments[: end - start], regions)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def tag_view(tags: Sequence[Pieces], tokenizer: Tokenizer, limit: int, regions: Regions) -> View:
    """[CLS] tag tag … [SEP] in the segment of tags, and `regions`. A tag counts as one word.

    Tags that do not fit into `limit` pieces are left out whole.
    """
    ids, words = _whole_tags(tags, limit - 2)
    return _framed(ids, words, tokenizer, TAG_SEGMENT, regions)


def text_and_tags_view(
    text: Pieces,
    tags: Sequence[Pieces],
    tokenizer: Tokenizer,
    limit: int,
    regions: Regions,
    text_limit: int | None = None,
) -> View:
    """[CLS] text [SEP] tag tag … [SEP] and `regions`, the layout of Oscar's downstream tasks.

    Segments: those of [CLS] text [SEP] are the text's, those of the tags and their [SEP] the tags'. Without room for a
    tag, or without tags, it ends after the first [SEP]. text_limit: pieces for [CLS] text [SEP], None: up to `limit`.
    """
    first = text_view(text, tokenizer, min(limit, text_limit or limit), regions)
    ids, words = _whole_tags(tags, limit - len(first.ids) - 1)
    if not len(ids):
        return first
    after = len(first.ids) + np.arange(len(ids) + 1)
    numbers = int(first.words.max(initial=NOWHERE)) + 1 + words
    return View(
        np.concatenate([first.ids, ids, [tokenizer.end]]),
        np.concatenate([first.positions, after]),
        np.concatenate([first.words, numbers, [NOWHERE]]),
        np.concatenate([first.segments, np.full(len(after), TAG_SEGMENT, np.int64)]),
        regions,
    )


def _whole_tags(tags: Sequence[Pieces], room: int) -> tuple[np.ndarray, np.ndarray]:
    """The pieces of the first tags that fit whole into `room` pieces, and the number of each piece's tag."""
    ids = np.concatenate([np.zeros(0, np.int64), *(tag.ids for tag in tags)])
    words = np.repeat(np.arange(len(tags)), [len(tag.ids) for tag in tags])
    whole = max(room, 0)
    while whole > 0 and whole < len(words) and words[whole] == words[whole - 1]:
        whole -= 1
    return ids[:whole], words[:whole]


def set_view(regions: Regions, tokenizer: Tokenizer) -> View:
    """[CLS] [SEP] and regions as a set: an image at evaluation, and a contrastive view in training."""
    frame = _empty_frame(tokenizer.begin, tokenizer.end)
    return View(*frame, Regions(regions.features, regions.geometry, _nowhere(len(regions))))


@lru_cache(maxsize=64)
def _nowhere(count: int) -> np.ndarray:
    """The positions of as many regions without one, which many views share."""
    return np.full(count, NOWHERE, np.int64)


@lru_cache(maxsize=1)
def _empty_frame(begin: int, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The pieces, positions, words and segments of [CLS] [SEP], which many views share."""
    return np.array([begin, end]), np.arange(2), np.array([NOWHERE, NOWHERE]), np.array([TEXT_SEGMENT, TEXT_SEGMENT])


def words_view(sample: MixedSample, pieces: Pieces, tokenizer: Tokenizer, limit: int) -> View:
    """[CLS], the pieces of the replaced mentions, [SEP]: the contrastive view of the ablation without CMC."""
    spans = pieces.spans[: limit - 2]
    kept = np.zeros(len(spans), bool)
    for mention in (sample.mentions[index] for index in sample.replaced):
        kept |= (spans[:, 0] < mention.end) & (spans[:, 1] > mention.start)
    ids, words = (part[: limit - 2][kept] for part in (pieces.ids, pieces.words))
    return _framed(ids, words, tokenizer, TEXT_SEGMENT, no_regions(sample.features.shape[1]))


def _framed(ids: np.ndarray, words: np.ndarray, tokenizer: Tokenizer, segment: int, regions: Regions) -> View:
    framed, numbers = np.empty(len(ids) + 2, np.int64), np.full(len(ids) + 2, NOWHERE, np.int64)
    framed[0], framed[-1] = tokenizer.begin, tokenizer.end
    framed[1:-1], numbers[1:-1] = ids, words
    return View(framed, np.arange(len(framed)), numbers, np.full(len(framed), segment, np.int64), regions)


def mask_words(
    ids: np.ndarray, words: np.ndarray, tokenizer: Tokenizer, probability: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """BERT's masking, by whole words: each word is chosen with `probability`.

    Of the chosen words' pieces 80 % become [MASK], 10 % a random piece, and 10 % stay. `ids`, `words`: (B, T) int64,
    one row per text; words NOWHERE are never chosen. Returns the masked ids and the targets, both (B, T) int64. Targets
    are the pieces to predict, and IGNORED elsewhere.
    """
    count = int(words.max(initial=NOWHERE)) + 1
    chosen_words = random.random((len(ids), count + 1)) < probability
    chosen_words[:, -1] = False  # the column that NOWHERE, -1, selects
    chosen = np.take_along_axis(chosen_words, words, axis=1)
    draw = random.random(ids.shape)
    random_piece = tokenizer.ordinary[random.integers(len(tokenizer.ordinary), size=ids.shape)]
    changed = np.where(draw < 0.8, tokenizer.mask, np.where(draw < 0.9, random_piece, ids))
    return np.where(chosen, changed, ids), np.where(chosen, ids, IGNORED)
