"""Lists of photos for captions and of captions for photos: the first list, its new order, and recall."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vlmixer.artifacts.progress import shown
from vlmixer.model.embedding import ImageRegions, embed_images, embed_tags, embed_texts
from vlmixer.model.likelihood import Reference, similarities
from vlmixer.model.padding import pad
from vlmixer.model.scoring import CUTOFFS, expected_hits
from vlmixer.model.tasks.base import Example, Setup
from vlmixer.model.tasks.caption_inputs import framed, padded_captions, take, text_tokens
from vlmixer.model.tasks.classification import number_or_text
from vlmixer.model.tasks.scores import Measure

if TYPE_CHECKING:
    from vlmixer.model.tasks.retrieval_learning import PhotoViews, RetrievalConfig, Retriever

FOLD = 1000
"""Photos of a fold in COCO's protocol of 1k."""
PHOTOS = 64
"""Photos that are read jointly with captions at a time."""
PAIRS = 256
LISTED = 10
"""Photos and captions of a list in the result file."""


Fold = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Retrieved:
    """Scores of C captions with M photos. `texts`: of the captions; `owner`: (C,) int64, the photo of each.

    `first`: (C, M) float32, those of the contrastive space. `by_text`, `by_photo`: (C, M) and (M, C) float32, after the
    new order. `folds`: the same of 1,000 photos each, with the photos' and captions' rows.
    """

    texts: tuple[str, ...]
    owner: np.ndarray
    first: np.ndarray
    by_text: np.ndarray
    by_photo: np.ndarray
    folds: tuple[Fold, ...] = ()

    def best_captions(self) -> list[str]:
        """The first caption of each photo's list."""
        return [self.texts[row] for row in self.by_photo.argmax(axis=1).tolist()]


def retrieve(
    setup: "Setup[RetrievalConfig]",
    module: "Retriever",
    examples: Sequence[Example],
    photos: "Sequence[PhotoViews]",
) -> Retrieved:
    """Compare all captions of the examples with all their photos."""
    texts = [text for example in examples for text in example.answers]
    owner = np.repeat(np.arange(len(examples)), [len(example.answers) for example in examples])
    first = first_scores(setup, module, texts, photos)
    folds = [np.arange(start, start + FOLD) for start in range(0, len(photos) - FOLD + 1, FOLD)]
    folds = folds if len(photos) > FOLD else []
    everything = (np.arange(len(texts)), np.arange(len(photos)))
    galleries = [everything, *((np.flatnonzero(np.isin(owner, fold)), fold) for fold in folds)]
    count = setup.settings.rerank
    pairs = np.unique(np.concatenate([_candidates(first, *each, count) for each in galleries]))
    added = joint_scores(setup, module, texts, photos, pairs)

    def lists(turned: bool) -> list[np.ndarray]:
        return [_reordered(first, *each, count, pairs, added, turned) for each in galleries]

    found = [(*each, *both) for each, both in zip(galleries, zip(lists(False), lists(True), strict=True), strict=True)]
    return Retrieved(tuple(texts), owner, first, found[0][2], found[0][3], tuple(found[1:]))


def first_scores(
    setup: "Setup[RetrievalConfig]", module: "Retriever", texts: Sequence[str], photos: "Sequence[PhotoViews]"
) -> np.ndarray:
    """(texts, photos) float32: how many times likelier each text is with each photo than without, as a logarithm, times
    the learned scale."""
    network, known = module.network.network, module.known
    # The boxes are already shares of width and height.
    images = [
        ImageRegions(photo.regions.features, photo.regions.geometry[:, :4], 1, 1, photo.names) for photo in photos
    ]
    model, tokenizer = setup.model, setup.tokenizer
    embedded = embed_texts(network, tokenizer, model, texts)
    regions, tags = embed_images(network, tokenizer, model, images), embed_tags(network, tokenizer, model, images)
    if not known.use_words:
        regions = replace(regions, words=None)
    reference = Reference(*(part.cpu().numpy() for part in (known.texts, known.frequencies, known.words)))
    found = similarities(embedded, regions, tags, reference, known.temperature)[2]
    return (found * (module.scale.item() / known.temperature)).astype(np.float32)


