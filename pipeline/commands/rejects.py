"""`vlmixer rejects`: what a run did not use, and why."""

import argparse
import difflib

from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.commands.options import Subcommands, add_json, common, positive, print_json

LISTED = 20


def add(commands: Subcommands) -> None:
    """Add the subcommand."""
    from vlmixer.artifacts import stages

    rejects = commands.add_parser("rejects", parents=[common()], help="what a run did not use, and why")
    rejects.add_argument("out", metavar="OUT", help="an output folder")
    rejects.add_argument("--reason", metavar="NAME", help="only this reason; also lists the first inputs")
    rejects.add_argument("--stage", choices=stages.NAMES, help="only this stage")
    rejects.add_argument(
        "-n", type=positive, metavar="N", help=f"list the first N inputs (default: {LISTED} with --reason)"
    )
    add_json(rejects)
    rejects.set_defaults(do=run)


def run(options: argparse.Namespace) -> int:
    """Count, list and print."""
    from vlmixer.artifacts import files
    from vlmixer.artifacts.rejects import HTTP, REASONS
    from vlmixer.pipeline.report.rejects import FOLDER, read_rejects

    if options.reason is not None and options.reason not in REASONS and not HTTP.fullmatch(options.reason):
        near = difflib.get_close_matches(options.reason, REASONS, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(REASONS)}."
        raise CallError(f"--reason {options.reason}: no such reason; {hint}")
    out = options.out.rstrip("/").removesuffix(f"/{FOLDER}") if options.out.strip("/") else options.out
    if not any(files.exists(files.join(out, name)) for name in (FOLDER, "config.yaml", "tagged", "regions")):
        raise CallError(f"{options.out}: no run here. Give the output folder of `vlmixer run`.")
    listed = options.n or (LISTED if options.reason else 0)
    report = read_rejects(out, reason=options.reason, stage=options.stage, listed=listed)
    if options.json:
        print_json(report.to_json())
    else:
        print(report.to_table())
    return 0
