"""Things made ahead by a thread, beside the work of what uses them."""

import sys
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from threading import Event, Semaphore, Thread, current_thread
from typing import Any, TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item], count: int) -> Generator[Item, None, None]:
    """The items; while one is used, up to `count` of those that follow it are made by a thread.

    The thread begins when the first item is asked for. What making an item raises is raised in its place. Closing the
    iterator ends the thread, once it is done with the item that it is making.
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
                    del item  # else the error and this frame would hold on to each other
            free.release()
            yield item
    finally:
        stopped.set()
        # At the end of the program such a thread stands still, and could be waited for for ever.
        if not sys.is_finalizing():
            free.release()
            if maker is not current_thread():  # where the garbage collector closes this one
                maker.join()
