"""What a verification found: how much was read, and every problem with the file that has it."""

import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from vlmixer.artifacts.errors import UserError

UNREADABLE = (
    UserError, pa.ArrowException, tarfile.TarError, OSError, EOFError, ValueError, TypeError, LookupError,
    AttributeError, RuntimeError,
)  # fmt: skip
"""What the readers of Parquet, JSON, numpy, tar and FAISS files raise for contents that are not what they should be."""


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, and the file or folder in which it is."""

    file: str
    what: str


@dataclass
class VerifyReport:
    """What was read, and every problem that was found. `rows` counts records by kind."""

    files: int = 0
    bytes: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def add(self, file: str, what: str) -> None:
        """Record a problem."""
        self.problems.append(Problem(file, what))

    @contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """Turns what reading `path` raises into a problem of it, so that one bad file hides no fault of another."""
        try:
            yield
        except UNREADABLE as error:
            self.add(path, f"cannot be read: {type(error).__name__}: {error}")

    def summary(self) -> str:
        """One line about what was read."""
        rows = ", ".join(f"{number:,} {kind}" for kind, number in sorted(self.rows.items()))
        return f"{self.files:,} files, {self.bytes:,} bytes{', ' if rows else ''}{rows}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "sound": self.sound,
            "files": self.files,
            "bytes": self.bytes,
            "rows": dict(self.rows),
            "problems": [asdict(problem) for problem in self.problems],
        }
