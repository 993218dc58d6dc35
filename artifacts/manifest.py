"""The manifest of a stage's folder: its inputs, its outputs, and hashes that reveal any change.

The file is canonical JSON: `content_hash` covers everything else in it, and reading and writing it again gives the same
bytes. It holds no times, hosts or numbers of workers, and not the path of the folder.
"""

import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Generic, overload

from vlmixer.artifacts import details, files, json_files, stages
from vlmixer.artifacts.canonical import canonical as canonical
from vlmixer.artifacts.canonical import digest as digest
from vlmixer.artifacts.canonical import digest_of_many as digest_of_many
from vlmixer.artifacts.canonical import pieces
from vlmixer.artifacts.details import AnyDetails, Count
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.stages import Details, Details_co, StageType

NAME = "manifest.json"
SCHEMA_VERSION = 3
AGAIN = "Remove the folder and run the stage again."


@dataclass(frozen=True)
class Input:
    """Something that was read: its name, its size, its SHA-256. `start` and `end`: the part that was read; -1: all."""

    name: str
    bytes: Count
    sha256: str
    start: int = 0
    end: int = -1


@dataclass(frozen=True)
class Output:
    """A file of the folder: its rows (samples, regions, …), its size, its SHA-256."""

    name: str
    rows: Count
    bytes: Count
    sha256: str


@dataclass(frozen=True)
class Counts:
    """`read` = `written` + all of `rejected` (by reason)."""

    read: Count
    written: Count
    rejected: dict[str, Count] = field(default_factory=dict)

    def add_up(self) -> bool:
        """Whether nothing was lost."""
        return self.read == self.written + sum(self.rejected.values())

    def __add__(self, other: "Counts") -> "Counts":
        rejected = {
            reason: self.rejected.get(reason, 0) + other.rejected.get(reason, 0)
            for reason in sorted({*self.rejected, *other.rejected})
        }
        return Counts(self.read + other.read, self.written + other.written, rejected)


@dataclass(frozen=True)
class Manifest(Generic[Details_co]):
    """See docs/on-disk.md. `config_hash` covers the settings that the stage depends on; `plan_hash` these settings and
    the names and sizes of its inputs. `rejects` are files of OUT/rejects. `counts`: by kind of input."""

    stage: str
    config_hash: str
    plan_hash: str
    versions: dict[str, str]
    inputs: list[Input]
    outputs: list[Output]
    rejects: list[Output]
    counts: dict[str, Counts]
    details: Details_co
    schema_version: int = SCHEMA_VERSION
    settings: dict[str, Any] | None = None
    """The settings that `config_hash` covers, so that a change can be named. None in manifests of older versions."""

    @property
    def content_hash(self) -> str:
        """The SHA-256 of everything in the manifest."""
        hashed = hashlib.sha256()
        for piece in pieces(self._content()):
            hashed.update(piece)
        return hashed.hexdigest()

    @property
    def parts(self) -> list[Output]:
        """The outputs with the records themselves, of tagged/ and regions/: part-00000.parquet, …"""
        return [output for output in self.outputs if output.name.startswith("part-")]

    def written(self, kind: str) -> int:
        """How many of a kind of input were written. Raises UserError if the manifest has no count of it."""
        if kind not in self.counts:
            raise UserError(f"{NAME} of stage {self.stage!r}: damaged (no count of {kind}). {AGAIN}")
        return self.counts[kind].written

    def blocks(self) -> Iterator[bytes]:
        """The file's bytes, in pieces: those of large manifests are not held as a whole."""
        return pieces({**self._content(), "content_hash": self.content_hash}, indent=1)

    def to_bytes(self) -> bytes:
        """The file's bytes."""
        return b"".join(self.blocks())

    def _content(self) -> dict[str, Any]:
        """Plain data, but for the records of files, which are turned into it one at a time."""
        files_of = {name: getattr(self, name) for name in _FILES}
        others: dict[str, Any] = details.to_json(replace(self, inputs=[], outputs=[], rejects=[]))
        return others | files_of


_FILES = ("inputs", "outputs", "rejects")


def output_of(folder: str, name: str, rows: int) -> Output:
    """The Output record of the file `folder/name`."""
    return Output(name, rows, *files.fingerprint(files.join(folder, name)))


@overload
def read(folder: str) -> Manifest[AnyDetails]: ...
@overload
def read(folder: str, stage: StageType[Details]) -> Manifest[Details]: ...
def read(folder: str, stage: StageType[AnyDetails] | None = None) -> Manifest[AnyDetails]:
    """The manifest of `folder`, checked against its own hash.

    Raises UserError if there is none, if it was changed, or if it has another schema version; CallError if it belongs
    to another stage than `stage`.
    """
    path = files.join(folder, NAME)
    try:
        data = json_files.read_limited(path, advice=AGAIN)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file; the stage that writes it has not finished. Run it first.") from None
    try:
        raw = json_files.parse(data)
        if not isinstance(raw, dict) or "schema_version" not in raw:
            raise ValueError("no schema_version")
        version = raw["schema_version"]
        if version == SCHEMA_VERSION:
            manifest = _from_json(raw)
            unchanged = _same(data, manifest.blocks())
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}). {AGAIN}") from None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: written with schema version {str(version)[:40]}, this program reads {SCHEMA_VERSION}. "
            "Use the program version that wrote it, or write it again into a new folder."
        )
    if not unchanged:
        raise UserError(f"{path}: damaged (its bytes do not match its own content hash). Run the stage again.")
    if stage is not None and manifest.stage != stage.name:
        raise CallError(
            f"{folder}: holds what stage {manifest.stage!r} wrote, expected the folder of stage {stage.name!r} "
            f"(OUT/{stage.folder})."
        )
    return manifest


def _same(data: bytes, blocks: Iterable[bytes]) -> bool:
    at = 0
    for block in blocks:
        if data[at : at + len(block)] != block:
            return False
        at += len(block)
    return at == len(data)


def _from_json(raw: dict[str, Any]) -> Manifest[AnyDetails]:
    name = raw.get("stage")
    stage = stages.find(name) if isinstance(name, str) else None
    if stage is None:
        known_names = ", ".join(each.name for each in stages.WITH_MANIFEST)
        raise ValueError(f"stage {str(name)[:40]!r}; expected {known_names}")
    try:
        known: AnyDetails = details.from_json(stage.details, raw.get("details"))
    except ValueError as error:
        raise ValueError(f"details of stage {stage.name!r}: {error}") from None
    plain = {key: value for key, value in raw.items() if key not in ("content_hash", "details")}
    found = details.from_json(Manifest[Any], {**plain, "details": None})
    for output in (*found.outputs, *found.rejects):
        if output.name.startswith("/") or "\0" in output.name or ".." in output.name.split("/"):
            raise ValueError(f"{output.name[:40]!r} is not the name of a file in the folder")
    return replace(found, details=known)


def publish(folder: str, manifest: Manifest[AnyDetails]) -> None:
    """Write the manifest, which makes the folder complete. Raises RuntimeError if counts do not add up."""
    for kind, counts in manifest.counts.items():
        if not counts.add_up():
            raise RuntimeError(f"{manifest.stage}: {kind} do not add up: {counts}")
    with files.publishing(files.join(folder, NAME)) as file:
        for block in manifest.blocks():
            file.write(block)


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of Python and of `packages`; "absent" for a package that is not installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return dict(sorted(found.items()))
