"""Pages about a bank: the contact sheet of `vlmixer bank show`, and the hits of `vlmixer bank query`."""

import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from PIL import Image
from tqdm import tqdm

from vlmixer.artifacts import files, schemas
from vlmixer.bank.records import Hit, PatchRecord
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.image.decoding import ImageRejected, decode
from vlmixer.pipeline.report.crops import crop_uri
from vlmixer.pipeline.report.pages import data_uri, render_page, write_page
from vlmixer.pipeline.report.sentences import ImageView, PatchView, aspect, image_view

THUMBNAIL_SIDE = 96
"""Pixels of the longer side of a thumbnail."""
IMAGES_INSIDE = 48
"""Maximum number of whole images inside a page. Pages with more hits refer to the images' files, if there are any."""
IMAGE_SIDE = 720
"""Pixels of the longer side of a whole image."""
MAX_PIXELS = 1e8
MAX_BYTES = 1 << 26
"""Of a photo that a page shows."""


class Card(TypedDict):
    """A patch as viewer.js draws it. `aspect` is width / height. `facts` (name, value) are shown when the mouse is over
    it. `view` says where it is in its image (a URI, empty if the image cannot be shown)."""

    picture: str
    aspect: str
    concept: str
    caption: str
    facts: tuple[tuple[str, str], ...]
    view: ImageView


@dataclass(frozen=True)
class SheetLimits:
    """How many patches a contact sheet shows, so that a browser opens it at once.

    patches: maximum in all, but at least `min_per_concept` and at most `max_per_concept` of each concept. A sheet of
    more than `full_size` patches shows thumbnails.
    """

    patches: int = 8000
    min_per_concept: int = 4
    max_per_concept: int = 24
    full_size: int = 2000


@dataclass(frozen=True)
class BankRow:
    """A concept of the sheet: its name and synonyms (`words`), its number of patches, and those that are drawn."""

    id: int
    words: tuple[str, ...]
    count: int
    patches: list[Card]

    @property
    def name(self) -> str:
        """The concept's name."""
        return self.words[0]


@dataclass(frozen=True)
class HitView:
    """A hit as it is drawn. `similarity` is empty if the search was not by similarity. `others` are the other concepts
    of its image."""

    card: Card
    similarity: str
    others: tuple[str, ...]
    source: str


