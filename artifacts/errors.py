"""Errors that a user can correct. All others but the system's are programming errors and keep their traceback."""

import errno
import re
from unicodedata import category

LONGEST = 2000
"""Characters of a line of a message. Data that it quotes may have millions."""


class UserError(Exception):
    """The work failed for a reason the user can act on (exit code 1).

    The message says what happened, where (file, line or key), what was expected and what to do. Each argument is a line
    of its own: what a message quotes of data starts no new one.
    """

    def __str__(self) -> str:
        return "\n".join(_shortened(one_line(str(line))) for line in self.args)


def one_line(text: str) -> str:
    """The text with line breaks and all other characters that are not visible as escapes such as `\\n`.

    For what is printed: a name or a sentence from somewhere else must not look like another message, nor command the
    terminal.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or category(each) == "Zs" else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def _shortened(line: str) -> str:
    """The beginning and the end, which has the advice."""
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 500]} … {line[-500:]}"


class CallError(UserError):
    """The call itself was wrong: a bad option, config key or path (exit code 2)."""


def explain(error: BaseException) -> UserError | None:
    """The UserError for what the system refuses to any program: memory, threads, a file. None for other errors."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(text)):
        said = text or type(error).__name__
        return UserError(f"out of memory ({said}). Give the process more, or use fewer --workers.")
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        where = f"{error.filename}: " if error.filename else ""
        return UserError(f"{where}{error.strerror or text or type(error).__name__}.")
    return None


_OUT_OF_MEMORY = re.compile(r"can't (allocate memory|start new thread)|not enough memory|bad_alloc", re.IGNORECASE)


class WriteError(UserError):
    """Results cannot be written: the disk is full or read-only, or the folder is the wrong one.

    It stops all units of work, because no other unit would do better.
    """

    @classmethod
    def of(cls, path: str, error: OSError) -> "WriteError":
        """The system's error for writing to `path`, with advice."""
        advice = {
            errno.ENOSPC: "Make room there",
            errno.EDQUOT: "Make room there, or raise the quota",
            errno.EFBIG: "Allow larger files (ulimit -f)",
        }.get(error.errno or 0, "Make it writable, or give another --out")
        return cls(
            f"{path}: cannot be written: {error.strerror or error}. {advice}, then rerun the command; "
            "finished work is kept."
        )
