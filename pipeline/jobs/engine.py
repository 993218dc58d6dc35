"""Running units on Beam: the local runner chosen explicitly, or whatever the arguments after `--` ask for.

A job's graph is of one size however many units there are: they are listed in a file of the stage's work folder, from
which the job reads them. (Dataflow refuses graphs of more than 10 MB.)
"""

import atexit
import gc
import logging
import os
import re
import shlex
import socket
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, SetupOptions, StandardOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners import create_runner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.transforms.environments import SubprocessSDKEnvironment
from apache_beam.typehints.decorators import no_annotations
from apache_beam.utils.shared import Shared
from grpc import FutureTimeoutError
from tqdm import tqdm

from vlmixer.artifacts import files
from vlmixer.artifacts.details import AnyDetails
from vlmixer.artifacts.errors import CallError, UserError, WriteError
from vlmixer.artifacts.manifest import Counts
from vlmixer.pipeline.units import work
from vlmixer.pipeline.units.timing import UnitTime, clock, record
from vlmixer.pipeline.units.work import (
    Content,
    Resource,
    Stage,
    Unit,
    Worker,
    publish_result,
    publish_units,
    read_counts,
    read_units,
)

LOG = logging.getLogger(__name__)
SECONDS_A_LINE = 20
SECONDS_A_LOOK = {False: 0.5, True: 5.0}
"""Between two looks at what is done, in a local folder and behind a URL …"""
LOOKS_SHARE = 20
"""… or so many times as long as a look takes."""
DATAFLOW = ("DataflowRunner", "dataflow", "dataflowrunner")
JOB_NAME = "vlmixer"
"""What the names of Dataflow's jobs begin with, unless --job_name says something else."""


@dataclass(frozen=True)
class Engine:
    """How to run pipelines: `workers` local processes, unless `beam_args` name a runner."""

    workers: int = 1
    beam_args: tuple[str, ...] = ()

    @property
    def elsewhere(self) -> bool:
        """Whether the work is done on machines that see nothing of this one's files: Dataflow's."""
        return self._options.view_as(StandardOptions).runner in DATAFLOW

    def run(
        self,
        stage: Stage[AnyDetails],
        units: Sequence[Unit[Content]],
        content: type[Content],
        build: Callable[[beam.PCollection], object],
        *,
        label: str,
        processes: int | None = None,
    ) -> None:
        """Build a pipeline on the PCollection of these units, run it and wait. `content` is the type of the units'
        contents; `label` names the job where jobs have names; `processes` local ones are enough for it (default: as
        many as units).

        Raises the UserError of a unit that met one; the other units are done all the same, unless it is a WriteError.
        Where --runner names another engine, its failure is a UserError, too; a local pipeline's passes through.
        """
        work.forget_errors(stage)
        listed = publish_units(stage, units)
        pipeline = beam.Pipeline(**self._how(min(self.workers, processes or len(units)), label))
        try:
            with pipeline:
                # Only pipelines with parts in Java use it, and where the process is killed it would stay.
                os.rmdir(pipeline.local_tempdir)
                build(pipeline | "ListUnits" >> ListUnits(stage, listed, content))
        except KeyboardInterrupt:
            if self.runner is not None and hasattr(pipeline, "result"):
                pipeline.result.cancel()  # or the engine would go on with it
            raise
        except Exception as error:
            work.raise_error(stage)
            raise _explained(error, self.runner) from error
        work.raise_error(stage)

    @property
    def runner(self) -> str | None:
        """The runner that the arguments name; None for the local one."""
        if not any(argument.startswith("--runner") for argument in self.beam_args):
            return None
        name: str = self._options.view_as(StandardOptions).runner
        return name

    @property
    def _options(self) -> PipelineOptions:
        return PipelineOptions(list(self.beam_args))

    def _how(self, workers: int, label: str) -> dict[str, Any]:
        if self.runner is not None:
            options = self._options
            if self.elsewhere:
                without_main_session(options)
                cloud = options.view_as(GoogleCloudOptions)
                cloud.job_name = job_name(cloud.job_name or JOB_NAME, label)
            try:
                return {"runner": create_runner(self.runner), "options": options}
            except ValueError as error:
                raise CallError(f"--runner={self.runner}: Beam knows no such runner: {error}") from None
            except ImportError as error:
                install = "Run `pip install 'vlmixer[gcp]'`."
                raise CallError(
                    f"--runner={self.runner}: needs packages that are not installed: {error}. {install}"
                ) from None
        options = PipelineOptions(["--direct_num_workers", str(workers), *self.beam_args])
        # The class itself: "DirectRunner" would first try to download another runner.
        if workers == 1:
            return {"runner": FnApiRunner(), "options": options}
        # -P: the working folder, whatever files the user has there, does not go to the front of sys.path.
        command = f"exec {shlex.quote(sys.executable)} -P -m vlmixer.pipeline.jobs.worker"
        processes = SubprocessSDKEnvironment.from_command_string(command)
        # Worker processes learn their options from the runner's provision info alone.
        encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options(drop_default=True))
        provision = ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
        return {"runner": FnApiRunner(default_environment=processes, provision_info=provision), "options": options}


