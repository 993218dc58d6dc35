"""Which images a user means: by id, or by the name of a file, written in one of the ways in which people write it."""

import difflib
import posixpath
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MOST_SIMILAR = 3
SIMILAR_TO, MOST_COMPARED = 10, 200_000
"""Similar names are looked for so many missing ones, by so many comparisons: one takes up to 50 µs."""
_DOTS = pa.array(["", ".", ".."])


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


class WantedNames:
    """Tells which images some names may mean, so that only these need to be held for `ImageNames`."""

    def __init__(self, names: Collection[str]) -> None:
        self._exact = pa.array(sorted({*names, *(name.lower() for name in names)}), pa.string())
        self._last = {last for name in names if (last := _last(name))}
        self._plain = pa.array(sorted(filter(str.isascii, self._last)), pa.string())

    def may_mean(self, exact: Iterable[pa.ChunkedArray], paths: Iterable[pa.ChunkedArray]) -> np.ndarray:
        """Whether one of them may mean the image of a row. (rows,) bool. exact: columns of text, with the image's ids,
        paths and URLs. paths: of these, its paths."""
        found = [pc.is_in(column, value_set=self._exact).to_numpy() for column in exact]
        return np.logical_or.reduce([*found, *map(self._ends_alike, paths)])

    def _ends_alike(self, paths: pa.ChunkedArray) -> np.ndarray:
        """Whether the last part of a path is that of a name, but for capital letters."""
        last = pc.replace_substring_regex(paths, r"(?s)^.*[/\\]", "")
        found: np.ndarray = pc.is_in(pc.ascii_lower(last), value_set=self._plain).to_numpy().copy()
        # All others are compared one by one, as `ImageNames` does: folding letters is more than making them small.
        plain = pc.match_substring_regex(last, r"^[!-~]([ -~]*[!-~])?$")
        other = pc.and_(pc.not_equal(paths, ""), pc.or_(pc.invert(plain), pc.is_in(last, value_set=_DOTS)))
        for row in np.flatnonzero(other.to_numpy()).tolist():
            found[row] = _last(paths[row].as_py()) in self._last
        return found


class SimilarNames:
    """Finds names of images that are similar to some names, without holding those of all images."""

    def __init__(self, names: Iterable[str]) -> None:
        self._found: dict[str, dict[str, list[str]]] = {name: {} for name in names}

    def look(self, images: Iterable[ImageName]) -> None:
        """Look among these images."""
        by_last: dict[str, list[str]] = {}
        for image in images:
            for path in {image.source, image.key} - {""}:
                by_last.setdefault(_last(path), []).append(image.key or image.source)
        for name, found in self._found.items():
            for last in difflib.get_close_matches(_last(name), by_last, n=MOST_SIMILAR):
                found.setdefault(last, []).extend(by_last[last][:MOST_SIMILAR])

    def to(self, name: str) -> tuple[str, ...]:
        """The most similar ones, at most three; none if `name` is not among the names."""
        found = self._found.get(name, {})
        close = difflib.get_close_matches(_last(name), found, n=MOST_SIMILAR)
        return tuple(dict.fromkeys(each for last in close for each in found[last]))[:MOST_SIMILAR]


def is_ambiguous(images: list[ImageName]) -> bool:
    """Whether images that were found for one name are of different files, so that it is unclear which is meant."""
    return len({image.source for image in images}) > 1 and len({image.image_id for image in images}) > 1


def _parts(path: str) -> list[str]:
    normal = posixpath.normpath(path.strip().replace("\\", "/").removeprefix("file://"))
    return [part for part in normal.split("/") if part not in ("", ".", "..")]


def _last(path: str) -> str:
    """The last part of a path, in which capital letters do not count; "" if it has none."""
    parts = _parts(path)
    return parts[-1].casefold() if parts else ""


def _means(wanted: list[str], image: ImageName) -> bool:
    """Whether the path `wanted` and one of the image's end with the same parts, as far as the shorter goes."""
    paths = [_parts(image.source), _parts(image.key), _parts(f"{image.source}/{image.key}")] if image.key else []
    for path in paths or [_parts(image.source)]:
        shared = min(len(path), len(wanted))
        if shared and path[-shared:] == wanted[-shared:]:
            return True
    return False
