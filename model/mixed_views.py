"""The mixed views of many samples at once: sentences with patches in place of the replaced words.

For each sample alone this would take some hundred small steps, more than reading it. What a view is, says model.views.
"""

from collections.abc import Sequence

import numpy as np

from vlmixer.artifacts.samples import MixedSample
from vlmixer.model.plain_texts import runs
from vlmixer.model.tokenizer import Pieces
from vlmixer.model.views import NOWHERE, Regions, View, geometry

_BEYOND = 1 << 62
"""Where [CLS] and [SEP] begin in a text: after all mentions."""


def mixed_views(
    samples: Sequence[MixedSample],
    pieces: Sequence[Pieces],
    texts: Sequence[View],
    max_regions: int,
    patch_positions: bool,
) -> list[tuple[View, np.ndarray]]:
    """For each sample its text view with patches in place of the replaced mentions; and (k, 2) int64, a patch and a
    piece it replaced.

    `pieces`, `texts`: of the samples' sentences. A mention wholly beyond the cut of the text is not replaced, and
    its patches are left out. At most `max_regions` patches of a sample are used.
    """
    if not samples:
        return []
    # The items of all texts, one after the other.
    lengths = np.array([len(text.ids) for text in texts])
    starts = np.cumsum(lengths) - lengths
    items = [
        np.concatenate([getattr(text, name) for text in texts]) for name in ("ids", "positions", "words", "segments")
    ]
    spans = np.full((len(items[0]), 2), _BEYOND)
    inner = np.ones(len(spans), bool)
    inner[starts] = inner[starts + lengths - 1] = False
    spans[inner] = np.concatenate([one.spans[: len(text.ids) - 2] for one, text in zip(pieces, texts, strict=True)])

    # The items that each replaced mention covers: item at[i] by mention which[i].
    replaced = [(row, index) for row, sample in enumerate(samples) for index in sample.replaced]
    ends = [(samples[row].mentions[index].start, samples[row].mentions[index].end) for row, index in replaced]
    rows, mentions = (np.array(part, np.int64).reshape(-1, 2) for part in (replaced, ends))
    which, at = runs(starts[rows[:, 0]], lengths[rows[:, 0]])
    covered = (spans[at, 0] < mentions[which, 1]) & (spans[at, 1] > mentions[which, 0])
    which, at = which[covered], at[covered]
    kept = np.ones(len(spans), bool)
    kept[at] = False
    found = np.bincount(which, minlength=len(replaced))
    first = np.cumsum(found) - found

    # The patches of these mentions.
    number_of: dict[tuple[int, int | None], int] = {
        pair: number for number, (pair, some) in enumerate(zip(replaced, found.tolist(), strict=True)) if some
    }
    chosen: list[tuple[int, int, int]] = []
    boxes: list[tuple[float, ...]] = []
    for row, sample in enumerate(samples):
        own = [
            (row, place, number_of[row, patch.mention])
            for place, patch in enumerate(sample.patches)
            if (row, patch.mention) in number_of
        ][:max_regions]
        chosen += own
        boxes += [(*patch.box, patch.width, patch.height) for patch in (sample.patches[place] for _, place, _ in own)]
    of_row, place, mention = np.array(chosen, np.int64).reshape(-1, 3).T
    numbers = np.array(boxes, np.float32).reshape(-1, 6)
    patches = np.bincount(of_row, minlength=len(samples))
    before = np.cumsum([0, *(len(sample.features) for sample in samples[:-1])])
    positions = np.full(len(of_row), NOWHERE, np.int64)
    if patch_positions:
        positions = at[first[mention]] - starts[of_row]
    regions = (
        np.concatenate([sample.features for sample in samples])[before[of_row] + place],
        geometry(numbers[:, :4], numbers[:, 4], numbers[:, 5]),
        positions,
    )

    # The pieces that each patch replaced.
    patch, piece = runs(first[mention], found[mention])
    in_sample = np.arange(len(of_row)) - (np.cumsum(patches) - patches)[of_row]
    pairs = np.stack([in_sample[patch], items[0][at[piece]]], axis=1)

    row_of = np.repeat(np.arange(len(samples)), lengths)
    views = zip(
        *(_parted(part[kept], np.bincount(row_of[kept], minlength=len(samples))) for part in items),
        map(Regions, *(_parted(part, patches) for part in regions)),
        strict=True,
    )
    pairs_of = _parted(pairs, np.bincount(of_row[patch], minlength=len(samples)))
    return [(View(*view), own) for view, own in zip(views, pairs_of, strict=True)]


def _parted(array: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """Runs of rows of an array, `lengths` each, sharing its memory."""
    ends = np.cumsum(lengths).tolist()
    return [array[start:end] for start, end in zip([0, *ends], ends, strict=False)]