def without_main_session(options: PipelineOptions) -> None:
    """Say that workers need no pickle of the program that submits the job: all our code is installed there. On Dataflow
    Beam would send one by default."""
    options.view_as(SetupOptions).save_main_session = False


def _explained(error: Exception, runner: str | None) -> Exception:
    """What to raise for an exception that stopped a pipeline. Engines pass on what a worker raised as text."""
    text = str(error)
    if isinstance(error, UserError):
        return type(error)(_WHERE.sub("", text))
    found = _OURS.search(text)
    if found:
        kinds = {kind.__name__: kind for kind in (CallError, UserError, WriteError)}
        return kinds.get(found["kind"], UserError)(_WHERE.sub("", found["message"]))
    if runner is None:
        return error
    if isinstance(error, FutureTimeoutError):
        return UserError(
            f"--runner={runner}: no job server answered in time. Start it, and give its address by --job_endpoint."
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    cause = next((line for line in reversed(lines) if line.startswith("Caused by: ")), "")
    said = lines[0] if cause else next((line for line in reversed(lines) if _SAID.match(line)), lines[0])
    because = f"; c{cause[1:300]}" if cause else ""
    return UserError(
        f"--runner={runner}: the job failed: {said[:300]}{because}. OUT/logs and the runner's own log have it all. "
        "What is done is kept: the same command goes on from there."
    )


_OURS = re.compile(r"\bartifacts\.errors\.(?P<kind>\w+): (?P<message>.+)")
_WHERE = re.compile(r" \[while running '.*")
_SAID = re.compile(r"[\w.$]*(Error|Exception)\b")


def job_name(base: str, label: str) -> str:
    """A name that Dataflow takes, told from those of other runs: only one job of a name may run at a time."""
    words = re.sub("[^a-z0-9]+", "-", f"{base}-{label}".lower()).strip("-")
    return f"{words}-{uuid.uuid4().hex[:8]}"


class ListUnits(beam.PTransform):
    """PBegin → PCollection[Unit]: the units that `publish_units` wrote to file `name`, with contents of this type."""

    def __init__(self, stage: Stage[AnyDetails], name: str, content: type) -> None:
        super().__init__()
        self._stage = stage
        self._name = name
        self._content = content

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        return (
            begin
            | "Begin" >> beam.Impulse()
            | "ReadUnits" >> beam.FlatMap(_read_units, self._stage, self._name, self._content).with_output_types(Unit)
        )


@no_annotations
def _read_units(_: bytes, stage: Stage[AnyDetails], name: str, content: type[Content]) -> Iterator[Unit[Content]]:
    check_under_way(stage)
    return read_units(stage, name, content)


class DoUnits(beam.PTransform):
    """PCollection[Unit] → PCollection[str], the names of the units done; their results are on disk.

    hints: Beam's resource hints for the step that does the work, and for no other.
    """

    def __init__(
        self, stage: Stage[AnyDetails], worker: Worker[Content, Resource], hints: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self._stage = stage
        self._worker = worker
        self._hints = dict(hints or {})

    def expand(self, units: beam.PCollection) -> beam.PCollection:
        do = beam.ParDo(_DoUnit(self._stage, self._worker)).with_output_types(str)
        return (
            units
            | "SpreadUnits" >> beam.Reshuffle()
            | "DoUnit" >> (do.with_resource_hints(**self._hints) if self._hints else do)
        )


class _DoUnit(beam.DoFn):
    def __init__(self, stage: Stage[AnyDetails], worker: Worker[Any, Any]) -> None:
        self._stage = stage
        self._worker = worker
        self._shared = Shared()
        self._resource: Any = None
        self._folder = os.getcwd()

    def setup(self) -> None:
        # Relative paths of the config mean what they mean here, if the worker has such a folder.
        if os.path.isdir(self._folder):
            os.chdir(self._folder)

    @no_annotations
    def process(self, unit: Unit[Any]) -> Iterator[str]:
        with keeping_error(self._stage, unit.name):
            began, used = clock(), time.thread_time()
            if self._resource is None:
                self._resource = self._shared.acquire(lambda: _Loaded(self._worker.load()))
                # What is loaded stays: the collector need not look through it again and again, which took a tenth of
                # the time of tagging.
                gc.collect()
                gc.freeze()
                atexit.register(gc.unfreeze)  # or libraries complain about what they find left at the end
            # A runner that retries may bring a unit again that is done.
            if not files.has_file(self._stage.stats(unit.name)):
                loaded = clock()
                publish_result(self._stage, unit, self._worker.run(unit, self._resource.value))
                spent = loaded - began, clock() - loaded, time.thread_time() - used
                record(self._stage.out, UnitTime(self._stage.name, unit.name, *spent))
        yield unit.name


class _Loaded:
    """Shared holds weak references, which not every resource allows."""

    def __init__(self, value: Any) -> None:
        self.value = value


def check_under_way(stage: Stage[AnyDetails]) -> None:
    """Raises WriteError where a worker does not see that the stage is under way."""
    if not files.exists(stage.plan):
        raise WriteError(
            f"{stage.plan}: not there for the worker on {socket.gethostname()}. Either another run has taken the place "
            "of this one, or the workers do not see the output folder: give an --out that is one place for all of "
            "them, a shared file system or a URL."
        )


@contextmanager
def keeping_error(stage: Stage[AnyDetails], unit: str) -> Iterator[None]:
    """Keep a unit's UserError for `Engine.run` to raise: as an exception it would be retried in vain, and would reach
    the user as pages of a runner's own words. Raises WriteError where the stage is not under way."""
    check_under_way(stage)
    try:
        yield
    except WriteError:
        raise  # No other unit will do better, and there is no place to keep it.
    except UserError as error:
        work.publish_error(stage, unit, error)


@contextmanager
def progress(stage: Stage[AnyDetails], label: str, units: Sequence[str], kind: str) -> Iterator[None]:
    """Report while the block runs, read from the units' stats on disk, so it holds for any engine and after a restart.

    A bar where stderr is a terminal, a line now and then where it is not.
    """
    stop = threading.Event()
    reporter = threading.Thread(target=_report, args=(stage, label, set(units), kind, stop), daemon=True)
    reporter.start()
    try:
        yield
    finally:
        stop.set()
        reporter.join()


@dataclass
class Tally:
    """What the units that are done add up to; `fresh` is what this command did of it, not one before."""

    kind: str
    units: int
    done: int = 0
    items: int = 0
    fresh_done: int = 0
    fresh_items: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def add(self, counts: Iterable[Counts], *, fresh: bool) -> None:
        """Count a unit in."""
        read = 0
        for entry in counts:
            read += entry.read
            self.rejected.update(entry.rejected)
        self.done += 1
        self.items += read
        self.fresh_done += fresh
        self.fresh_items += read * fresh

    def describe(self, seconds: float) -> str:
        """Items, how many a second, those not used by reason, and the time that is left; `seconds` since the start."""
        parts = [f"{self.items:,} {self.kind}"]
        if self.fresh_items and seconds > 0:
            rate = self.fresh_items / seconds
            parts.append(f"{rate:,.0f} {self.kind}/s" if rate >= 100 else f"{rate:.3g} {self.kind}/s")
        if self.rejected:
            reasons = ", ".join(f"{number:,} {reason}" for reason, number in self.rejected.most_common())
            parts.append(f"{self.rejected.total():,} not used ({reasons})")
        if self.fresh_done and self.done < self.units:
            parts.append(f"about {_duration(seconds / self.fresh_done * (self.units - self.done))} left")
        return ", ".join(parts)


def _duration(seconds: float) -> str:
    """In two units at most."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _report(stage: Stage[AnyDetails], label: str, units: set[str], kind: str, stop: threading.Event) -> None:
    seen: set[str] = set()
    tally = Tally(kind, len(units))

    def count(*, fresh: bool) -> None:
        new = _done(stage, units, seen)
        seen.update(new)
        for counts in read_counts(stage, new):
            tally.add(counts.values(), fresh=fresh)

    count(fresh=False)
    if seen and len(seen) < len(units):
        LOG.info("%s: %d of %d units were done before", label, len(seen), len(units))
    began, said, took = time.monotonic(), 0.0, 0.0
    bar = tqdm(
        total=len(units), desc=label, unit="unit", disable=not sys.stderr.isatty(), initial=len(seen),
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} units{postfix}",
    )  # fmt: skip
    with bar:
        while True:
            # Listing a large folder of a store takes a while, and is paid for.
            last = stop.wait(max(SECONDS_A_LOOK[files.is_url(stage.work)], LOOKS_SHARE * took))
            took = -time.monotonic()
            count(fresh=True)
            took += time.monotonic()
            elapsed = time.monotonic() - began
            bar.update(len(seen) - bar.n)
            bar.set_postfix_str(tally.describe(elapsed))
            if bar.disable and (last or elapsed - said >= SECONDS_A_LINE):
                said = elapsed
                LOG.info("%s: %d of %d units, %s", label, len(seen), len(units), tally.describe(elapsed))
            if last:
                return


def _done(stage: Stage[AnyDetails], units: set[str], seen: set[str]) -> list[str]:
    names = {name.removesuffix(".json") for name in files.list_files(stage.work) if name.endswith(".json")}
    return sorted((names & units) - seen)
