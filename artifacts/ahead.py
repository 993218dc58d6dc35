"""Items that a thread makes ahead, while the program uses the current one."""

import sys
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from threading import Event, Semaphore, Thread, current_thread
from typing import Any, TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item], count: int, patience: float = 10.0) -> Generator[Item, None, None]:
    """Yield the items. While one is used, a thread makes up to `count` of the next ones.

    The thread starts with the first item. An exception in making an item is raised in its place. Closing the iterator
    ends the thread, after the item that it is making; if that takes more than `patience` seconds, it is left alone.
    """
    free, stopped = Semaphore(count), Event()
    ready: SimpleQueue[tuple[str, Any]] = SimpleQueue()

    def make() -> None:
        try:
            while True:
                free.acquire()
                if stopped.is_set():
                    return
                ready.put(("item", next(items)))
        except StopIteration:
            ready.put(("end", None))
        except BaseException as error:
            ready.put(("error", error))

    maker = Thread(target=make, daemon=True)
    maker.start()
    try:
        while True:
            what, item = ready.get()
            if what == "end":
                return
            if what == "error":
                try:
                    raise item
                finally:
                    del item  # or the error and this frame would keep each other alive
            free.release()
            yield item
    finally:
        stopped.set()
        # When the interpreter ends, the thread is stopped, and joining it would never return.
        if not sys.is_finalizing():
            free.release()
            if maker is not current_thread():  # the garbage collector may close this generator in it
                maker.join(patience)
