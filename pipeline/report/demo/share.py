"""A part of a whole, as the demo's page prints it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """`right` of `total`."""

    right: int
    total: int

    @property
    def percent(self) -> float:
        """In percent; 0 if the total is 0."""
        return 100 * self.right / self.total if self.total else 0.0
