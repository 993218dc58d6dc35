"""The sample of the real inputs that a probe runs on, and the size of the whole corpus.

The same inputs and seed give the same sample: hashes choose the places in the text files and the images.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.files import FileStat
from vlmixer.artifacts.rejects import FirstRejects
from vlmixer.artifacts.rng import stable_hash
from vlmixer.pipeline.config import Config
from vlmixer.pipeline.image.detectors.loading import TSV
from vlmixer.pipeline.image.readers.base import FILES, ImageRef
from vlmixer.pipeline.image.readers.corpus import plan as plan_corpus
from vlmixer.pipeline.image.readers.corpus import sample as sample_images
from vlmixer.pipeline.planning.estimate import CorpusSize
from vlmixer.pipeline.text.inputs import files_that_cannot_be_split
from vlmixer.pipeline.text.readers.base import TextSlice
from vlmixer.pipeline.text.readers.formats import can_split, format_of
from vlmixer.pipeline.text.readers.reader import SentenceReader
from vlmixer.pipeline.text.units import TagSizes

MAX_SENTENCES = 60_000
MAX_IMAGES = 3_000
PLACES = 64
"""Places in the text from which sentences are taken."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class ProbeSample:
    """Sentences and images of the real inputs, and the size of the corpus. notes: how the size was found. files: the
    share of the images that are files of their own."""

    sentences: Sequence[str]
    images: Sequence[ImageRef]
    corpus: CorpusSize
    notes: tuple[str, ...] = ()
    files: float = 0.0

    def part(self, sentences: int, images: int) -> "ProbeSample":
        """At most this many of each, from all over the sample."""
        return replace(self, sentences=_spread(self.sentences, sentences), images=_spread(self.images, images))


def take_sample(config: Config, max_sentences: int = MAX_SENTENCES, max_images: int = MAX_IMAGES) -> ProbeSample:
    """The sample. Raises CallError for missing inputs, and for region features in place of a detector."""
    if not config.text.inputs:
        raise CallError("text.inputs: empty; expected files, folders or globs with sentences.")
    if config.images.detector.startswith(TSV):
        raise CallError("images.detector: plan cannot measure existing region features (tsv:). Name a detector.")
    if not config.images.inputs:
        raise CallError("images.inputs: empty; expected files, folders or globs with images.")
    inputs = files.expand(config.text.inputs, key="text.inputs")
    sentences, total = _sample_text(inputs, config, max_sentences)
    images = sample_images(plan_corpus(config.images.inputs), max_images)
    if all(ref.reason for ref in images.refs):
        first = images.refs[0]
        raise CallError(
            f"images.inputs: no image can be read; the first is {first.name}: {first.reason} {first.detail}"
        )
    notes = ["the number of sentences is estimated from bytes in the sample"]
    if whole := files_that_cannot_be_split(inputs, TagSizes().find_bytes // 8):
        notes.append(whole)
    if not images.counted:
        notes.append("the number of images in tars and lists is estimated from bytes in the sample")
    corpus = CorpusSize(
        sentences=total,
        sentence_bytes=sum(entry.size for entry in inputs),
        images=images.images,
        image_bytes=images.bytes,
        text_units=len(TagSizes().find_units(inputs)),
        exact=False,
    )
    alone = sum(ref.format == FILES for ref in images.refs) / len(images.refs)
    return ProbeSample(sentences, images.refs, corpus, tuple(notes), alone)


def _sample_text(inputs: Sequence[FileStat], config: Config, max_sentences: int) -> tuple[list[str], int]:
    """Up to `max_sentences` sentences from PLACES stretches of the text, and the number of sentences in all of it."""
    if not any(entry.size for entry in inputs):
        raise CallError("text.inputs: the files are empty.")
    stretches = sorted(_stretches(inputs), key=lambda pair: _hash(pair[0], config.seed))
    texts: list[str] = []
    # By format, since packed files have more sentences per byte.
    read: Counter[str] = Counter()
    length: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for entry in inputs:
        size[_format(entry.name)] += entry.size
    limit = -(-max_sentences // PLACES)
    for text_slice, count in _spread(stretches, 4 * PLACES):
        reader = SentenceReader(FirstRejects("tag"), field=config.text.field)
        found, used = reader.sample(text_slice, limit * count)
        texts += found
        read[_format(text_slice.name)] += reader.read
        length[_format(text_slice.name)] += used
    overall = read.total() / max(length.total(), 1)
    return texts, round(sum(size[form] * (read[form] / length[form] if length[form] else overall) for form in size))


def _stretches(inputs: Sequence[FileStat]) -> Iterator[tuple[TextSlice, int]]:
    """Slices, and how many of PLACES stretches of equal length each of them stands for.

    All stretches in a file that cannot be split are at its beginning.
    """
    total = sum(entry.size for entry in inputs)
    cuts = [-(-total * place // PLACES) for place in range(PLACES + 1)]
    begin = 0
    for entry in inputs:
        starts = [max(cut - begin, 0) for cut in cuts if begin <= cut < begin + entry.size]
        if not starts or starts[0]:
            starts = [0, *starts]
        if can_split(entry.name):
            for start, end in zip(starts, [*starts[1:], entry.size], strict=True):
                yield TextSlice(entry.name, entry.size, start, end), 1
        else:
            yield TextSlice(entry.name, entry.size), len(starts)
        begin += entry.size


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """`count` items from all over the sequence, or all of them."""
    return [items[index * len(items) // count] for index in range(count)] if count < len(items) else list(items)


def _format(name: str) -> str:
    return f"{type(format_of(name)).__name__} {can_split(name)}"


def _hash(text_slice: TextSlice, seed: int) -> int:
    return stable_hash(seed, "probe", text_slice.name, text_slice.start)
