"""What may be shared of a folder: finished and sound shards, patches of a query, or a run; and which of its files.

Only files of the manifest and the card are shared, so no log, lock, checkpoint or half-written file is. Uploading is
left to pipeline.sharing.hub.
"""

import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from vlmixer.artifacts import contents, files, json_files, manifest
from vlmixer.artifacts.dataset_cards import CARD, CROISSANT, LICENCE_OPEN
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.lock import locked
from vlmixer.artifacts.stages import FINETUNE, MIX, TRAIN
from vlmixer.bank.export import SHARD, SIZES
from vlmixer.pipeline.verification.verify import verify

KINDS: dict[str, Literal["dataset", "model"]] = {MIX.name: "dataset", TRAIN.name: "model", FINETUNE.name: "model"}
"""What stages and runs are on the Hub."""
WITH_PATHS = ("config.yaml", "pipeline.yaml")
"""Files of a run that name the user's inputs."""
PROBLEMS_SHOWN = 3
MAX_CARD_BYTES = 1 << 22


@dataclass(frozen=True)
class Shareable:
    """A folder that may be shared, as a repository of this `kind`. `names`: its files, sorted, below the folder."""

    folder: str
    kind: Literal["dataset", "model"]
    names: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """The size of all its files."""
        return sum(files.size(files.join(self.folder, name)) for name in self.names)

    @property
    def naming_paths(self) -> list[str]:
        """Those of its files that name the user's inputs."""
        return [name for name in self.names if self.kind == "model" and name in WITH_PATHS]


@contextmanager
def shareable(folder: str, *, public: bool) -> Iterator[Shareable]:
    """What may be shared of `folder`, which no command of ours changes meanwhile.

    public: whether everybody will see it; then its card must name the licences. Raises CallError for other folders,
    UserError for one that is unfinished, damaged or in use.
    """
    if files.is_url(folder):
        raise CallError(f"{folder}: behind a URL. Copy the folder to a local disk, and give that.")
    kind = _kind(folder)
    with _undisturbed(folder, kind):
        found = _query(folder) if kind is None else _sound(folder, KINDS[kind])
        _check_card(found, public)
        yield found


def _kind(folder: str) -> str | None:
    """The stage or run whose folder it is; None for patches of a query."""
    if files.has_file(files.join(folder, manifest.NAME)):
        stage = manifest.read(folder).stage
        if stage in KINDS:
            return stage
    elif files.has_file(files.join(folder, SIZES)) and files.has_file(files.join(folder, CARD)):
        return None
    inner = [name for name in (MIX.folder, TRAIN.folder) if files.is_folder(files.join(folder, name))]
    meant = " or ".join(files.join(folder, name) for name in inner)
    raise CallError(
        f"{folder}: not what can be shared: finished shards, a finished run, or what `bank query --to-wds` wrote. "
        + (f"Did you mean {meant}?" if meant else f"Give such a folder, for instance OUT/{MIX.folder}.")
    )


@contextmanager
def _undisturbed(folder: str, kind: str | None) -> Iterator[None]:
    """Hold the locks of those commands that change the folder."""
    out = contents.out_of(folder)
    with (
        nullcontext() if out is None else locked(files.join(out, "logs")),
        locked(folder) if kind in (TRAIN.name, FINETUNE.name) else nullcontext(),
    ):
        yield


def _sound(folder: str, kind: Literal["dataset", "model"]) -> Shareable:
    """A folder with a manifest, after everything in it was read again."""
    report = verify(folder)
    if not report.sound:
        raise UserError(_damaged(folder, [f"{problem.file}: {problem.what}" for problem in report.problems]))
    names = [manifest.NAME, *(output.name for output in manifest.read(folder).outputs)]
    if not files.has_file(files.join(folder, CARD)):
        raise UserError(f"{files.join(folder, CARD)}: missing. A repository needs a card: write one, in Markdown.")
    names += [name for name in (CARD, CROISSANT) if files.has_file(files.join(folder, name))]
    return Shareable(folder, kind, tuple(sorted(names)))


def _query(folder: str) -> Shareable:
    """What `bank query --to-wds` wrote, after all its tars were read."""
    sizes = json_files.read(files.join(folder, SIZES), dict[str, Any], advice="Repeat the query with --overwrite.")
    present = {name for name in files.list_files(folder) if SHARD.fullmatch(name)}
    problems = [f"{name}: missing, or not in {SIZES}" for name in sorted(present ^ set(sizes))]
    for name in sorted(present & set(sizes)):
        found = _pictures(files.join(folder, name))
        if found != sizes[name]:
            problems.append(f"{name}: {'unreadable' if found is None else f'{found} patches'}, expected {sizes[name]}")
    if problems:
        raise UserError(_damaged(folder, problems))
    return Shareable(folder, "dataset", tuple(sorted([*sizes, SIZES, CARD])))


def _pictures(path: str) -> int | None:
    """The number of pictures in a tar; None if it cannot be read to its end."""
    try:
        with tarfile.open(path) as tar:
            return sum(member.name.endswith(".jpg") for member in tar)
    except (tarfile.TarError, EOFError):
        return None


def _damaged(folder: str, problems: list[str]) -> str:
    more = f", and {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
    return (
        f"{folder}: not shared, because it is not sound: {'; '.join(problems[:PROBLEMS_SHOWN])}{more}. Make it again, "
        "or copy it again."
    )


def _check_card(found: Shareable, public: bool) -> None:
    path = files.join(found.folder, CARD)
    if files.size(path) > MAX_CARD_BYTES:
        raise UserError(
            f"{path}: {files.size(path):,} bytes, which is more than a card has. Write it again, in Markdown."
        )
    text = re.sub(r"\s+", " ", files.read_bytes(path).decode("utf-8", errors="replace"))
    if public and LICENCE_OPEN in text:
        raise UserError(
            f"{path}: says {LICENCE_OPEN!r}, and this is not done. Write the licences in its last section in place of "
            "that sentence, or leave out --public."
        )
