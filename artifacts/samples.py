"""The sample format of the shards: frozen records, and WebDataset tars of them, written and read.

A sample has three members, KEY.json KEY.txt KEY.npy, in this order, and in shards with pictures a fourth, KEY.jpg.
docs/on-disk.md specifies them.
"""

import json
import tarfile
import tokenize
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import IO, Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
from annotated_types import Interval

from vlmixer.artifacts import details, files, npy_files
from vlmixer.artifacts.boxes import MAX_SCORE
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.tars import open_tar, plain_header, plain_members

Taken = TypeVar("Taken")
MEMBERS = ("json", "txt", "npy")
PICTURE = "jpg"

# What tarfile, json and numpy raise for damaged bytes.
_DAMAGE = (
    tarfile.TarError, ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, SyntaxError, OverflowError,
    MemoryError, RecursionError, tokenize.TokenError,
)  # fmt: skip

_NO_OTHER_KEYS = {"extra": "forbid"}
Whole = Annotated[int, Interval(ge=-(2**31 - 1), le=2**31 - 1)]
"""A number in a record, when it is read from a file."""


@dataclass(frozen=True)
class Mention:
    """A visually-grounded word or phrase: `text[start:end]` is `surface`."""

    __pydantic_config__: ClassVar = _NO_OTHER_KEYS
    start: Whole
    end: Whole
    concept: str
    surface: str
    lemma: str


def is_in(text: str, mention: Mention) -> bool:
    """Whether the text has the mention's surface, which is not blank, where it says."""
    return text[mention.start : mention.end] == mention.surface and mention.start >= 0 and bool(mention.surface.strip())


@dataclass(frozen=True)
class Patch:
    """A region in a sample. `mention`: index of the mention that it replaces; None in image samples.

    `box`: xyxy in pixels of the upright original image, which is `width` × `height`. `crop`: the patch's place in the
    sample's picture, xyxy in pixels; None if there is no picture.
    """

    __pydantic_config__: ClassVar = _NO_OTHER_KEYS
    mention: Whole | None
    patch_id: str
    image_id: str
    concept: str
    score: float
    box: tuple[float, float, float, float]
    width: Whole
    height: Whole
    crop: tuple[Whole, Whole, Whole, Whole] | None = None


@dataclass(frozen=True)
class MixedSample:
    """A sentence with patches in place of some of its mentions (`replaced`: their indices, ascending).

    `features`: (len(patches), D) float16; row i belongs to patches[i]. `patches_only`: whether the patches without the
    other words may be used as a view of the sentence. `picture`: a JPEG of the patches; None in shards without them.
    """

    key: str
    sentence_id: str
    view: int
    text: str
    mentions: tuple[Mention, ...]
    replaced: tuple[int, ...]
    patches: tuple[Patch, ...]
    features: np.ndarray
    patches_only: bool = True
    picture: bytes | None = None


@dataclass(frozen=True)
class ImageSample:
    """The regions of an image and its tags (concept names without repetition, the most confident first).

    `features`: (len(patches), D) float16; row i belongs to patches[i]. `picture`: a JPEG of the patches; None in shards
    without pictures.
    """

    key: str
    image_id: str
    source: str
    width: int
    height: int
    tags: tuple[str, ...]
    patches: tuple[Patch, ...]
    features: np.ndarray
    picture: bytes | None = None


Sample = MixedSample | ImageSample


def write_shard(file: IO[bytes], samples: Iterable[Sample], offsets: list[int] | None = None) -> int:
    """Write samples as one tar into the open `file` and return their number. Equal samples give equal bytes.

    offsets: a list to which the start of each sample and the end of the last are appended, in bytes.
    """
    return write_members(file, map(encode, samples), offsets)


