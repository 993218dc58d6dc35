"""Captioning: the words of a caption are predicted from the words before them, the tags and the regions.

With `masked` some words of a caption are masked, as in Oscar and VinVL; with `all` each has a [MASK] that sees what a
writer of the word sees. With `reward`, captions are drawn, and made likelier or less likely by their CIDEr-D against
that of the greedy caption (self-critical training; Rennie et al., CVPR 2017).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.model.config import fraction, positive
from vlmixer.model.loop import Objective
from vlmixer.model.network import Network, Sequences
from vlmixer.model.padding import Padded, joined, pad, padded
from vlmixer.model.progress import say
from vlmixer.model.ranks import Ranks
from vlmixer.model.tasks.base import Answer, Encoded, Evaluation, Example, Labels, Setup, Task, TaskNetwork
from vlmixer.model.tasks.caption_files import TRAINING_SPLITS, read_captions
from vlmixer.model.tasks.caption_inputs import (
    Captions,
    context_view,
    framed,
    padded_captions,
    probed_captions,
    take,
    with_captions,
)
from vlmixer.model.tasks.caption_scores import CaptionScore, caption_scores, missing
from vlmixer.model.tasks.cider import CiderD, Frequencies, frequencies
from vlmixer.model.tasks.classification import json_result, number_or_text
from vlmixer.model.tasks.config import TaskConfig
from vlmixer.model.tasks.decoding import BEAMS, LIMIT, beam_search, caption_sight, drawn, greedy
from vlmixer.model.tasks.photos import Photo
from vlmixer.model.tasks.scores import Measure
from vlmixer.model.tokenizer import Tokenizer

BATCH = 64
"""Photos that are captioned together."""


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
        return replace(
            self,
            context=self.context.to(device),
            captions=self.captions.to(device),
            chosen=self.chosen.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
        )


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
        # A rank's mean is weighted by its share of all the ranks' targets.
        mine = loss.new_tensor([count])
        return self.ranks.world * mine / self.ranks.total(mine) * loss

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


class Captioning(Task[CaptioningConfig]):
    """A caption for a photo."""

    name: ClassVar[str] = "captioning"
    right_from: ClassVar[float | None] = None
    title: ClassVar[str] = "image captioning (COCO)"
    config = CaptioningConfig

    def read(
        self, paths: Sequence[str], settings: CaptioningConfig, log: RejectLog, training: bool
    ) -> tuple[list[Example], int]:
        return read_captions(paths, TRAINING_SPLITS if training else (settings.split,), log, single=training)

    def labels(self, examples: Sequence[Example], settings: CaptioningConfig) -> Labels:
        """With learn: reward, how many photos' captions have a run of words; runs that one photo has are left out,
        because they count as runs that none has."""
        if settings.learn != "reward":
            return {}
        known = frequencies({example.images: example.answers for example in examples}.values())
        return {"images": known.images, "runs": {" ".join(run): n for run, n in known.counts.items() if n > 1}}

    def head(self, setup: Setup[CaptioningConfig], network: Network) -> nn.Module:
        """None of its own: the head for masked words is the pre-trained one."""
        return nn.Identity()

    def objective(self, setup: Setup[CaptioningConfig], network: TaskNetwork, ranks: Ranks) -> Captioner:
        return Captioner(setup, network, ranks)

    def encode(
        self,
        setup: Setup[CaptioningConfig],
        examples: Sequence[Example],
        photos: Sequence[Sequence[Photo]],
        training: bool,
    ) -> list[Encoded]:
        """The view of the photo; `extra`: the pieces of the caption, and all captions of the photo."""
        tokenizer, limit = setup.tokenizer, setup.settings.text_tokens or setup.model.max_text_tokens
        names = sorted({tag for row in photos for photo in row for tag in photo.tags})
        tags = dict(zip(names, tokenizer.encode(names), strict=True))
        views = {
            id(photo): context_view(
                [tags[tag] for tag in photo.tags], setup.regions(photo), tokenizer, limit, setup.model.max_text_tokens
            )
            for (photo,) in photos
        }
        captions = tokenizer.encode([example.text for example in examples])
        return [
            Encoded((views[id(photo)],), extra=(framed(pieces, tokenizer, limit), example.answers))
            for example, pieces, (photo,) in zip(examples, captions, photos, strict=True)
        ]

    def part(
        self, setup: Setup[CaptioningConfig], encoded: Sequence[Encoded], random: np.random.Generator
    ) -> CaptionPart:
        captions, chosen, targets = [], [], []
        for row, one in enumerate(encoded):
            ids = one.extra[0]
            if setup.settings.learn == "masked":
                ids, columns, pieces = mask_caption(ids, setup.tokenizer, setup.settings, random)
                chosen.append(np.stack([np.full(len(columns), row), columns], axis=1))
                targets.append(pieces)
            captions.append(ids)
        return CaptionPart(
            padded([view for one in encoded for view in one.views]),
            tuple(captions),
            np.concatenate([np.zeros((0, 2), np.int64), *chosen]),
            np.concatenate([np.zeros(0, np.int64), *targets]),
            tuple(one.extra[1] for one in encoded) if setup.settings.learn == "reward" else (),
        )

    def assemble(self, setup: Setup[CaptioningConfig], parts: Sequence[CaptionPart]) -> CaptionBatch:
        context = joined([part.context for part in parts])
        assert context is not None  # each reader has at least one example per step
        captions = [ids for part in parts for ids in part.captions]
        if setup.settings.learn == "all":
            front, chosen, targets = probed_captions(captions, setup.tokenizer)
        else:
            front = padded_captions(captions)
            rows = np.cumsum([0, *(len(part.captions) for part in parts[:-1])])
            shifted = [part.chosen + np.array([row, 0]) for part, row in zip(parts, rows, strict=True)]
            chosen = torch.from_numpy(np.concatenate(shifted))
            targets = torch.from_numpy(np.concatenate([part.targets for part in parts]))
        return CaptionBatch(
            epoch=parts[0].epoch,
            samples=len(captions),
            items=int(context.mask.sum()) + sum(map(len, captions)),
            context=context.tensors(),
            captions=front,
            chosen=chosen,
            targets=targets,
            references=tuple(references for part in parts for references in part.references),
        )

    def evaluate(
        self,
        setup: Setup[CaptioningConfig],
        network: TaskNetwork,
        examples: Sequence[Example],
        numbers: np.ndarray,
        encoded: Iterator[tuple[int, list[Encoded]]],
    ) -> Evaluation:
        """Captions by beam search, with CIDEr-D and, where they are installed, the usual scores."""
        captions = [text for _, block in encoded for text in write(setup, network.network, block)]
        known = [row for row, example in enumerate(examples) if example.answers]
        scorer = CiderD([examples[row].answers for row in known]) if known else None
        values = {row: scorer.score(place, captions[row]) for place, row in enumerate(known)} if scorer else {}
        answers = [Answer(caption, values.get(row)) for row, caption in enumerate(captions)]
        scored = [examples[row] for row in known]
        own = CaptionScore(0.0, tuple(values[row] for row in known))
        measures = [_measure("CIDEr-D", own, scored), *_usual(scored, [captions[row] for row in known])]
        rows = [
            {"image_id": number_or_text(example.key), "caption": caption}
            for example, caption in zip(examples, captions, strict=True)
        ]
        return Evaluation(answers, measures, json_result(rows))


def mask_caption(
    ids: np.ndarray, tokenizer: Tokenizer, settings: CaptioningConfig, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The caption with some pieces masked, the columns of these, and what they were.

    At least one is masked, and any but [CLS] may be. Of these 80 % become [MASK], 10 % a random piece, 10 % stay.
    """
    count = min(max(round(settings.mask_probability * (len(ids) - 1)), 1), settings.max_masked)
    columns = np.sort(1 + random.permutation(len(ids) - 1)[:count])
    draw = random.random(len(columns))
    other = tokenizer.ordinary[random.integers(len(tokenizer.ordinary), size=len(columns))]
    masked = ids.copy()
    masked[columns] = np.where(draw < 0.8, tokenizer.mask, np.where(draw < 0.9, other, ids[columns]))
    return masked, columns, ids[columns]


