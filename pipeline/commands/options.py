"""What several subcommands share: argument types, groups of arguments, a bank to open, JSON on stdout."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlmixer.artifacts.colours import WARNING, coloured
from vlmixer.artifacts.errors import CallError, one_line
from vlmixer.pipeline.units.machine import default_workers

if TYPE_CHECKING:
    from vlmixer.bank.store import PatchBank

Subcommands = argparse._SubParsersAction
"""What `ArgumentParser.add_subparsers` returns; argparse has no public name for it."""


def positive(text: str) -> int:
    """A whole number from 1, as an argument's type."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return value


def above_zero(text: str) -> float:
    """A finite number above 0, as an argument's type."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return value


def common() -> argparse.ArgumentParser:
    """The arguments of every subcommand, as a parent for its parser."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--debug", action="store_true", help="show tracebacks and the libraries' own messages")
    return parent


def add_config(parser: argparse.ArgumentParser, out_help: str = "output folder (default: the config's)") -> None:
    """CONFIG.yaml, --out and --set."""
    parser.add_argument("config", metavar="CONFIG.yaml")
    parser.add_argument("--out", metavar="DIR", help=out_help)
    add_set(parser)


def add_set(parser: argparse.ArgumentParser) -> None:
    """--set."""
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the config; repeatable"
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """--workers."""
    parser.add_argument(
        "--workers", type=positive, default=default_workers(), metavar="N",
        help="number of local processes (default: one per processor, fewer if memory is short)",
    )  # fmt: skip


def add_timings(parser: argparse.ArgumentParser) -> None:
    """--timings."""
    parser.add_argument(
        "--timings", action="store_true",
        help="plan before the stages begin, and print at the end what each took, by the clock and in work, beside that",
    )  # fmt: skip


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """--dry-run."""
    parser.add_argument(
        "--dry-run", action="store_true", help="check config, inputs, models and disk space; run and write nothing"
    )


def print_checked(found: Sequence[str]) -> None:
    """What the checks of --dry-run found."""
    print(*found, "nothing stands in the way; nothing was written", sep="\n")


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_page_or_json(parser: argparse.ArgumentParser) -> None:
    """--html and --json."""
    parser.add_argument("--html", metavar="FILE", help="write a self-contained page")
    add_json(parser)


def require_page_or_json(options: argparse.Namespace) -> None:
    """Raises CallError if neither --html nor --json is given."""
    if not options.html and not options.json:
        raise CallError("nothing to do. Give --html FILE for a page or --json for data.")


def print_json(content: Any) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(content, ensure_ascii=(sys.stdout.encoding or "utf-8").lower() != "utf-8", indent=1))


class OneLine(logging.Formatter):
    """Each of our messages on one line, whatever it quotes of data. Those of libraries stay as they are."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The message with what goes before it."""
        if record.name.startswith("vlmixer"):
            record.message = one_line(record.message)
        return super().formatMessage(record)


class Shown(OneLine):
    """The same on stderr, with warnings in colour."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The message, in colour if it warns and stderr shows colours."""
        text = super().formatMessage(record)
        return coloured(text, WARNING, sys.stderr) if record.levelno >= logging.WARNING else text


def say(line: str) -> None:
    """Print a line on stdout. What it quotes of data stays on it."""
    print(one_line(line))


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add --trust-detector, for commands that read a config that came with a bank or a run."""
    parser.add_argument(
        "--trust-detector", action="store_true",
        help="let the config that came with the folder name a detector class, which runs code",
    )  # fmt: skip


def open_bank(folder: str) -> "PatchBank":
    """The bank in `folder`. Raises CallError if there is none, with the folder that may be meant."""
    from vlmixer.artifacts import files, manifest, stages
    from vlmixer.bank.store import PatchBank

    if not files.exists(files.join(folder, manifest.NAME)):
        inner = files.join(folder, stages.INDEX.folder)
        if files.exists(files.join(inner, manifest.NAME)):
            raise CallError(f"{folder}: not a bank. Did you mean {inner}?")
        raise CallError(f"{folder}: no bank here. Give the folder that `vlmixer index` wrote, such as OUT/bank.")
    return PatchBank.open(folder)
