"""Retrieval of photos by captions and of captions by photos, fine-tuned with pairs.

The contrastive space, in which captions and photos are encoded apart, makes the first list. The joint encoder, which
reads a caption and a photo together, adds to the score of the first of that list and so puts them in a new order. Its
head begins at zero: before the first step the scores are those of retrieval without fine-tuning. How both are learned
is left to retrieval_learning, lists and recall to retrieval_scores.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.model import checkpoint, finished
from vlmixer.model.network import Network
from vlmixer.model.padding import as_columns, pad
from vlmixer.model.ranks import Ranks
from vlmixer.model.reference import load_reference
from vlmixer.model.tasks.base import Answer, Encoded, Evaluation, Example, Labels, Setup, Task, TaskNetwork
from vlmixer.model.tasks.caption_files import TRAINING_SPLITS, read_captions
from vlmixer.model.tasks.caption_inputs import context_view, framed, padded_captions, text_tokens
from vlmixer.model.tasks.photos import Photo
from vlmixer.model.tasks.retrieval_learning import (
    JointHead,
    PairBatch,
    PairPart,
    PhotoViews,
    RetrievalConfig,
    Retriever,
)
from vlmixer.model.tasks.retrieval_scores import measures, result_file, retrieve
from vlmixer.model.tasks.retrieval_space import gallery
from vlmixer.model.views import no_regions, text_view

FIRST_CAPTION = "R@1 image to text"

MOST_KNOWN = 1 << 20
"""Texts, and photos, of a run's reference: far more than any has."""