def write(setup: Setup[CaptioningConfig], network: Network, encoded: Sequence[Encoded]) -> list[str]:
    """A caption for each photo."""
    network.eval()
    device, settings = next(network.parameters()).device, setup.settings
    order = np.argsort([len(one) for one in encoded], kind="stable")
    found = [""] * len(encoded)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        context = pad([encoded[row].views[0] for row in rows]).to(device)
        if settings.beams > 1:
            captions = beam_search(network, setup.tokenizer, context, settings.caption_tokens, settings.beams)
        else:
            captions = greedy(network, setup.tokenizer, context, settings.caption_tokens)
        for row, pieces in zip(rows, captions, strict=True):
            found[row] = setup.tokenizer.text(pieces)
    return found


def _usual(examples: Sequence[Example], captions: Sequence[str]) -> list[Measure]:
    """BLEU, METEOR, ROUGE-L, CIDEr and SPICE, where they are installed."""
    if not examples:
        return []
    if (reason := missing()) is not None:
        say(f"{reason}.")
        return []
    keys = [example.key for example in examples]
    references = {example.key: example.answers for example in examples}
    found = caption_scores(dict(zip(keys, captions, strict=True)), references)
    return [_measure(name, score, examples) for name, score in found.items()]


def _measure(name: str, score: CaptionScore, examples: Sequence[Example]) -> Measure:
    """The score of each photo. BLEU and METEOR of all are not the mean of these."""
    whole = score.value if name.startswith(("BLEU", "METEOR")) else None
    photos = [example.images[0] for example in examples]
    return Measure(name, np.array(score.each, np.float64), [example.key for example in examples], photos, whole=whole)
