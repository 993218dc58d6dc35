"""The folders and files of a stage below OUT."""

from dataclasses import dataclass
from typing import Any, Generic

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.manifest import Output
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.stages import Details_co, StageType


@dataclass(frozen=True)
class Stage(Generic[Details_co]):
    """A stage in one output folder. `out` is made absolute: workers may run in another folder."""

    type: StageType[Details_co]
    out: str

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

    def publish_rejects(self, unit: str, log: RejectLog) -> tuple[Output, ...]:
        """Write the unit's rejects, if there are any."""
        name = f"{self.name}-{unit}.parquet"
        rows = log.publish(files.join(self.rejects, name))
        return (manifest.output_of(self.rejects, name, rows),) if rows else ()


AnyStage = Stage[Any]
