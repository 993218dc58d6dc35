"""`vlmixer run`, and its stages one by one: `tag`, `detect`, `index`, `mix`."""

import argparse
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vlmixer.artifacts import stages
from vlmixer.artifacts.errors import CallError, WriteError
from vlmixer.pipeline.commands.options import (
    OneLine,
    Subcommands,
    add_config,
    add_dry_run,
    add_timings,
    add_workers,
    common,
    print_checked,
)
from vlmixer.pipeline.commands.train import train_run
from vlmixer.pipeline.image.detectors.places import import_paths

if TYPE_CHECKING:
    from vlmixer.pipeline.config import Config
    from vlmixer.pipeline.jobs.engine import Engine
    from vlmixer.pipeline.jobs.worker_server import WorkerServer
    from vlmixer.pipeline.planning.timings import Planned
    from vlmixer.pipeline.preflight.call import Call
    from vlmixer.pipeline.units.share import Share

LOG = logging.getLogger("vlmixer")
RESUME_HINT = "Rerun the same command to resume."
WHAT_STAGES_DO = {
    "tag": "find the grounded words of the sentences",
    "detect": "find the regions of the images",
    "index": "build the patch bank",
    "mix": "write the shards",
}
SHARED_STAGES = ("tag", "detect", "mix")
"""Stages whose last pass may be shared by several commands. The last pass of `index` is short."""


