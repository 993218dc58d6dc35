"""OUT/dropped.json: marks of the images and sentences that were dropped, so that no later run brings them back.

A mark is a hash. It does not tell what was dropped, but whether something is one of those.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from vlmixer.artifacts import files, json_files, manifest
from vlmixer.artifacts.rng import stable_id

NAME = "dropped.json"
_DIGITS = 32
_ADVICE = "Restore it from a copy: without it, a run takes dropped inputs again."


def image_mark(image_id: str) -> str:
    """The mark of an image."""
    return stable_id("dropped image", image_id, digits=_DIGITS)


def sentence_mark(text: str) -> str:
    """The mark of all sentences with this text."""
    return stable_id("dropped sentence", text, digits=_DIGITS)


@dataclass(frozen=True)
class Dropped:
    """Marks of images and of sentences."""

    images: frozenset[str] = frozenset()
    sentences: frozenset[str] = frozenset()

    def has_image(self, image_id: str) -> bool:
        """Whether the image was dropped."""
        return bool(self.images) and image_mark(image_id) in self.images

    def has_sentence(self, text: str) -> bool:
        """Whether sentences with this text were dropped."""
        return bool(self.sentences) and sentence_mark(text) in self.sentences

    def knows(self, name: str) -> bool:
        """Whether an image id, the name of an image file, a text or a sentence id is of something that was dropped."""
        return self.has_image(name.lower()) or self.has_image(stable_id("image", name)) or self.has_sentence(name)

    def with_more(self, images: Iterable[str], texts: Iterable[str]) -> "Dropped":
        """With the marks of these image ids and texts (or other names of sentences)."""
        return Dropped(self.images | set(map(image_mark, images)), self.sentences | set(map(sentence_mark, texts)))


@dataclass(frozen=True)
class _File:
    images: tuple[str, ...]
    sentences: tuple[str, ...]


def read(out: str) -> Dropped:
    """The marks of `out`; none if nothing was dropped. Raises UserError if the file is damaged."""
    path = files.join(out, NAME)
    try:
        content = json_files.read(path, _File, advice=_ADVICE)
    except (FileNotFoundError, NotADirectoryError):
        return Dropped()
    return Dropped(frozenset(content.images), frozenset(content.sentences))


def publish(out: str, marks: Dropped) -> None:
    """Write the marks, if there are any."""
    if marks != Dropped():
        content = {"images": sorted(marks.images), "sentences": sorted(marks.sentences)}
        files.publish_bytes(files.join(out, NAME), manifest.canonical(content, indent=1))
