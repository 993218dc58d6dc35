"""The file systems behind URLs, and messages for their errors.

Errors whose cause is in the call (no credentials, no permission, no bucket, no driver installed) become a CallError.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fsspec.config import conf
from fsspec.core import url_to_fs

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.extras import install_command
from vlmixer.artifacts.files.http import time_limits
from vlmixer.artifacts.files.paths import scheme

OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"})
"""Kinds of URL where an upload is visible only when it is complete, and folders need not be made."""
DRIVERS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcp"),
    **dict.fromkeys(("http", "https"), "http"),
}
"""The extra with the driver of a kind of URL."""
CREDENTIALS = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or write ~/.aws/credentials; set "
    "AWS_ENDPOINT_URL, too, for a store that is not Amazon's",
    "gs": "Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a key file",
}
NO_BUCKET = "bucket does not exist"
"""What drivers say if the bucket is missing, in a FileNotFoundError as for any file."""


@contextmanager
def reaching(url: str) -> Iterator[tuple[Any, str]]:
    """The file system behind a URL, and the path in it. Explains what reaching it raises in the block."""
    kind = scheme(url)
    if "::" in url:
        raise OSError(errno.EINVAL, "URLs in URLs (::) are not read: give the file itself", url)
    try:
        yield url_to_fs(url, use_listings_cache=False, **_time_limits(kind))
    except ImportError as error:
        install = f"Run `{install_command(DRIVERS[kind])}`." if kind in DRIVERS else "Install the package it names."
        raise CallError(f"{url}: {kind}:// needs a package that is not installed: {error}. {install}") from error
    except FileNotFoundError as error:
        if NO_BUCKET in str(error):
            raise CallError(f"{url}: there is no such bucket. Create it, or correct the URL.") from error
        raise
    except Exception as error:
        how = CREDENTIALS["gs" if kind in ("gs", "gcs") else "s3"] if kind in DRIVERS and kind[:4] != "http" else ""
        name = type(error).__name__
        if "Credentials" in name or "anonymous caller" in str(error).lower():
            raise CallError(f"{url}: no credentials were found ({error}). {how}.") from error
        if name in ("EndpointConnectionError", "ConnectTimeoutError", "ClientConnectorError"):
            raise UserError(f"{url}: cannot be reached ({error}). Check the network and the endpoint.") from error
        if isinstance(error, OSError | UserError | MemoryError):
            raise
        # Drivers raise anything for a URL that is not well formed, or a store that answers with something strange.
        raise OSError(errno.EIO, " ".join(f"{name}: {error}".split())[:300], url) from error


def _time_limits(kind: str) -> dict[str, Any]:
    """Options of a file system that make it give up on a server that does not answer."""
    option = {"http": "client_kwargs", "https": "client_kwargs", "gs": "session_kwargs", "gcs": "session_kwargs"}
    if kind not in option:
        return {}
    return {option[kind]: {"timeout": time_limits(), **conf.get(kind, {}).get(option[kind], {})}}


@contextmanager
def allowed(url: str, what: str) -> Iterator[None]:
    """Turns a refusal in the block into a CallError. what: what the block does, for the message."""
    try:
        yield
    except PermissionError as error:
        raise CallError(
            f"{url}: not allowed to {what} here ({error}). Give the account the right to, or use other credentials."
        ) from error
