"""Lets new connections in to `bank serve`: those that have asked something first, and one address after the other.

A connection costs asyncio a protocol, a transport and a task, which take a fifth of a millisecond. A client that opens
thousands per second fills the system's queue that way, and whoever finds it full tries again after 1, 3, 7 and 15
seconds. Here a connection is taken off the queue first, which takes a tenth of the time. It is closed if its client has
left; the others wait in a room for their turn. If this is full, silent ones are closed; if it stays full, those of the
address that has the most, unless all are of one address: then one client cannot be told from another.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

AT_ONCE = 2048
"""Connections taken off the system's queue before others have their turn."""
PATIENT_SECONDS = 1.0
"""While the room is full for so long, others wait in the system's queue: many come at once, and it is no flood."""
FLOOD_SECONDS = 10.0
"""A flood ends when no connection had to be closed for so long."""
FEW_SILENT = 4
"""How many that have asked nothing are let in at a time."""
PAUSE_SECONDS = 1.0
"""Until the system is asked again after it lacked files or memory for a connection."""
NONE_LEFT = (BlockingIOError, InterruptedError, ConnectionAbortedError)


class Door:
    """The way in from a listening socket.

    listening: the socket, not blocking; closed by `close`. protocol: makes the protocol of a connection. at_a_time: how
    many are let in before others have their turn. room: how many wait.
    """

    def __init__(
        self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol], at_a_time: int, room: int
    ) -> None:
        self._listening, self._protocol, self._at_a_time, self._room = listening, protocol, at_a_time, room
        self._loop = asyncio.get_running_loop()
        self._asking: dict[str, deque[socket.socket]] = {}
        """By address, in the order of their turns; none is empty."""
        self._silent: deque[tuple[socket.socket, str]] = deque()
        """With their addresses."""
        self._waiting = 0
        self._full_since = self._flood_until = 0.0
        self._later: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def open(self, descriptor: int) -> None:
        """Begin. descriptor: of the listening socket; what else accepts for it is replaced."""
        self._loop.add_reader(descriptor, self._accept, descriptor)

    def close(self) -> None:
        """End, without those who wait. The descriptor must be closed."""
        if self._later is not None:
            self._later.cancel()
        while self._waiting:
            self._next().close()
        self._listening.close()

    def _accept(self, descriptor: int) -> None:
        for _ in range(AT_ONCE):
            full = self._waiting >= self._room
            if full and self._is_patient():
                break
            try:
                connection, address = self._listening.accept()
            except NONE_LEFT:
                self._full_since = 0.0
                break
            except OSError as error:
                self._loop.call_exception_handler({"message": "no connection can be accepted", "exception": error})
                self._loop.remove_reader(descriptor)
                self._loop.call_later(PAUSE_SECONDS, self._reopen, descriptor)
                break
            if full:
                self._make_room()
            self._show_in(connection, address[0])
        if self._later is None:
            self._let_in()

    def _reopen(self, descriptor: int) -> None:
        if self._listening.fileno() >= 0:
            self.open(descriptor)

    def _is_patient(self) -> bool:
        """Whether the next one waits in the system's queue, because no waiting one is to be closed."""
        if self._silent:
            return False
        now = self._loop.time()
        self._full_since = self._full_since or now
        return len(self._asking) == 1 or (now > self._flood_until and now - self._full_since < PATIENT_SECONDS)

    def _make_room(self) -> None:
        """Close one that waits."""
        if self._silent:
            self._next_silent().close()
            return
        self._flood_until = self._loop.time() + FLOOD_SECONDS
        self._next_of(max(self._asking, key=lambda address: len(self._asking[address]))).close()

    def _show_in(self, connection: socket.socket, address: str) -> None:
        """Let it wait, unless its client has left."""
        connection.setblocking(False)
        self._waiting += 1
        try:
            if connection.recv(1, socket.MSG_PEEK):
                self._asking.setdefault(address, deque()).append(connection)
                return
        except BlockingIOError:
            self._silent.append((connection, address))
            return
        except OSError:
            pass
        self._waiting -= 1
        connection.close()

    def _next(self) -> socket.socket:
        """The one that is let in next."""
        return self._next_of(next(iter(self._asking))) if self._asking else self._next_silent()

    def _next_silent(self) -> socket.socket:
        """Of those that have asked nothing, the one that has waited the longest."""
        self._waiting -= 1
        return self._silent.popleft()[0]

    def _next_of(self, address: str) -> socket.socket:
        """Of those of this address that have asked, the one that has waited the longest. The address is last then."""
        own = self._asking.pop(address)
        found = own.popleft()
        if own:
            self._asking[address] = own
        self._waiting -= 1
        return found

    def _let_in(self) -> None:
        self._later = None
        for _ in range(len(self._silent)):
            address = self._silent[0][1]
            self._show_in(self._next_silent(), address)  # it may have asked by now
        most = self._at_a_time if self._asking else FEW_SILENT
        for _ in range(min(most, self._waiting)):
            task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, self._next()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._waiting:
            self._later = self._loop.call_soon(self._let_in)
