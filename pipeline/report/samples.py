"""The page of `vlmixer show`: mixed sentences with patches in place of words, and image samples.

Reads shards and, for the pictures, a bank. Changes neither.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.samples import ImageSample, MixedSample, Patch, Sample, read_shard
from vlmixer.bank.records import PatchRecord
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.mix.reader_indexes import own_tars
from vlmixer.pipeline.report.bank import IMAGES_INSIDE, file_uri, image_uri
from vlmixer.pipeline.report.crops import EmbeddedCrops
from vlmixer.pipeline.report.pages import write_page
from vlmixer.pipeline.report.sentences import PatchView, TextSpan, mixed_spans, patch_view

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class SentenceRow:
    """A mixed sample as it is drawn. `concepts` are those of its patches. `why` says for each mention why it was
    replaced or kept."""

    name: str
    spans: tuple[TextSpan, ...]
    concepts: tuple[str, ...] = ()
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageRow:
    """An image sample as it is drawn: boxes are xyxy in pixels of the image of `width` × `height`. `image` is where the
    page finds the image, `picture` the image itself; both are empty if it cannot be shown."""

    name: str
    width: int
    height: int
    tags: tuple[str, ...]
    boxes: tuple[Box, ...]
    patches: tuple[PatchView, ...]
    image: str = ""
    picture: str = ""


class Images:
    """Whole images for a page, each held once and named "#image-…", up to IMAGES_INSIDE of them. For further ones the
    page refers to the files. `held` are the pictures, as data URIs, by name."""

    def __init__(self, bank: PatchBank | None) -> None:
        self._bank = bank
        self.held: dict[str, str] = {}

    def __call__(self, record: PatchRecord | None) -> str:
        """Where the page finds the image of a patch of the bank; empty if it cannot be read."""
        if self._bank is None or record is None:
            return ""
        name = f"#image-{record.image_id}"
        if name not in self.held:
            picture = image_uri(self._bank, record) if len(self.held) < IMAGES_INSIDE else ""
            if not picture:
                return file_uri(self._bank, record)
            self.held[name] = picture
        return name


def write_samples_page(
    path: str, samples: Iterable[Sample], bank: PatchBank | None, *, title: str, why: Sequence[str] = ()
) -> int:
    """Write the page at `path`. Returns the number of samples on it.

    Pictures come from `bank`. Patches that it lacks (without a bank, all) are drawn as labelled frames. Whole images
    come from the images' files. why: for a page of one sample, why each of its mentions was replaced or kept. Raises
    UserError for a sample whose mentions do not fit its text.
    """
    crops, images = EmbeddedCrops(bank), Images(bank)
    mixed: list[SentenceRow] = []
    pictures: list[ImageRow] = []
    for sample in samples:
        if isinstance(sample, MixedSample):
            row = sentence_row(sample, crops, lambda patch: images(crops.record(patch)))
            mixed.append(replace(row, why=tuple(why)))
        else:
            image = images(next(filter(None, map(crops.record, sample.patches)), None))
            pictures.append(replace(image_row(sample, crops, image), picture=images.held.get(image, "")))
    concepts = Counter(name for names in [*(row.concepts for row in mixed), *(row.tags for row in pictures)]
                       for name in names)  # fmt: skip
    gaps_in_mixed = any(view.picture is None for row in mixed for span in row.spans for view in span.patches)
    gaps_in_images = any(view.picture is None for row in pictures for view in row.patches)
    shown = {row.image for row in pictures}
    write_page(
        path,
        "samples.html",
        title=title,
        mixed=mixed,
        images=pictures,
        concepts=sorted(concepts.items(), key=lambda entry: (-entry[1], entry[0])),
        held=[(name, picture) for name, picture in images.held.items() if name not in shown],
        gaps_in_mixed=gaps_in_mixed,
        gaps_in_images=gaps_in_images,
    )
    return len(mixed) + len(pictures)


def sentence_row(
    sample: MixedSample, picture: Callable[[Patch], str | None], image: Callable[[Patch], str | None] = lambda _: None
) -> SentenceRow:
    """A mixed sample as it is drawn. picture, image: see `mixed_spans`."""
    concepts = tuple(dict.fromkeys(patch.concept for patch in sample.patches))
    return SentenceRow(sample.key, tuple(mixed_spans(sample, picture, image)), concepts)


def image_row(sample: ImageSample, picture: Callable[[Patch], str | None], image: str | None = None) -> ImageRow:
    """An image sample as it is drawn. image: where the page finds the whole image, None for a page that shows none."""
    patches = tuple(patch_view(patch, picture(patch), image) for patch in sample.patches)
    boxes = tuple(patch.box for patch in sample.patches)
    name = f"{sample.source} · {sample.key}"
    return ImageRow(name, sample.width, sample.height, sample.tags, boxes, patches, image or "")


def choose_samples(shards: str, count: int, concept: str | None = None) -> list[Sample]:
    """Up to `count` samples: mixed ones, then image samples, which are a quarter if there are both.

    shards: a folder of shards. They are shuffled over the whole corpus, so the first samples of evenly spread shards
    are a fair choice, and only these are read. concept: only samples with a patch of this concept; reads as many shards
    as needed to find them. Raises CallError if there is no shard, UserError for a damaged one.
    """
    names = [name for name in own_tars(shards) if "/" not in name]
    if not names:
        raise CallError(f"{shards}: holds no shards of vlmixer (*.tar). Give the folder that `vlmixer mix` wrote.")
    image_names = [name for name in names if name.startswith("images-")]
    mixed_names = [name for name in names if not name.startswith("images-")]
    images = _heads(shards, image_names, count if not mixed_names else count // 4, concept)
    mixed = _heads(shards, mixed_names, count - len(images), concept)
    if len(mixed) + len(images) < count:
        images = _heads(shards, image_names, count - len(mixed), concept)
    return [*mixed, *images]


def _heads(folder: str, names: Sequence[str], count: int, concept: str | None) -> list[Sample]:
    """The first samples of the shards in turn, `count` in all."""
    reach = min(count, len(names))
    spread = [names[place * len(names) // reach] for place in range(reach)]
    rest = [name for name in names if name not in set(spread)]
    waiting = deque(_with(concept, read_shard(files.join(folder, name))) for name in [*spread, *rest])
    found: list[Sample] = []
    while waiting and len(found) < count:
        shard = waiting.popleft()
        sample = next(shard, None)
        if sample is not None:
            found.append(sample)
            waiting.append(shard)
    return found


def _with(concept: str | None, samples: Iterator[Sample]) -> Iterator[Sample]:
    return (sample for sample in samples if concept in (None, *(patch.concept for patch in sample.patches)))