def write_members(
    file: IO[bytes], samples: Iterable[Sequence[tuple[str, bytes]]], offsets: list[int] | None = None
) -> int:
    """As `write_shard`, of samples as the names and contents of their members. Raises ValueError for too long names."""
    count = written = 0
    for members in samples:
        if offsets is not None:
            offsets.append(written)
        count += 1
        blocks: list[bytes] = []
        for name, data in members:
            blocks += (plain_header(name, len(data)), data, bytes(-len(data) % tarfile.BLOCKSIZE))
        written += file.write(b"".join(blocks))
    if offsets is not None:
        offsets.append(written)
    end = 2 * tarfile.BLOCKSIZE
    file.write(bytes(end + -(written + end) % tarfile.RECORDSIZE))
    return count


def sample_record(sample: Sample) -> dict[str, Any]:
    """The content of KEY.json as plain data: everything but the features and the picture."""
    record: dict[str, Any] = {"kind": "mixed" if isinstance(sample, MixedSample) else "image"}
    apart = ("features", "picture", "mentions", "patches")
    record |= {name: value for name, value in vars(sample).items() if name not in apart}
    if isinstance(sample, MixedSample):
        record["mentions"] = [dict(vars(mention)) for mention in sample.mentions]
    record["patches"] = [dict(vars(patch)) for patch in sample.patches]
    for patch in record["patches"]:
        if patch["crop"] is None:
            del patch["crop"]
    return record


def encode(sample: Sample) -> list[tuple[str, bytes]]:
    """The names and contents of the members of a sample, in order."""
    text = sample.text if isinstance(sample, MixedSample) else ", ".join(sample.tags)
    contents = [_to_json(sample_record(sample)).encode(), text.encode(), npy_files.packed(sample.features)]
    named = [(f"{sample.key}.{extension}", data) for extension, data in zip(MEMBERS, contents, strict=True)]
    return named if sample.picture is None else [*named, (f"{sample.key}.{PICTURE}", sample.picture)]


_to_json = json.JSONEncoder(ensure_ascii=False).encode


def read_shard(path: str) -> Iterator[Sample]:
    """The samples of a shard, in order. Raises UserError, naming shard and member, if it is damaged."""
    with files.open_read(path) as file:
        yield from read_samples(file, path)


def read_texts(path: str) -> Iterator[str]:
    """The KEY.txt of each sample of a shard, in order, in a third of the time. Raises UserError as `read_shard`."""
    with files.open_read(path) as file:
        yield from _taken(file, path, lambda _, members: members["txt"].decode())


def read_samples(file: IO[bytes], name: str) -> Iterator[Sample]:
    """The samples of an open, seekable tar; `name` is for messages."""
    yield from _taken(file, name, decode)


def _taken(file: IO[bytes], name: str, take: Callable[[str, dict[str, bytes]], Taken]) -> Iterator[Taken]:
    """What `take` makes of the key and the members of each sample."""
    where, current = "the beginning", ""
    pending: dict[str, bytes] = {}
    try:
        for member, content in _members(file):
            key, _, extension = member.partition(".")
            if len(pending) >= len(MEMBERS) and (key, extension) != (current, PICTURE):
                yield take(current, pending)
                pending = {}
            where = member[:200]  # it may have megabytes
            # A picture may be the fourth member; after it the next sample begins.
            expected = (*MEMBERS, PICTURE, MEMBERS[0])[len(pending)]
            if extension != expected or (pending and key != current):
                raise ValueError(f"expected the member .{expected} of the sample")
            current, pending[extension] = key, content if isinstance(content, bytes) else content()
        if len(pending) >= len(MEMBERS):
            yield take(current, pending)
        elif pending:
            raise ValueError("the last sample is not complete")
    except _DAMAGE as error:
        raise UserError(
            f"{name}: damaged at {where} ({str(error)[:300]}). Run `vlmixer verify` on the folder, then "
            "make this shard again."
        ) from error


def _members(file: IO[bytes]) -> Iterator[tuple[str, bytes | Callable[[], bytes]]]:
    """Names and contents of the members of a tar. Reading them raises what is in _DAMAGE."""
    file.seek((yield from plain_members(file)))
    with open_tar(file) as tar:
        for member in tar:
            tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all of them
            yield member.name, partial(_content, tar, member)
        # After the last member a shard has only zeros, at least two blocks.
        file.seek(tar.offset)
        rest = file.read()
        if len(rest) < 2 * tarfile.BLOCKSIZE or rest.strip(b"\0"):
            raise ValueError("the archive is truncated after this member, or has other data there")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    # A link is another member, and a sparse file of a few bytes has as many zeros as it says.
    content = tar.extractfile(member) if member.isreg() and not member.issparse() else None
    if content is None:
        raise ValueError("not a plain file")
    return content.read()


