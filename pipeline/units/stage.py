"""The folders and files of a stage below OUT."""

from dataclasses import dataclass
from typing import Any, Generic

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.manifest import Output
from vlmixer.artifacts.rejects import RejectFile
from vlmixer.artifacts.stages import Details_co, StageType


@dataclass(frozen=True)
class Stage(Generic[Details_co]):
    """A stage in one output folder. `out` is made absolute: workers may run in another folder."""

    type: StageType[Details_co]
    out: str
    list_all: bool = False
    """Whether rejects of voluminous reasons are all listed (artifacts/rejects.py)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", files.absolute(self.out))

    @property
    def name(self) -> str:
        """The name of its command."""
        return self.type.name

    @property
    def folder(self) -> str:
        """The stage's results, such as OUT/tagged."""
        return files.join(self.out, self.type.folder)

    @property
    def work(self) -> str:
        """Plan and results of units while the stage is under way."""
        return files.join(self.out, "work", self.name)

    @property
    def rejects(self) -> str:
        """OUT/rejects, shared by all stages; the names of a stage's files there begin with its name."""
        return files.join(self.out, "rejects")

    @property
    def plan(self) -> str:
        """The file that holds the plan; it exists while the stage is under way."""
        return files.join(self.work, "plan.json")

    def stats(self, unit: str) -> str:
        """The file of a unit's result."""
        return files.join(self.work, f"{unit}.json")

    def reject_file(self, unit: str) -> RejectFile:
        """The file for a unit's rejects, to be used in a `with` block."""
        path = files.join(self.rejects, f"{self.name}-{unit}.parquet")
        return RejectFile(self.name, path, list_all=self.list_all)

    def listed(self, log: RejectFile) -> tuple[Output, ...]:
        """The file of a unit's rejects, if it has any, when its block has ended."""
        name = log.path.rpartition("/")[2]
        return (manifest.output_of(self.rejects, name, log.rows),) if log.rows else ()


AnyStage = Stage[Any]
