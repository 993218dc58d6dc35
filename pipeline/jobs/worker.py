"""A local worker process: Beam's own, without its messages, and never outliving the command that started it."""

import logging
import os
import sys

from vlmixer.artifacts.processes import end_when

if __name__ == "__main__":
    parent = os.getppid()
    end_when(lambda: os.getppid() != parent)
    # Before Beam is imported, which has things to say even then. Errors still come through.
    logging.disable(logging.WARNING)
    from apache_beam.runners.worker import sdk_worker, sdk_worker_main

    # It prints the traceback of every exception, of which the command is told as well.
    sdk_worker.print = lambda *_, **__: None
    sdk_worker_main.main(sys.argv)
