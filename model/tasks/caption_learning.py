"""How captions are learned: the settings, the batch, and the losses.

With `masked` some words of a caption are masked, as in Oscar and VinVL; with `all` each has a [MASK] that sees what a
writer of the word sees. With `reward`, captions are drawn, and made likelier or less likely by their CIDEr-D against
that of the greedy caption (self-critical training; Rennie et al., CVPR 2017).
"""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vlmixer.artifacts.errors import CallError
from vlmixer.model.config import fraction, positive
from vlmixer.model.loop import Objective
from vlmixer.model.network import Sequences
from vlmixer.model.padding import Padded
from vlmixer.model.ranks import Ranks
from vlmixer.model.tasks.base import Setup, TaskNetwork
from vlmixer.model.tasks.caption_inputs import Captions, probed_captions, take, with_captions
from vlmixer.model.tasks.cider import CiderD, Frequencies
from vlmixer.model.tasks.config import TaskConfig
from vlmixer.model.tasks.decoding import BEAMS, LIMIT, caption_sight, drawn, greedy
from vlmixer.model.transfer import moved


@dataclass(frozen=True)
class CaptioningConfig(TaskConfig):
    """Fine-tuning for captions."""

    text_tokens: int | None = 24  # word pieces for [CLS] caption [SEP]; the tags follow at this position
    label_smoothing: float = 0.1
    learn: Literal["masked", "all", "reward"] = "all"  # some masked words, all words, or what CIDEr-D rewards
    mask_probability: float = 0.15  # share of pieces that are masked, [SEP] among them
    max_masked: int = 3  # maximum number of masked pieces per caption
    samples: int = 5  # drawn captions per photo, with learn: reward
    beams: int = BEAMS  # captions that beam search keeps; 1: greedy
    caption_tokens: int = LIMIT  # maximum number of word pieces of a caption that is written
    split: str = "test"  # to score, of files that have splits; train and restval are trained on

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("task", self, "max_masked", "samples", "beams", "caption_tokens")
        fraction("task", self, "mask_probability")
        if self.text_tokens is None or self.caption_tokens + 2 > self.text_tokens:
            raise CallError(
                f"task.caption_tokens: {self.caption_tokens}, and [CLS] and [SEP], do not fit into task.text_tokens "
                f"{self.text_tokens}. Set one of them otherwise."
            )


@dataclass(frozen=True)
class CaptionPart:
    """What one reader contributes to a step. `captions`: pieces from [CLS] to [SEP], some of them masked. `chosen`:
    (n, 2) int64, a caption and a piece to predict. `references`: all captions of the photo of each."""

    context: Padded
    captions: tuple[np.ndarray, ...]
    chosen: np.ndarray
    targets: np.ndarray
    references: tuple[tuple[str, ...], ...]
    epoch: int = 0


@dataclass(frozen=True)
class CaptionBatch:
    """What one rank reads in one step. See CaptionPart and `LoopBatch` in model.loop."""

    epoch: int
    samples: int
    items: int
    context: Sequences
    captions: Captions
    chosen: Tensor
    targets: Tensor
    references: tuple[tuple[str, ...], ...]

    def to(self, device: torch.device) -> Self:
        """The same on `device`."""
        return moved(self, device)


class Captioner(Objective):
    """The network as it learns to write captions."""

    names = ("captions",)

    def __init__(self, setup: Setup[CaptioningConfig], network: TaskNetwork, ranks: Ranks) -> None:
        super().__init__()
        self.network: TaskNetwork = network
        self.ranks, self.settings, self.tokenizer = ranks, setup.settings, setup.tokenizer
        runs = {tuple(run.split(" ")): count for run, count in setup.labels.get("runs", {}).items()}
        self.known = Frequencies.of(setup.labels.get("images", 1), runs)

    def forward(self, batch: CaptionBatch) -> Tensor:
        """(1,) float32: the mean cross-entropy of the pieces to predict; or the expected loss of reward."""
        if self.settings.learn == "reward":
            loss, count = self._reward(batch), batch.samples
        else:
            logits = self.logits(batch.captions, batch.context, batch.chosen)
            smoothing = self.settings.label_smoothing
            loss, count = functional.cross_entropy(logits, batch.targets, label_smoothing=smoothing), len(logits)
        return self.ranks.shares([count], loss.device) * loss

    def logits(self, captions: Captions, context: Sequences, chosen: Tensor) -> Tensor:
        """(n, vocabulary) float32, for the pieces `chosen`, (n, 2)."""
        network = self.network.network
        sequences, turns = with_captions(captions, context)
        probes = torch.cat([captions.probes, torch.zeros_like(context.mask)], dim=1)
        states = network.bert(sequences, caption_sight(sequences.mask, turns, probes))
        return network.words(states, chosen).float()

    def _reward(self, batch: CaptionBatch) -> Tensor:
        """Minus the mean over drawn captions of log likelihood × (CIDEr-D - that of the greedy caption)."""
        network, settings, copies = self.network.network, self.settings, self.settings.samples
        random = torch.Generator().manual_seed(int(torch.randint(1 << 62, ())))
        limit = settings.caption_tokens
        was = network.training
        network.eval()
        base = greedy(network, self.tokenizer, batch.context, limit)
        tried = drawn(network, self.tokenizer, batch.context, random, copies, limit)
        network.train(was)
        scorer = CiderD(batch.references, self.known)
        baseline = [scorer.score(row, self._text(pieces)) for row, pieces in enumerate(base)]
        scores = [scorer.score(row // copies, self._text(pieces)) for row, pieces in enumerate(tried)]
        gains = [score - baseline[row // copies] for row, score in enumerate(scores)]
        # A caption that the limit cut did not choose to end.
        ends = [[self.tokenizer.end] if len(pieces) < limit else [] for pieces in tried]
        whole = [np.array([self.tokenizer.begin, *one, *end], np.int64) for one, end in zip(tried, ends, strict=True)]
        captions, chosen, targets = probed_captions(whole, self.tokenizer)
        device = batch.context.mask.device
        rows = torch.arange(len(base), device=device).repeat_interleave(copies)
        chosen, targets = chosen.to(device), targets.to(device)
        logits = self.logits(captions.to(device), take(batch.context, rows), chosen)
        gain = torch.tensor(gains, dtype=torch.float32, device=device)
        return (functional.cross_entropy(logits, targets, reduction="none") * gain[chosen[:, 0]]).sum() / len(tried)

    def _text(self, pieces: np.ndarray) -> str:
        return self.tokenizer.text(pieces)
