"""The only way to files: local paths and fsspec URLs (s3://, gs://, …) alike.

A file is published whole or not at all: `publishing` writes under a temporary name and renames. Object stores have no
rename, only copy and remove. But they show an object only when its upload is complete, so what goes there is written to
a local temporary file and uploaded at once.

Listings are never cached, because other processes write to the same store.
"""

from vlmixer.artifacts.files.listed import FileStat, FileStats, NamesAndSizes, Strings, in_order, stamp
from vlmixer.artifacts.files.paths import absolute, is_url, join, parent
from vlmixer.artifacts.files.patterns import RESULTS, expand
from vlmixer.artifacts.files.reading import (
    beside,
    exists,
    fetched,
    has_file,
    is_folder,
    list_files,
    list_sizes,
    may_follow,
    open_read,
    read_all,
    read_blocks,
    read_bytes,
    read_ranges,
    read_start,
    sha256,
    size,
)
from vlmixer.artifacts.files.writing import (
    TEMPORARY,
    create,
    fingerprint,
    is_temporary,
    link,
    not_through_links,
    publish_bytes,
    publishing,
    refuse_link,
    remove,
    sweep_temporaries,
    writing,
)

__all__ = [
    "RESULTS",
    "TEMPORARY",
    "FileStat",
    "FileStats",
    "NamesAndSizes",
    "Strings",
    "absolute",
    "beside",
    "create",
    "exists",
    "expand",
    "fetched",
    "fingerprint",
    "has_file",
    "in_order",
    "is_folder",
    "is_temporary",
    "is_url",
    "join",
    "link",
    "list_files",
    "list_sizes",
    "may_follow",
    "not_through_links",
    "open_read",
    "parent",
    "publish_bytes",
    "publishing",
    "read_all",
    "read_blocks",
    "read_bytes",
    "read_ranges",
    "read_start",
    "refuse_link",
    "remove",
    "sha256",
    "size",
    "stamp",
    "sweep_temporaries",
    "writing",
]
