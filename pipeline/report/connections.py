"""Limits for connections to `bank serve`, added to uvicorn's own HTTP: whoever sends nothing must not keep others out.

uvicorn has a time limit between requests, but none within one. Here a request must arrive whole, head and body, within
seconds, and so must its answer be taken. A new connection over a limit ends the connection that has waited the longest
for its request, or else for its client to take the answer, or else one of an address that has more of them; if there is
none, the new one is closed.
"""

import asyncio
import logging
import os
import resource
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.pipeline.report.accepting import Door

LOG = logging.getLogger(__name__)

MAX_HEAD = 1 << 14
"""Maximum bytes of a request's head, but for what is read at a time."""
FEW_CHUNKS = 256
LEAST_CHUNK = 256
"""A body may be sent in so many chunks, and in more if they have so many bytes on average. Each takes 50 microseconds,
however small it is; with a thousand of them in each turn, a client with many connections would keep others waiting."""
READ_BYTES = 1 << 13
"""What is read of a connection before it is the turn of the next one."""
FILES_OF_ITS_OWN = 16
"""Open files for all but connections and their answers: the bank's, the detector's."""
THREADS = 40
"""That answer, each with a file open (anyio's number)."""
BACKLOG = 2048
"""Connections that the system keeps until they are accepted."""
SAME_SECONDS = 10.0
"""A fault of the system is logged once in this time."""
MOST_LINES = 10
"""What else one logger may say in this time. Anyone can send bad requests without end."""
ROUNDS = 4
"""How often new connections are let in before one that was ended for them is closed."""


