"""The program `python -m vlmixer.model.finetune TASK CONFIG.yaml`, also for torchrun.

`vlmixer finetune` is the same, and finds the regions of the photos first, if the config has `images`.
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

    from vlmixer.model.tasks import TASKS

    parser = argparse.ArgumentParser(prog="python -m vlmixer.model.finetune", description="Fine-tune for a task.")
    parser.add_argument("task", choices=TASKS, metavar="TASK", help=f"one of {', '.join(TASKS)}")
    parser.add_argument("config", help="the config file (YAML)")
    parser.add_argument("--out", help="folder for the run (default: OUT/TASK)")
    parser.add_argument("--resume", action="store_true", help="continue a stopped run")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="set a key of the config")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)
    return programs.exit_code(lambda: _finetune(options), options.debug)


def _finetune(options: "Namespace") -> None:
    from vlmixer.model.finetuning import finetune
    from vlmixer.model.tasks import find_task
    from vlmixer.model.tasks.config import load_task_settings

    task = find_task(options.task)
    finetune(task, load_task_settings(options.config, task.config, options.set), options.out, options.resume)


if __name__ == "__main__":
    interrupts.exit_at_once()
    code = main()
    interrupts.exit_at_once()
    sys.exit(code)
