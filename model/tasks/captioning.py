"""Captioning: the words of a caption are predicted from the words before them, the tags and the regions.

Files, inputs, the writing of captions and their scores; how captions are learned is left to caption_learning.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from vlmixer.artifacts.rejects import RejectLog
from vlmixer.model.network import Network
from vlmixer.model.padding import joined, pad, padded
from vlmixer.model.progress import say
from vlmixer.model.ranks import Ranks
from vlmixer.model.tasks.base import Answer, Encoded, Evaluation, Example, Labels, Setup, Task, TaskNetwork
from vlmixer.model.tasks.caption_files import TRAINING_SPLITS, read_captions
from vlmixer.model.tasks.caption_inputs import context_view, framed, padded_captions, probed_captions, text_tokens
from vlmixer.model.tasks.caption_learning import CaptionBatch, Captioner, CaptioningConfig, CaptionPart
from vlmixer.model.tasks.caption_scores import CaptionScore, caption_scores, missing
from vlmixer.model.tasks.cider import CiderD, frequencies
from vlmixer.model.tasks.classification import json_result, number_or_text
from vlmixer.model.tasks.decoding import beam_search, greedy
from vlmixer.model.tasks.photos import Photo
from vlmixer.model.tasks.scores import Measure
from vlmixer.model.tokenizer import Tokenizer
from vlmixer.model.views import without_region

BATCH = 64
"""Photos that are captioned together."""


class Captioning(Task[CaptioningConfig]):
    """A caption for a photo."""

    name: ClassVar[str] = "captioning"
    right_from: ClassVar[float | None] = None
    title: ClassVar[str] = "image captioning (COCO)"
    config = CaptioningConfig

    def read(
        self, paths: Sequence[str], settings: CaptioningConfig, log: RejectLog, training: bool
    ) -> tuple[list[Example], int]:
        splits = TRAINING_SPLITS if training else (settings.split,)
        return read_captions(paths, splits, log, single=training, uncaptioned=not training)

    def are_labels(self, found: Labels) -> bool:
        images, runs = found.get("images", 1), found.get("runs", {})
        counts = [images, *runs.values()] if isinstance(runs, dict) else [None]
        return all(type(count) is int and count > 0 for count in counts)

    def labels(self, examples: Sequence[Example], settings: CaptioningConfig) -> Labels:
        """With learn: reward, how many photos' captions have a run of words; runs that one photo has are left out,
        because they count as runs that none has."""
        if settings.learn != "reward":
            return {}
        known = frequencies({example.images: example.answers for example in examples}.values())
        return {"images": known.images, "runs": {" ".join(run): n for run, n in known.counts.items() if n > 1}}

    def head(self, setup: Setup[CaptioningConfig], network: Network) -> nn.Module:
        """None of its own: the head for masked words is the pre-trained one. Raises CallError as `text_tokens` does."""
        text_tokens(setup)
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
        tokenizer, limit = setup.tokenizer, text_tokens(setup)
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
        # 1 is about what people reach among themselves.
        answers = [Answer(text, min(values[row], 1.0) if row in values else None) for row, text in enumerate(captions)]
        scored = [examples[row] for row in known]
        own = CaptionScore(0.0, tuple(values[row] for row in known))
        measures = [_measure("CIDEr-D", own, scored), *_usual(scored, [captions[row] for row in known])]
        rows = [
            {"image_id": number_or_text(example.key), "caption": caption}
            for example, caption in zip(examples, captions, strict=True)
        ]
        return Evaluation(answers, measures, json_result(rows))

    def mattered(
        self, setup: Setup[CaptioningConfig], network: TaskNetwork, encoded: Encoded, answer: str
    ) -> Sequence[np.ndarray]:
        """For the photo (regions,) float32: the mean probability of the caption's words, minus that without the
        region."""
        (view,) = encoded.views
        limit = text_tokens(setup)
        views = [view, *(without_region(view, region) for region in range(len(view.regions)))]
        caption = framed(setup.tokenizer.encode([answer])[0], setup.tokenizer, limit)
        captions, chosen, targets = probed_captions([caption] * len(views), setup.tokenizer)
        module = self.objective(setup, network, Ranks()).eval()
        device = next(network.parameters()).device
        with torch.inference_mode():
            logits = module.logits(captions.to(device), pad(views).to(device), chosen.to(device))
            likely = logits.softmax(-1).gather(1, targets.to(device)[:, None]).view(len(views), -1).mean(1)
        found = likely.cpu().numpy()
        return [found[0] - found[1:]]


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