def add(commands: Subcommands) -> None:
    """Add the subcommands."""
    staged = common()
    add_config(staged)
    add_workers(staged)
    staged.add_argument("--overwrite", action="store_true", help="discard earlier results and start over")
    add_dry_run(staged)
    whole = commands.add_parser(
        "run", parents=[staged], help="tag, detect, index, mix, and train if the config has a `train` section",
        epilog="Arguments after -- go to Beam: vlmixer run CONFIG.yaml -- --runner=FlinkRunner …",
    )  # fmt: skip
    whole.add_argument(
        "--extend", action="store_true",
        help="take added, changed and removed input files into a finished result; photos are not detected again",
    )  # fmt: skip
    add_timings(whole)
    whole.set_defaults(do=run, stages=stages.NAMES, resume_hint=RESUME_HINT)
    whole.set_defaults(only_units=None)
    for stage in stages.NAMES:
        parser = commands.add_parser(stage, parents=[staged], help=WHAT_STAGES_DO[stage])
        parser.set_defaults(
            do=run, stages=(stage,), extend=False, only_units=None, timings=False, resume_hint=RESUME_HINT
        )
        if stage in SHARED_STAGES:
            parser.add_argument(
                "--only-units", metavar="K/N",
                help="do share K of N of the work, beside other commands with other shares; "
                "the same command without it finishes the stage",
            )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Do the stages that the subcommand names."""
    from vlmixer.artifacts import files
    from vlmixer.pipeline.config import load_config
    from vlmixer.pipeline.jobs.worker_server import worker_server
    from vlmixer.pipeline.units.share import Share

    if options.extend and options.overwrite:
        raise CallError("--extend keeps what is done, --overwrite discards it. Give one of the two.")
    share = Share.parse(options.only_units) if options.only_units is not None else None
    if share and options.overwrite:
        raise CallError(
            "--only-units works beside other commands, whose work --overwrite discards. Give one of the two."
        )
    config = load_config(options.config, options.set, options.out)
    if share and files.is_url(config.out):
        raise CallError(f"{config.out}: --only-units needs an --out on a file system with locks, not behind a URL.")
    began = time.monotonic()
    with worker_server(1 if options.dry_run else options.workers, options.beam_args) as server:
        return _run(options, config, server, share, began)


def _run(
    options: argparse.Namespace, config: "Config", server: "WorkerServer | None", share: "Share | None", began: float
) -> int:
    from vlmixer.artifacts import files
    from vlmixer.artifacts.lock import held_together, locked
    from vlmixer.pipeline.jobs.chain import import_early
    from vlmixer.pipeline.jobs.engine import Engine, require_open_files
    from vlmixer.pipeline.preflight.call import TRAIN, Call
    from vlmixer.pipeline.preflight.preflight import check

    engine = Engine(options.workers, options.beam_args, server, share)
    trains = options.stages == stages.NAMES and config.train is not None
    call = Call(
        config,
        (*options.stages, TRAIN) if trains else options.stages,
        import_paths(options.config),
        engine.remote,
        options.overwrite or options.extend,
    )
    import_early(config, [stage for stage in options.stages if not call.is_finished(stage)], engine)
    found = check(call)
    if options.dry_run:
        print_checked(found)
        return 0
    require_open_files(1)  # before --overwrite removes anything
    _log_to(config.out)
    folder = files.join(config.out, "logs")
    if share:
        with held_together(folder):
            _run_share(options, call, engine)
    else:
        with locked(folder):
            _run_locked(options, call, engine, began)
    return 0


def _run_share(options: argparse.Namespace, call: "Call", engine: "Engine") -> None:
    from vlmixer.artifacts import files
    from vlmixer.artifacts.lock import in_turn
    from vlmixer.pipeline.jobs.chain import run_stages
    from vlmixer.pipeline.replacing import next_result
    from vlmixer.pipeline.units.share import ShareDone

    with in_turn(files.join(call.config.out, "logs")):
        next_result.finish(call.config.out)
    try:
        run_stages(call.config, options.stages, engine, overwrite=False, import_paths=call.import_paths)
    except ShareDone as done:
        LOG.info("%s", done)


def _run_locked(options: argparse.Namespace, call: "Call", engine: "Engine", began: float) -> None:
    from vlmixer.artifacts import contents, files
    from vlmixer.pipeline.jobs.chain import run_stages
    from vlmixer.pipeline.jobs.extend import extend
    from vlmixer.pipeline.planning.timings import Timings
    from vlmixer.pipeline.preflight.call import TRAIN
    from vlmixer.pipeline.replacing import next_result
    from vlmixer.pipeline.report.stages import FOLDER

    config = call.config
    timings = Timings(began, engine.server, config.out)
    planned = {}
    if options.timings and not options.extend:
        with timings.left_out():
            planned = _plan(options, engine.workers)
    files.sweep_temporaries(config.out, deep=False)
    files.sweep_temporaries(files.join(config.out, FOLDER))
    next_result.finish(config.out)
    if options.extend:
        with timings.step("extend"):
            redone = extend(config, engine, call.import_paths)
        LOG.info("redone: %s", ", ".join(f"{stage.folder}/" for stage in redone) or "nothing; the result is up to date")
        for name in next_result.trained_before(config.out) if redone else ():
            LOG.info("%s: a network that was trained on the shards as they were", files.join(config.out, name))
    else:
        run_stages(
            config, options.stages, engine, overwrite=options.overwrite, import_paths=call.import_paths,
            step=timings.step,
        )  # fmt: skip
    if options.stages == ("tag",):
        _print_tagging(config.out)
    if options.stages == ("mix",):
        _print_mixing(config.out)
    if TRAIN in call.stages:
        folder = files.join(config.out, stages.TRAIN.folder)
        if options.overwrite:
            contents.take_off(config.out, stages.TRAIN.folder)
            files.remove(folder)
        with timings.step(TRAIN):
            train_run(config, folder, resume=True)
    if options.stages == stages.NAMES:
        _print_summary(config.out)
        if options.timings:
            print("", timings.to_table(planned), sep="\n")
    else:
        _renew_page(config.out)


def _plan(options: argparse.Namespace, workers: int) -> "dict[str, Planned]":
    """What `vlmixer plan` says of this run."""
    from vlmixer.pipeline.planning.timings import plan_apart

    arguments = [options.config, *(part for one in options.set for part in ("--set", one))]
    arguments += ["--out", options.out] if options.out is not None else []
    return plan_apart([*arguments, *(["--overwrite"] if options.overwrite else [])], workers)


def _renew_page(out: str) -> None:
    """Let the page about the whole run show what one of its stages has made anew."""
    from vlmixer.artifacts import files
    from vlmixer.pipeline.report.stages import RUN, StageReport

    if files.exists(StageReport(out, RUN).page):
        from vlmixer.pipeline.report.run import renew_run_report

        renew_run_report(out)


def _print_summary(out: str) -> None:
    """What a whole run read and wrote, where its pages are, and what to do next."""
    from vlmixer.artifacts import files, manifest
    from vlmixer.pipeline.jobs.chain import counts_line
    from vlmixer.pipeline.report import mixing, tagging
    from vlmixer.pipeline.report.run import write_run_report
    from vlmixer.pipeline.report.stages import StageReport

    for stage in stages.STAGES:
        print(counts_line(manifest.read(files.join(out, stage.folder))))
    pages = [StageReport(out, name).page for name in (tagging.REPORT, mixing.REPORT)]
    pages = [write_run_report(out), *filter(files.exists, pages)]
    print("", "pages:", *(f"  {page}" for page in pages), sep="\n")
    print(
        "", "next:",
        f"  vlmixer show {out} --html samples.html    look at mixed samples",
        f"  vlmixer bank serve {files.join(out, stages.INDEX.folder)}    search the patches",
        f"  vlmixer rejects {out}    what was not used, and why",
        f"  vlmixer verify {out}    check all files",
        sep="\n",
    )  # fmt: skip


def _print_tagging(out: str) -> None:
    from vlmixer.pipeline.report.stages import StageReport
    from vlmixer.pipeline.report.tagging import REPORT, TagSummary

    report = StageReport(out, REPORT)
    if numbers := report.read(TagSummary):
        print(numbers.to_table())
        LOG.info("examples of every concept: %s", report.page)


def _print_mixing(out: str) -> None:
    from vlmixer.pipeline.report.mixing import REPORT, MixSummary
    from vlmixer.pipeline.report.stages import StageReport

    report = StageReport(out, REPORT)
    if numbers := report.read(MixSummary):
        print(numbers.to_table())
        LOG.info("concepts and the most used patches: %s", report.page)


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing: if the disk is full, the work itself fails with one message."""


def _log_to(out: str) -> None:
    """Also write what goes to stderr to OUT/logs, with the time. Nothing is kept for an output folder behind a URL."""
    if "://" in out:
        return
    from vlmixer.artifacts import files

    folder = Path(out) / "logs"
    files.refuse_link(str(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handler = _LogFile(folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log")
    except OSError as error:
        raise WriteError.of(str(folder), error) from None
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
