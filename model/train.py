"""The program `python -m vlmixer.model.train CONFIG.yaml`, also for torchrun; `vlmixer train` is the same.

The training itself is in model.training.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlmixer.artifacts import interrupts
from vlmixer.model import programs

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
    return programs.exit_code(lambda: _train(options), options.debug)


def _train(options: "Namespace") -> None:
    import json

    from vlmixer.model.config import load_settings
    from vlmixer.model.training import train

    given = [] if options.init is None else [f"model.init={json.dumps(options.init)}"]
    train(load_settings(options.config, [*options.set, *given]), out=options.out, resume=options.resume)


if __name__ == "__main__":
    interrupts.exit_at_once()
    code = main()
    interrupts.exit_at_once()
    sys.exit(code)
