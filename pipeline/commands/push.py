"""`vlmixer push`: share shards, a run or the patches of a query on Hugging Face's Hub."""

import argparse

from vlmixer.pipeline.commands.options import Subcommands, common


def add(commands: Subcommands) -> None:
    """Add the subcommand."""
    push = commands.add_parser(
        "push", parents=[common()], help="share shards, a run or the patches of a query on Hugging Face's Hub",
        epilog="Log in with `hf auth login`, or set HF_TOKEN. docs/sharing.md says what is uploaded.",
    )  # fmt: skip
    push.add_argument("folder", metavar="DIR", help="OUT/shards, OUT/run, or what `bank query --to-wds` wrote")
    push.add_argument("repo", metavar="REPO", help="the repository, OWNER/NAME; made if it is not there")
    push.add_argument("--public", action="store_true", help="let everybody see it (default: a private repository)")
    push.add_argument(
        "--replace", action="store_true", help="overwrite a repository that has files, and remove those that DIR lacks"
    )
    push.add_argument("--dry-run", action="store_true", help="check the folder and list its files; upload nothing")
    push.set_defaults(do=run)


def run(options: argparse.Namespace) -> int:
    """Check the folder and upload it."""
    from vlmixer.pipeline.sharing.hub import push
    from vlmixer.pipeline.sharing.shareable import shareable

    with shareable(options.folder, public=options.public) as found:
        if options.dry_run:
            print(*found.names, f"{len(found.names)} files, {found.bytes:,} bytes; nothing was uploaded", sep="\n")
            return 0
        address = push(found, options.repo, public=options.public, replace=options.replace)
    print(f"{len(found.names)} files, {found.bytes:,} bytes: {address}")
    if found.naming_paths:
        print(f"{' and '.join(found.naming_paths)} name the paths of your inputs.")
    return 0
