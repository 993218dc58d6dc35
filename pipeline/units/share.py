"""A share of a stage's work, for several commands that work on the stage at once, such as the tasks of a job array.

What comes before the last pass is done by one of them, in its turn; the others find it done. The units of the last pass
are divided. Nobody waits for the units of another share: a command without a share finishes the stage.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.lock import in_turn
from vlmixer.pipeline.units.stage import AnyStage

Item = TypeVar("Item")


@dataclass(frozen=True)
class Share:
    """Share `number`, from 1, of `shares` equal ones."""

    number: int
    shares: int

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Of "3/16". Raises CallError."""
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        share = cls(int(found[1]), int(found[2])) if found else cls(0, 0)
        if not 1 <= share.number <= share.shares:
            raise CallError(
                f"--only-units {text}: expected the number of a share, from 1, and how many shares there are, such as "
                "3/16."
            )
        return share

    def take(self, items: Sequence[Item]) -> list[Item]:
        """Every item that is this share's. Neighbours, which are alike, go to different shares."""
        return list(items[self.number - 1 :: self.shares])

    def __str__(self) -> str:
        return f"{self.number}/{self.shares}"


class ShareDone(Exception):
    """Raised in place of a stage's result: the units of a share are done, others may not be."""


@contextmanager
def preparing(stage: AnyStage, share: Share | None) -> Iterator[None]:
    """The block does what comes before the last pass. With a share, one process at a time does."""
    if share is None:
        yield
        return
    with in_turn(files.join(stage.out, "logs")):
        yield
