"""Names of files: local paths and fsspec URLs alike. Nothing here looks at what is there."""

import os


def is_url(path: str) -> bool:
    """Whether `path` is an fsspec URL rather than a local path."""
    return "://" in path


def scheme(path: str) -> str:
    """The scheme of a URL, the part before "://"; "" for local paths."""
    return path.partition("://")[0] if is_url(path) else ""


def join(folder: str, *names: str) -> str:
    """`folder/name/…` for paths and URLs."""
    return "/".join([folder.removesuffix("/"), *names]) if names else folder


def parent(path: str) -> str:
    """The folder that holds `path`: "out" for "out/bank/", "." for "out", "/" for "/out", "gs://a" for "gs://a/b"."""
    protocol, separator, inner = path.rpartition("://")
    folder, slash, name = inner.rstrip("/").rpartition("/")
    if separator:
        return f"{protocol}://{folder}"
    if name in (".", ".."):
        return join(path, "..")
    return folder or slash or ("." if name else path)


def absolute(path: str) -> str:
    """The absolute path, with `~` as the home folder; a URL as it is."""
    return path if is_url(path) else os.path.abspath(os.path.expanduser(path))
