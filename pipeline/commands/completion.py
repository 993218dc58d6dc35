"""`vlmixer completion`: let the shell complete commands and options; and the answers that it asks for."""

import argparse
import os

from vlmixer.pipeline.commands.options import Subcommands, common

SHELLS = ("bash", "zsh", "fish")
ASKED = "_ARGCOMPLETE"
"""The environment variable by which a shell asks what may come next."""


def add(commands: Subcommands) -> None:
    """Add the subcommand."""
    completion = commands.add_parser(
        "completion", parents=[common()], help="let the shell complete commands and options",
        epilog='bash and zsh: eval "$(vlmixer completion bash)". fish: vlmixer completion fish | source',
    )  # fmt: skip
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(do=run)


def run(options: argparse.Namespace) -> int:
    """Print what the shell reads at its start."""
    import argcomplete

    print(argcomplete.shellcode(["vlmixer"], shell=options.shell))
    return 0


def answer(parser: argparse.ArgumentParser) -> None:
    """If the shell asks what may come next, answer and end the process."""
    if ASKED in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
