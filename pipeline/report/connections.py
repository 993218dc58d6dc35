"""Limits for connections to `bank serve`, added to uvicorn's own HTTP: whoever sends nothing must not keep others out.

uvicorn has a time limit between requests, but none within one. Here a request must arrive whole, head and body, within
seconds, and so must its answer be taken. A new connection over a limit ends the connection that has waited the longest
for its request, or else for its client to take the answer; if none does, the new one is closed.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True)
class Limits:
    """request_seconds: for a request to arrive. answer_seconds: for its answer to be made and taken. connections: open
    at once, in all. per_address: of one address. threads answer; other requests that have arrived wait."""

    request_seconds: float = 10.0
    answer_seconds: float = 60.0
    connections: int = 512
    per_address: int = 256


@dataclass
class _Open:
    """The open connections, in the order in which each began to wait for a request, or for its answer."""

    connections: dict["_Limited", None] = field(default_factory=dict)

    def of(self, address: str) -> list["_Limited"]:
        return [each for each in self.connections if each.address == address]


class _Limited(H11Protocol):
    """A connection with limits."""

    limits: Limits
    open: _Open
    address = ""
    _timer: asyncio.TimerHandle | None = None
    _between = False
    """Whether a request was answered and nothing of the next one has arrived."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        own = self.open.of(self.address)
        if len(own) >= self.limits.per_address:
            self._make_room(own)
        elif len(self.open.connections) >= self.limits.connections:
            self._make_room(list(self.open.connections))
        if not transport.is_closing():
            self.open.connections[self] = None
            self._wait(self.limits.request_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open.connections.pop(self, None)
        self._wait(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        new, self._between = self._between, False
        super().data_received(data)
        if not self.waiting:
            self._wait(self.limits.answer_seconds)
        elif new:
            self._wait(self.limits.request_seconds)

    def on_response_complete(self) -> None:
        super().on_response_complete()  # begins the next request, if it arrived with this one
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
            self.open.connections[self] = self.open.connections.pop(self)

    def _make_room(self, others: list["_Limited"]) -> None:
        untaken = (each for each in others if each.transport.get_write_buffer_size())
        oldest = next((each for each in others if each.waiting), None) or next(untaken, self)
        self.open.connections.pop(oldest, None)
        oldest.transport.abort()


def limited(limits: Limits) -> type[H11Protocol]:
    """uvicorn's HTTP protocol with these limits, which hold for all connections of the class together."""

    class Limited(_Limited):
        """A connection of one server."""

    made: Any = Limited
    made.limits, made.open = limits, _Open()
    return Limited


class OneLength:
    """Refuses requests that give their length twice: servers disagree on where such a request ends."""

    def __init__(self, app: ASGIApp, refusal: ASGIApp) -> None:
        self.app, self.refusal = app, refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        both = {b"content-length", b"transfer-encoding"} <= {key for key, _ in scope.get("headers", ())}
        await (self.refusal if both else self.app)(scope, receive, send)
