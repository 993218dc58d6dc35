"""The views of a sample that the network reads: pure functions from samples and word pieces to arrays.

A view is a text part and a set of patches. The encoder attends in all directions, so where a patch stands is
told by its position alone and not by its place in memory: a patch pasted over a word carries the position of
the word's first piece, and the sentence's other pieces keep the positions they had, so the replaced word's
stay empty. Regions of an image, and patches whose sentence was dropped, are a set and carry no position.

Padding is left to model.padding, batches to model.data.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vlmixer.artifacts.samples import MixedSample, Patch
from vlmixer.model.tokenizer import Pieces, Tokenizer

NOWHERE = -1  # the position of a patch that has none, and the word number of [CLS], [SEP] and padding
IGNORED = -100  # the target of a piece that need not be predicted
BOX_NUMBERS = 6

TEXT_SEGMENT, TAG_SEGMENT = 0, 1


@dataclass(frozen=True)
class Regions:
    """Regions of an image or patches of a sentence.

    `features`: (n, D) float16. `geometry`: (n, 6) float32, see `geometry`. `positions`: (n,) int64, the
    position in the sentence or NOWHERE.
    """

    features: np.ndarray
    geometry: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class View:
    """One sequence for the encoder.

    `ids`, `positions`, `words`: (t,) int64, the pieces with [CLS] and [SEP], their positions, and the number of
    the word (or tag) that each belongs to, NOWHERE for [CLS] and [SEP]. `segment`: of the whole text part.
    """

    ids: np.ndarray
    positions: np.ndarray
    words: np.ndarray
    segment: int
    regions: Regions

    def __len__(self) -> int:
        return len(self.ids) + len(self.regions)


def geometry(boxes: np.ndarray, width: np.ndarray | float, height: np.ndarray | float) -> np.ndarray:
    """The six box numbers of the Oscar and VinVL family: x1/W, y1/H, x2/W, y2/H, w/W, h/H.

    `boxes`: (n, 4), xyxy in pixels of images of `width` × `height`, one number or (n,). Returns (n, 6) float32.
    """
    numbers = np.empty((len(boxes), BOX_NUMBERS), np.float32)
    numbers[:, 0:4:2] = boxes[:, 0::2] / np.reshape(width, (-1, 1))
    numbers[:, 1:4:2] = boxes[:, 1::2] / np.reshape(height, (-1, 1))
    numbers[:, 4:] = numbers[:, 2:4] - numbers[:, :2]
    return numbers


def regions_of(patches: Sequence[Patch], features: np.ndarray, limit: int) -> Regions:
    """The first `limit` of an image sample's patches, as a set without positions."""
    rows = [(*patch.box, patch.width, patch.height) for patch in patches[:limit]]
    numbers = np.array(rows, np.float32).reshape(-1, 6)
    nowhere = np.full(len(rows), NOWHERE, np.int64)
    return Regions(features[:limit], geometry(numbers[:, :4], numbers[:, 4], numbers[:, 5]), nowhere)


def no_regions(feature_dim: int) -> Regions:
    """The empty set, for views of text alone."""
    return Regions(
        np.zeros((0, feature_dim), np.float16), np.zeros((0, BOX_NUMBERS), np.float32), np.zeros(0, np.int64)
    )


def text_view(pieces: Pieces, tokenizer: Tokenizer, limit: int, regions: Regions) -> View:
    """[CLS] text [SEP] with at most `limit` pieces, and `regions` beside it."""
    return _framed(pieces.ids[: limit - 2], pieces.words[: limit - 2], tokenizer, TEXT_SEGMENT, regions)


def tag_view(tags: Sequence[Pieces], tokenizer: Tokenizer, limit: int, regions: Regions) -> View:
    """[CLS] tag tag … [SEP] in the tags' segment, and `regions` beside it; a tag counts as one word.

    Tags that do not fit into `limit` pieces are left out.
    """
    ids = np.concatenate([np.zeros(0, np.int64), *(tag.ids for tag in tags)])
    words = np.repeat(np.arange(len(tags)), [len(tag.ids) for tag in tags])
    whole = limit - 2
    while whole > 0 and whole < len(words) and words[whole] == words[whole - 1]:
        whole -= 1
    return _framed(ids[:whole], words[:whole], tokenizer, TAG_SEGMENT, regions)


