"""Limits of the bank's server: half-open connections lock nobody out, and requests that arrive together wait."""

import http.client
import json
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.pipeline.report.small import BankPatch, jpeg, make_bank

from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.report.connections import Limits
from vlmixer.pipeline.report.server import make_server

NEVER = 1000.0


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> PatchBank:
    """A bank of one patch."""
    folder: Path = tmp_path_factory.mktemp("limited")
    return make_bank(folder / "bank", [["dog"]], [BankPatch("d-0", "dog", jpeg("red"))])


@contextmanager
def serving(bank: PatchBank, limits: Limits) -> Iterator[int]:
    """The port of a server with these limits."""
    server = make_server(bank, "127.0.0.1", 0, max_k=4, limits=limits)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def status(port: int) -> int:
    """Of a search."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"concept": "dog"})
    connection.request("POST", "/api/search", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def send(stack: ExitStack, port: int, data: bytes) -> socket.socket:
    """An open connection on which `data` was sent."""
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
    connection.sendall(data)
    return connection


def is_ended(connection: socket.socket) -> bool:
    """Whether the server ends the connection without an answer; waits for either."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


HEAD = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("sent", [b"", b"GET / HT", HEAD, HEAD + b"Content-Length: 50\r\n\r\n{"])
def test_a_request_that_does_not_arrive_whole_is_ended(bank: PatchBank, sent: bytes) -> None:
    with serving(bank, Limits(request_seconds=0.2)) as port, ExitStack() as stack:
        assert is_ended(send(stack, port, sent))


def test_so_is_the_second_one_on_a_connection(bank: PatchBank) -> None:
    with serving(bank, Limits(request_seconds=0.5)) as port, ExitStack() as stack:
        connection = send(stack, port, b"GET /crops/d-0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200
        answer.read()
        connection.sendall(b"GET / HT")
        assert is_ended(connection)


def test_so_is_one_that_arrives_with_the_one_before(bank: PatchBank) -> None:
    first = b"GET /crops/d-0 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(bank, Limits(request_seconds=0.5)) as port, ExitStack() as stack:
        connection = send(stack, port, first + HEAD + b"Content-Length: 50\r\n\r\n{")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.read() == bank.patch("d-0").crop
        assert is_ended(connection)


def test_clients_that_take_no_answer_lock_nobody_out(bank: PatchBank) -> None:
    page = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    with serving(bank, Limits(answer_seconds=NEVER, per_address=4)) as port, ExitStack() as stack:
        for _ in range(4):
            # More than the system holds for a client that reads nothing.
            send(stack, port, (page + b"\r\n") * 400 + page + b"Connection: close\r\n\r\n")
        time.sleep(2)
        assert [status(port) for _ in range(20)] == [200] * 20


def test_half_open_connections_lock_nobody_out(bank: PatchBank) -> None:
    limits = Limits(request_seconds=NEVER, connections=10, per_address=8)
    with serving(bank, limits) as port, ExitStack() as stack:
        waiting = [send(stack, port, HEAD) for _ in range(30)]
        assert [status(port) for _ in range(20)] == [200] * 20
        assert all(is_ended(connection) for connection in waiting[:22])


def test_two_hundred_at_once_are_all_answered(bank: PatchBank) -> None:
    with serving(bank, Limits()) as port:
        found: Counter[int] = Counter()
        threads = [threading.Thread(target=lambda: found.update([status(port)])) for _ in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {200: 200}


def test_clients_that_hang_up_leave_nothing_in_the_log(bank: PatchBank, caplog: pytest.LogCaptureFixture) -> None:
    with serving(bank, Limits()) as port:
        logging.getLogger("uvicorn.error").addHandler(caplog.handler)  # not before: uvicorn sets its handlers
        for sent in (b"", HEAD, HEAD + b"Content-Length: 50\r\n\r\n{", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            with ExitStack() as stack:
                send(stack, port, sent)
        assert status(port) == 200
        logging.getLogger("uvicorn.error").removeHandler(caplog.handler)
    assert caplog.text == ""
