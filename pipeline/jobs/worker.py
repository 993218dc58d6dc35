"""A local worker process: Beam's own, without its messages. It never outlives the command that started it."""

import logging
import os
import sys

from vlmixer.artifacts.processes import end_when

PARENT = "VLMIXER_PARENT"
"""The environment variable with the process id of the command: it may be gone before this process can ask for it."""

if __name__ == "__main__":
    parent = int(os.environ.get(PARENT, os.getppid()))
    end_when(lambda: os.getppid() != parent)
    # Before Beam is imported, because it already logs then. Errors still come through.
    logging.disable(logging.WARNING)
    from apache_beam.runners.worker import sdk_worker, sdk_worker_main

    # It prints the traceback of every exception, which the command gets as well.
    sdk_worker.print = lambda *_, **__: None
    sdk_worker_main.main(sys.argv)
