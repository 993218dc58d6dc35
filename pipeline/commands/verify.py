"""`vlmixer verify`: re-read everything and say whether it is sound; `vlmixer manifest`: one hash of everything."""

import argparse

from vlmixer.pipeline.commands.options import Subcommands, add_json, common, positive, print_json, say


def add(commands: Subcommands) -> None:
    """Add the subcommands."""
    verify = commands.add_parser("verify", parents=[common()], help="re-read everything and say whether it is sound")
    verify.add_argument("folder", metavar="DIR", help="an output folder, or the folder of a stage or run")
    verify.add_argument(
        "--bytes", action="store_true", help="only check that all files are present and unchanged, at disk speed"
    )
    verify.add_argument(
        "--sample", type=positive, metavar="N",
        help="a quick look: check the sizes of all files, but the contents of only N random files per stage",
    )  # fmt: skip
    verify.add_argument(
        "--signed", metavar="FILE", help="also compare with the hash in FILE, which `vlmixer manifest` printed"
    )
    add_json(verify)
    verify.set_defaults(do=run)
    seal = commands.add_parser(
        "manifest", parents=[common()], help="print one hash of all results, to be kept elsewhere",
        epilog="Keep it where others cannot change it, or sign it; `vlmixer verify DIR --signed FILE` compares.",
    )  # fmt: skip
    seal.add_argument("folder", metavar="DIR", help="an output folder, or the folder of a stage or run")
    seal.set_defaults(do=print_hash)


def print_hash(options: argparse.Namespace) -> int:
    """Print the hash of a folder."""
    from vlmixer.pipeline.verification.seal import hash_of

    print(hash_of(options.folder))
    return 0


def run(options: argparse.Namespace) -> int:
    """Check the folder and print the problems. Returns 1 if there are any."""
    from vlmixer.pipeline.verification import seal
    from vlmixer.pipeline.verification.integrity import Depth
    from vlmixer.pipeline.verification.verify import verify

    kept = None if options.signed is None else seal.read_kept(options.signed)
    report = verify(options.folder, Depth(records=not options.bytes, sample=options.sample))
    if kept is not None:
        seal.compare(options.folder, kept, report)
    if options.json:
        print_json(report.to_json())
    else:
        for problem in report.problems:
            say(f"{problem.file}: {problem.what}")
        sampled = f" (contents of at most {options.sample} files per stage)" if options.sample else ""
        say(f"{'sound' if report.sound else f'{len(report.problems)} problems'}: {report.summary()}{sampled}")
    return 0 if report.sound else 1
