"""The stages one after the other."""

import logging
from collections.abc import Sequence

from artifacts import files
from artifacts.manifest import Manifest
from bank.concepts import load_vocabulary
from pipeline.config import Config
from pipeline.jobs.detect import run_detect
from pipeline.jobs.engine import Engine
from pipeline.jobs.index import run_index
from pipeline.jobs.mix import run_mix
from pipeline.jobs.tag import run_tag

LOG = logging.getLogger("vlmixer")


def run_stages(
    config: Config, stages: Sequence[str], engine: Engine, *, overwrite: bool, import_paths: Sequence[str]
) -> None:
    """Do these stages in order, each from where it was left. Raises UserError, CallError."""
    vocabulary = load_vocabulary(config.vocabulary)
    steps = {
        "tag": lambda: run_tag(config, vocabulary, engine, overwrite=overwrite),
        "detect": lambda: run_detect(config, vocabulary, engine, overwrite=overwrite, import_paths=import_paths),
        "index": lambda: run_index(config, vocabulary, engine, overwrite=overwrite),
        "mix": lambda: run_mix(config, engine, overwrite=overwrite),
    }
    for stage in stages:
        LOG.info("%s", describe(steps[stage]()))
        files.publish_bytes(files.join(config.out, "config.yaml"), config.to_yaml().encode())


def describe(finished: Manifest) -> str:
    """A stage's result in a line."""
    parts = []
    for kind, counts in finished.counts.items():
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in counts.rejected.items())
        not_used = f", {sum(counts.rejected.values()):,} not used ({reasons})" if counts.rejected else ""
        parts.append(f"{counts.written:,} of {counts.read:,} {kind}{not_used}")
    return f"{finished.stage}: {'; '.join(parts)}"
