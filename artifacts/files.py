"""The one door to files: local paths and fsspec URLs (s3://, gs://, …) alike.

A file is either published whole or not there: `publishing` writes under a temporary name and renames. Object stores
have no rename (it would be a copy and a removal); but they show an object only when its upload is complete, so that
what goes there is written to a local temporary file and put in its place in one go.

Nothing is kept of what a store was asked before: other processes write to it. What reaching a store may raise for
reasons that lie with the call (no credentials, no permission, no bucket, no driver installed) is a CallError.
"""

import errno
import glob
import hashlib
import io
import os
import re
import shutil
import tempfile
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from fsspec.core import url_to_fs

from vlmixer.artifacts.errors import CallError, UserError, WriteError

TEMPORARY = ".tmp-"
"""Mark of temporary names: it follows the final name, and a hexadecimal number follows it."""
WRITE_BUFFER = 1 << 18
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"})
"""Kinds of URL behind which an upload is seen only when it is complete, and folders need not be made."""
DRIVERS = {
    **dict.fromkeys(("s3", "s3a"), "vlmixer[s3]"),
    **dict.fromkeys(("gs", "gcs"), "vlmixer[gcp]"),
    **dict.fromkeys(("http", "https"), "fsspec[http]"),
}
CREDENTIALS = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or write ~/.aws/credentials; set "
    "AWS_ENDPOINT_URL, too, for a store that is not Amazon's",
    "gs": "Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a key file",
}
AT_ONCE = 32
"""Files that are asked for side by side."""
FIRST_BYTES = 16 << 20
BLOCK_BYTES = 4 << 20
_NO_BUCKET = "bucket does not exist"
"""What drivers say then, in a FileNotFoundError as for any file."""
UPLOADS_KEPT = 64
_uploaded: OrderedDict[str, tuple[int, str]] = OrderedDict()
"""Size and SHA-256 of the last files that this process put to URLs."""


@dataclass(frozen=True)
class FileStat:
    """A file's name (as listed) and its size in bytes."""

    name: str
    size: int


def is_url(path: str) -> bool:
    """Whether `path` is an fsspec URL rather than a local path."""
    return "://" in path


def _kind(path: str) -> str:
    """What stands before :// of a URL, "" for local paths."""
    return path.partition("://")[0] if is_url(path) else ""


def join(folder: str, *names: str) -> str:
    """`folder/name/…` for paths and URLs."""
    return "/".join([folder.removesuffix("/"), *names]) if names else folder


def parent(path: str) -> str:
    """The folder that holds `path`: "out" for "out/bank/", "." for "out", "/" for "/out", "gs://a" for "gs://a/b"."""
    scheme, separator, inner = path.rpartition("://")
    folder, slash, name = inner.rstrip("/").rpartition("/")
    if separator:
        return f"{scheme}://{folder}"
    if name in (".", ".."):
        return join(path, "..")
    return folder or slash or ("." if name else path)


def absolute(path: str) -> str:
    """The path as it is from any folder; URLs as they are."""
    return path if is_url(path) else os.path.abspath(path)


@contextmanager
def _reaching(url: str) -> Iterator[tuple[Any, str]]:
    """The file system behind a URL, and the path in it; what reaching it may raise, explained."""
    kind = _kind(url)
    try:
        yield url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        install = f"Run `pip install '{DRIVERS[kind]}'`." if kind in DRIVERS else "Install the package it names."
        raise CallError(f"{url}: {kind}:// needs a package that is not installed: {error}. {install}") from error
    except FileNotFoundError as error:
        if _NO_BUCKET in str(error):
            raise CallError(f"{url}: there is no such bucket. Make it, or correct the URL.") from error
        raise
    except Exception as error:
        how = CREDENTIALS["gs" if kind in ("gs", "gcs") else "s3"] if kind in DRIVERS and kind[:4] != "http" else ""
        name = type(error).__name__
        if "Credentials" in name or "anonymous caller" in str(error).lower():
            raise CallError(f"{url}: no credentials for it were found ({error}). {how}.") from error
        if name in ("EndpointConnectionError", "ConnectTimeoutError", "ClientConnectorError"):
            raise UserError(f"{url}: cannot be reached ({error}). Check the network and the endpoint.") from error
        raise


