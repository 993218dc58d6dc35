"""The table of stages, in the order in which they run: name, folder below OUT, type of the manifest's details.

Other tables have an entry per stage, too: how it runs (pipeline/jobs/chain.py), what it needs
(pipeline/preflight/checks.py), how its files are checked (pipeline/verification/verify.py), and what its command says
(pipeline/commands/run.py).

Training and fine-tuning are no stages: they have no units. But their folders have manifests of the same form.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from vlmixer.artifacts.details import (
    AnyDetails,
    BankDetails,
    FineTunedDetails,
    RegionsDetails,
    RunDetails,
    ShardsDetails,
    TaggedDetails,
)

Details = TypeVar("Details", bound=AnyDetails)
Details_co = TypeVar("Details_co", bound=AnyDetails, covariant=True)


@dataclass(frozen=True)
class StageType(Generic[Details_co]):
    """A stage: the name of its command, its folder below OUT, and the type of its manifest's details."""

    name: str
    folder: str
    details: type[Details_co]


TAG = StageType("tag", "tagged", TaggedDetails)
DETECT = StageType("detect", "regions", RegionsDetails)
INDEX = StageType("index", "bank", BankDetails)
MIX = StageType("mix", "shards", ShardsDetails)
TRAIN = StageType("train", "run", RunDetails)
FINETUNE = StageType("finetune", "TASK", FineTunedDetails)
"""Its folder has the name of the task: OUT/vqa."""

STAGES: tuple[StageType[AnyDetails], ...] = (TAG, DETECT, INDEX, MIX)
NAMES = tuple(stage.name for stage in STAGES)
FOLDERS = tuple(stage.folder for stage in STAGES)
WITH_MANIFEST: tuple[StageType[AnyDetails], ...] = (*STAGES, TRAIN)
"""All whose folders below OUT have a manifest."""


def find(name: str) -> StageType[AnyDetails] | None:
    """The stage called `name`, or training, or fine-tuning; None if there is none."""
    return next((stage for stage in (*WITH_MANIFEST, FINETUNE) if stage.name == name), None)
