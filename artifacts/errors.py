"""The one error class for what a user can cause; everything else is a programming error and keeps its traceback."""

import errno


class UserError(Exception):
    """The work failed for a reason the user can act on (exit code 1).

    The message says what happened, where (file, line or key), what was expected and what to do.
    """


class CallError(UserError):
    """The call itself was wrong: a bad option, config key or path (exit code 2)."""


class WriteError(UserError):
    """The place for results does not take them: the disk is full, read-only, not ours, or not the one that was meant.

    No other unit of work will do better, so it stops them all.
    """

    @classmethod
    def of(cls, path: str, error: OSError) -> "WriteError":
        """The error that the system gave for writing to `path`, with what to do."""
        advice = {
            errno.ENOSPC: "Make room there",
            errno.EDQUOT: "Make room there, or have the quota raised",
            errno.EFBIG: "Allow larger files (ulimit -f)",
        }.get(error.errno or 0, "Make it writable, or give another --out")
        return cls(
            f"{path}: cannot be written: {error.strerror or error}. {advice}, then give the same command again; "
            "what is done is kept."
        )
