"""What is about to be run: the config and the stages, with what several checks need of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from vlmixer.artifacts import files, manifest, stages
from vlmixer.artifacts.files import FileStat
from vlmixer.bank.concepts import Vocabulary, load_vocabulary
from vlmixer.pipeline.config import Config
from vlmixer.pipeline.image.detectors.loading import DetectorSpec, detector_spec
from vlmixer.pipeline.image.inputs import plan_inputs
from vlmixer.pipeline.image.readers.base import ImageCorpus
from vlmixer.pipeline.text.inputs import find_inputs

TRAIN = "train"
"""What stands for training among the stages of a call."""


@dataclass(frozen=True)
class Call:
    """What is about to be run: `stages`, in order, with `train` for training into the folder `run`.

    remote: the workers are machines that cannot read this machine's files. overwrite: earlier results are discarded.
    """

    config: Config
    stages: tuple[str, ...]
    import_paths: tuple[str, ...] = ()
    remote: bool = False
    overwrite: bool = False
    run: str | None = None

    def is_finished(self, stage: str) -> bool:
        """Whether nothing is left to do in a stage, if its settings are the same."""
        kind = stages.find(stage)
        assert kind is not None
        done = files.exists(files.join(self.config.out, kind.folder, manifest.NAME))
        return done and not self.overwrite

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The concepts. Raises CallError."""
        return load_vocabulary(self.config.vocabulary)

    @cached_property
    def texts(self) -> Sequence[FileStat]:
        """The text files. Raises CallError."""
        return find_inputs(self.config.text.inputs, self.config.out)[0]

    @cached_property
    def images(self) -> ImageCorpus:
        """The images, or region features. Raises CallError."""
        # Weights and device have checks of their own, and no part in what the inputs are.
        settings = replace(self.config.images, weights="default", device="cpu")
        return plan_inputs(detector_spec(settings, ()), settings.inputs, "photos", out=self.config.out)[0]

    @cached_property
    def detector(self) -> DetectorSpec:
        """The detector as plain data, on any device. Raises CallError if its weights are missing."""
        return detector_spec(replace(self.config.images, device="auto"), self.import_paths, remote=self.remote)
