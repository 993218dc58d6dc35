"""A local worker process: Beam's own, without its messages."""

import logging
import sys

if __name__ == "__main__":
    # Before Beam is imported, which has things to say even then. Errors still come through.
    logging.disable(logging.WARNING)
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)
