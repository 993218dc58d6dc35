"""A unit of work, its result, and the worker that does it."""

from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from vlmixer.artifacts.manifest import Counts, Input, Output

Content = TypeVar("Content")
Content_co = TypeVar("Content_co", covariant=True)
Content_contra = TypeVar("Content_contra", contravariant=True)
Resource = TypeVar("Resource")
Found = TypeVar("Found")
Found_co = TypeVar("Found_co", covariant=True)


@dataclass(frozen=True)
class Unit(Generic[Content_co]):
    """One piece of work. `name` is unique in the stage and names the file of the unit's result. `content` is what its
    kind of worker expects: numbers, text, and tuples and frozen dataclasses of these."""

    name: str
    content: Content_co


@dataclass(frozen=True)
class UnitResult(Generic[Found_co]):
    """What a unit did. `outputs` are files of the stage's folder, `rejects` files of OUT/rejects. `details` is what its
    kind of unit found: a frozen dataclass, or None."""

    details: Found_co
    counts: dict[str, Counts] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    rejects: tuple[Output, ...] = ()

    def without_details(self) -> "UnitResult[None]":
        """The same without details."""
        return UnitResult(None, self.counts, self.inputs, self.outputs, self.rejects)


class Worker(Protocol[Content_contra, Resource]):
    """Does units of one kind. It is sent to the worker processes as it is, so it holds settings only; `load` makes what
    is heavy, once per process."""

    def load(self) -> Resource: ...

    def run(self, unit: Unit[Content_contra], resource: Resource) -> UnitResult[Any]: ...
