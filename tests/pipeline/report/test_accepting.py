"""Who is let in to the bank's server, and in what order."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from vlmixer.pipeline.report import accepting
from vlmixer.pipeline.report.accepting import Door

Client = tuple[str, bytes | None]
"""The last digit of an address of this machine, and what it sends; None if it leaves."""


def let_in(clients: Sequence[Client], expected: int, *, at_a_time: int = 1, room: int = 100) -> list[str]:
    """The clients that get a protocol, in order, when all of them have come before the door is opened."""
    found: list[str] = []

    class Noting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            found.append(transport.get_extra_info("peername")[0][-1])

    async def come() -> None:
        with ExitStack() as stack:
            listening = socket.create_server(("127.0.0.1", 0), backlog=100)
            for digit, sent in clients:
                client = socket.create_connection(listening.getsockname(), source_address=(f"127.0.0.{digit}", 0))
                stack.callback(client.close)
                client.sendall(sent or b"")
                if sent is None:
                    client.close()
            listening.setblocking(False)
            door = Door(listening, Noting, at_a_time, room)
            door.open(listening.fileno())
            while len(found) < expected:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)  # no more come
            asyncio.get_running_loop().remove_reader(listening.fileno())
            door.close()

    asyncio.run(asyncio.wait_for(come(), 20))
    return found


def test_addresses_take_turns_and_silent_clients_come_last() -> None:
    clients = [("1", b""), ("2", b"GET"), ("2", b"GET"), ("2", b"GET"), ("3", b"GET")]
    assert let_in(clients, 5) == ["2", "3", "2", "2", "1"]


def test_clients_that_have_left_cost_no_protocol() -> None:
    assert let_in([("1", None)] * 20 + [("2", b"G")], 1) == ["2"]


def test_many_at_once_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = [("3", b"G")] + [("2", b"G")] * 9
    assert let_in(clients, 10, at_a_time=2, room=3).count("2") == 9
    monkeypatch.setattr(accepting, "PATIENT_SECONDS", 0.0)
    assert let_in(clients[1:], 9, at_a_time=2, room=3) == ["2"] * 9  # of one address all of them wait


def test_in_a_flood_the_silent_and_the_greedy_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "PATIENT_SECONDS", 0.0)
    assert let_in([("2", b"G"), ("3", b"G")] + [("2", b"G")] * 9, 3, room=3) == ["3", "2", "2"]
    assert let_in([("2", b"")] * 9 + [("3", b"G")] * 3, 3, room=3) == ["3"] * 3
