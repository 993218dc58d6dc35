"""The program `python -m vlmixer.model.train CONFIG.yaml`, also for torchrun; `vlmixer train` is the same.

The training itself is in model.training.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Sequence

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.model.config import load_settings
from vlmixer.model.progress import say
from vlmixer.model.training import train


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns the exit code: 0 done, 1 the work failed, 2 the call was wrong."""
    parser = argparse.ArgumentParser(prog="python -m vlmixer.model.train", description="Train on a folder of shards.")
    parser.add_argument("config", help="the config file (YAML)")
    parser.add_argument("--out", help="folder for the run (default: OUT/run)")
    parser.add_argument("--resume", action="store_true", help="continue a stopped run")
    parser.add_argument("--init", metavar="PATH", help="start from these BERT weights; the same as model.init")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="set a key of the config")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)
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
    sys.exit(main())
