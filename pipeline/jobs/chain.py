"""Runs the stages one after the other."""

import logging
from collections.abc import Callable, Sequence

from vlmixer.artifacts import files
from vlmixer.artifacts.details import AnyDetails
from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.manifest import Manifest
from vlmixer.bank.concepts import load_vocabulary
from vlmixer.pipeline.config import Config
from vlmixer.pipeline.image.detectors.loading import TSV, is_file_name
from vlmixer.pipeline.jobs.detect import run_detect
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.index import run_index
from vlmixer.pipeline.jobs.mix import run_mix
from vlmixer.pipeline.jobs.tag import run_tag

LOG = logging.getLogger("vlmixer")


def run_stages(
    config: Config, stages: Sequence[str], engine: Engine, *, overwrite: bool, import_paths: Sequence[str]
) -> None:
    """Do these stages in order; each resumes where it stopped. Raises UserError, CallError."""
    if engine.remote:
        check_visible_to_workers(config, stages)
    vocabulary = load_vocabulary(config.vocabulary)
    steps: dict[str, Callable[[], Manifest[AnyDetails]]] = {
        "tag": lambda: run_tag(config, vocabulary, engine, overwrite=overwrite),
        "detect": lambda: run_detect(config, vocabulary, engine, overwrite=overwrite, import_paths=import_paths),
        "index": lambda: run_index(config, vocabulary, engine, overwrite=overwrite),
        "mix": lambda: run_mix(config, engine, overwrite=overwrite),
    }
    for stage in stages:
        LOG.info("%s", describe(steps[stage]()))
        files.publish_bytes(files.join(config.out, "config.yaml"), config.to_yaml().encode())


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


def describe(finished: Manifest[AnyDetails]) -> str:
    """The result of a stage in one line."""
    parts = []
    for kind, counts in finished.counts.items():
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in counts.rejected.items())
        not_used = f", {sum(counts.rejected.values()):,} not used ({reasons})" if counts.rejected else ""
        parts.append(f"{counts.written:,} of {counts.read:,} {kind}{not_used}")
    return f"{finished.stage}: {'; '.join(parts)}"
