"""Which images a user means: by id, or by the name of a file, written in one of the ways in which people write it."""

import difflib
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class ImageName:
    """An image as the bank, or a sample, names it. `key`: which image of the file `source`; empty if it is the file."""

    image_id: str
    source: str
    key: str = ""
    url: str = ""


class ImageNames:
    """Finds images by names."""

    def __init__(self, images: Iterable[ImageName]) -> None:
        self._exact: dict[str, list[ImageName]] = {}
        self._by_last: dict[str, list[ImageName]] = {}
        for image in dict.fromkeys(images):
            for name in {image.image_id, image.source, image.key, image.url} - {""}:
                self._exact.setdefault(name, []).append(image)
            for path in {image.source, image.key} - {""}:
                self._by_last.setdefault(_parts(path)[-1].casefold(), []).append(image)

    def find(self, name: str) -> list[ImageName]:
        """The images that `name` means; several if they are in one file that it names, or if it is ambiguous.

        It may be an image id; a URL, the name of a file, or of an image in it, as the bank has them; or a path that
        ends like one in the bank, as far as the shorter of the two goes: absolute, relative to another folder, or the
        bare name. If nothing matches, capital letters are ignored.
        """
        for known in (name, name.lower()):
            if known in self._exact:
                return self._exact[known]
        wanted = _parts(name)
        alike = self._by_last.get(wanted[-1].casefold(), []) if wanted else []
        same = [image for image in alike if _means(wanted, image)]
        if same:
            return same
        folded = [part.casefold() for part in wanted]
        return [
            image
            for image in alike
            if _means(folded, ImageName(image.image_id, image.source.casefold(), image.key.casefold()))
        ]

    def near(self, name: str) -> list[str]:
        """Up to three names that are similar to `name`."""
        wanted = _parts(name)
        last = difflib.get_close_matches(wanted[-1].casefold() if wanted else "", self._by_last, n=3)
        found = [image.key or image.source for part in last for image in self._by_last[part]]
        return list(dict.fromkeys(found))[:3]


def is_ambiguous(images: list[ImageName]) -> bool:
    """Whether images that were found for one name are of different files, so that it is unclear which is meant."""
    return len({image.source for image in images}) > 1 and len({image.image_id for image in images}) > 1


def _parts(path: str) -> list[str]:
    normal = posixpath.normpath(path.strip().replace("\\", "/").removeprefix("file://"))
    return [part for part in normal.split("/") if part not in ("", ".", "..")]


def _means(wanted: list[str], image: ImageName) -> bool:
    """Whether the path `wanted` and one of the image's end with the same parts, as far as the shorter goes."""
    paths = [_parts(image.source), _parts(image.key), _parts(f"{image.source}/{image.key}")] if image.key else []
    for path in paths or [_parts(image.source)]:
        shared = min(len(path), len(wanted))
        if shared and path[-shared:] == wanted[-shared:]:
            return True
    return False
