"""Pages about a bank: the contact sheet of `vlmixer bank show`, and the hits of `vlmixer bank query`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from bank.store import Hit, PatchBank, PatchRecord
from pipeline.report.crops import crop_uri
from pipeline.report.pages import write_page
from pipeline.report.sentences import PatchView, aspect

SMALL_SHEET = 2000
"""A sheet of more patches than this shows them as thumbnails, so that the page stays one that a browser opens."""
THUMBNAIL_SIDE = 96


@dataclass(frozen=True)
class ConceptRow:
    """A concept of the sheet: its name and synonyms (`words`), how many patches it has, and what is drawn of them."""

    words: tuple[str, ...]
    count: int
    patches: list[dict[str, object]]

    @property
    def name(self) -> str:
        """The concept's name."""
        return self.words[0]


@dataclass(frozen=True)
class HitView:
    """A hit as it is drawn; `similarity` is empty where nothing was asked to be like. `others` are the other concepts
    of its image."""

    view: PatchView
    similarity: str
    others: tuple[str, ...]
    source: str


def write_bank_page(path: str, bank: PatchBank, *, per_concept: int = 24) -> None:
    """Write the sheet at `path`: a row for each concept that has patches, with at most `per_concept` of them.

    The page grows with the number of concepts, the memory that writing it takes does not grow with its pictures.
    Raises UserError for a crop that is no picture.
    """
    filled = [concept for concept in bank.concepts if bank.counts[concept.name]]
    shown = sum(min(bank.counts[concept.name], per_concept) for concept in filled)
    longest = THUMBNAIL_SIDE if shown > SMALL_SHEET else None
    write_page(
        path,
        "bank.html",
        vocabulary=str(bank.manifest.details["vocabulary"]).rsplit("/", 1)[-1],
        detector=bank.manifest.details["detector"]["name"],
        patches=len(bank),
        concepts=len(bank.concepts),
        filled=len(filled),
        per_concept=per_concept,
        empty=[concept.name for concept in bank.concepts if not bank.counts[concept.name]],
        rows=_rows(bank, per_concept, longest),
    )


def _rows(bank: PatchBank, per_concept: int, longest: int | None) -> Iterator[ConceptRow]:
    for concept in tqdm(bank.concepts, desc="page", unit="concept", disable=None, delay=2):
        if bank.counts[concept.name]:
            records = bank.patches(concept.name)[:per_concept]
            drawn: list[dict[str, object]] = [
                {
                    "picture": crop_uri(bank, record, longest),
                    "aspect": round(aspect(record.box), 3),
                    "facts": record_facts(record),
                }
                for record in records
            ]
            yield ConceptRow(concept.words, bank.counts[concept.name], drawn)


def write_hits_page(path: str, bank: PatchBank, hits: Sequence[Hit], *, title: str) -> None:
    """Write a page of what a search of `bank` found, in its order. Raises UserError for a crop that is no picture."""
    compared = any(hit.similarity != 1.0 for hit in hits)
    views = [
        HitView(
            record_view(bank, hit.patch, longest=None),
            f"{hit.similarity:.3f}" if compared else "",
            hit.patch.context,
            hit.patch.source,
        )
        for hit in hits
    ]
    write_page(path, "hits.html", title=title, hits=views)


def record_view(bank: PatchBank, record: PatchRecord, longest: int | None) -> PatchView:
    """How a patch of the bank is drawn."""
    picture = crop_uri(bank, record, longest)
    return PatchView(record.concept, picture, aspect(record.box), record_facts(record))


def record_facts(record: PatchRecord) -> tuple[tuple[str, str], ...]:
    """What is told of a patch of the bank."""
    left, top, right, bottom = record.box
    return (
        ("score", f"{record.score:.2f}"),
        ("seen with", ", ".join(record.context) or "nothing else"),
        ("source", record.source),
        ("size", f"{right - left:.0f} × {bottom - top:.0f} of {record.width} × {record.height} pixels"),
        ("patch", record.patch_id),
    )
