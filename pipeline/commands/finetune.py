"""`vlmixer finetune`: fine-tune a pre-trained run for a downstream task. The regions of its photos are found first."""

import argparse
import os
from dataclasses import replace

from vlmixer.artifacts.errors import CallError
from vlmixer.model.tasks import TASKS
from vlmixer.pipeline.commands.options import (
    Subcommands,
    add_config,
    add_dry_run,
    add_workers,
    common,
    print_checked,
)
from vlmixer.pipeline.image.detectors.places import import_paths


def add(commands: Subcommands) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("finetune", parents=[common()], help="fine-tune a training run for a downstream task")
    parser.add_argument("task", choices=TASKS, metavar="TASK", help=f"one of {', '.join(TASKS)}")
    add_config(parser, "folder of the fine-tuned run (default: OUT/TASK)")
    parser.add_argument("--resume", action="store_true", help="continue a fine-tuning that stopped")
    add_workers(parser)
    add_dry_run(parser)
    parser.set_defaults(do=run, resume_hint="Add --resume to continue.")


def run(options: argparse.Namespace) -> int:
    """Find the regions of the config's photos, if it names any, and fine-tune."""
    import torch

    from vlmixer.model.finetuning import finetune, prepare
    from vlmixer.model.tasks import find_task
    from vlmixer.model.tasks.config import load_task_settings

    task = find_task(options.task)
    settings = load_task_settings(options.config, task.config, options.set)
    if not settings.task.train:
        raise CallError(f"task.train: empty. Name the official files of {task.title} to train on.")
    unfinished = settings.task.regions is None and _detect(options)
    if options.dry_run:
        print_checked([] if unfinished else [prepare(task, settings)])
        return 0
    torch.set_num_threads(os.cpu_count() or 1)
    finetune(task, settings, options.out, options.resume)
    return 0


def _detect(options: argparse.Namespace) -> bool:
    """Do the stage `detect`, or, in a dry run, check what it needs. Returns whether the stage is not finished."""
    from vlmixer.artifacts import files
    from vlmixer.artifacts.lock import locked
    from vlmixer.artifacts.stages import DETECT
    from vlmixer.pipeline.config import load_config
    from vlmixer.pipeline.jobs.chain import run_stages
    from vlmixer.pipeline.jobs.engine import Engine
    from vlmixer.pipeline.jobs.worker_server import worker_server
    from vlmixer.pipeline.preflight.call import Call
    from vlmixer.pipeline.preflight.preflight import check

    config = load_config(options.config, options.set)
    if not config.images.inputs:
        return False
    engine = Engine(options.workers, options.beam_args)
    places = tuple(import_paths(options.config))
    call = Call(config, (DETECT.name,), places, engine.remote)
    found = check(call)
    if options.dry_run:
        print(*found, sep="\n")
        return not call.is_finished(DETECT.name)
    with locked(files.join(config.out, "logs")), worker_server(options.workers, options.beam_args) as server:
        run_stages(config, (DETECT.name,), replace(engine, server=server), overwrite=False, import_paths=places)
    return False
