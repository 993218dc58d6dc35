"""Processes that do not outlive the one that started them."""

import os
import threading
import time
from collections.abc import Callable


def end_when(gone: Callable[[], bool]) -> None:
    """From now on this process ends, at once and without a word, when the one that started it is `gone`.

    A killed command must leave nothing behind that writes into what the next one does, or waits for it for ever.
    """
    threading.Thread(target=_watch, args=(gone,), daemon=True).start()


def _watch(gone: Callable[[], bool]) -> None:
    while not gone():
        time.sleep(0.2)
    os._exit(1)
