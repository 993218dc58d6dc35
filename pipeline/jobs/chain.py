"""Runs the stages one after the other."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from vlmixer.artifacts import contents, files
from vlmixer.artifacts.details import AnyDetails
from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.manifest import Manifest
from vlmixer.artifacts.stages import DETECT, INDEX, MIX, TAG, StageType
from vlmixer.bank.concepts import Vocabulary, load_vocabulary
from vlmixer.pipeline.config import Config
from vlmixer.pipeline.image.detectors.loading import TSV, is_file_name, packages_of
from vlmixer.pipeline.jobs.detect import run_detect
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.index import run_index
from vlmixer.pipeline.jobs.mix import run_mix
from vlmixer.pipeline.jobs.tag import packages as packages_of_tag
from vlmixer.pipeline.jobs.tag import run_tag
from vlmixer.pipeline.text.tagger import resolve_model
from vlmixer.pipeline.units.finishing import Finished

LOG = logging.getLogger("vlmixer")


def run_stages(
    config: Config,
    stages: Sequence[str],
    engine: Engine,
    *,
    overwrite: bool,
    import_paths: Sequence[str],
    step: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> None:
    """Run these stages in order; each resumes where it stopped. step: gives a context for a stage, by its name.

    Raises UserError, CallError.
    """
    if engine.remote:
        check_visible_to_workers(config, stages)
    run = StageRun(config, load_vocabulary(config.vocabulary), engine, overwrite, tuple(import_paths))
    for stage in stages:
        before = contents.read(config.out)
        with step(stage):
            finished = STEPS[stage](run)
        LOG.info("%s", counts_line(finished))
        # If a later stage is refused, config.yaml stays that of the results.
        if before is None or finished.content_hash not in before.folders.values():
            contents.publish_config(config.out, config.to_yaml())
    contents.publish_config(config.out, config.to_yaml())


def import_early(config: Config, stages: Collection[str], engine: Engine) -> None:
    """Let worker processes import what these stages need. Does not wait: the command goes on with its checks."""
    packages: tuple[str, ...] = ()
    if TAG.name in stages:
        model = resolve_model(config.text.spacy_model, warn=False)
        packages += (*packages_of_tag(replace(config.text, spacy_model=model)),)
    if DETECT.name in stages:
        packages += packages_of(config.images.detector, config.images.features)
    engine.import_packages(packages)


@dataclass(frozen=True)
class StageRun:
    """The arguments with which a stage is run. earlier: the output folder of a run with other inputs, whose results are
    taken over; "" without."""

    config: Config
    vocabulary: Vocabulary
    engine: Engine
    overwrite: bool
    import_paths: tuple[str, ...]
    earlier: str = ""

    def earlier_stage(self, stage: StageType[AnyDetails]) -> str:
        """The folder of a stage in `earlier`, "" without."""
        return files.join(self.earlier, stage.folder) if self.earlier else ""


STEPS: Mapping[str, Callable[[StageRun], Finished[AnyDetails]]] = {
    TAG.name: lambda run: run_tag(
        run.config, run.vocabulary, run.engine, overwrite=run.overwrite, earlier=run.earlier_stage(TAG)
    ),
    DETECT.name: lambda run: run_detect(
        run.config,
        run.vocabulary,
        run.engine,
        overwrite=run.overwrite,
        import_paths=run.import_paths,
        earlier=run.earlier_stage(DETECT),
    ),
    INDEX.name: lambda run: run_index(run.config, run.vocabulary, run.engine, overwrite=run.overwrite),
    MIX.name: lambda run: run_mix(run.config, run.engine, overwrite=run.overwrite),
}
"""By stage, the function that runs it."""


def check_visible_to_workers(config: Config, stages: Sequence[str]) -> None:
    """Raises CallError if workers on other machines would look for a file of this machine."""
    named = [("out", config.out)]
    if "tag" in stages:
        named += [("text.inputs", pattern) for pattern in config.text.inputs]
    if "detect" in stages:
        named += [("images.inputs", pattern) for pattern in config.images.inputs]
        if config.images.detector.startswith(TSV):
            named.append(("images.detector", config.images.detector.removeprefix(TSV)))
        if is_file_name(config.images.weights):
            named.append(("images.weights", config.images.weights))
    for key, value in named:
        if not files.is_url(value):
            raise CallError(
                f"{key}: {value!r} is on this machine, which Dataflow's workers cannot read. Copy it to a bucket and "
                "give its URL, such as gs://bucket/…."
            )


def counts_line(finished: Finished[AnyDetails] | Manifest[AnyDetails]) -> str:
    """The result of a stage in one line."""
    parts = []
    for kind, counts in finished.counts.items():
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in counts.rejected.items())
        not_used = f", {sum(counts.rejected.values()):,} not used ({reasons})" if counts.rejected else ""
        parts.append(f"{counts.written:,} of {counts.read:,} {kind}{not_used}")
    return f"{finished.stage}: {'; '.join(parts)}"
