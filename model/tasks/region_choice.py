"""The choice of one of a photo's regions: the head, the loss, the prediction. Files and scores are left to refcoco."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlmixer.artifacts.boxes import box_iou
from vlmixer.model.loop import Objective
from vlmixer.model.network import Sequences
from vlmixer.model.padding import pad
from vlmixer.model.ranks import Ranks
from vlmixer.model.tasks.base import Encoded, Setup, TaskBatch, TaskNetwork

NO_REGION = -1
"""The target of an expression without a region that is near enough to its box."""
BATCH = 256
"""Expressions that are predicted together."""


@dataclass(frozen=True)
class Choice:
    """How likely each region is the one that is meant. `likely`: (n,) float32, which sum to 1; n may be 0."""

    likely: np.ndarray

    @property
    def region(self) -> int:
        """The most likely region; NO_REGION if the photo has none."""
        return int(self.likely.argmax()) if len(self.likely) else NO_REGION


class RegionChooser(Objective):
    """A score of each region from its state, and cross-entropy over the regions of the photo, as in UNITER.

    `in_reach` is logged beside the loss: the share of expressions that have a region to choose. The others are not
    learned from.
    """

    names = ("region", "in_reach")

    def __init__(self, setup: Setup[Any], network: TaskNetwork, ranks: Ranks) -> None:
        super().__init__()
        self.network: TaskNetwork = network
        self.ranks, self.smoothing = ranks, setup.settings.label_smoothing

    def scores(self, sequences: Sequences) -> Tensor:
        """(B, L) float32: the score of each region, -inf at items that are none."""
        states = self.network.network.bert(sequences)
        regions = _regions(sequences)
        scores: Tensor = self.network.head(states)[..., 0].float()
        return scores.masked_fill(~regions, float("-inf"))

    def forward(self, batch: TaskBatch) -> Tensor:
        """(2,) float32."""
        scores, target = self.scores(batch.sequences), batch.targets["region"]
        there = target != NO_REGION
        # A rank's mean is weighted by its share of all the ranks' expressions.
        mine = torch.stack([there.sum(), torch.full((), len(there), device=there.device)]).float()
        share = self.ranks.world * mine / self.ranks.total(mine).clamp(min=1)
        text = (batch.sequences.mask & ~_regions(batch.sequences)).sum(1)
        # Of the others, which may have no region at all, nothing counts. Leaving out their rows would need their number
        # here, and a device would wait until it is known.
        likely = scores.masked_fill(~there[:, None], 0.0).log_softmax(-1)
        chosen = (text + target).clamp(0, scores.shape[1] - 1)
        right = -likely.gather(1, chosen[:, None])[:, 0].masked_fill(~there, 0.0).sum()
        # PyTorch's own smoothing would count the items that are no regions, whose scores are not finite.
        regions = likely.isfinite() & there[:, None]
        even = -(likely.masked_fill(~regions, 0).sum(1) / regions.sum(1).clamp(min=1)).sum()
        loss = ((1 - self.smoothing) * right + self.smoothing * even) / there.sum().clamp(min=1)
        return torch.stack([share[0] * loss, share[1] * there.float().mean()])

    def total(self, losses: Tensor) -> Tensor:
        return losses[0]


def target_of(boxes: np.ndarray, wanted: np.ndarray, least: float) -> int:
    """The region with the largest overlap, or NO_REGION if none reaches `least`. `boxes`: (n, 4); `wanted`: (4,)."""
    overlaps = box_iou(boxes, wanted[None])[:, 0]
    return int(overlaps.argmax()) if len(overlaps) and overlaps.max() >= least else NO_REGION


def choose(chooser: RegionChooser, encoded: Iterator[tuple[int, list[Encoded]]]) -> list[Choice]:
    """The choice for each example, in order."""
    device = next(chooser.network.parameters()).device
    found: list[Choice] = []
    chooser.eval()
    with torch.inference_mode():
        for _, block in encoded:
            placed = [Choice(np.zeros(0, np.float32))] * len(block)
            order = np.argsort([len(one) for one in block], kind="stable")
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                views = [block[row].views[0] for row in rows]
                likely = chooser.scores(pad(views).to(device)).softmax(-1).cpu().numpy()
                for row, view, each in zip(rows, views, likely, strict=True):
                    placed[row] = Choice(each[len(view.ids) : len(view)].copy())
            found += placed
    return found


def _regions(sequences: Sequences) -> Tensor:
    """(B, L) bool: which items are regions."""
    return sequences.mask & (sequences.order >= sequences.ids.shape[1])