@dataclass(frozen=True)
class Limits:
    """request_seconds: for a request to arrive. answer_seconds: for its answer to be made and taken. end_seconds: the
    same when the server ends. connections: open at once, in all. per_address: of one address. room: those that wait to
    be let in. accepted: new ones let in at a time. THREADS answer; other requests that have arrived wait."""

    request_seconds: float = 10.0
    answer_seconds: float = 60.0
    end_seconds: float = 10.0
    connections: int = 512
    per_address: int = 256
    room: int = 256
    accepted: int = 32

    def fitting(self, files: int) -> "Limits":
        """Those for a process that may open `files` more. Raises UserError if these are too few."""
        left = files - FILES_OF_ITS_OWN
        accepted = min(self.accepted, left // (4 * ROUNDS))
        if accepted < 1:
            raise UserError(
                f"this process may open {max(files, 0)} more files; `bank serve` needs {FILES_OF_ITS_OWN + 4 * ROUNDS}."
                " Raise the limit, for example with `ulimit -n 1024`."
            )
        left -= ROUNDS * accepted
        room = min(self.room, left // 3)
        left -= room
        connections = min(self.connections, left - min(THREADS, -(-left // 2)))
        return replace(
            self, accepted=accepted, room=room, connections=connections,
            per_address=min(self.per_address, connections // 2),
        )  # fmt: skip


def files_left() -> int:
    """How many more files this process may open."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if most == resource.RLIM_INFINITY else most - len(os.listdir("/dev/fd"))


class _Chunks(h11.Connection):
    """h11's connection, which refuses a body in too many small chunks."""

    _chunks = _bytes = 0

    def next_event(self) -> Any:
        """h11's next event. Raises RemoteProtocolError."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_end
            self._bytes += len(event.data)
            if self._chunks > FEW_CHUNKS + self._bytes // LEAST_CHUNK:
                raise h11.RemoteProtocolError(f"a body in more than {FEW_CHUNKS} small chunks")
        return event


@dataclass
class _Open:
    """The open connections, in the order in which each began to wait for a request, or for its answer; also by
    address."""

    connections: dict["_Limited", None] = field(default_factory=dict)
    by_address: dict[str, dict["_Limited", None]] = field(default_factory=dict)

    def of(self, address: str) -> Collection["_Limited"]:
        return self.by_address.get(address, {})

    def add(self, one: "_Limited") -> None:
        """Add it as the last one, or make it the last one."""
        own = self.by_address.setdefault(one.address, {})
        for listed in (self.connections, own):
            listed.pop(one, None)
            listed[one] = None

    def remove(self, one: "_Limited") -> None:
        self.connections.pop(one, None)
        own = self.by_address.get(one.address, {})
        own.pop(one, None)
        if not own:
            self.by_address.pop(one.address, None)


class _Limited(H11Protocol):
    """A connection with limits."""

    limits: Limits
    open: _Open
    address = ""
    _timer: asyncio.TimerHandle | None = None
    _between = False
    """Whether a request was answered and nothing of the next one has arrived."""
    _ended = False
    """Whether the client will send no more."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.conn = _Chunks(h11.SERVER, MAX_HEAD)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]  # asyncio's own is 256 KiB
        self.address = self.client[0] if self.client else ""
        own = self.open.of(self.address)
        if len(own) >= self.limits.per_address:
            self._make_room(own)
        elif len(self.open.connections) >= self.limits.connections:
            self._make_room(self.open.connections)
        if not transport.is_closing():
            self.open.add(self)
            self._wait(self.limits.request_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open.remove(self)
        self._wait(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        new, self._between = self._between, False
        super().data_received(data)
        if not self.waiting:
            self._wait(self.limits.answer_seconds)
        elif new:
            self._wait(self.limits.request_seconds)

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client may say that it will send no more, and still take the answers to what it sent."""
        self._ended = not self.waiting
        return self._ended

    def shutdown(self) -> None:
        """The server ends: what has not arrived is not waited for."""
        if self.conn.their_state is h11.SEND_BODY:
            self.transport.abort()
            return
        super().shutdown()
        self._wait(self.limits.end_seconds)

    def _should_upgrade(self) -> bool:
        """No other protocol is spoken; uvicorn would log which packages it misses for that."""
        return False

    def on_response_complete(self) -> None:
        super().on_response_complete()  # begins the next request, if it arrived with this one
        if self._ended and self.waiting:
            self.transport.close()
        part = self.conn.their_state is h11.SEND_BODY
        self._between = self.conn.their_state is h11.IDLE
        # uvicorn's own limit between requests waits until the answer is taken, so there is one for that, too.
        self._wait(self.limits.request_seconds if part else self.limits.answer_seconds)

    @property
    def waiting(self) -> bool:
        """Whether a request has not arrived, or not whole."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def _wait(self, seconds: float | None) -> None:
        """End the connection after this time; None: do not."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)
        if self in self.open.connections:
            self.open.add(self)

    def _make_room(self, others: Collection["_Limited"]) -> None:
        waiting = (each for each in others if each.waiting)
        untaken = (each for each in others if each.transport.get_write_buffer_size())
        oldest = next(waiting, None) or next(untaken, None) or self._of_greediest()
        self.open.remove(oldest)
        oldest.transport.abort()

    def _of_greediest(self) -> "_Limited":
        """The oldest one of the address that has the most, if that has more than its own would then have."""
        greediest = max(self.open.by_address.values(), key=len)
        return next(iter(greediest)) if len(greediest) > len(self.open.of(self.address)) + 1 else self


def limited(limits: Limits) -> type[H11Protocol]:
    """uvicorn's HTTP protocol with these limits, which hold for all connections of the class together."""

    class Limited(_Limited):
        """A connection of one server."""

    made: Any = Limited
    made.limits, made.open = limits, _Open()
    return Limited


class Seldom(logging.Filter):
    """Lets a logger say MOST_LINES in SAME_SECONDS. The first one after that says how many were left out."""

    _began = 0.0
    _said = _left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is logged."""
        if record.created - self._began >= SAME_SECONDS:
            if self._left_out:
                record.msg, record.args = f"{record.getMessage()} ({self._left_out:,} lines left out before)", ()
            self._began, self._said, self._left_out = record.created, 0, 0
        self._said += 1
        self._left_out += self._said > MOST_LINES
        return self._said <= MOST_LINES


@contextmanager
def few_lines(*names: str) -> Iterator[None]:
    """In the block, these loggers are Seldom."""
    filters = {name: Seldom() for name in names}
    for name, seldom in filters.items():
        logging.getLogger(name).addFilter(seldom)
    try:
        yield
    finally:
        for name, seldom in filters.items():
            logging.getLogger(name).removeFilter(seldom)


class Server(uvicorn.Server):
    """uvicorn's server, which accepts few connections at a time, though many may wait, and says little about bad
    requests. address: logged once requests are answered and signals end it; "" for none."""

    address = ""

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer until the server is told to end."""
        with few_lines("uvicorn.error", "vlmixer.pipeline.report.server"):
            await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self._said: dict[str, float] = {}
        asyncio.get_running_loop().set_exception_handler(self._say_fault)
        self._doors = [self._door(listening) for server in self.servers for listening in server.sockets]
        if self.address:
            LOG.info("%s", self.address)

    def _door(self, listening: Any) -> Door:
        """What accepts in place of asyncio, which has the listening socket."""
        same = socket.fromfd(listening.fileno(), listening.family, listening.type)
        same.setblocking(False)
        same.listen(BACKLOG)
        make: Any = self.config.http_protocol_class
        settings = {"config": self.config, "server_state": self.server_state, "app_state": self.lifespan.state}
        door = Door(same, partial(make, **settings), make.limits.accepted, make.limits.room)
        door.open(listening.fileno())
        return door

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, and end."""
        for server in self.servers:
            server.close()
        for door in self._doors:
            door.close()
        await super().shutdown(sockets)

    def _say_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log a lack of files or memory in one line."""
        error = context.get("exception")
        if not isinstance(error, OSError | MemoryError):
            loop.default_exception_handler(context)
        elif loop.time() > self._said.get(context["message"], 0.0):
            self._said[context["message"]] = loop.time() + SAME_SECONDS
            LOG.error("%s: %s", context["message"], error or "out of memory")


def listen(host: str, port: int) -> socket.socket:
    """A socket at this address, which answers from now on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise CallError(
            f"cannot listen at {host}, port {port}: {error.strerror or error}. Give another --port; 0 takes a free one."
        ) from None


class OneLength:
    """Refuses requests that give their length twice: servers disagree on where such a request ends."""

    def __init__(self, app: ASGIApp, refusal: ASGIApp) -> None:
        self.app, self.refusal = app, refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        both = {b"content-length", b"transfer-encoding"} <= {key for key, _ in scope.get("headers", ())}
        await (self.refusal if both else self.app)(scope, receive, send)