class Retrieval(Task[RetrievalConfig]):
    """Photos by captions, and captions by photos."""

    name: ClassVar[str] = "retrieval"
    title: ClassVar[str] = "image-text retrieval (COCO, Flickr30k)"
    config = RetrievalConfig

    def read(
        self, paths: Sequence[str], settings: RetrievalConfig, log: RejectLog, training: bool
    ) -> tuple[list[Example], int]:
        splits = TRAINING_SPLITS if training else (settings.split,)
        examples, read = read_captions(paths, splits, log, single=training)
        if training or settings.gallery is None:
            return examples, read
        wanted = read_gallery(settings.gallery)
        kept = [example for example in examples if example.key in wanted]
        if len(kept) < len(wanted):
            raise CallError(
                f"task.gallery: {settings.gallery} names {len(wanted):,} photos; {len(kept):,} of them are in the "
                "files to score. Name the list of these files' photos."
            )
        return kept, read - len(examples) + len(kept)

    def labels(self, examples: Sequence[Example], settings: RetrievalConfig) -> Labels:
        """The temperature of the contrastive space, and how many texts and photos the pre-trained run knows."""
        init = settings.init
        if init is None or not files.has_file(files.join(init, finished.REFERENCE)):
            return {"temperature": 0.1, "texts": 0, "photos": 0}
        reference = load_reference(init)
        _, _, trained = checkpoint.load_run(init)
        return {
            "temperature": trained.train.temperature,
            "texts": len(reference.texts),
            "photos": len(reference.words),
        }

    def are_labels(self, found: Labels) -> bool:
        numbers, temperature = (found.get("texts"), found.get("photos")), found.get("temperature")
        whole = all(type(number) is int and 0 <= number <= MOST_KNOWN for number in numbers)
        if not isinstance(temperature, int | float) or isinstance(temperature, bool):
            return False
        return whole and 0 < temperature < float("inf")

    def head(self, setup: Setup[RetrievalConfig], network: Network) -> nn.Module:
        text_tokens(setup)  # raises what does not fit before any work is done
        model, size, dropout = setup.model, setup.tokenizer.size, setup.settings.dropout
        # One text of zeros is as likely for all photos: without a pre-trained run no text is usual.
        texts = torch.zeros(max(setup.labels["texts"], 1), model.projection_size)
        words = torch.zeros(setup.labels["photos"], size)
        rate = model.dropout_rate if dropout is None else dropout
        return JointHead(model.hidden_size, texts, torch.ones(size), words, rate)

    def begin(self, setup: Setup[RetrievalConfig], network: TaskNetwork) -> None:
        if setup.settings.init is not None and setup.labels["texts"]:
            reference = load_reference(setup.settings.init)
            network.head.load_state_dict(
                {name: torch.from_numpy(value) for name, value in vars(reference).items()}, strict=False
            )

    def objective(self, setup: Setup[RetrievalConfig], network: TaskNetwork, ranks: Ranks) -> Retriever:
        return Retriever(setup, network, ranks)

    def encode(
        self,
        setup: Setup[RetrievalConfig],
        examples: Sequence[Example],
        photos: Sequence[Sequence[Photo]],
        training: bool,
    ) -> list[Encoded]:
        """The caption alone; `extra`: its pieces in front of a photo, and the views of the photo."""
        tokenizer, limit = setup.tokenizer, text_tokens(setup)
        most, nothing = setup.model.max_text_tokens, no_regions(setup.feature_dim)
        names = sorted({tag for row in photos for photo in row for tag in photo.tags})
        tags = dict(zip(names, tokenizer.encode(names), strict=True))
        listed = list(dict.fromkeys(" ".join(photo.tags) for (photo,) in photos))
        together = dict(zip(listed, tokenizer.encode(listed), strict=True))
        views: dict[int, PhotoViews] = {}
        for (photo,) in photos:
            if id(photo) not in views:
                regions = setup.regions(photo)
                views[id(photo)] = PhotoViews(
                    regions,
                    photo.tags,
                    text_view(together[" ".join(photo.tags)], tokenizer, most, nothing),
                    context_view([tags[tag] for tag in photo.tags], regions, tokenizer, limit, most),
                )
        captions = tokenizer.encode([example.text for example in examples])
        return [
            Encoded(
                (text_view(pieces, tokenizer, most, nothing),),
                extra=(framed(pieces, tokenizer, limit), views[id(photo)]),
            )
            for pieces, (photo,) in zip(captions, photos, strict=True)
        ]

    def part(self, setup: Setup[RetrievalConfig], encoded: Sequence[Encoded], random: np.random.Generator) -> PairPart:
        return PairPart(
            tuple(one.extra[0] for one in encoded),
            tuple(one.views[0] for one in encoded),
            tuple(one.photos[0] for one in encoded),
            {one.photos[0]: one.extra[1] for one in encoded},
        )

    def assemble(self, setup: Setup[RetrievalConfig], parts: Sequence[PairPart]) -> PairBatch:
        photos = {number: found for part in parts for number, found in part.photos.items()}
        place = {number: row for row, number in enumerate(photos)}
        views = [view for part in parts for view in part.texts]
        texts = pad(views)
        known = gallery(
            [photo.regions for photo in photos.values()], [photo.tags for photo in photos.values()], setup.tokenizer
        )
        context = pad([photo.context for photo in photos.values()])
        return PairBatch(
            epoch=parts[0].epoch,
            samples=len(views),
            items=sum(int(each.mask.sum()) for each in (texts, known.views, known.tags, context)),
            texts=texts,
            pieces=torch.from_numpy(as_columns([view.ids[1:-1] for view in views], -1)),
            captions=padded_captions([ids for part in parts for ids in part.captions]),
            owner=torch.tensor([place[number] for part in parts for number in part.numbers]),
            photos=known,
            context=context,
        )

    def evaluate(
        self,
        setup: Setup[RetrievalConfig],
        network: TaskNetwork,
        examples: Sequence[Example],
        numbers: np.ndarray,
        encoded: Iterator[tuple[int, list[Encoded]]],
    ) -> Evaluation:
        """R@1, 5, 10 in both directions, after and before the new order."""
        photos = [one.extra[1] for _, block in encoded for one in block]
        module = self.objective(setup, network, Ranks()).eval()
        found = retrieve(setup, module, examples, photos)
        scores = measures(found, examples)
        right = next(measure for measure in scores if measure.name == FIRST_CAPTION)
        value = dict(zip(right.units, right.values.tolist(), strict=True))
        answers = [
            Answer(text, value.get(example.key)) for text, example in zip(found.best_captions(), examples, strict=True)
        ]
        return Evaluation(answers, scores, result_file(found, examples))


def read_gallery(path: str) -> set[str]:
    """The ids of photos in a text or TSV file, the first word of each line. Raises CallError if there are none."""
    text = files.read_bytes(path).decode("utf-8", errors="replace")
    found = {line.split()[0] for line in text.splitlines() if line.strip()}
    if not found:
        raise CallError(f"task.gallery: {path}: no ids in it. Expected the id of a photo in each line.")
    return found