def write_bank_page(
    path: str, bank: PatchBank, *, per_concept: int | None = None, limits: SheetLimits = SheetLimits()
) -> None:
    """Write the contact sheet at `path`: every concept that has patches.

    per_concept: maximum number of patches of a concept; None chooses it by `limits`. The page grows with the number of
    concepts; the memory for writing it does not grow with its pictures. Raises UserError for a crop that is not a
    picture.
    """
    filled = sum(count > 0 for count in bank.counts.values())
    most = per_concept or min(max(limits.patches // max(filled, 1), limits.min_per_concept), limits.max_per_concept)
    shown = sum(min(count, most) for count in bank.counts.values())
    longest = THUMBNAIL_SIDE if shown > limits.full_size else None
    rows = _drawn(bank, most, longest)
    write_page(path, "bank.html", **_bank_content(bank), live=False, per_concept=most, drawn=rows)


def live_bank_page(bank: PatchBank, most: int, picture_bytes: int, *, texts: bool = False) -> str:
    """The sheet as `vlmixer bank serve` shows it. It asks the server for patches, at most `most` at once.

    picture_bytes: maximum size of a picture that is searched for; 0: the server cannot search for pictures. texts:
    whether it can search for texts.
    """
    content = _bank_content(bank)
    return render_page(
        "bank.html", **content, live=True, most=most, picture_bytes=picture_bytes, texts=texts, drawn=content["rows"]
    )


def _bank_content(bank: PatchBank) -> dict[str, Any]:
    rows = [BankRow(c.id, (c.name, *c.synonyms), bank.counts[c.name], []) for c in bank.concepts if bank.counts[c.name]]
    return {
        "vocabulary": bank.manifest.details.vocabulary.rsplit("/", 1)[-1],
        "detector": bank.manifest.details.detector.name,
        "patches": len(bank),
        "concepts": len(bank.concepts),
        "filled": len(rows),
        "empty": [concept.name for concept in bank.concepts if not bank.counts[concept.name]],
        "rows": rows,
    }


def _drawn(bank: PatchBank, per_concept: int, longest: int | None) -> Iterator[BankRow]:
    for concept in tqdm(bank.concepts, desc="page", unit="concept", disable=None, delay=2):
        if bank.counts[concept.name]:
            records = bank.patches(concept.name, keep=False)[:per_concept]
            cards = [make_card(record, crop_uri(bank, record, longest), file_uri(bank, record)) for record in records]
            yield BankRow(concept.id, (concept.name, *concept.synonyms), bank.counts[concept.name], cards)


def write_hits_page(
    path: str,
    bank: PatchBank,
    hits: Sequence[Hit],
    *,
    title: str,
    query: Image.Image | PatchRecord | None = None,
    query_source: str = "",
    images_inside: int = IMAGES_INSIDE,
) -> None:
    """Write a page of what a search of `bank` found, in its order.

    query: the picture or the patch that was searched for, which the page shows first. query_source: where it is from.
    images_inside: a page with more hits refers to the images' files. Raises UserError for a crop that is not a picture.
    """
    compared = any(hit.similarity != 1.0 for hit in hits)
    views = []
    for hit in hits:
        image = (len(hits) <= images_inside and image_uri(bank, hit.patch)) or file_uri(bank, hit.patch)
        card = make_card(hit.patch, crop_uri(bank, hit.patch, None), image)
        views.append(HitView(card, f"{hit.similarity:.3f}" if compared else "", hit.patch.context, hit.patch.source))
    shown = crop_uri(bank, query, None) if isinstance(query, PatchRecord) else query and data_uri(_small(query), "webp")
    write_page(path, "hits.html", title=title, hits=views, query=shown, query_source=query_source)


def make_card(record: PatchRecord, picture: str, image: str, similarity: float | None = None) -> Card:
    """A patch as a page draws it. picture, image: URIs of its crop and of its image."""
    return {
        "picture": picture,
        "aspect": f"{aspect(record.box):.3f}",
        "concept": record.concept,
        "caption": record.concept if similarity is None else f"{record.concept} {similarity:.3f}",
        "facts": record_facts(record),
        "view": image_view(record, image),
    }


def image_path(bank: PatchBank, record: PatchRecord) -> str:
    """The file that should be, or contain, the patch's image. Its name is relative to the folder in which the bank was
    made: the working folder or, often, the bank's OUT."""
    next_to_bank = files.beside(bank.folder, record.source)
    relative = not files.is_url(record.source) and not Path(record.source).is_absolute()
    return next_to_bank if relative and not Path(record.source).is_file() else record.source


def file_uri(bank: PatchBank, record: PatchRecord) -> str:
    """A file URI of the patch's image; empty if it is not a file of its own."""
    path = image_path(bank, record)
    alone = not record.provenance["key"] and not files.is_url(path) and Path(path).is_file()
    return Path(path).resolve().as_uri() if alone else ""


def small_image(bank: PatchBank, record: PatchRecord) -> bytes | None:
    """The patch's image, upright and scaled to IMAGE_SIDE, as WebP; None if it cannot be read.

    Finds images that are files or members of a tar, not those in Parquet files or behind the URLs of a list.
    """
    path, key = image_path(bank, record), record.provenance["key"]
    if not files.may_follow(path):
        return None
    try:
        if not key:
            data = files.read_start(path, MAX_BYTES)
        else:
            with files.open_read(path) as file, tarfile.open(fileobj=file) as tar:
                member = tar.extractfile(key)
                data = member.read(MAX_BYTES) if member else b""
        image = Image.fromarray(decode(data, max_pixels=MAX_PIXELS))
    except (OSError, KeyError, tarfile.TarError, ImageRejected):
        return None
    return _small(image)


def _small(image: Image.Image) -> bytes:
    """The image scaled to IMAGE_SIDE, as WebP."""
    small = image.copy()
    small.thumbnail((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=75)
    return buffer.getvalue()


def image_uri(bank: PatchBank, record: PatchRecord) -> str:
    """The patch's image as a small data URI; empty if it cannot be read."""
    data = small_image(bank, record)
    return "" if data is None else data_uri(data, "webp")


def record_view(bank: PatchBank, record: PatchRecord, longest: int | None) -> PatchView:
    """How a patch of the bank is drawn."""
    picture = crop_uri(bank, record, longest)
    return PatchView(record.concept, picture, aspect(record.box), record_facts(record))


def record_facts(record: PatchRecord) -> tuple[tuple[str, str], ...]:
    """What a page says about a patch of the bank."""
    left, top, right, bottom = record.box
    return (
        ("score", f"{record.score:.2f}"),
        ("seen with", ", ".join(record.context) or "nothing else"),
        *((name, record.provenance[name]) for name in schemas.PROVENANCE if record.provenance[name]),
        ("size", f"{right - left:.0f} × {bottom - top:.0f} of {record.width} × {record.height} pixels"),
        ("patch", record.patch_id),
    )
