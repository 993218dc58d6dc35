"""A local worker process: Beam's own, without its messages, and never outliving the command that started it."""

import logging
import os
import sys
import threading
import time


def _end_with(parent: int) -> None:
    """A killed command must not leave behind a worker that writes into what the next one does."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    # Before Beam is imported, which has things to say even then. Errors still come through.
    logging.disable(logging.WARNING)
    from apache_beam.runners.worker import sdk_worker, sdk_worker_main

    # It prints the traceback of every exception, of which the command is told as well.
    sdk_worker.print = lambda *_, **__: None
    sdk_worker_main.main(sys.argv)
