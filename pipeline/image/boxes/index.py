"""The boxes of each photo among the inputs: made once, in a file of the work folder, and read by every worker.

Photos are known by the digest of their bytes, so a copy under another name has the same boxes.
"""

import json
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.image_names import ImageName, ImageNames
from vlmixer.artifacts.manifest import Counts
from vlmixer.artifacts.parquet import read_parquet
from vlmixer.artifacts.rejects import BATCH, LISTED, CappedRejects, Reject
from vlmixer.model.tasks.parquet_names import row_names
from vlmixer.pipeline.image.boxes.reading import KEY, Boxes
from vlmixer.pipeline.image.boxes.records import NamedPhoto
from vlmixer.pipeline.image.readers.base import ImageRef

INDEX_SCHEMA = pa.schema(
    [
        pa.field("digest", pa.binary(16), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("boxes", pa.list_(pa.float32()), nullable=False),
        pa.field("relative", pa.list_(pa.bool_()), nullable=False),
        pa.field("labels", pa.list_(pa.int32()), nullable=False),
        pa.field("scores", pa.list_(pa.float32()), nullable=False),
        pa.field("doubt", pa.string(), nullable=False),
    ]
)
"""One row per photo. doubt: why it is unclear which boxes are the photo's; "" if it is clear."""
INDEX = "boxes.parquet"
"""In the work folder."""
CLASSES = b"classes"
_NUMBER = re.compile(r"(?:^|_)(\d{12})$")
"""At the end of the names of COCO's photos, which are called by the number alone, or COCO_val2014_ and the number."""


@dataclass(frozen=True)
class PhotoBoxes:
    """What a file says of a photo. boxes: (n, 4) float32, xyxy in pixels; in fractions where `relative`, (n,) bool.
    labels: (n,) int64, indices into the classes of the index. scores: (n,) float32. width, height: pixels, 0 if the
    file does not say. name: in the file. doubt: why it is unclear which boxes are the photo's, "" if it is clear."""

    name: str
    width: int
    height: int
    boxes: np.ndarray
    relative: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    doubt: str

    def in_pixels(self, width: int, height: int) -> np.ndarray:
        """(n, 4) float32, the boxes in pixels of the photo, which has this size."""
        scale = np.where(self.relative[:, None], np.array([width, height] * 2, np.float32), np.float32(1))
        scaled: np.ndarray = self.boxes * scale
        return scaled


class BoxIndex:
    """Reads what `write_index` wrote. classes: names of the labels."""

    def __init__(self, path: str) -> None:
        with files.open_read(path) as file:
            self._table = read_parquet(file).combine_chunks()
        metadata: Mapping[bytes, bytes] = self._table.schema.metadata or {}
        self.classes: tuple[str, ...] = tuple(json.loads(metadata[CLASSES]))
        self._rows = {digest: row for row, digest in enumerate(self._table["digest"].to_pylist())}

    def find(self, digest: bytes) -> PhotoBoxes | None:
        """The boxes of the photo with this digest; None if no file names it."""
        row = self._rows.get(digest)
        if row is None:
            return None
        found: dict[str, Any] = {name: self._table[name][row] for name in self._table.column_names}
        boxes, relative, labels, scores = (
            found[name].values.to_numpy(zero_copy_only=False) for name in ("boxes", "relative", "labels", "scores")
        )
        name, width, height, doubt = (found[name].as_py() for name in ("name", "width", "height", "doubt"))
        return PhotoBoxes(
            name, width, height, boxes.reshape(-1, 4), relative, labels.astype(np.int64), scores, doubt
        )  # fmt: skip


@dataclass(frozen=True)
class Matched:
    """Boxes and the photos that they belong to. rows: by digest of a photo, its entries in `Boxes.photos`, and what is
    in doubt. counts: of boxes. rejects: the boxes that are not used."""

    rows: Mapping[bytes, tuple[Sequence[int], str]]
    keep: np.ndarray
    owner: np.ndarray
    counts: Counts
    rejects: Sequence[Reject]
    absent: int


@dataclass
class _Found:
    """The photos that may be the one of an entry, by digest, with a name of each. level: how well the names agree."""

    level: int
    photos: dict[bytes, str] = field(default_factory=dict)


class PhotoNames:
    """Finds entries of box files by the names of photos."""

    def __init__(self, photos: Sequence[NamedPhoto]) -> None:
        self._names = [photo.name for photo in photos]
        self._paths = ImageNames(ImageName(f"\0{number}", name) for number, name in enumerate(self._names))
        self._stems: dict[str, list[int]] = defaultdict(list)
        self._numbers: dict[str, list[int]] = defaultdict(list)
        for number, name in enumerate(self._names):
            self._stems[_stem(name)].append(number)
            if digits := _NUMBER.search(_stem(name)):
                self._numbers[digits[1]].append(number)

    def find(self, name: str) -> tuple[int, Sequence[int]]:
        """The entries that a photo's path means, and how sure that is: 0, by its path as far as both go; 1, by the name
        without its ending; 2, by COCO's number."""
        by_path = [int(found.image_id[1:]) for found in self._paths.find(name)]
        if by_path:
            return 0, by_path
        stem = _stem(name)
        if by_stem := self._stems.get(stem):
            return 1, by_stem
        digits = _NUMBER.search(stem)
        return 2, self._numbers.get(digits[1], ()) if digits else ()

    def clear(self, entries: Sequence[int]) -> bool:
        """Whether these are entries of one photo: they have one name."""
        return len({self._names[number] for number in entries}) < 2


def match(boxes: Boxes, refs: Iterable[ImageRef], *, all_rejects: bool, may_be_empty: bool = False) -> Matched:
    """Find the boxes of photos. refs: all images among the inputs, with digests.

    may_be_empty: whether it is in order that no photo has any. Raises UserError if it is not.
    """
    names = PhotoNames(boxes.photos)
    found: dict[int, _Found] = {}
    doubts: dict[bytes, tuple[Sequence[int], str]] = {}
    name_of, first, images = NamesOfRows(), "", 0
    for ref in refs:
        images += 1
        path = name_of(ref)
        first = first or path
        level, entries = next(filter(lambda hit: hit[1], map(names.find, filter(None, (path, ref.url)))), (0, ()))
        if not names.clear(entries):
            choices = list(dict.fromkeys(boxes.photos[number].name for number in entries))
            doubts[ref.digest] = entries, f"its boxes could be those of {' or '.join(choices[:3])}"
            continue
        for number in entries:
            if number not in found or level < found[number].level:
                found[number] = _Found(level)
            if level == found[number].level:
                found[number].photos.setdefault(ref.digest, path)
    doubts = {digest: ([n for n in entries if n not in found], why) for digest, (entries, why) in doubts.items()}
    rows: dict[bytes, tuple[list[int], str]] = {}
    for number, hit in sorted(found.items()):
        unclear = f"{boxes.photos[number].name} could be {' or '.join(list(hit.photos.values())[:3])}"
        for digest in hit.photos:
            entries, doubt = rows.get(digest, ([], ""))
            rows[digest] = [*entries, number], doubt or (unclear if len(hit.photos) > 1 else "")
    if not rows and not doubts and not may_be_empty:
        raise UserError(
            f"{KEY}: none of the {images} photos of images.inputs ({first}, …) is one of the {len(boxes.photos)} that "
            f"{boxes.paths[0]} names ({boxes.photos[0].name}, …). Give the file that belongs to these photos."
        )
    return _account(boxes, {**doubts, **rows}, all_rejects=all_rejects)


def _account(boxes: Boxes, rows: Mapping[bytes, tuple[Sequence[int], str]], *, all_rejects: bool) -> Matched:
    """What becomes of each box: its photo is in the inputs, is in doubt, or is absent; or it repeats another."""
    order = {digest: row for row, digest in enumerate(sorted(rows))}
    owner_of = np.full(len(boxes.photos), -1, np.int64)
    doubtful = np.zeros(len(boxes.photos), bool)
    for digest, (entries, doubt) in rows.items():
        for number in entries:
            owner_of[number] = order[digest]
            doubtful[number] |= bool(doubt)
    owner = owner_of[boxes.photo]
    log = CappedRejects("detect", 1 << 62 if all_rejects else BATCH)
    for reject in boxes.rejected.rows():
        log.keep(reject)
    per_photo = np.bincount(boxes.photo, minlength=len(boxes.photos))
    gone = (owner_of < 0) & (per_photo > 0)
    _log_photos(log, boxes, np.flatnonzero(gone), per_photo, "absent_photo", LISTED if not all_rejects else 1 << 62)
    _log_photos(log, boxes, np.flatnonzero(doubtful & (per_photo > 0)), per_photo, "ambiguous_photo", 1 << 62)
    keep = (owner >= 0) & ~doubtful[boxes.photo]
    keep[np.flatnonzero(keep)[_repeated(boxes, owner, keep)]] = False
    repeats = int(len(boxes.scores) - keep.sum() - per_photo[gone | doubtful].sum())
    if repeats:
        log.keep(Reject(boxes.paths[0], "", "duplicate", "boxes that another one of their photo equals", repeats))
    counts = Counts(boxes.read, int(keep.sum()), log.counts())
    return Matched(rows, keep, owner, counts, log.rows(), int(gone.sum()))


def _repeated(boxes: Boxes, owner: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Which of the boxes that are kept so far are those of a better one: same photo, class and place. (m,) bool."""
    table = np.column_stack([owner[keep], boxes.label[keep], boxes.boxes[keep].astype(np.float64)])
    order = np.lexsort((-boxes.scores[keep], *table.T))
    same = np.zeros(len(order), bool)
    same[order[1:]] = (table[order[1:]] == table[order[:-1]]).all(axis=1)
    return same


def _log_photos(
    log: CappedRejects, boxes: Boxes, numbers: np.ndarray, per_photo: np.ndarray, reason: str, listed: int
) -> None:
    """One row per photo, with the number of its boxes; after `listed` of them one row for the others."""
    for number in numbers[:listed]:
        count = int(per_photo[number])
        log.keep(Reject(boxes.paths[0], boxes.photos[number].name, reason, "", count))
    rest = int(per_photo[numbers[listed:]].sum())
    if rest:
        log.keep(Reject(boxes.paths[0], "", reason, "not listed each (rejects: sample)", rest))


def write_index(path: str, boxes: Boxes, matched: Matched) -> None:
    """Write the boxes of each photo for `BoxIndex`."""
    kept = np.flatnonzero(matched.keep)
    kept = kept[np.argsort(matched.owner[kept], kind="stable")]
    digests = sorted(matched.rows)
    stops = np.searchsorted(matched.owner[kept], np.arange(len(digests) + 1))
    offsets = pa.array(stops, pa.int32())
    firsts = [_about(boxes, matched.rows[digest][0]) for digest in digests]
    columns = {
        "digest": pa.array(digests, pa.binary(16)),
        "name": pa.array([photo.name for photo in firsts], pa.string()),
        "width": pa.array([photo.width for photo in firsts], pa.int32()),
        "height": pa.array([photo.height for photo in firsts], pa.int32()),
        "boxes": pa.ListArray.from_arrays(pa.array(stops * 4, pa.int32()), pa.array(boxes.boxes[kept].ravel())),
        "relative": pa.ListArray.from_arrays(offsets, pa.array(boxes.relative[kept])),
        "labels": pa.ListArray.from_arrays(offsets, pa.array(boxes.label[kept])),
        "scores": pa.ListArray.from_arrays(offsets, pa.array(boxes.scores[kept])),
        "doubt": pa.array([matched.rows[digest][1] for digest in digests], pa.string()),
    }
    schema = INDEX_SCHEMA.with_metadata({CLASSES: json.dumps(boxes.names).encode()})
    with files.publishing(path) as file:
        pq.write_table(pa.table(columns, schema=schema), file, compression="zstd")


def _about(boxes: Boxes, entries: Sequence[int]) -> NamedPhoto:
    """The first entry of a photo that says its size, or the first; nothing if it has none."""
    photos = [boxes.photos[number] for number in entries]
    return next((photo for photo in [*photos, NamedPhoto("")] if photo.width), (photos or [NamedPhoto("")])[0])


class NamesOfRows:
    """Names of images as people write them: of a member of a tar, the member; of a row of Parquet, what the file calls
    it."""

    def __init__(self) -> None:
        self._rows: dict[str, list[str]] = {}

    def __call__(self, ref: ImageRef) -> str:
        if ref.format != "parquet":
            return ref.key or ref.source
        if ref.source not in self._rows:
            self._rows = {ref.source: row_names(ref.source)}  # one file at a time
        names = self._rows[ref.source]
        name = names[ref.position] if 0 <= ref.position < len(names) else ""
        return name.zfill(12) if name.isdecimal() else name  # COCO's ids


def _stem(name: str) -> str:
    return posixpath.splitext(posixpath.basename(name.replace("\\", "/")))[0]
