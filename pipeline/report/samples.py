"""The page of `vlmixer show`: mixed sentences with patches in the place of words, and image samples.

Reads shards and, for the pictures, a bank; it changes neither.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from artifacts import files
from artifacts.errors import CallError
from artifacts.samples import ImageSample, MixedSample, Patch, Sample, read_shard
from bank.store import PatchBank
from pipeline.report.crops import Crops
from pipeline.report.pages import write_page
from pipeline.report.sentences import PatchView, Piece, mixed_pieces, patch_view

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class SentenceRow:
    """A mixed sample as it is drawn; `name` is what it is called by."""

    name: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class ImageRow:
    """An image sample as it is drawn: boxes are xyxy in pixels of the image of `width` × `height`."""

    name: str
    width: int
    height: int
    tags: tuple[str, ...]
    boxes: tuple[Box, ...]
    patches: tuple[PatchView, ...]


def write_samples_page(path: str, samples: Iterable[Sample], bank: PatchBank | None, *, title: str) -> int:
    """Write the page at `path`; returns how many samples are on it.

    Pictures come from `bank`; a patch that it lacks, or all of them where there is none, is drawn as a labelled frame.
    Raises UserError for a sample whose mentions do not fit its text.
    """
    crops = Crops(bank)
    mixed: list[SentenceRow] = []
    images: list[ImageRow] = []
    for sample in samples:
        if isinstance(sample, MixedSample):
            mixed.append(sentence_row(sample, crops))
        else:
            images.append(image_row(sample, crops))
    gaps_in_mixed = any(view.picture is None for row in mixed for piece in row.pieces for view in piece.patches)
    gaps_in_images = any(view.picture is None for row in images for view in row.patches)
    write_page(
        path,
        "samples.html",
        title=title,
        mixed=mixed,
        images=images,
        gaps_in_mixed=gaps_in_mixed,
        gaps_in_images=gaps_in_images,
    )
    return len(mixed) + len(images)


def sentence_row(sample: MixedSample, picture: Callable[[Patch], str | None]) -> SentenceRow:
    """How a mixed sample is drawn."""
    return SentenceRow(sample.key, tuple(mixed_pieces(sample, picture)))


def image_row(sample: ImageSample, picture: Callable[[Patch], str | None]) -> ImageRow:
    """How an image sample is drawn."""
    patches = tuple(patch_view(patch, picture(patch)) for patch in sample.patches)
    boxes = tuple(patch.box for patch in sample.patches)
    return ImageRow(f"{sample.source} · {sample.key}", sample.width, sample.height, sample.tags, boxes, patches)


def choose_samples(shards: str, count: int) -> list[Sample]:
    """`count` samples, fewer if there are fewer: mixed ones, then image samples, which are a quarter if there are both.

    shards: a folder of shards. They are shuffled over the whole corpus, so the first samples of shards that spread
    evenly over the set are a fair choice; only these are read. Raises CallError if there is no shard, UserError for a
    damaged one.
    """
    names = [name for name in files.list_files(shards) if name.endswith(".tar") and "/" not in name]
    if not names:
        raise CallError(f"{shards}: holds no shards (*.tar). Give the folder that `vlmixer mix` wrote.")
    image_names = [name for name in names if name.startswith("images-")]
    mixed_names = [name for name in names if not name.startswith("images-")]
    images = _heads(shards, image_names, count if not mixed_names else count // 4)
    mixed = _heads(shards, mixed_names, count - len(images))
    if len(mixed) + len(images) < count:
        images = _heads(shards, image_names, count - len(mixed))
    return [*mixed, *images]


def _heads(folder: str, names: Sequence[str], count: int) -> list[Sample]:
    """The first samples of shards in turn, `count` in all."""
    reach = min(count, len(names))
    spread = [names[place * len(names) // reach] for place in range(reach)]
    rest = [name for name in names if name not in set(spread)]
    waiting = deque(read_shard(files.join(folder, name)) for name in [*spread, *rest])
    found: list[Sample] = []
    while waiting and len(found) < count:
        shard = waiting.popleft()
        sample = next(shard, None)
        if sample is not None:
            found.append(sample)
            waiting.append(shard)
    return found