@torch.inference_mode()
def joint_scores(
    setup: "Setup[RetrievalConfig]",
    module: "Retriever",
    texts: Sequence[str],
    photos: "Sequence[PhotoViews]",
    pairs: np.ndarray,
) -> np.ndarray:
    """(n,) float32: what the joint encoder adds to the score of each pair. `pairs`: text × photos + photo."""
    limit = text_tokens(setup)
    captions = [framed(pieces, setup.tokenizer, limit) for pieces in setup.tokenizer.encode(texts)]
    lengths = np.array([len(caption) for caption in captions])
    device = next(module.parameters()).device
    rows, columns = np.divmod(pairs, max(len(photos), 1))
    added = np.zeros(len(pairs), np.float32)
    # Photos of similar length go together, and so do captions.
    order = np.argsort([len(photo.context) for photo in photos], kind="stable")
    place = np.empty(len(photos), np.int64)
    place[order] = np.arange(len(photos))
    by_group = np.lexsort((lengths[rows], place[columns] // PHOTOS))
    groups = np.split(by_group, np.flatnonzero(np.diff(place[columns][by_group] // PHOTOS)) + 1)
    for group in shown(groups, len(groups), "eval: pairs", "groups") if len(pairs) else ():
        own = np.unique(columns[group])
        context = pad([photos[photo].context for photo in own]).to(device)
        for start in range(0, len(group), PAIRS):
            part = group[start : start + PAIRS]
            front = padded_captions([captions[row] for row in rows[part]]).to(device)
            which = torch.from_numpy(np.searchsorted(own, columns[part])).to(device)
            added[part] = module.joint(front, take(context, which)).cpu().numpy()
    return added


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """(rows, count) int64: the columns with the highest scores, in any order."""
    count = min(count, scores.shape[1])
    return np.argpartition(-scores, max(count - 1, 0), axis=1)[:, :count]


def _candidates(first: np.ndarray, rows: np.ndarray, columns: np.ndarray, count: int) -> np.ndarray:
    """The pairs, text × photos + photo, of the first `count` of all lists of these texts and photos."""
    scores = first[np.ix_(rows, columns)]
    found = []
    if count:
        of_texts = columns[_best(scores, count)] + rows[:, None] * first.shape[1]
        of_photos = rows[_best(scores.T, count)] * first.shape[1] + columns[:, None]
        found = [of_texts.ravel(), of_photos.ravel()]
    return np.concatenate([np.zeros(0, np.int64), *found])


def _reordered(
    first: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    count: int,
    pairs: np.ndarray,
    added: np.ndarray,
    turned: bool,
) -> np.ndarray:
    """The scores of these texts with these photos, (texts, photos), or, `turned`, (photos, texts), in the new order.

    The first `count` of a list stay in front of all others.
    """
    scores = first[np.ix_(rows, columns)]
    numbers = rows[:, None] * first.shape[1] + columns[None, :]
    scores, numbers = (scores.T.copy(), numbers.T) if turned else (scores, numbers)
    if not count:
        return scores
    best = _best(scores, count)
    chosen = np.take_along_axis(numbers, best, 1)
    total = np.take_along_axis(scores, best, 1) + added[np.searchsorted(pairs, chosen)]
    floor = scores.max(axis=1, keepdims=True) + 1
    np.put_along_axis(scores, best, floor + total - total.min(axis=1, keepdims=True), 1)
    return scores


def measures(found: Retrieved, examples: Sequence[Example]) -> list[Measure]:
    """R@1, 5, 10 by text and by photo, of all photos; of folds of 1,000, if there are more; and of the first lists."""
    names = [example.images[0] for example in examples]
    keys = [f"{example.key}#{n}" for example in examples for n in range(len(example.answers))]
    everything = (np.arange(len(found.texts)), np.arange(len(names)))

    def recall(galleries: Sequence[tuple[Any, ...]], ending: str) -> list[Measure]:
        made = []
        for turned, direction in ((False, "text to image"), (True, "image to text")):
            hits, units, photos = [], [], []
            for rows, columns, by_text, by_photo in galleries:
                right = found.owner[rows][:, None] == columns[None, :]
                if turned:  # a photo without captions has no right answer
                    asked = right.any(axis=0)
                    hits.append(expected_hits(by_photo[asked], right.T[asked], CUTOFFS))
                    units += [examples[column].key for column in columns[asked]]
                    photos += [names[column] for column in columns[asked]]
                else:
                    hits.append(expected_hits(by_text, right, CUTOFFS))
                    units += [keys[row] for row in rows]
                    photos += [names[found.owner[row]] for row in rows]
            values = np.concatenate(hits)
            made += [
                Measure(f"R@{cutoff} {direction}{ending}", values[:, column], units, photos)
                for column, cutoff in enumerate(CUTOFFS)
            ]
        return made

    whole = recall([(*everything, found.by_text, found.by_photo)], "")
    folds = recall(found.folds, ", 1k folds") if found.folds else []
    return [*whole, *folds, *recall([(*everything, found.first, found.first.T)], ", first list")]


def result_file(found: Retrieved, examples: Sequence[Example]) -> bytes:
    """The first photos of each caption and the first captions of each photo, as JSON."""
    keys = [number_or_text(example.key) for example in examples]
    of_texts = np.argsort(-found.by_text, axis=1, kind="stable")[:, :LISTED]
    of_photos = np.argsort(-found.by_photo, axis=1, kind="stable")[:, :LISTED]
    rows: list[dict[str, Any]] = [
        {"caption": text, "images": [keys[photo] for photo in row]}
        for text, row in zip(found.texts, of_texts.tolist(), strict=True)
    ]
    rows += [
        {"image_id": key, "captions": [found.texts[text] for text in row]}
        for key, row in zip(keys, of_photos.tolist(), strict=True)
    ]
    return ("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n").encode()
