"""`vlmixer plan`: what a run will take, from a short probe."""

import argparse

from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.stages import NAMES
from vlmixer.pipeline.commands.options import (
    Subcommands,
    above_zero,
    add_config,
    add_json,
    common,
    positive,
    print_json,
)
from vlmixer.pipeline.image.detectors.places import import_paths


def add(commands: Subcommands) -> None:
    """Add the subcommand."""
    plan = commands.add_parser("plan", parents=[common()], help="estimate what a run will take, from a short probe")
    add_config(plan, "output folder; only read, to see what is already done (default: the config's)")
    plan.add_argument(
        "--workers", type=positive, nargs="+", default=[], metavar="N",
        help="numbers of workers to estimate for, in addition to 1 and all processors",
    )  # fmt: skip
    plan.add_argument("--scale", type=above_zero, metavar="TIMES", help="estimate for corpora this many times as large")
    plan.add_argument("--sentences", type=positive, metavar="N", help="estimate for N sentences like these")
    plan.add_argument("--images", type=positive, metavar="N", help="estimate for N images like these")
    plan.add_argument("--price", type=above_zero, metavar="P", help="price of one worker per hour; adds the cost")
    plan.add_argument(
        "--seconds", type=above_zero, default=5.0, metavar="S", help="duration of the probe per stage (default: 5)"
    )
    plan.add_argument("--overwrite", action="store_true", help="estimate a run that discards earlier results")
    add_json(plan)
    plan.set_defaults(do=run)


def run(options: argparse.Namespace) -> int:
    """Probe and print the estimate."""
    from vlmixer.pipeline.config import load_config
    from vlmixer.pipeline.planning.plan_run import plan_run
    from vlmixer.pipeline.preflight.call import TRAIN, Call
    from vlmixer.pipeline.preflight.preflight import check

    if options.scale and (options.sentences or options.images):
        raise CallError("--scale contradicts --sentences and --images. Give one of them.")
    config = load_config(options.config, options.set, options.out)
    check(Call(config, (*NAMES, TRAIN) if config.train else NAMES, import_paths(options.config)))
    report = plan_run(
        config,
        scale=options.scale,
        sentences=options.sentences,
        images=options.images,
        workers=options.workers,
        price=options.price,
        seconds=options.seconds,
        import_paths=import_paths(options.config),
        fresh=options.overwrite,
    )
    if options.json:
        print_json(report.to_json())
    else:
        print(report.to_table())
    return 0
