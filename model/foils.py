"""Does a trained run tell a caption from foils, which are captions that a few words make wrong?

A text-only score stands next to it: where that is above chance, foils can be recognised by their language alone.
Reading lists and finding regions is left to the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlmixer.artifacts.errors import UserError, one_line
from vlmixer.model.checkpoint import load_run
from vlmixer.model.config import ModelConfig
from vlmixer.model.embedding import ImageRegions, embed_images, embed_tags, embed_texts
from vlmixer.model.likelihood import similarities
from vlmixer.model.network import Network
from vlmixer.model.padding import pad
from vlmixer.model.reference import load_reference
from vlmixer.model.tokenizer import Tokenizer
from vlmixer.model.views import no_regions, text_view

SEQUENCES_PER_BATCH = 256


@dataclass(frozen=True)
class FoilCase:
    """A caption of `image`, and texts like it that do not fit the image. `kind`: what they change, for the table."""

    image: str
    caption: str
    foils: tuple[str, ...]
    kind: str


@dataclass(frozen=True)
class FoilScore:
    """Percentage of the cases of one `kind` in which the caption scores above all its foils.

    A tie at the top counts as its share. `regions`, `regions_and_tags`: as in retrieval. `text_only`: the mean log
    likelihood of the text's pieces, each masked in turn, without any image. `chance`: for a caption among its foils.
    """

    kind: str
    cases: int
    regions: float
    regions_and_tags: float
    text_only: float
    chance: float


@dataclass(frozen=True)
class FoilReport:
    """The scores of all kinds and, last, of all cases together."""

    scores: tuple[FoilScore, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def to_table(self) -> str:
        """A table for people."""
        lines = [
            f"{'caption above its foils, %':<28}{'cases':>8}{'regions':>10}{'+ tags':>10}{'text only':>11}{'chance':>9}"
        ]
        for score in self.scores:
            shares = (score.regions, score.regions_and_tags, score.text_only, score.chance)
            cells = "".join(f"{value:>{width}.1f}" for value, width in zip(shares, (10, 10, 11, 9), strict=True))
            lines.append(f"{score.kind:<28}{score.cases:>8}{cells}")
        return "\n".join(map(one_line, lines))


def foils(run: str | Path, images: Mapping[str, ImageRegions], cases: Sequence[FoilCase]) -> FoilReport:
    """Measure the run on `cases`, whose images are keys of `images`. Raises UserError if there is no case."""
    if not cases:
        raise UserError("No case to measure. Give a list with at least one caption that has a foil.")
    network, tokenizer, settings = load_run(str(run))
    model, temperature = settings.model, settings.train.temperature
    names = sorted({case.image for case in cases})
    rows = {name: row for row, name in enumerate(names)}
    chosen = [images[name] for name in names]
    texts = [text for case in cases for text in (case.caption, *case.foils)]
    owner = np.repeat([rows[case.image] for case in cases], [1 + len(case.foils) for case in cases])
    embedded, reference = embed_texts(network, tokenizer, model, texts), load_reference(str(run))
    of_regions, of_tags = (embed(network, tokenizer, model, chosen) for embed in (embed_images, embed_tags))
    regions, both = np.zeros(len(texts)), np.zeros(len(texts))
    for image in range(len(names)):
        own = np.flatnonzero(owner == image)
        found = similarities(embedded.take(own), of_regions.one(image), of_tags.one(image), reference, temperature)
        regions[own], both[own] = found[0][:, 0], found[2][:, 0]
    alone = text_likelihoods(network, tokenizer, model, texts)
    ends = np.cumsum([1 + len(case.foils) for case in cases])
    groups = np.split(np.arange(len(texts)), ends[:-1])
    won = np.array([[100 * _first(values[group]) for values in (regions, both, alone)] for group in groups])
    chance = np.array([100 / len(group) for group in groups])
    kinds = list(dict.fromkeys(case.kind for case in cases))
    scores = []
    for kind in [*kinds, "all"] if len(kinds) > 1 else kinds:
        of_kind = [row for row, case in enumerate(cases) if kind in (case.kind, "all")]
        means = won[of_kind].mean(axis=0).tolist()
        scores.append(FoilScore(kind, len(of_kind), means[0], means[1], means[2], float(chance[of_kind].mean())))
    return FoilReport(tuple(scores))


@torch.inference_mode()
def text_likelihoods(network: Network, tokenizer: Tokenizer, config: ModelConfig, texts: Sequence[str]) -> np.ndarray:
    """(n,) float64: the mean over a text's pieces of their log likelihood where each is masked in turn."""
    network.eval()
    nothing = no_regions(config.feature_dim or 0)
    views, targets, owner = [], [], []
    for number, pieces in enumerate(tokenizer.encode(texts)):
        view = text_view(pieces, tokenizer, config.max_text_tokens, nothing)
        for item in range(1, len(view.ids) - 1):
            ids = view.ids.copy()
            ids[item] = tokenizer.mask
            views.append(replace(view, ids=ids))
            targets.append((item, int(view.ids[item])))
            owner.append(number)
    sums, counts = np.zeros(len(texts)), np.bincount(np.array(owner, np.int64), minlength=len(texts))
    for first in range(0, len(views), SEQUENCES_PER_BATCH):
        part = slice(first, first + SEQUENCES_PER_BATCH)
        items = torch.tensor([[row, item] for row, (item, _) in enumerate(targets[part])])
        logits = network.words(network.bert(pad(views[part])), items).float().log_softmax(-1)
        found = logits.gather(1, torch.tensor([[piece] for _, piece in targets[part]]))[:, 0]
        np.add.at(sums, owner[part], found.double().numpy())
    likelihoods: np.ndarray = sums / np.maximum(counts, 1)
    return likelihoods


def _first(scores: np.ndarray) -> float:
    """1 if the first score is the highest one; a share of 1 if it is one of several; else 0."""
    return float(scores[0] == scores.max()) / int((scores == scores.max()).sum())
