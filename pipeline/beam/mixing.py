"""MixSentences and MakeImageSamples: the samples of the shards."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.typehints.decorators import no_annotations
from apache_beam.utils.shared import Shared

from vlmixer.artifacts.samples import ImageSample, Mention, MixedSample, Patch
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.beam.metrics import count, measure
from vlmixer.pipeline.beam.outputs import MAIN, REJECTS, WithRejects, reject
from vlmixer.pipeline.beam.rows import as_image, as_sentence
from vlmixer.pipeline.beam.sample_coder import register
from vlmixer.pipeline.mix.limits import patch_limits
from vlmixer.pipeline.mix.samples import Sentence, finish, image_sample, known_patches, mix_sentence, why_rejected
from vlmixer.pipeline.mix.settings import CutMixSettings

STEP = "mix"
BATCH = 1024
"""Sentences whose features are read from the bank together."""

register()


class MixSentences(WithRejects):
    """PCollection of TaggedSentence, or of rows or dicts with its fields → PCollection[MixedSample].

    Sentences without a sample are rejects: `no_patch`, … A bank may lack concepts, or have no patch at all.

    A sample depends on (seed, sentence id, view, bank, settings), not on the other sentences, apart from `max_uses`:
    what it allows follows from how often all sentences mention each concept. With it the mentions are counted first;
    for unbounded collections give `mentions`.
    """

    def __init__(
        self,
        bank: str,
        settings: CutMixSettings = CutMixSettings(),  # noqa: B008
        *,
        views: int = 1,
        seed: int = 0,
        mentions: Mapping[str, int] | None = None,
        crops: bool = False,
    ) -> None:
        """bank: its folder, a path or URL that every worker opens. views: samples of each sentence. mentions: number of
        mentions by concept, of earlier text like this. crops: whether samples have a picture of their patches.

        Raises ValueError for less than one view.
        """
        super().__init__()
        if views < 1:
            raise ValueError(f"MixSentences: views is {views}, expected at least 1.")
        self._settings, self._mentions = settings, mentions
        self._mix = _Mix(bank, settings, views, seed, crops)

    def expand(self, sentences: beam.PCollection) -> Any:
        if self._settings.max_uses is None or self._mentions is not None:
            mentions: Any = dict(self._mentions or {})
        elif not sentences.is_bounded:
            raise ValueError(
                "MixSentences: max_uses needs the number of mentions of each concept, which cannot be counted in "
                "an unbounded collection. Give mentions={concept: number}, or CutMixSettings(max_uses=None)."
            )
        else:
            counted = (
                sentences
                | "ListConcepts" >> beam.FlatMap(_concepts).with_output_types(str)
                | "CountConcepts" >> beam.combiners.Count.PerElement()
            )
            mentions = beam.pvalue.AsDict(counted)
        outputs = (
            sentences
            | "BatchSentences" >> beam.BatchElements(min_batch_size=1, max_batch_size=BATCH)
            | "MixBatch" >> beam.ParDo(self._mix, mentions).with_outputs(REJECTS, main=MAIN)
        )
        return self.given(outputs, MixedSample)


class MakeImageSamples(beam.PTransform):
    """PCollection of DetectedImage, or of rows or dicts with its fields → PCollection[ImageSample]: regions and tags.

    crops: as for MixSentences.
    """

    def __init__(self, *, crops: bool = False) -> None:
        super().__init__()
        self._crops = crops

    def expand(self, images: beam.PCollection) -> beam.PCollection:
        return images | "MakeSample" >> beam.Map(sample_of, self._crops).with_output_types(ImageSample)


class _Mix(beam.DoFn):
    def __init__(self, bank: str, settings: CutMixSettings, views: int, seed: int, crops: bool) -> None:
        self._folder, self._settings, self._views, self._seed, self._crops = bank, settings, views, seed, crops
        self._shared = Shared()
        self._opened: PatchBank | None = None

    def _bank(self) -> PatchBank:
        """Opened with the first sentences, not in `setup`: the same pipeline may build it before."""
        if self._opened is None:
            self._opened = self._shared.acquire(lambda: PatchBank.open(self._folder))
        return self._opened

    @no_annotations
    def process(self, batch: Sequence[object], mentions: Mapping[str, int]) -> Iterator[Any]:
        began = time.monotonic()
        bank = self._bank()
        patches_of = known_patches(bank)
        limits = patch_limits(mentions, bank.counts, self._settings, self._views)
        mixes = []
        for element in batch:
            row = as_sentence(element, "MixSentences")
            meant = tuple(Mention(*mention) for mention in row.mentions)
            for view in range(self._views):
                sentence = Sentence(row.sentence_id, row.text, meant, view)
                mixed = mix_sentence(sentence, patches_of, self._settings, self._seed, limits)
                wrong = why_rejected(sentence, mixed, self._settings)
                if wrong is None:
                    mixes.append((sentence, mixed))
                else:
                    yield from reject(STEP, sentence.key, wrong.reason, ", ".join(wrong.concepts))
        count(STEP, "mixed", len(mixes))
        measure(STEP, "milliseconds", round(1000 * (time.monotonic() - began)))
        yield from finish(mixes, bank, crops=self._crops)


@no_annotations
def sample_of(element: object, crops: bool = False) -> ImageSample:
    """The sample of an image."""
    image = as_image(element, "MakeImageSamples")
    patches = [
        Patch(
            mention=None,
            patch_id=region.patch_id,
            image_id=image.image_id,
            concept=region.concept,
            score=region.score,
            box=(region.box[0], region.box[1], region.box[2], region.box[3]),
            width=image.width,
            height=image.height,
        )
        for region in image.regions
    ]
    features = np.stack([np.frombuffer(region.feature, "<f2") for region in image.regions])
    return image_sample(patches, image.source, features, [region.crop for region in image.regions] if crops else None)


@no_annotations
def _concepts(element: object) -> Iterable[str]:
    return [mention.concept for mention in as_sentence(element, "MixSentences").mentions]
