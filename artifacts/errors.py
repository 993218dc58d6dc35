"""Errors that a user can correct. All other exceptions are programming errors and keep their traceback."""

import errno


class UserError(Exception):
    """The work failed for a reason the user can act on (exit code 1).

    The message says what happened, where (file, line or key), what was expected and what to do.
    """


class CallError(UserError):
    """The call itself was wrong: a bad option, config key or path (exit code 2)."""


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