@contextmanager
def _allowed(url: str, what: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise CallError(
            f"{url}: not allowed to {what} here ({error}). Give the account the right to, or use other credentials."
        ) from error


def open_read(path: str) -> IO[bytes]:
    """`path` for reading bytes. Raises FileNotFoundError."""
    if not is_url(path):
        return open(path, "rb")
    with _reaching(path) as (filesystem, inner):
        # Drivers read a block behind all that they are asked for; s3fs's is of 50 MB.
        blocks = {"block_size": BLOCK_BYTES} if _kind(path) in OBJECT_STORES else {}
        handle: IO[bytes] = filesystem.open(inner, "rb", **blocks)
        return handle


def read_bytes(path: str) -> bytes:
    """All bytes of `path`; a store's in one request, unless there are many."""
    return b"".join(read_blocks(path))


def read_start(path: str, most: int) -> bytes:
    """The first bytes of a file, at most so many; a store's in one request, without asking for the size first."""
    if _kind(path) not in OBJECT_STORES:
        with open_read(path) as file:
            return file.read(most)
    with _reaching(path) as (filesystem, inner):
        try:
            data: bytes = filesystem.cat_file(inner, start=0, end=most)
        except OSError as error:
            if error.errno != errno.EINVAL:  # what stores say of any range of an empty object
                raise
            data = b""
        return data


def read_blocks(path: str) -> Iterator[bytes]:
    """The file's bytes, in blocks of at most FIRST_BYTES."""
    block = read_start(path, FIRST_BYTES)
    yield block
    if len(block) == FIRST_BYTES:
        with open_read(path) as file:
            file.seek(FIRST_BYTES)
            while block := file.read(FIRST_BYTES):
                yield block


def read_all(paths: Sequence[str]) -> list[bytes]:
    """All bytes of each of these files; those behind URLs are asked for side by side."""
    if not any(is_url(path) for path in paths):
        return [read_bytes(path) for path in paths]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(read_bytes, paths))


@contextmanager
def fetched(url: str) -> Iterator[str]:
    """The path of a local copy of what lies behind a URL, under the same ending; it goes when the block ends."""
    with tempfile.TemporaryDirectory(prefix="vlmixer-") as folder:
        path = os.path.join(folder, url.rpartition("/")[2])
        with _reaching(url) as (filesystem, inner):
            filesystem.get_file(inner, path)
        yield path


