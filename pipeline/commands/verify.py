"""`vlmixer verify`: re-read everything and say whether it is sound."""

import argparse

from vlmixer.pipeline.commands.options import Subcommands, add_json, common, positive, print_json


def add(commands: Subcommands) -> None:
    """Add the subcommand."""
    verify = commands.add_parser("verify", parents=[common()], help="re-read everything and say whether it is sound")
    verify.add_argument("folder", metavar="DIR", help="an output folder, or one stage's folder in it")
    verify.add_argument(
        "--bytes", action="store_true", help="only check that all files are present and unchanged, at disk speed"
    )
    verify.add_argument(
        "--sample", type=positive, metavar="N",
        help="a quick look: check the sizes of all files, but the contents of only N random files per stage",
    )  # fmt: skip
    add_json(verify)
    verify.set_defaults(do=run)


def run(options: argparse.Namespace) -> int:
    """Check the folder and print the problems. Returns 1 if there are any."""
    from vlmixer.pipeline.verification.integrity import Depth
    from vlmixer.pipeline.verification.verify import verify

    report = verify(options.folder, Depth(records=not options.bytes, sample=options.sample))
    if options.json:
        print_json(report.to_json())
    else:
        for problem in report.problems:
            print(f"{problem.file}: {problem.what}")
        sampled = f" (contents of at most {options.sample} files per stage)" if options.sample else ""
        print(f"{'sound' if report.sound else f'{len(report.problems)} problems'}: {report.summary()}{sampled}")
    return 0 if report.sound else 1
