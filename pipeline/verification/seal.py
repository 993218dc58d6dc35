"""One hash for an output folder, or for a stage's or run's folder: kept elsewhere, it shows any later change."""

import re

from vlmixer.artifacts import contents, files, manifest
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.stages import WITH_MANIFEST
from vlmixer.pipeline.verification.report import VerifyReport

MOST_BYTES = 4096


def hash_of(folder: str) -> str:
    """The hash: `content_hash` of OUT/contents.json, or of the manifest of a stage or run. Reads manifests only.

    Raises CallError if `folder` is neither, UserError if OUT is unfinished or does not hold what the record lists.
    """
    record = contents.read(folder)
    if record is None:
        if files.exists(files.join(folder, manifest.NAME)):
            return manifest.read(folder).content_hash
        raise CallError(f"{folder}: has neither {contents.NAME} nor {manifest.NAME}. Give an output folder.")
    present = {stage.folder for stage in WITH_MANIFEST if files.is_folder(files.join(folder, stage.folder))}
    for name in sorted({*present, *record.folders}):
        path = files.join(folder, name)
        if name not in present or name not in record.folders:
            what = "missing" if name not in present else "unfinished, or not recorded"
            raise UserError(f"{path}: {what}. Finish the run, then `vlmixer verify {folder}`.")
        if manifest.read(path).content_hash != record.folders[name]:
            raise UserError(f"{path}: is not the one that {contents.NAME} lists. See `vlmixer verify {folder}`.")
    if record.config is None:
        raise UserError(f"{folder}: unfinished: its {contents.CONFIG} is not recorded. Rerun the command.")
    return record.content_hash


def read_kept(path: str) -> str:
    """The hash in a file that `vlmixer manifest` printed: the first word. Raises CallError."""
    try:
        words = files.read_start(path, MOST_BYTES).decode("utf-8-sig", errors="replace").split()
    except OSError as error:
        raise CallError(f"--signed {path}: cannot be read ({error.strerror or error}).") from None
    if not words or not re.fullmatch(r"[0-9a-f]{64}", words[0]):
        raise CallError(f"--signed {path}: expected what `vlmixer manifest` printed: 64 hexadecimal digits.")
    return words[0]


def compare(folder: str, kept: str, report: VerifyReport) -> None:
    """Report it if the folder's hash is not the one that was kept."""
    try:
        found = hash_of(folder)
    except UserError as error:
        report.add(folder, f"cannot be compared with the hash that was kept: {error}")
        return
    if found != kept:
        report.add(folder, f"its hash is {found}, the one that was kept is {kept}")
