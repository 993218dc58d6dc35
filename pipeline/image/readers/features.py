"""Existing region features: TSV files with one image per line, as VinVL and bottom-up attention write
them. Finds the lines, their predictions and photos; pipeline/image/known_regions.py says what a line means."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import zip_longest

from vlmixer.artifacts import files, json_files
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.files import FileStat, FileStats, Strings
from vlmixer.pipeline.image.readers.base import (
    FILES,
    ImageCorpus,
    ImageRef,
    InputFile,
    InputPiece,
    Unreadable,
    name_digest,
    with_name_digest,
)
from vlmixer.pipeline.image.readers.tsv_lines import LinesById

MAX_LINE_BYTES = 64 << 20
NO_PREDICTION = (-1, -1)
LABEL_MAP = re.compile(r"(?i).*label_?map.*\.json|VG-SGG-dicts.*\.json")


@dataclass(frozen=True)
class FeatureReader:
    """Reads lines of region features. `images.detector` names such files, so it takes none of `images.inputs`."""

    format = "tsv"
    one_unit_per_piece = False
    holds_images = True

    def takes(self, name: str, *, as_list: bool) -> bool:
        return False

    def plan(self, inputs: Sequence[InputFile]) -> list[InputPiece]:
        return [InputPiece(self.format, (file,), 0, file.size) for file in inputs]

    def count(self, piece: InputPiece) -> None:
        return None

    def survey(self, piece: InputPiece, *, contents: bool) -> Iterator[ImageRef]:
        """Digests are of ids, so that a line is a duplicate if its id is. Raises UserError if an index file next to the
        features contradicts them."""
        (file,) = piece.files
        photos = _read_photos(piece.photos) if piece.photos else None
        predicted = LinesById(file.companion) if file.companion else nullcontext()
        with LinesById(file.name) as lines, predicted as predictions:
            for identity, (start, size), longest in lines:
                ref = ImageRef(
                    file.name, identity, self.format, start, size, (file.number, start),
                    name_digest(file.name, identity), stamp=file.stamp, predictions=file.companion,
                    prediction=NO_PREDICTION if predictions is None else predictions.longest(identity) or NO_PREDICTION,
                )  # fmt: skip
                if size < longest:  # what an interrupted writer left
                    detail = f"half-written: {size} bytes, another line of this id has {longest}"
                    ref = replace(ref, key=f"{identity}@{start}", reason="bad_record", detail=detail)
                    yield with_name_digest(ref)
                else:
                    yield _checked(ref, predictions is not None, photos)
            if lines.ends >= 0:
                detail = "many lines without a tab; what follows is not read"
                rest = ImageRef(file.name, f"byte {lines.ends}", self.format, order=(file.number, lines.ends))
                yield with_name_digest(replace(rest, reason="unreadable_file", detail=detail))
            _check_index(file.name, lines)

    def read(self, refs: Sequence[ImageRef], max_bytes: float) -> Iterator[bytes | Unreadable]:
        """The line of each reference, and behind it its prediction: the first `ref.size` bytes, and the rest."""
        for ref in refs:
            try:
                data = read_part(ref.source, (ref.position, ref.size))
                if ref.prediction != NO_PREDICTION:
                    data += read_part(ref.predictions, ref.prediction)
            except OSError as error:
                yield Unreadable("unreadable_file", f"{type(error).__name__}: {error}")
            else:
                yield data


def _read_photos(path: str) -> dict[str, list[str]]:
    return json_files.read(path, dict[str, list[str]], advice="Run the stage again.")


def _checked(ref: ImageRef, with_predictions: bool, photos: Mapping[str, Sequence[str]] | None) -> ImageRef:
    if ref.size > MAX_LINE_BYTES:
        return replace(ref, reason="bad_record", detail=f"a line of {ref.size} bytes")
    if with_predictions and ref.prediction == NO_PREDICTION:
        return replace(ref, reason="bad_record", detail=f"{ref.predictions} has no line for it")
    if photos is None:
        return ref
    fitting = photos.get(ref.key, ())
    if len(fitting) > 1:
        return replace(ref, reason="ambiguous_photo", detail=f"it could be {' or '.join(fitting[:3])}")
    if not fitting:
        return replace(ref, reason="missing_photo", detail="no photo among images.inputs has this name")
    return replace(ref, photo=fitting[0])


def plan_features(pattern: str, predictions: str | None, photos: str = "") -> ImageCorpus:
    """One piece per file. predictions: the file with classes, if the config names it. photos: the file that will hold
    the photos by id, "" without photos.

    Files with sizes and label maps next to them are inputs, too. Raises CallError if no file matches, or if the
    predictions do not exist.
    """
    found = files.expand([pattern], key="images.detector: tsv")
    inputs: dict[str, FileStat] = {entry.name: entry for entry in found}
    pieces = []
    for number, entry in enumerate(found):
        other = predictions_of(entry.name, predictions)
        if other and not files.exists(other):
            raise CallError(f"images.detector_options.predictions: no such file: {other}.")
        if other:
            inputs.setdefault(other, FileStat(other, files.size(other), files.stamp(other)))
        for beside in filter(None, (sizes_of(entry.name), labels_of(entry.name))):
            inputs.setdefault(beside, FileStat(beside, files.size(beside), files.stamp(beside)))
        file = InputFile(number, entry.name, entry.size, other, entry.stamp)
        pieces.append(InputPiece(FeatureReader.format, (file,), 0, entry.size, photos))
    return ImageCorpus(FileStats.of(inputs.values()), pieces, Strings(), Strings())


def predictions_of(path: str, given: str | None) -> str:
    """The file with the classes of a features file: `given`, or the file next to it whose name has `predictions` in
    place of `features`, or ""."""
    if given:
        return given
    folder, slash, base = path.rpartition("/")
    neighbour = f"{folder}{slash}{base.replace('features', 'predictions')}"
    return neighbour if neighbour != path and files.exists(neighbour) else ""


def sizes_of(path: str) -> str:
    """The file with the images' sizes next to a features file: NAME.hw.tsv for NAME.tsv or NAME.….tsv, or hw.tsv; ""
    without."""
    folder, base = files.parent(path), path.rpartition("/")[2]
    names = (f"{base.partition('.')[0]}.hw.tsv", "hw.tsv")
    return next((place for name in names if files.exists(place := files.join(folder, name))), "")


def labels_of(path: str) -> str:
    """The label map next to a local features file, labelmap.json or the like; "" without, or if there are several."""
    folder = files.parent(path)
    if files.is_url(folder):
        return ""
    found = [name for name in sorted(os.listdir(folder)) if LABEL_MAP.fullmatch(name)]
    return files.join(folder, found[0]) if len(found) == 1 else ""


def photos_by_id(corpus: ImageCorpus) -> dict[str, list[str]]:
    """Paths of photos by the ids that lines may have: the name with or without its ending, and the number at its end.

    An id that several photos fit has all of them.
    """
    if any(piece.format != FILES for piece in corpus.pieces):
        raise CallError("images.inputs: with a detector tsv:FILE, give photos as files, folders or globs.")
    found: dict[str, list[str]] = {}
    for path in sorted(file.name for piece in corpus.pieces for file in piece.files):
        name = path.rpartition("/")[2]
        stem = os.path.splitext(name)[0]
        number = re.search(r"(?:^|\D)(\d+)$", stem)
        numbers = {number[1], str(int(number[1]))} if number else set()
        for identity in sorted({name, stem} | numbers):
            found.setdefault(identity, []).append(path)
    return found


def read_part(name: str, part: tuple[int, int]) -> bytes:
    """The bytes of a part of the file, (first byte, bytes)."""
    with files.open_read(name) as file:
        file.seek(part[0])
        return file.read(part[1])


def _check_index(name: str, lines: LinesById) -> None:
    stem = os.path.splitext(name)[0]
    what_to_do = "The two do not belong together. Remove the index, or fetch both again."
    if files.exists(f"{stem}.lineidx"):
        list_of_starts = files.read_bytes(f"{stem}.lineidx")
        listed = (word[0] for word in re.finditer(rb"\S+", list_of_starts))
        starts = (b"%d" % start for _, (start, _), _ in lines)
        if any(one != other for one, other in zip_longest(listed, starts)):
            raise UserError(
                f"{stem}.lineidx: lists {len(list_of_starts.split())} lines, {name} has {len(lines)}, or they begin at "
                f"other bytes. {what_to_do}"
            )
    index = files.join(files.parent(name), "imageid2idx.json")
    if files.exists(index):
        places = json_files.read(index, dict[str, int], advice=what_to_do)
        wrong = [identity for row, (identity, _, _) in enumerate(lines) if places.get(identity) != row]
        if wrong or len(places) != len(lines):
            raise UserError(
                f"{index}: names {len(places)} images, {name} has {len(lines)}; {len(wrong)} are in other lines "
                f"({', '.join(wrong[:3])}). {what_to_do}"
            )
