"""The one error class for what a user can cause; everything else is a programming error and keeps its traceback."""


class UserError(Exception):
    """The work failed for a reason the user can act on (exit code 1).

    The message says what happened, where (file, line or key), what was expected and what to do.
    """


class CallError(UserError):
    """The call itself was wrong: a bad option, config key or path (exit code 2)."""
