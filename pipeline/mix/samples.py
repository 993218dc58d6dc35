"""From sentences, or an image's regions, to finished samples.

In your own training program, without shards:

    bank = PatchBank.open("out/bank")
    samples = mix_sentences([Sentence("a-1", text, mentions)], bank, CutMixSettings(), seed=0)

`mentions` come from tagged/, or from `vlmixer.pipeline.text.tagger.Tagger`.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rng import stable_hash, uniforms
from vlmixer.artifacts.samples import ImageSample, Mention, MixedSample, Patch, is_in
from vlmixer.bank.records import ConceptPatches
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.mix.crops import pack_crops
from vlmixer.pipeline.mix.cutmix import Mix, mix
from vlmixer.pipeline.mix.limits import Limit, patch_limits
from vlmixer.pipeline.mix.settings import CutMixSettings

_ID = re.compile("[0-9A-Za-z-]{1,80}")
"""Of a sentence or an image: it becomes the name of members of a tar, which may have 100 characters."""


def sample_key(sentence_id: str, view: int) -> str:
    """The key of a mixed sample: unique in the set, without dots."""
    return f"{sentence_id}-{view:02d}"


def shard_of(key: str, shards: int, seed: int) -> int:
    """The mixed shard that the sample `key` belongs to."""
    return stable_hash(seed, "shard", key) % shards


@dataclass(frozen=True)
class Sentence:
    """A tagged sentence, and which of its views is to be mixed."""

    sentence_id: str
    text: str
    mentions: tuple[Mention, ...]
    view: int = 0

    @classmethod
    def from_row(cls, row: Mapping[str, Any], view: int) -> "Sentence":
        """From a row of tagged/. Raises UserError for an id or a mention that the stage does not write."""
        text, mentions = row["text"], tuple(Mention(**mention) for mention in row["mentions"])
        if _ID.fullmatch(row["sentence_id"]) is None or not all(is_in(text, mention) for mention in mentions):
            raise UserError(
                f"tagged/: the sentence {row['sentence_id'][:80]!r} is damaged (its id, or a mention that is not in "
                "its text). Run `vlmixer verify` on the output folder, then `vlmixer tag … --overwrite`."
            )
        return cls(row["sentence_id"], text, mentions, view)

    @property
    def key(self) -> str:
        """The key of the mixed sample."""
        return sample_key(self.sentence_id, self.view)


@dataclass(frozen=True)
class Rejected:
    """A sentence without a sample: a reason of artifacts.rejects, and the concepts concerned."""

    sentence: Sentence
    reason: str
    concepts: tuple[str, ...]


def known_patches(bank: PatchBank) -> Callable[[str], ConceptPatches]:
    """Gives a concept's patches, none if the bank does not know the concept."""
    known = frozenset(bank.counts)
    return lambda concept: bank.patches(concept) if concept in known else ConceptPatches.none(concept)


def mix_sentences(
    sentences: Sequence[Sentence],
    bank: PatchBank,
    settings: CutMixSettings,
    seed: int,
    *,
    mentions: Mapping[str, int] = MappingProxyType({}),
    crops: bool = False,
) -> list[MixedSample]:
    """The mixed samples of sentences, in order, each a function of (seed, sentence id, view, bank, settings, mentions).

    Sentences without a sample (`why_rejected`) are left out. mentions: how often all sentences and views mention each
    concept; without them `max_uses` limits nothing. crops: whether samples get a picture of their patches.
    """
    patches_of = known_patches(bank)
    limits = patch_limits(mentions, bank.counts, settings)
    mixes = [(sentence, mix_sentence(sentence, patches_of, settings, seed, limits)) for sentence in sentences]
    return finish([entry for entry in mixes if why_rejected(*entry, settings) is None], bank, crops=crops)


def finish(mixes: Sequence[tuple[Sentence, Mix]], bank: PatchBank, *, crops: bool) -> list[MixedSample]:
    """The samples of mixed sentences. All features are read from the bank at once, in ascending order."""
    features = bank.features(np.array([paste.row for _, mixed in mixes for paste in mixed.pasted], np.int64))
    samples = []
    at = 0
    for sentence, mixed in mixes:
        own = features[at : at + len(mixed.pasted)]
        at += len(own)
        pictures = [bank.crop(bank.record(paste.row)) for paste in mixed.pasted] if crops else None
        samples.append(mixed_sample(sentence, mixed, own, pictures))
    return samples