def decode(key: str, members: dict[str, bytes]) -> Sample:
    """The sample of the members that `encode` gave, by their extension. Raises ValueError for what is none."""
    record = _read_record(members["json"])
    text, features = members["txt"].decode(), npy_files.unpacked(members["npy"])
    if record.key != key:
        raise ValueError(f"the record says key {record.key!r}")
    if features.ndim != 2 or len(features) != len(record.patches) or features.dtype != np.float16:
        raise ValueError(f"{features.dtype} features of shape {features.shape} for {len(record.patches)} patches")
    if not np.isfinite(features).all():
        raise ValueError("features are not finite")
    for patch in record.patches:
        _check_patch(patch)
    content: dict[str, Any] = vars(record) | {"features": features, "picture": members.get(PICTURE)}
    del content["kind"]
    if isinstance(record, _ImageRecord):
        if text != ", ".join(record.tags):
            raise ValueError(".txt and .json have different tags")
        if any(patch.mention is not None for patch in record.patches):
            raise ValueError("a patch of an image replaces a mention")
        return ImageSample(**content)
    if text != record.text:
        raise ValueError(".txt and .json have different texts")
    _check_mentions(record)
    return MixedSample(**content)


@dataclass(frozen=True)
class _MixedRecord:
    """KEY.json of a mixed sample."""

    __pydantic_config__: ClassVar = _NO_OTHER_KEYS
    kind: Literal["mixed"]
    key: str
    sentence_id: str
    view: Annotated[Whole, Interval(ge=0)]
    text: str
    mentions: tuple[Mention, ...]
    replaced: tuple[Whole, ...]
    patches: tuple[Patch, ...]
    patches_only: bool = True


@dataclass(frozen=True)
class _ImageRecord:
    """KEY.json of an image sample."""

    __pydantic_config__: ClassVar = _NO_OTHER_KEYS
    kind: Literal["image"]
    key: str
    image_id: str
    source: str
    width: Whole
    height: Whole
    tags: tuple[str, ...]
    patches: tuple[Patch, ...]


def _read_record(data: bytes) -> _MixedRecord | _ImageRecord:
    """The record in KEY.json. Raises ValueError if it has other fields, or values of other types."""
    from pydantic_core import ValidationError

    try:
        record: _MixedRecord | _ImageRecord = _records().validate_json(data, strict=True)
    except ValidationError as error:
        raise ValueError(details.first_problem(error)) from None
    return record


@lru_cache
def _records() -> Any:
    from pydantic import Discriminator, TypeAdapter

    return TypeAdapter(Annotated[_MixedRecord | _ImageRecord, Discriminator("kind")])


def _check_patch(patch: Patch) -> None:
    left, top, right, bottom = patch.box
    if not 0 <= patch.score <= MAX_SCORE:
        raise ValueError("a score that is not from 0 to 1")
    if not (0 <= left < right <= patch.width and 0 <= top < bottom <= patch.height):
        raise ValueError(f"box {list(patch.box)} is not inside {patch.width}×{patch.height}")


def _check_mentions(record: _MixedRecord) -> None:
    """Raises ValueError unless mentions are in the text, and patches replace those replaced and no others."""
    if not all(is_in(record.text, mention) for mention in record.mentions):
        raise ValueError("a mention does not match the text")
    count, replaced = len(record.mentions), set()
    for patch in record.patches:
        if patch.mention is None or not 0 <= patch.mention < count:
            raise ValueError("a reference to a mention that is not there")
        if record.mentions[patch.mention].concept != patch.concept:
            raise ValueError("a patch has another concept than its mention")
        replaced.add(patch.mention)
    if list(record.replaced) != sorted(replaced):
        raise ValueError("patches are for other mentions than those replaced")
