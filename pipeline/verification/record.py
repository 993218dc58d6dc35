"""Checks OUT/contents.json: whether OUT holds the stages, the run and the config that it lists, and no others."""

import hashlib
import os
from collections.abc import Mapping

from vlmixer.artifacts import contents, files
from vlmixer.artifacts.contents import Contents
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Manifest
from vlmixer.artifacts.stages import INDEX
from vlmixer.pipeline.verification.report import VerifyReport

_INTERRUPTED = "a command was interrupted before it recorded it. Rerun the command"


def check_record(out: str, found: Mapping[str, Manifest | None], report: VerifyReport) -> Contents | None:
    """Compare the record with `found`: by folder, the manifests that are there; None for one that is missing or
    damaged, which is a problem already. Returns the record, if it is sound."""
    path = files.join(out, contents.NAME)
    try:
        record = contents.read(out)
    except UserError as error:
        report.add(path, str(error).removeprefix(f"{path}: "))
        return None
    if record is None:
        if set(found) <= {INDEX.folder}:  # a bank on its own, as `bank merge` and `bank drop` write it
            return None
        report.add(
            path,
            "missing: removed, or not written by the version that made this folder. Rerun `vlmixer run`, which writes "
            "it and leaves finished stages as they are",
        )
        return None
    report.files += 1
    for folder, content_hash in record.folders.items():
        description = found.get(folder)
        if folder not in found:
            report.add(files.join(out, folder), f"missing; {contents.NAME} lists it")
        elif description is not None and description.content_hash != content_hash:
            report.add(files.join(out, folder), f"is not the one that {contents.NAME} lists")
    for folder, description in found.items():
        if folder not in record.folders and description is not None:
            report.add(files.join(out, folder), f"{contents.NAME} does not list it; {_INTERRUPTED}")
    _check_config(out, record, report)
    return record


def _check_config(out: str, record: Contents, report: VerifyReport) -> None:
    path = files.join(out, contents.CONFIG)
    if not files.has_file(path):
        if record.config is not None:  # stages that were run from Python may have none
            report.add(path, "missing")
        return
    report.files += 1
    if record.config is None:
        report.add(path, f"{contents.NAME} does not list it; {_INTERRUPTED}")
    elif hashlib.sha256(files.read_bytes(path)).hexdigest() != record.config:
        report.add(path, f"its bytes changed: its SHA-256 is not the one in {contents.NAME}")


def check_plain(folder: str, report: VerifyReport) -> None:
    """Whether everything below a local folder, and the folder itself, is a plain file or a folder with files in it.

    A link leads to bytes that somebody else may change, and an empty folder is nothing that a command leaves.
    """
    if files.is_url(folder):
        return
    if os.path.islink(folder):
        report.add(folder, "a link, expected a folder")
    for where, folders, names in os.walk(folder):
        if not folders and not names and where != folder:
            report.add(where, "an empty folder, not in the manifest")
        for name in (*folders, *names):
            path = os.path.join(where, name)
            if os.path.islink(path):
                report.add(path, "a link, expected the file itself")
            elif not os.path.isfile(path) and not os.path.isdir(path):
                report.add(path, "neither a file nor a folder")