def set_view(regions: Regions, tokenizer: Tokenizer) -> View:
    """[CLS] [SEP] and regions as a set: what an image is at evaluation, and what the contrastive view trains."""
    nothing = np.zeros(0, np.int64)
    nowhere = np.full(len(regions), NOWHERE, np.int64)
    return _framed(nothing, nothing, tokenizer, TEXT_SEGMENT, replace(regions, positions=nowhere))


def words_view(sample: MixedSample, pieces: Pieces, tokenizer: Tokenizer, limit: int) -> View:
    """[CLS], the pieces of the replaced mentions, [SEP]: the contrastive view of an ablation without CMC."""
    spans = pieces.spans[: limit - 2]
    kept = np.zeros(len(spans), bool)
    for mention in (sample.mentions[index] for index in sample.replaced):
        kept |= (spans[:, 0] < mention.end) & (spans[:, 1] > mention.start)
    ids, words = (part[: limit - 2][kept] for part in (pieces.ids, pieces.words))
    return _framed(ids, words, tokenizer, TEXT_SEGMENT, no_regions(sample.features.shape[1]))


def mixed_view(
    sample: MixedSample, pieces: Pieces, text: View, max_regions: int, patch_positions: bool
) -> tuple[View, np.ndarray]:
    """The text view without the replaced mentions' pieces, with their patches in those places.

    `pieces` and `text` are the sample's sentence. A mention of which the text's limit leaves nothing is not
    replaced, and has no patches. At most `max_regions` patches are taken. Returned beside the view: (k, 2) int64,
    the number of a patch and a piece that it replaced, for all of them.
    """
    spans = pieces.spans[: len(text.ids) - 2]
    kept = np.ones(len(text.ids), bool)
    positions: dict[int | None, int] = {}
    lost: dict[int | None, np.ndarray] = {}
    for index in sample.replaced:
        mention = sample.mentions[index]
        covered = np.flatnonzero((spans[:, 0] < mention.end) & (spans[:, 1] > mention.start)) + 1  # after [CLS]
        if len(covered):
            positions[index] = int(covered[0])
            lost[index] = text.ids[covered]
            kept[covered] = False
    rows = [row for row, patch in enumerate(sample.patches) if patch.mention in positions][:max_regions]
    pasted = regions_of([sample.patches[row] for row in rows], sample.features[rows], max_regions)
    if patch_positions:
        at = np.array([positions[sample.patches[row].mention] for row in rows], np.int64)
        pasted = replace(pasted, positions=at)
    replaced = [(number, int(piece)) for number, row in enumerate(rows) for piece in lost[sample.patches[row].mention]]
    view = View(text.ids[kept], text.positions[kept], text.words[kept], TEXT_SEGMENT, pasted)
    return view, np.array(replaced, np.int64).reshape(-1, 2)


def _framed(ids: np.ndarray, words: np.ndarray, tokenizer: Tokenizer, segment: int, regions: Regions) -> View:
    framed, numbers = np.empty(len(ids) + 2, np.int64), np.full(len(ids) + 2, NOWHERE, np.int64)
    framed[0], framed[-1] = tokenizer.begin, tokenizer.end
    framed[1:-1], numbers[1:-1] = ids, words
    return View(framed, np.arange(len(framed)), numbers, segment, regions)


def mask_words(
    ids: np.ndarray, words: np.ndarray, tokenizer: Tokenizer, probability: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """BERT's masking, of whole words: each word is chosen with `probability`.

    Of the chosen words' pieces 80 % become [MASK], 10 % a random piece and 10 % stay as they are.
    `ids`, `words`: (B, T) int64, a row a text; words NOWHERE are never chosen. Returns the masked ids and the
    targets, both (B, T) int64; targets are the pieces to predict, IGNORED elsewhere.
    """
    count = int(words.max(initial=NOWHERE)) + 1
    chosen_words = random.random((len(ids), count + 1)) < probability
    chosen_words[:, -1] = False  # what NOWHERE, -1, looks up
    chosen = np.take_along_axis(chosen_words, words, axis=1)
    lot = random.random(ids.shape)
    stranger = tokenizer.ordinary[random.integers(len(tokenizer.ordinary), size=ids.shape)]
    changed = np.where(lot < 0.8, tokenizer.mask, np.where(lot < 0.9, stranger, ids))
    return np.where(chosen, changed, ids), np.where(chosen, ids, IGNORED)
