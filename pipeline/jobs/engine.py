"""Running units on Beam: the local runner chosen explicitly, or whatever the arguments after `--` ask for."""

import atexit
import gc
import logging
import os
import shlex
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners import create_runner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.transforms.environments import SubprocessSDKEnvironment
from apache_beam.utils.shared import Shared
from tqdm import tqdm

from artifacts import files
from artifacts.errors import CallError, UserError
from artifacts.manifest import Counts
from pipeline.jobs import work
from pipeline.jobs.timing import UnitTime, clock, record
from pipeline.jobs.work import Stage, Unit, Worker, publish_result, read_result

LOG = logging.getLogger(__name__)
SECONDS_A_LINE = 20


@dataclass(frozen=True)
class Engine:
    """How to run pipelines: `workers` local processes, unless `beam_args` name a runner."""

    workers: int = 1
    beam_args: tuple[str, ...] = ()

    def run(self, stage: Stage, build: Callable[[beam.Pipeline], None], units: int) -> None:
        """Build a pipeline of `units` pieces of a stage's work, run it and wait.

        Raises the UserError of a unit that met one; the other units are done all the same. Other exceptions stop the
        pipeline and pass through.
        """
        work.forget_errors(stage)
        with beam.Pipeline(**self._how(min(self.workers, units))) as pipeline:
            # Only pipelines with parts in Java use it, and where the process is killed it would stay.
            os.rmdir(pipeline.local_tempdir)
            build(pipeline)
        work.raise_error(stage)

    def _how(self, workers: int) -> dict[str, Any]:
        if any(argument.startswith("--runner") for argument in self.beam_args):
            options = PipelineOptions(list(self.beam_args))
            name = options.view_as(StandardOptions).runner
            try:
                return {"runner": create_runner(name), "options": options}
            except ValueError as error:
                raise CallError(f"--runner={name}: Beam knows no such runner: {error}") from None
        options = PipelineOptions(["--direct_num_workers", str(workers), *self.beam_args])
        # The class itself: "DirectRunner" would first try to download another runner.
        if workers == 1:
            return {"runner": FnApiRunner(), "options": options}
        command = f"{shlex.quote(sys.executable)} -m pipeline.jobs.worker"
        processes = SubprocessSDKEnvironment.from_command_string(command)
        # Worker processes learn their options from the runner's provision info alone.
        encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options(drop_default=True))
        provision = ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
        return {"runner": FnApiRunner(default_environment=processes, provision_info=provision), "options": options}


class DoUnits(beam.PTransform):
    """PCollection[Unit] → PCollection[str], the names of the units done; their results are on disk."""

    def __init__(self, stage: Stage, worker: Worker) -> None:
        super().__init__()
        self._stage = stage
        self._worker = worker

    def expand(self, units: beam.PCollection) -> beam.PCollection:
        return (
            units
            | "SpreadUnits" >> beam.Reshuffle()
            | "DoUnit" >> beam.ParDo(_DoUnit(self._stage, self._worker)).with_output_types(str)
        )


class _DoUnit(beam.DoFn):
    def __init__(self, stage: Stage, worker: Worker) -> None:
        self._stage = stage
        self._worker = worker
        self._shared = Shared()
        self._resource: Any = None

    def process(self, unit: Unit) -> Iterator[str]:
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
            if not files.exists(self._stage.stats(unit.name)):
                loaded = clock()
                publish_result(self._stage, unit, self._worker.run(unit, self._resource.value))
                spent = loaded - began, clock() - loaded, time.thread_time() - used
                record(self._stage.out, UnitTime(self._stage.name, unit.name, *spent))
        yield unit.name


class _Loaded:
    """Shared holds weak references, which not every resource allows."""

    def __init__(self, value: Any) -> None:
        self.value = value


@contextmanager
def keeping_error(stage: Stage, unit: str) -> Iterator[None]:
    """Keep a unit's UserError for `Engine.run` to raise: as an exception it would be retried in vain, and would reach
    the user as pages of a runner's own words."""
    try:
        yield
    except UserError as error:
        work.publish_error(stage, unit, error)


@contextmanager
def progress(stage: Stage, label: str, units: Sequence[str], kind: str) -> Iterator[None]:
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


def _report(stage: Stage, label: str, units: set[str], kind: str, stop: threading.Event) -> None:
    seen: set[str] = set()
    tally = Tally(kind, len(units))

    def count(*, fresh: bool) -> None:
        for unit in _done(stage, units, seen):
            seen.add(unit)
            tally.add(read_result(stage, unit).counts.values(), fresh=fresh)

    count(fresh=False)
    if seen and len(seen) < len(units):
        LOG.info("%s: %d of %d units were done before", label, len(seen), len(units))
    began, said = time.monotonic(), 0.0
    bar = tqdm(
        total=len(units), desc=label, unit="unit", disable=not sys.stderr.isatty(), initial=len(seen),
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} units{postfix}",
    )  # fmt: skip
    with bar:
        wait = 0.5
        while True:
            last = stop.wait(wait)
            looked = time.monotonic()
            count(fresh=True)
            # Listing a hundred thousand units takes long; it should be a small part of the time.
            wait = max(0.5, 20 * (time.monotonic() - looked))
            elapsed = time.monotonic() - began
            bar.update(len(seen) - bar.n)
            bar.set_postfix_str(tally.describe(elapsed))
            if bar.disable and (last or elapsed - said >= SECONDS_A_LINE):
                said = elapsed
                LOG.info("%s: %d of %d units, %s", label, len(seen), len(units), tally.describe(elapsed))
            if last:
                return


def _done(stage: Stage, units: set[str], seen: set[str]) -> list[str]:
    names = {name.removesuffix(".json") for name in files.list_files(stage.work) if name.endswith(".json")}
    return sorted((names & units) - seen)