def mix_sentence(
    sentence: Sentence,
    patches_of: Callable[[str], ConceptPatches],
    settings: CutMixSettings,
    seed: int,
    limits: Mapping[str, Limit] = MappingProxyType({}),
) -> Mix:
    """One view of a sentence, mixed. limits: as for `cutmix.mix`."""
    numbers = uniforms(seed, "mix", sentence.sentence_id, sentence.view)
    return mix(sentence.mentions, patches_of, settings, numbers, limits)


def why_rejected(sentence: Sentence, mixed: Mix, settings: CutMixSettings) -> Rejected | None:
    """Why a sentence has no sample. None if it has one."""
    concepts = tuple(mention.concept for mention in sentence.mentions)
    reasons = [verdict.reason for verdict in mixed.verdicts]
    lacking = [concept for concept, reason in zip(concepts, reasons, strict=True) if reason in ("lacking", "rare")]
    if len(lacking) == len(concepts):
        return Rejected(sentence, "rare_concept" if "rare" in reasons else "no_patch", concepts)
    if lacking and settings.lacking == "reject":
        return Rejected(sentence, "lacking_patch", tuple(lacking))
    if settings.min_replaced and not mixed.pasted:
        return Rejected(sentence, "rare_concept" if "over_used" in reasons else "kept_phrase", concepts)
    return None


def mixed_sample(
    sentence: Sentence, mixed: Mix, features: np.ndarray, crops: Sequence[bytes] | None = None
) -> MixedSample:
    """A finished mixed sample. features: (len(mixed.pasted), D) float16. crops: the patches' JPEGs, for a picture."""
    patches, picture = _pictured([paste.patch for paste in mixed.pasted], crops)
    return MixedSample(
        key=sentence.key,
        sentence_id=sentence.sentence_id,
        view=sentence.view,
        text=sentence.text,
        mentions=mixed.mentions,
        replaced=tuple(index for index, verdict in enumerate(mixed.verdicts) if verdict.replaced),
        patches=patches,
        features=features,
        patches_only=mixed.patches_only,
        picture=picture,
    )


def image_sample(
    patches: Sequence[Patch], source: str, features: np.ndarray, crops: Sequence[bytes] | None = None
) -> ImageSample:
    """A finished image sample of all regions of an image, best first.

    features: (len(patches), D) float16. crops: the regions' JPEGs, for a picture.
    """
    first = patches[0]
    tags = tuple(dict.fromkeys(patch.concept for patch in patches))
    placed, picture = _pictured(patches, crops)
    return ImageSample(
        first.image_id, first.image_id, source, first.width, first.height, tags, placed, features, picture
    )


def _pictured(patches: Sequence[Patch], crops: Sequence[bytes] | None) -> tuple[tuple[Patch, ...], bytes | None]:
    if crops is None:
        return tuple(patches), None
    picture, places = pack_crops(crops)
    return tuple(replace(patch, crop=place) for patch, place in zip(patches, places, strict=True)), picture


def image_samples(rows: Sequence[Mapping[str, Any]], features: np.ndarray, *, crops: bool) -> Iterator[ImageSample]:
    """The image samples of rows of regions/, in which the rows of an image are neighbours.

    features: (len(rows), D) float16. Raises UserError for an id that the stage does not write.
    """
    begins = [at for at, row in enumerate(rows) if at == 0 or row["image_id"] != rows[at - 1]["image_id"]]
    for begin, end in pairwise([*begins, len(rows)]):
        own = rows[begin:end]
        if _ID.fullmatch(own[0]["image_id"]) is None:
            raise UserError(
                f"regions/: {own[0]['image_id'][:80]!r} is not the id of an image. Run `vlmixer verify` on the output "
                "folder, then `vlmixer detect … --overwrite`."
            )
        patches = [
            Patch(
                mention=None,
                patch_id=row["patch_id"],
                image_id=row["image_id"],
                concept=row["concept"],
                score=row["score"],
                box=tuple(row["box"]),
                width=row["width"],
                height=row["height"],
            )
            for row in own
        ]
        pictures = [row["crop"] for row in own] if crops else None
        yield image_sample(patches, own[0]["source"], features[begin:end], pictures)
