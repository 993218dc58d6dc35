import subprocess
import sys
import threading
from collections.abc import Iterator
from queue import Queue

import pytest

from vlmixer.artifacts.ahead import ahead


def test_items_keep_their_order():
    assert list(ahead(iter(range(1000)), 3)) == list(range(1000))
    assert list(ahead(iter(()), 1)) == []


def test_an_error_comes_in_its_place():
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("here")

    found = ahead(broken(), 3)
    assert next(found) == 1
    with pytest.raises(ValueError, match="here"):
        next(found)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_while_an_item_is_used_so_many_are_made_and_no_more(count):
    made: Queue[int] = Queue()

    def items() -> Iterator[int]:
        for number in range(20):
            made.put(number)
            yield number

    found = ahead(items(), count)
    assert made.empty(), "nothing before it is asked for"
    for used in range(3):
        assert next(found) == used
        expected = list(range(count + 1)) if not used else [count + used]
        assert [made.get(timeout=10) for _ in expected] == expected
    found.close()
    assert made.empty()


def test_a_program_that_leaves_one_open_ends():
    program = (
        "import itertools, time\n"
        "from vlmixer.artifacts.ahead import ahead\n"
        "found = ahead((time.sleep(0.1) for _ in itertools.count()), 3)\n"
        "next(found)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_closing_ends_the_thread():
    before = set(threading.enumerate())
    endless = ahead(iter(int, 1), 3)
    assert next(endless) == 0
    (maker,) = set(threading.enumerate()) - before
    endless.close()
    assert not maker.is_alive()


def test_closing_does_not_wait_for_ever_for_an_item():
    blocked = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        blocked.wait(60)
        yield 1

    found = ahead(items(), 1, patience=0.1)
    assert next(found) == 0
    found.close()
    assert not blocked.is_set()
    blocked.set()
