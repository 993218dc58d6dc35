"""Errors that a user can correct. All others but the system's are programming errors and keep their traceback."""

import errno
import re


class UserError(Exception):
    """The work failed for a reason the user can act on (exit code 1).

    The message says what happened, where (file, line or key), what was expected and what to do.
    """


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
