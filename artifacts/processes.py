"""Processes that do not outlive the one that started them."""

import os
import threading
import time
from collections.abc import Callable


def end_when(gone: Callable[[], bool]) -> None:
    """End this process, at once and silently, as soon as `gone` says that its parent has ended.

    Processes of a killed command must not write into the results of the next one, or wait forever.
    """
    threading.Thread(target=_watch, args=(gone,), daemon=True).start()


def _watch(gone: Callable[[], bool]) -> None:
    while not gone():
        time.sleep(0.2)
    os._exit(1)