def read_ranges(path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Parts of a file, (first byte, end) each; shorter where the file ends. A URL's are asked for side by side."""
    if not is_url(path):
        with open(path, "rb") as file:
            parts = []
            for start, end in ranges:
                file.seek(start)
                parts.append(file.read(end - start))
            return parts
    starts, ends = [start for start, _ in ranges], [end for _, end in ranges]
    with _reaching(path) as (filesystem, inner):
        found: list[bytes] = filesystem.cat_ranges([inner] * len(ranges), starts, ends, on_error="raise")
        return found


def exists(path: str) -> bool:
    """Whether there is a file or folder at `path`."""
    if not is_url(path):
        return os.path.exists(path)
    with _reaching(path) as (filesystem, inner), _allowed(path, "read"):
        try:
            filesystem.info(inner)  # `exists` takes any error for a no
            return True
        except FileNotFoundError:
            return False


def has_file(path: str) -> bool:
    """Whether there is a file at `path`; one request of a store, where `exists` may take two."""
    if not is_url(path):
        return os.path.isfile(path)
    with _allowed(path, "read"):
        try:
            read_start(path, 1)
            return True
        except FileNotFoundError:
            return False


def is_folder(path: str) -> bool:
    """Whether `path` is a folder."""
    if not is_url(path):
        return os.path.isdir(path)
    with _reaching(path) as (filesystem, inner), _allowed(path, "list files"):
        return bool(filesystem.isdir(inner))


def size(path: str) -> int:
    """Size of the file in bytes."""
    if not is_url(path):
        return os.path.getsize(path)
    with _reaching(path) as (filesystem, inner):
        return int(filesystem.size(inner))


def list_files(folder: str) -> list[str]:
    """Names of all files below `folder`, relative to it, with forward slashes, sorted; [] if there is none."""
    if is_url(folder):
        return sorted(_find(folder))
    found = []
    for where, _, names in os.walk(folder):
        inside = os.path.relpath(where, folder)
        found += [name if inside == "." else f"{inside}/{name}" for name in names]
    return sorted(name.replace(os.sep, "/") for name in found)


def list_sizes(folder: str) -> dict[str, int]:
    """As list_files, each with its size in bytes; a store tells them along with the names."""
    if is_url(folder):
        return dict(sorted(_find(folder).items()))
    return {name: size(join(folder, name)) for name in list_files(folder)}


def _find(url: str) -> dict[str, int]:
    with _reaching(url) as (filesystem, inner), _allowed(url, "list files"):
        inner = inner.rstrip("/") + "/"
        found = filesystem.find(inner, detail=True)
        return {name.removeprefix(inner): int(info["size"] or 0) for name, info in found.items()}


def expand(patterns: list[str] | tuple[str, ...], *, key: str) -> list[FileStat]:
    """Files that `patterns` name, sorted within a pattern, each once; a folder stands for all files below it.

    Raises CallError, naming the config `key`, for a pattern that nothing matches and for a name that is no UTF-8.
    """
    found: dict[str, FileStat] = {}
    for pattern in patterns:
        matches = _matches(pattern)
        if not matches:
            raise CallError(
                f"{key}: nothing matches {pattern!r} (relative paths start at {os.getcwd()}). "
                "Give existing files, folders or globs."
            )
        for match in matches:
            if not _is_utf8(match.name):
                raise CallError(f"{key}: the name of the file {match.name!r} is no UTF-8. Rename it.")
            found[match.name] = match
    return list(found.values())


def _is_utf8(name: str) -> bool:
    """Python shows bytes of a file name that are no UTF-8 as lone surrogates, which no output file can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _matches(pattern: str) -> list[FileStat]:
    if not is_url(pattern):
        paths = [pattern] if os.path.exists(pattern) else glob.glob(pattern, recursive=True)
        files: list[str] = []
        for path in sorted(paths):
            # A folder that a glob such as *.jpg happens to match is no photo; it is passed on and rejected there.
            named_as_folder = os.path.isdir(path) and (path == pattern or pattern.endswith("*"))
            if not named_as_folder:
                files.append(path)
            elif path == pattern:
                files += [join(path, name) for name in list_files(path)]
        # A link that leads nowhere has no size; it is passed on and rejected when it is read.
        return [FileStat(path, os.path.getsize(path) if os.path.exists(path) else 0) for path in files]
    with _reaching(pattern) as (filesystem, inner), _allowed(pattern, "list files"):
        try:
            info = filesystem.info(inner)
        except FileNotFoundError:
            info = None
        if info is not None and info["type"] == "file":
            return [FileStat(filesystem.unstrip_protocol(inner), int(info["size"] or 0))]
        wanted = filesystem.glob if glob.has_magic(inner) and info is None else filesystem.find
        found = [
            FileStat(filesystem.unstrip_protocol(name), int(info["size"] or 0))
            for name, info in sorted(wanted(inner, detail=True).items())
            if info["type"] == "file"
        ]
        if not found and _kind(pattern) in OBJECT_STORES:
            _want_bucket(filesystem, inner)
        return found


def _want_bucket(filesystem: Any, inner: str) -> None:
    """Raises FileNotFoundError that says so where the bucket of a path is not there; a search just finds nothing."""
    bucket = inner.partition("/")[0]
    try:
        filesystem.ls(f"{bucket}/{uuid.uuid4().hex}")
    except FileNotFoundError as error:
        if _NO_BUCKET in str(error):
            raise


@contextmanager
def publishing(path: str) -> Iterator[IO[bytes]]:
    """A file to write that appears at `path` only when the block ends without an exception.

    Raises WriteError where the disk does not take it: full, read-only, no folder.
    """
    if is_url(path):
        with tempfile.NamedTemporaryFile(prefix="vlmixer-") as whole:
            yield whole.file
            whole.flush()
            _put(whole.name, path)
        return
    temporary = f"{path}{TEMPORARY}{uuid.uuid4().hex}"
    try:
        with io.BufferedWriter(_open_write(temporary, path), WRITE_BUFFER) as file:
            yield file
            file.flush()
            with writing(path):
                os.fsync(file.fileno())
        with writing(path):
            os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _put(local: str, url: str) -> None:
    with _reaching(url) as (filesystem, inner), _allowed(url, "write"):
        if _kind(url) in OBJECT_STORES:
            filesystem.put_file(local, inner)
        else:
            filesystem.makedirs(inner.rpartition("/")[0], exist_ok=True)
            temporary = f"{inner}{TEMPORARY}{uuid.uuid4().hex}"
            filesystem.put_file(local, temporary)
            filesystem.mv(temporary, inner)
    _uploaded[url] = (os.path.getsize(local), sha256(local))
    while len(_uploaded) > UPLOADS_KEPT:
        _uploaded.popitem(last=False)


def fingerprint(path: str) -> tuple[int, str]:
    """(bytes, SHA-256) of a file; of one that this process just put to a URL, without reading it back: the store
    checked what it got."""
    if path in _uploaded:
        return _uploaded.pop(path)
    return size(path), sha256(path)


@contextmanager
def writing(path: str) -> Iterator[None]:
    """What the system says of a change to `path` that it does not allow is a WriteError."""
    try:
        yield
    except OSError as error:
        raise WriteError.of(path, error) from error


class _LocalFile(io.FileIO):
    """A local file; an error in writing to it names the file that it is to become."""

    final = ""

    def write(self, data: Any) -> int:
        with writing(self.final):
            return super().write(data)


def _open_write(temporary: str, path: str) -> _LocalFile:
    with writing(path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        file = _LocalFile(temporary, "wb")
    file.final = path
    return file


def create(path: str, data: bytes) -> None:
    """Write a small file where there is none. Raises FileExistsError; of several that try at once, one succeeds."""
    if is_url(path):
        with _reaching(path) as (filesystem, inner), _allowed(path, "write"):
            if _kind(path) not in OBJECT_STORES:
                filesystem.makedirs(inner.rpartition("/")[0], exist_ok=True)
            filesystem.pipe_file(inner, data, mode="create")
        return
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "xb") as file:
        file.write(data)


def publish_bytes(path: str, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with publishing(path) as file:
        file.write(data)


def is_temporary(name: str) -> bool:
    """Whether this is the temporary name of a file that is being written, or of one in a folder that is."""
    return re.search(rf"{re.escape(TEMPORARY)}[0-9a-f]+(/|$)", name) is not None


def sweep_temporaries(folder: str) -> None:
    """Remove what an interrupted run left behind under temporary names."""
    for name in list_files(folder):
        if is_temporary(name):
            remove(join(folder, name))


def remove(path: str) -> None:
    """Remove a file, or a folder with all it holds; nothing happens where there is none."""
    if is_url(path):
        with _reaching(path) as (filesystem, inner), _allowed(path, "remove files"):
            try:
                filesystem.rm(inner, recursive=True)
            except FileNotFoundError:
                return
        return
    with writing(path):
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.unlink(path)


def sha256(path: str) -> str:
    """SHA-256 of the file's bytes, in hexadecimal."""
    if not is_url(path):
        with open(path, "rb") as local:
            return hashlib.file_digest(local, "sha256").hexdigest()
    digest = hashlib.sha256()
    for block in read_blocks(path):
        digest.update(block)
    return digest.hexdigest()
