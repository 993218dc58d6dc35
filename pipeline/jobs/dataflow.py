"""Everything specific to Dataflow: how its jobs are named and packed, and the Flex Template that runs `vlmixer run`.

A template launches one job, but each pass of a stage is a job of its own, planned from the results of the pass before.
So the template's job is small: its only step calls the command, which submits the others and waits for them. If it is
stopped or retried, the command resumes.
"""

import argparse
import logging
import re
import shlex
import subprocess
import sys
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, SetupOptions

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.pipeline.config import load_config

LOG = logging.getLogger("vlmixer")
INHERITED = (
    "runner", "project", "region", "temp_location", "staging_location", "service_account_email", "sdk_container_image",
    "network", "subnetwork", "use_public_ips", "dataflow_kms_key", "labels",
)  # fmt: skip
"""Options of the template's job that are passed on to the jobs of the stages."""
LINES_KEPT = 20
RUNNERS = ("DataflowRunner", "dataflow", "dataflowrunner")
JOB_NAME = "vlmixer"
"""The names of jobs begin with it, unless --job_name is given."""


def prepare(options: PipelineOptions, label: str) -> None:
    """Set what every job on Dataflow needs: a name of its own, and no pickle of the program that submits it."""
    without_main_session(options)
    cloud = options.view_as(GoogleCloudOptions)
    cloud.job_name = job_name(cloud.job_name or JOB_NAME, label)


def job_name(base: str, label: str) -> str:
    """A name that Dataflow accepts and no other run has: only one job of a name may run at a time."""
    words = re.sub("[^a-z0-9]+", "-", f"{base}-{label}".lower()).strip("-")
    return f"{words}-{uuid.uuid4().hex[:8]}"


def without_main_session(options: PipelineOptions) -> None:
    """Send workers no pickle of the submitting program, as Beam does by default on Dataflow: they have our code."""
    options.view_as(SetupOptions).save_main_session = False


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the template's job from its parameters and run it; with `--template_location`, it is only written there.
    Exits with a message if the parameters are wrong."""
    try:
        command, options = plan(sys.argv[1:] if arguments is None else arguments)
        with beam.Pipeline(options=options) as pipeline:
            pipeline | "Command" >> beam.Create([command]) | "RunVlmixer" >> beam.FlatMap(run_command)
    except UserError as error:
        sys.exit(f"error: {error}")


def parser() -> argparse.ArgumentParser:
    """The template's own parameters: those of `vlmixer run`, and `beam`. All others are Beam's."""
    own = argparse.ArgumentParser(prog="vlmixer template", allow_abbrev=False)
    own.add_argument("--config", required=True)
    own.add_argument("--out", required=True)
    own.add_argument("--set", default="", help="KEY=VALUE, several with ; between them")
    own.add_argument("--overwrite", default="false", choices=["true", "false"])
    own.add_argument("--debug", default="false", choices=["true", "false"])
    own.add_argument("--beam", default="", help="further Beam options for the jobs of the stages, as on a command line")
    return own


def plan(arguments: Sequence[str]) -> tuple[tuple[str, ...], PipelineOptions]:
    """The arguments of the command, and the options of the job that runs it. Raises CallError."""
    own, others = parser().parse_known_args(list(arguments))
    options = PipelineOptions(others)
    without_main_session(options)
    # Training needs a local folder and is not a Beam job.
    assignments = [*(part.strip() for part in own.set.split(";") if part.strip()), "train=null"]
    if not files.is_url(own.out):
        raise CallError(f"out: {own.out!r} is a local folder, which workers do not share. Give a URL such as gs://….")
    # A wrong config fails here, in the launcher's log, before any machine is paid for.
    load_config(own.config, assignments, own.out)
    command = ["run", own.config, "--out", own.out]
    for assignment in assignments:
        command += ["--set", assignment]
    command += ["--overwrite"] * (own.overwrite == "true") + ["--debug"] * (own.debug == "true")
    return (*command, "--", *inherited(options), *shlex.split(own.beam)), options


def inherited(options: PipelineOptions) -> Iterator[str]:
    """The options INHERITED, as arguments for another job."""
    given: dict[str, Any] = options.get_all_options(drop_default=True)
    for name in INHERITED:
        value = given.get(name)
        if isinstance(value, bool):
            yield f"--{name}" if value else f"--no_{name}"
        elif value is not None:
            yield from (f"--{name}={entry}" for entry in (value if isinstance(value, list) else [value]))


def run_command(arguments: Sequence[str]) -> Iterator[str]:
    """Run the command in its own process; its output goes to the worker's log. Raises RuntimeError with its last lines
    if it fails."""
    last: deque[str] = deque(maxlen=LINES_KEPT)
    process = subprocess.Popen(
        [sys.executable, "-m", "vlmixer", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        LOG.info("%s", line.rstrip())
        last.append(line)
    if process.wait():
        raise RuntimeError(f"vlmixer {shlex.join(arguments)} ended with {process.returncode}:\n{''.join(last)}")
    yield "done"
