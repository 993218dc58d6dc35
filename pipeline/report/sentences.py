"""A sentence cut into spans for a page: plain text, mentions, words that only look like one, and patches.

Pure functions from samples to what the templates draw. `crops` provides the pictures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.samples import Mention, MixedSample, Patch
from vlmixer.bank.records import PatchRecord

Kind = Literal["plain", "mention", "lookalike", "patches"]


class ImageView(TypedDict):
    """Where a patch is in its image, as viewer.js shows it on a click.

    id: the patch's. image: a URI, empty if the image cannot be shown. width, height: of the image in pixels. box:
    xyxy in these.
    """

    id: str
    image: str
    width: int
    height: int
    box: list[float]


@dataclass(frozen=True)
class PatchView:
    """A patch as it is drawn. `aspect` is width / height. Without a `picture` (a data URI) it is a labelled box of that
    shape. `facts` (name, value) are shown when the mouse is over it. `view` says where it is in its image, which a
    click shows; None if the page cannot show it."""

    label: str
    picture: str | None
    aspect: float
    facts: tuple[tuple[str, str], ...]
    view: ImageView | None = None


@dataclass(frozen=True)
class TextSpan:
    """A stretch of a sentence. `note` is its tooltip. `patches` replace `text`."""

    kind: Kind
    text: str
    note: str = ""
    patches: tuple[PatchView, ...] = ()


@dataclass(frozen=True)
class Mark:
    """A stretch that is not plain text: characters start … end (exclusive)."""

    start: int
    end: int
    span: TextSpan


def cut_into_spans(text: str, marks: Sequence[Mark], name: str) -> list[TextSpan]:
    """The whole of `text` as spans, with those of the marks in place.

    Raises UserError, naming the sentence `name`, for marks that overlap or are outside the text.
    """
    spans: list[TextSpan] = []
    at = 0
    for mark in sorted(marks, key=lambda mark: mark.start):
        if not at <= mark.start < mark.end <= len(text):
            raise UserError(
                f"{name}: a mention covers characters {mark.start} to {mark.end} of a text of {len(text)}, or overlaps "
                "another one. Run `vlmixer verify` on the folder, then run the stage again with --overwrite."
            )
        if mark.start > at:
            spans.append(TextSpan("plain", text[at : mark.start]))
        spans.append(mark.span)
        at = mark.end
    if at < len(text):
        spans.append(TextSpan("plain", text[at:]))
    return spans


def mention_mark(text: str, mention: Mention) -> Mark:
    """A mention that is shown as a word."""
    return Mark(mention.start, mention.end, TextSpan("mention", text[mention.start : mention.end], mention.concept))


def mixed_spans(
    sample: MixedSample,
    picture: Callable[[Patch], str | None],
    image: Callable[[Patch], str | None] = lambda patch: None,
) -> list[TextSpan]:
    """The sample's sentence with patches in place of the replaced words.

    picture: a patch's crop as a data URI, None if it is not available. image: where the page finds the patch's image,
    empty if it cannot be shown, None for a page that shows none. Raises UserError for misplaced mentions.
    """
    marks = []
    for index, mention in enumerate(sample.mentions):
        word = sample.text[mention.start : mention.end]
        pasted = [patch for patch in sample.patches if patch.mention == index]
        if pasted:
            views = tuple(patch_view(patch, picture(patch), image(patch), replaced=word) for patch in pasted)
            marks.append(Mark(mention.start, mention.end, TextSpan("patches", word, patches=views)))
        else:
            marks.append(mention_mark(sample.text, mention))
    return cut_into_spans(sample.text, marks, sample.key)


def patch_view(patch: Patch, picture: str | None, image: str | None = None, replaced: str = "") -> PatchView:
    """How a sample's patch is drawn."""
    left, top, right, bottom = patch.box
    facts = [("replaces", replaced)] if replaced else []
    facts += [
        ("concept", patch.concept),
        ("score", f"{patch.score:.2f}"),
        ("image", patch.image_id),
        ("patch", patch.patch_id),
        ("size", f"{right - left:.0f} × {bottom - top:.0f} of {patch.width} × {patch.height} pixels"),
    ]
    view = None if image is None or picture is None else image_view(patch, image)
    return PatchView(patch.concept, picture, aspect(patch.box), tuple(facts), view)


def image_view(patch: Patch | PatchRecord, image: str) -> ImageView:
    """Where the patch is in its image. image: the image's URI."""
    box = [round(value, 1) for value in patch.box]
    return {"id": patch.patch_id, "image": image, "width": patch.width, "height": patch.height, "box": box}


def aspect(box: tuple[float, float, float, float]) -> float:
    """Width / height of a box, xyxy; sides count as at least 1."""
    left, top, right, bottom = box
    return max(right - left, 1.0) / max(bottom - top, 1.0)
