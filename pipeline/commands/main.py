"""The `vlmixer` command: reads the call, sets up logging, and turns errors into messages and exit codes.

Exit codes: 0 done, 1 the work failed, 2 the call was wrong; as shells report programs that end by these signals, 130
after Ctrl-C, 143 after SIGTERM in training, and 141 if nobody reads stdout any more (`| head`). Results go to stdout,
everything else to stderr.

Each group of subcommands has a file of its own here, with its parsers and handlers. These files import heavy packages
where they use them, so that `vlmixer bank stats` does not wait for Beam or torch.
"""

import argparse
import io
import logging
import os
import select
import sys
from collections.abc import Sequence

from vlmixer import __version__
from vlmixer.artifacts import interrupts
from vlmixer.artifacts.colours import ERROR, coloured
from vlmixer.artifacts.errors import CallError, UserError, explain
from vlmixer.artifacts.extras import extra_of, install_command
from vlmixer.pipeline.commands import (
    bank,
    completion,
    demo,
    drop,
    evaluate,
    finetune,
    init,
    plan,
    push,
    rejects,
    run,
    show,
    train,
    verify,
)
from vlmixer.pipeline.commands.options import Shown

GROUPS = (demo, init, run, plan, rejects, verify, show, bank, drop, train, finetune, evaluate, push, completion)
"""Files of subcommands, in the order of `vlmixer --help`. Each has a function `add` that takes the subparsers."""

EXTRAS = {
    "demo": ("pipeline", "train"),
    "train": ("train",),
    "finetune": ("pipeline", "train"),
    "eval": ("pipeline", "train"),
    "push": ("hub",),
    "completion": ("completion",),
}
"""The extras of subcommands; the others need the extra of the missing module."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: those of the process). Returns its exit code."""
    options = _read_call(list(sys.argv[1:] if arguments is None else arguments))
    _limit_threads()
    _set_up_logging(options.debug)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be valid in its encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        interrupts.raise_interrupts()
        return _do(options)
    except BaseException as error:
        # Ctrl-C while a library is imported may arrive as an error of the import.
        if not isinstance(error, KeyboardInterrupt) and (options.debug or not interrupts.was_interrupted()):
            raise
        return interrupts.report(error, options.resume_hint)


def _do(options: argparse.Namespace) -> int:
    """Do the work. Returns the exit code."""
    try:
        code: int = options.do(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _stdout_is_closed():
            raise
        return 141
    except (UserError, OSError, MemoryError, RuntimeError) as error:
        shown = error if isinstance(error, UserError) else explain(error)
        if options.debug or shown is None:
            raise
        print(coloured("error:", ERROR, sys.stderr), shown, file=sys.stderr)
        return 2 if isinstance(shown, CallError) else 1
    except ModuleNotFoundError as error:
        extra = extra_of(error.name or "")
        if options.debug or extra is None:
            raise
        install = install_command(*EXTRAS.get(options.command, (extra,)))
        print(
            coloured("error:", ERROR, sys.stderr),
            f"`vlmixer {options.command}` needs packages that are not installed: {error.name}. Run `{install}`.",
            file=sys.stderr,
        )
        return 2


def _stdout_is_closed() -> bool:
    """Whether nobody reads stdout any more. If so, what is left to be printed is discarded."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    closed = bool(poll.poll(0))  # only errors are reported for no events
    if closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return closed


def _read_call(arguments: list[str]) -> argparse.Namespace:
    """The options. Whatever follows `--` is for Beam and goes into `beam_args`."""
    beam_args: list[str] = []
    if "--" in arguments:
        split = arguments.index("--")
        arguments, beam_args = arguments[:split], arguments[split + 1 :]
    made = parser()
    completion.answer(made)
    options = made.parse_args(arguments)
    options.beam_args = tuple(beam_args)
    options.resume_hint = getattr(options, "resume_hint", "")
    return options


def parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    made = argparse.ArgumentParser(
        prog="vlmixer", description="Cross-modal CutMix training data from two unrelated corpora. Docs: docs/."
    )
    made.add_argument("--version", action="version", version=__version__)
    commands = made.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for group in GROUPS:
        group.add(commands)
    return made


def _limit_threads() -> None:
    """One thread per process, and no spinning while others work. Takes effect before numpy and torch are imported."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _set_up_logging(debug: bool) -> None:
    """Our messages always go to stderr, the libraries' own only with --debug."""
    logging.basicConfig(
        level=logging.INFO if debug else logging.ERROR, stream=sys.stderr, format="%(message)s", force=True
    )
    if not debug:
        logging.getLogger().handlers[0].addFilter(_is_for_the_user)
    logging.getLogger().handlers[0].setFormatter(Shown("%(message)s"))
    logging.getLogger("vlmixer").setLevel(logging.INFO)


def _is_for_the_user(record: logging.LogRecord) -> bool:
    """False for Beam's pages about an error: the command ends with one line about it, and OUT/logs keeps the pages."""
    return record.name != "root" and not record.name.startswith("apache_beam")


if __name__ == "__main__":
    sys.exit(main())
