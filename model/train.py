"""The program `python -m vlmixer.model.train CONFIG.yaml`, also for torchrun; `vlmixer train` is the same.

The training itself is in model.training.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlmixer.artifacts import interrupts

if TYPE_CHECKING:
    from argparse import Namespace

# Everything else is imported later: only then is Ctrl-C handled from the first moment.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns the exit code: 0 done, 1 the work failed, 2 the call was wrong, 130 after Ctrl-C."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m vlmixer.model.train", description="Train on a folder of shards.")
    parser.add_argument("config", help="the config file (YAML)")
    parser.add_argument("--out", help="folder for the run (default: OUT/run)")
    parser.add_argument("--resume", action="store_true", help="continue a stopped run")
    parser.add_argument("--init", metavar="PATH", help="start from these BERT weights; the same as model.init")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="set a key of the config")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)
    try:
        interrupts.raise_interrupts()
        return _train(options)
    except BaseException as error:
        # Ctrl-C while a library is imported may arrive as an error of the import.
        if not isinstance(error, KeyboardInterrupt) and (options.debug or not interrupts.was_interrupted()):
            raise
        return interrupts.report(error, "Continue with --resume.", quiet=_is_further_rank())


def _is_further_rank() -> bool:
    """Whether torchrun's first process says what is to be said; ranks.from_environment knows it exactly."""
    world, rank = (os.environ.get(name, "").strip() for name in ("WORLD_SIZE", "RANK"))
    return world not in ("", "1") and rank != "0"


def _train(options: "Namespace") -> int:
    """Train. Returns the exit code."""
    import json
    import traceback

    from vlmixer.artifacts.errors import CallError, UserError
    from vlmixer.model.config import load_settings
    from vlmixer.model.progress import say
    from vlmixer.model.training import train

    try:
        given = [] if options.init is None else [f"model.init={json.dumps(options.init)}"]
        train(load_settings(options.config, [*options.set, *given]), out=options.out, resume=options.resume)
    except UserError as error:
        if options.debug:
            traceback.print_exc()
        say(f"error: {error}")
        return 2 if isinstance(error, CallError) else 1
    return 0


if __name__ == "__main__":
    interrupts.exit_at_once()
    code = main()
    interrupts.exit_at_once()
    sys.exit(code)
