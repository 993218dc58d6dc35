"""Small banks and samples for the tests of the pages, made by the code that makes real ones, and a reader of pages."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from vlmixer.artifacts import manifest, schemas
from vlmixer.artifacts.details import AnyDetails, BankDetails, BankSelection, DetectorIdentity
from vlmixer.artifacts.manifest import Manifest
from vlmixer.artifacts.samples import ImageSample, Mention, MixedSample, Patch
from vlmixer.bank.building import ConceptCounts, chosen_schema, write_bank
from vlmixer.bank.concepts import Vocabulary, make_vocabulary
from vlmixer.bank.store import PatchBank

DIM = 4
BOX = (10.0, 20.0, 50.0, 40.0)
VOID = {"meta", "link", "img", "input", "br"}


@dataclass(frozen=True)
class BankPatch:
    """What a patch of a small bank is to be."""

    patch_id: str
    concept: str
    crop: bytes
    source: str = "photos/a.jpg"
    context: tuple[int, ...] = ()
    key: str = ""


def jpeg(colour: str, size: tuple[int, int] = (40, 20)) -> bytes:
    """A JPEG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG")
    return buffer.getvalue()


def make_bank(folder: Path, words: Sequence[Sequence[str]], patches: Sequence[BankPatch]) -> PatchBank:
    """A bank of these concepts (lists of words) and patches, opened."""
    vocabulary: Vocabulary = make_vocabulary("small", words)
    tables = []
    for concept in vocabulary.concepts:
        rows = [
            {
                "patch_id": patch.patch_id,
                "image_id": "image-1",
                "concept_id": concept.id,
                "score": 0.5,
                "box": BOX,
                "width": 100,
                "height": 80,
                **dict.fromkeys(schemas.PROVENANCE, ""),
                "source": patch.source,
                "key": patch.key,
                "context": patch.context,
                "feature": np.eye(DIM, dtype=np.float16)[number % DIM],
                "crop": patch.crop,
            }
            for number, patch in enumerate(patches)
            if patch.concept == concept.name
        ]
        tables.append(pa.Table.from_pylist(rows, schema=chosen_schema(DIM)))
    counts_by_concept = [ConceptCounts(len(table), 2 * len(table), 1 if len(table) else 0) for table in tables]
    outputs = write_bank(str(folder), vocabulary.concepts, DIM, counts_by_concept, tables)
    details = BankDetails(
        detector=DetectorIdentity("drawn", weights="-", device="cpu", options={}),
        feature_dim=DIM,
        vocabulary="small",
        vocabulary_hash="-",
        selection=BankSelection(50, "score", duplicate_similarity=0.95, seed=0),
    )
    counts = {"regions": manifest.Counts(len(patches), len(patches))}
    publish(folder, "index", outputs, counts, details)
    return PatchBank.open(str(folder))


def publish(
    folder: Path,
    stage: str,
    outputs: list[manifest.Output],
    counts: dict[str, manifest.Counts],
    details: AnyDetails,
) -> None:
    """The manifest of a stage's folder."""
    manifest.publish(
        str(folder),
        Manifest(
            stage=stage,
            config_hash="-",
            plan_hash="-",
            versions={},
            inputs=[],
            outputs=outputs,
            rejects=[],
            counts=counts,
            details=details,
        ),
    )


def mention(text: str, word: str, concept: str | None = None) -> Mention:
    """The mention that the first `word` of `text` is."""
    start = text.index(word)
    return Mention(start, start + len(word), concept or word, word, word)


def patch(patch_id: str, concept: str, mention: int | None = None) -> Patch:
    """A patch of a sample."""
    return Patch(mention, patch_id, "image-1", concept, 0.875, BOX, 100, 80)


def mixed(key: str, text: str, mentions: Sequence[Mention], patches: Sequence[Patch]) -> MixedSample:
    """A mixed sample."""
    replaced = tuple(sorted({patch.mention for patch in patches if patch.mention is not None}))
    features = np.zeros((len(patches), DIM), np.float16)
    return MixedSample(key, key, 0, text, tuple(mentions), replaced, tuple(patches), features)


def image(key: str, patches: Sequence[Patch], source: str = "photos/a.jpg") -> ImageSample:
    """An image sample."""
    tags = tuple(dict.fromkeys(patch.concept for patch in patches))
    return ImageSample(key, key, source, 100, 80, tags, tuple(patches), np.zeros((len(patches), DIM), np.float16))


@dataclass
class Element:
    """An element of a page: its name, attributes, all text in it, and the names and classes of what it lies in."""

    name: str
    attributes: dict[str, str]
    inside: tuple[str, ...]
    text: str = ""

    @property
    def classes(self) -> set[str]:
        return set(self.attributes.get("class", "").split())


@dataclass
class Page(HTMLParser):
    """A page as a browser's parser sees it: its elements in order."""

    content: str
    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[Element] = []
        self.feed(self.content)
        self.close()
        assert not self._open, f"not closed: {[element.name for element in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        inside = tuple(word for outer in self._open for word in (outer.name, *outer.classes))
        element = Element(tag, {name: value or "" for name, value in attrs}, inside)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().name == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, name: str, inside: str = "") -> list[Element]:
        """Elements called `name`, or with that class, that lie in an element called `inside`, or with that class."""
        return [
            element
            for element in self.elements
            if (element.name == name or name in element.classes) and (not inside or inside in element.inside)
        ]

    def data(self) -> list[Any]:
        """What the page's JSON blocks hold."""
        return [json.loads(block.text) for block in self.all("script") if block.attributes.get("type")]

    def loads(self) -> list[str]:
        """All that the page's elements and styles refer to, but for pictures that are inside it."""
        attributes = ("src", "href", "srcset", "action", "poster", "data")
        found = [
            element.attributes[key] for element in self.elements for key in attributes if key in element.attributes
        ]
        found += [element.text for element in self.all("style") if "url(" in element.text or "@import" in element.text]
        return [reference for reference in found if not reference.startswith("data:")]


def read_page(path: Path) -> Page:
    """The page at `path`."""
    return Page(path.read_text(encoding="utf-8"))
