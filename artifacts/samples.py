"""The sample format of the shards: frozen records, and writing and reading WebDataset tars of them.

A sample is three members, KEY.json KEY.txt KEY.npy, in this order. docs/on-disk.md specifies them.
"""

import io
import json
import tarfile
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import IO, Any

import numpy as np

from artifacts import files
from artifacts.errors import UserError

MEMBERS = ("json", "txt", "npy")

# What tarfile, json and numpy raise on bytes that are not what they should be.
_DAMAGE = (
    tarfile.TarError, ValueError, KeyError, TypeError, AttributeError, EOFError, SyntaxError, OverflowError,
    MemoryError, RecursionError, tokenize.TokenError,
)  # fmt: skip


@dataclass(frozen=True)
class Mention:
    """A visually-grounded word or phrase: `text[start:end]` is `surface`."""

    start: int
    end: int
    concept: str
    surface: str
    lemma: str


@dataclass(frozen=True)
class Patch:
    """A region pasted into a sample. `mention` is an index into the sample's mentions; None in image samples.

    `box` is xyxy in pixels of the upright original image, which is `width` × `height`.
    """

    mention: int | None
    patch_id: str
    image_id: str
    concept: str
    score: float
    box: tuple[float, float, float, float]
    width: int
    height: int


@dataclass(frozen=True)
class MixedSample:
    """A sentence with patches in place of some of its mentions (`replaced`: indices, ascending).

    `features`: (len(patches), D) float16; row i belongs to patches[i].
    """

    key: str
    sentence_id: str
    view: int
    text: str
    mentions: tuple[Mention, ...]
    replaced: tuple[int, ...]
    patches: tuple[Patch, ...]
    features: np.ndarray


@dataclass(frozen=True)
class ImageSample:
    """An image's regions and their tags (concept names, most confident first, each once).

    `features`: (len(patches), D) float16; row i belongs to patches[i].
    """

    key: str
    image_id: str
    source: str
    width: int
    height: int
    tags: tuple[str, ...]
    patches: tuple[Patch, ...]
    features: np.ndarray


Sample = MixedSample | ImageSample


def write_shard(file: IO[bytes], samples: Iterable[Sample]) -> int:
    """Write samples as one tar into the open `file`; returns how many. Equal samples give equal bytes."""
    count = 0
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            for extension, data in zip(MEMBERS, _encode(sample), strict=True):
                member = tarfile.TarInfo(f"{sample.key}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            count += 1
    return count


def sample_record(sample: Sample) -> dict[str, Any]:
    """The sample's KEY.json as plain data: everything but the features."""
    record: dict[str, Any] = {"kind": "mixed" if isinstance(sample, MixedSample) else "image"}
    record |= {name: value for name, value in vars(sample).items() if name not in ("features", "mentions", "patches")}
    if isinstance(sample, MixedSample):
        record["mentions"] = [asdict(mention) for mention in sample.mentions]
    record["patches"] = [asdict(patch) for patch in sample.patches]
    return record


def _encode(sample: Sample) -> tuple[bytes, bytes, bytes]:
    record = sample_record(sample)
    text = sample.text if isinstance(sample, MixedSample) else ", ".join(sample.tags)
    array = io.BytesIO()
    np.lib.format.write_array(array, np.ascontiguousarray(sample.features), version=(1, 0), allow_pickle=False)
    return json.dumps(record, ensure_ascii=False).encode(), text.encode(), array.getvalue()


def read_shard(path: str) -> Iterator[Sample]:
    """The samples of a shard, in order. Raises UserError naming the shard and member where it is damaged."""
    with files.open_read(path) as file:
        yield from read_samples(file, path)


def read_samples(file: IO[bytes], name: str) -> Iterator[Sample]:
    """The samples of an open, seekable tar; `name` is for messages."""
    where, current = "the beginning", ""
    pending: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                where = member.name
                key, _, extension = member.name.partition(".")
                expected = MEMBERS[len(pending)]
                if extension != expected or (pending and key != current):
                    raise ValueError(f"expected a member .{expected} of the sample here")
                current = key
                content = tar.extractfile(member)
                if content is None:
                    raise ValueError("not a file")
                pending[extension] = content.read()
                if len(pending) == len(MEMBERS):
                    yield _decode(key, pending)
                    pending = {}
            if pending:
                raise ValueError("the last sample is not complete")
            # tarfile takes a broken header for the end; the true end is two blocks of zeros or more.
            file.seek(tar.offset)
            rest = file.read()
            if len(rest) < 2 * tarfile.BLOCKSIZE or rest.strip(b"\0"):
                raise ValueError("the archive ends or breaks off behind this member")
    except _DAMAGE as error:
        raise UserError(
            f"{name}: damaged at {where} ({error}). Run `vlmixer verify` on the folder, then make this shard again."
        ) from error


def _decode(key: str, members: dict[str, bytes]) -> Sample:
    record = json.loads(members["json"])
    text = members["txt"].decode()
    features = np.lib.format.read_array(io.BytesIO(members["npy"]), allow_pickle=False)
    kind = record.pop("kind")
    patches = tuple(Patch(**patch | {"box": tuple(patch["box"])}) for patch in record.pop("patches"))
    if record["key"] != key:
        raise ValueError(f"the record says key {record['key']!r}")
    if features.ndim != 2 or len(features) != len(patches) or features.dtype != np.float16:
        raise ValueError(f"{features.dtype} features of shape {features.shape} for {len(patches)} patches")
    if kind == "image":
        tags = tuple(record.pop("tags"))
        if text != ", ".join(tags):
            raise ValueError(".txt and .json tell different tags")
        return ImageSample(**record, tags=tags, patches=patches, features=features)
    if kind != "mixed":
        raise ValueError(f"unknown kind {kind!r}")
    mentions = tuple(Mention(**mention) for mention in record.pop("mentions"))
    replaced = tuple(record.pop("replaced"))
    if text != record["text"]:
        raise ValueError(".txt and .json tell different texts")
    return MixedSample(**record, mentions=mentions, replaced=replaced, patches=patches, features=features)
