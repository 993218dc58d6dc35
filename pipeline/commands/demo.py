"""`vlmixer demo`: everything, offline, on a drawn world."""

import argparse
import logging
import time

from vlmixer.pipeline.commands.options import Subcommands, add_timings, add_workers, common

LOG = logging.getLogger("vlmixer")


def add(commands: Subcommands) -> None:
    """Add the subcommand."""
    demo = commands.add_parser("demo", parents=[common()], help="run everything, offline, on a drawn world")
    demo.add_argument("--out", default="demo-out", metavar="DIR", help="output folder (default: demo-out)")
    demo.add_argument("--seed", type=int, default=0, help="another seed draws another world")
    add_workers(demo)
    demo.add_argument("--evidence", action="store_true", help="also train without parts of the method; takes long")
    demo.add_argument(
        "--small",
        action="store_true",
        help="a twentieth of the data, to try an installation in half a minute; the scores mean little",
    )
    add_timings(demo)
    demo.set_defaults(do=run, resume_hint="Rerun the same command to resume.")


def run(options: argparse.Namespace) -> int:
    """Run the demo, print its table of scores and name its page."""
    from vlmixer.pipeline.jobs.worker_server import worker_server

    began = time.monotonic()
    with worker_server(options.workers, options.beam_args) as server:
        from vlmixer.pipeline.demo.run import FULL, SMALL, run_demo
        from vlmixer.pipeline.jobs.engine import Engine
        from vlmixer.pipeline.planning.timings import Timings

        timings = Timings(began, server, options.out)
        done = run_demo(
            options.out, seed=options.seed, engine=Engine(options.workers, options.beam_args, server), timings=timings,
            plans=options.timings, evidence=options.evidence, size=SMALL if options.small else FULL,
        )  # fmt: skip
        shown = timings.to_table(done.planned)
    print(done.scores)
    if options.timings:
        print("", shown, sep="\n")
    LOG.info("page: %s", done.page)
    return 0
