"""Running units on Beam: on the local runner, or on the runner that the arguments after `--` name.

A job's graph is of one size however many units there are: they are listed in a file of the stage's work folder, from
which the job reads them. (Dataflow refuses graphs of more than 10 MB.)
"""

import logging
import os
import resource
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions
from apache_beam.runners import create_runner
from apache_beam.runners.runner import PipelineResult

from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.extras import install_command
from vlmixer.artifacts.interrupts import terminable
from vlmixer.pipeline.jobs import dataflow
from vlmixer.pipeline.jobs.do_units import ListUnits
from vlmixer.pipeline.jobs.failures import explained
from vlmixer.pipeline.jobs.processes import local_runner
from vlmixer.pipeline.jobs.proxies import exempt_loopback
from vlmixer.pipeline.jobs.worker_server import WorkerServer, names_runner, worker_server
from vlmixer.pipeline.units.failures import forget_errors, raise_error
from vlmixer.pipeline.units.listing import publish_units
from vlmixer.pipeline.units.share import Share
from vlmixer.pipeline.units.stage import AnyStage
from vlmixer.pipeline.units.unit import Content, Unit

LOG = logging.getLogger("vlmixer")
SLOW_IMPORTS = ("spacy", "torch", "torchvision")


@dataclass(frozen=True)
class Engine:
    """How to run pipelines: `workers` local processes, unless `beam_args` name a runner.

    server: where the processes come from; without it, each pipeline with several workers starts a server of its own.
    share: the part of a stage's units to do; None for all, and to finish the stage.
    """

    workers: int = 1
    beam_args: tuple[str, ...] = ()
    server: WorkerServer | None = None
    share: Share | None = None

    def run(
        self,
        stage: AnyStage,
        units: Sequence[Unit[Content]],
        content: type[Content],
        build: Callable[[beam.PCollection], object],
        *,
        label: str,
        processes: int | None = None,
        among: Collection[str] | None = None,
    ) -> None:
        """Build a pipeline on the PCollection of these units, run it, and wait for its end.

        content: the type of the units' contents. label: the job's name, on engines whose jobs have names. processes:
        the number of local processes that is enough (default: one per unit). among: the units whose errors count;
        None for all.

        Raises CallError if the system allows too few open files for the workers. Raises the UserError of a unit that
        failed, once the other units are done; a WriteError at once. Raises UserError if a worker process dies, or if
        the engine that --runner names fails. Another exception of a local pipeline is raised as it is.
        """
        exempt_loopback()
        workers = min(self.workers, max(processes or len(units), 1))
        require_open_files(workers)
        forget_errors(stage, among)
        listed = publish_units(stage, units)
        with self._workers(workers) as server:
            pipeline = _Pipeline(label, self.runner, **self._how(workers, label, server))
            try:
                with terminable("the job was cancelled.") if self.runner else nullcontext(), pipeline:
                    # Only pipelines with parts in Java use it, and it would stay behind if the process is killed.
                    os.rmdir(pipeline.local_tempdir)
                    build(pipeline | "ListUnits" >> ListUnits(stage, listed, content))
            except KeyboardInterrupt:
                if self.runner is not None and hasattr(pipeline, "result"):
                    pipeline.result.cancel()  # or the engine would continue
                raise
            except Exception as error:
                raise_error(stage, among)
                raise explained(error, self.runner) from error
        raise_error(stage, among)

    def import_packages(self, names: Sequence[str]) -> None:
        """Let local worker processes begin with these packages imported, if they are slow to import."""
        slow = [name for name in SLOW_IMPORTS if name in names]
        if self.server is not None and slow:
            self.server.import_packages(slow)

    @property
    def remote(self) -> bool:
        """Whether the workers are machines that cannot read this machine's files, as on Dataflow."""
        return self._options.view_as(StandardOptions).runner in dataflow.RUNNERS

    @property
    def runner(self) -> str | None:
        """The runner named by the arguments; None for the local one."""
        if not names_runner(self.beam_args):
            return None
        name: str = self._options.view_as(StandardOptions).runner
        return name

    @property
    def _options(self) -> PipelineOptions:
        return PipelineOptions(list(self.beam_args))

    @contextmanager
    def _workers(self, number: int) -> Iterator[WorkerServer | None]:
        """The server of this many local workers; None for one, who is this process, or if there is a runner."""
        if number > 1 and self.server is not None:
            yield self.server
        else:
            with worker_server(number, self.beam_args) as server:
                yield server

    def _how(self, workers: int, label: str, server: WorkerServer | None) -> dict[str, Any]:
        """Arguments of the pipeline."""
        if self.runner is None:
            options = PipelineOptions(["--direct_num_workers", str(workers), *self.beam_args])
            return {"runner": local_runner(options, server), "options": options}
        options = self._options
        if self.remote:
            dataflow.prepare(options, label)
        try:
            return {"runner": create_runner(self.runner), "options": options}
        except ValueError as error:
            raise CallError(f"--runner={self.runner}: Beam knows no such runner: {error}") from None
        except ImportError as error:
            install = f"Run `{install_command('gcp')}`."
            raise CallError(
                f"--runner={self.runner}: needs packages that are not installed: {error}. {install}"
            ) from None


class _Pipeline(beam.Pipeline):
    """Says how to cancel its job on an engine, for whoever kills this process."""

    def __init__(self, label: str, engine: str | None, **how: Any) -> None:
        super().__init__(**how)
        self._label, self._engine = label, engine

    def run(self, *arguments: Any, **named: Any) -> PipelineResult:
        result = super().run(*arguments, **named)
        if self._engine is not None:
            LOG.info("%s: %s", self._label, how_to_cancel(self._engine, result, self._options))
        return result


def how_to_cancel(engine: str, result: PipelineResult, options: PipelineOptions) -> str:
    """In one line, the job's id, and how to cancel the job if this process cannot."""
    if engine in dataflow.RUNNERS and hasattr(result, "job_id"):
        region = options.view_as(GoogleCloudOptions).region
        cancel = f"`gcloud dataflow jobs cancel {result.job_id()} --region={region}`"
        return f"job {result.job_id()}. If this command is killed, the job goes on; to cancel it: {cancel}"
    number = getattr(result, "_job_id", "of this command")
    return f"job {number}. If this command is killed, the job goes on; cancel it on the engine's page or command line"


def require_open_files(workers: int, base: int = 32, per_worker: int = 16) -> None:
    """Raise this process's limit of open files, as far as it may, to what it and its workers need.

    Raises CallError if that is too little: a file that cannot be opened would end the run anywhere.
    """
    needed = base + per_worker * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    most = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < needed:
        who, fewer = (
            ("1 worker needs", "") if workers == 1 else (f"{workers} workers need", ", or give fewer --workers")
        )
        raise CallError(
            f"{who} {needed} open files, and the system allows {most}. Raise the limit (ulimit -n {needed}){fewer}."
        )
