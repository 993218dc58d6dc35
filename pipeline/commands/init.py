"""`vlmixer init`: look into folders, and write a first config."""

import argparse

from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.commands.options import Subcommands, common, say


def add(commands: Subcommands) -> None:
    """Add the subcommand."""
    init = commands.add_parser(
        "init", parents=[common()], help="look for captions and photos in folders, and write a first config",
        epilog="Run it in the folder in which you will run vlmixer: the config has the paths as you give them.",
    )  # fmt: skip
    init.add_argument("folders", metavar="FOLDER", nargs="+", help="a folder with captions, with photos, or with both")
    init.add_argument("--config", metavar="FILE", default="vlmixer.yaml", help="where to write it (vlmixer.yaml)")
    init.add_argument("--out", metavar="DIR", default="out", help="the output folder that it names (out)")
    init.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")
    init.set_defaults(do=run)


def run(options: argparse.Namespace) -> int:
    """Write the config and say what it is about."""
    from vlmixer.artifacts import files
    from vlmixer.pipeline.starting.first_config import first_config
    from vlmixer.pipeline.starting.looking import look

    if files.exists(options.config) and not options.overwrite:
        raise CallError(f"{options.config}: is there already. Give --overwrite to replace it, or another --config.")
    found = look(options.folders)
    if not found.captions and not found.images:
        raise CallError(
            f"{', '.join(options.folders)}: neither captions nor images. Formats: docs/tagging.md and "
            "docs/configuration.md."
        )
    files.publish_bytes(options.config, first_config(found, options.config, options.out).encode())
    for each in found.captions:
        say(f"captions: {each.pattern}, {each.number:,} files{f', field {each.field}' if each.field else ''}")
    for images in found.images:
        say(f"images: {images.pattern}, {images.number:,} files")
    if found.ignored:
        others = sorted(found.ignored.items(), key=lambda item: (-item[1], item[0]))
        say("other files: " + ", ".join(f"{number:,} {ending or 'without ending'}" for ending, number in others))
    missing = [what for what, there in (("captions", found.captions), ("images", found.images)) if not there]
    say(f"{options.config}: written" + (f"; name your {' and '.join(missing)} in it" if missing else ""))
    say(f"next: vlmixer run {options.config} --dry-run")
    return 0
