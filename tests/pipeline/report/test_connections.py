"""Limits of the bank's server: half-open connections lock nobody out, and requests that arrive together wait."""

import http.client
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from tests.pipeline.report.small import BankPatch, jpeg, make_bank

from vlmixer.artifacts.errors import UserError
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.report.connections import FEW_CHUNKS, LEAST_CHUNK, MOST_LINES, SAME_SECONDS, Limits, Seldom
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


def test_bad_requests_leave_few_lines_in_the_log(bank: PatchBank, caplog: pytest.LogCaptureFixture) -> None:
    with serving(bank, Limits()) as port:
        logging.getLogger("uvicorn.error").addHandler(caplog.handler)
        for _ in range(3 * MOST_LINES):
            with ExitStack() as stack:
                assert b"400 Bad Request" in answers(send(stack, port, b"no request\r\n\r\n"))
        logging.getLogger("uvicorn.error").removeHandler(caplog.handler)
    assert 1 <= len(caplog.records) <= MOST_LINES


def test_how_many_lines_were_left_out_is_said_later() -> None:
    seldom = Seldom()
    records = [logging.LogRecord("x", logging.ERROR, "", 0, "number %d", (place,), None) for place in range(14)]
    for place, record in enumerate(records):
        record.created = 100.0 + (place == 13) * SAME_SECONDS
    passed = [record.getMessage() for record in records if seldom.filter(record)]
    assert passed == [*(f"number {place}" for place in range(10)), "number 13 (3 lines left out before)"]


def answers(connection: socket.socket) -> bytes:
    """All that the server sends until it ends the connection."""
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_a_client_that_ends_its_side_is_answered_what_it_asked(bank: PatchBank) -> None:
    request = b"GET /crops/d-0 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(bank, Limits()) as port, ExitStack() as stack:
        connection = send(stack, port, request * 3)
        connection.shutdown(socket.SHUT_WR)
        assert answers(connection).count(bank.patch("d-0").crop) == 3
        half = send(stack, port, HEAD + b"Content-Length: 50\r\n\r\n{")
        half.shutdown(socket.SHUT_WR)
        assert answers(half) == b""


def test_a_body_in_too_many_small_chunks_is_refused(bank: PatchBank) -> None:
    question = b'{"concept": "dog"}'
    head = HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"

    def asked(spaces: int, of: int = 1) -> bytes:
        with ExitStack() as stack:
            letters = b"".join(b"1\r\n%c\r\n" % each for each in question)
            letters += b"%x\r\n%b\r\n" % (of, b" " * of) * spaces
            try:
                connection = send(stack, port, head + letters + b"0\r\n\r\n")
                return answers(connection)
            except ConnectionResetError:  # it does not read what follows
                return b"HTTP/1.1 400 "

    with serving(bank, Limits()) as port:
        assert asked(FEW_CHUNKS - len(question)).startswith(b"HTTP/1.1 200 ")
        assert asked(3 * FEW_CHUNKS, LEAST_CHUNK).startswith(b"HTTP/1.1 200 ")
        assert asked(FEW_CHUNKS - len(question) + 2).startswith(b"HTTP/1.1 400 ")


def test_an_address_with_many_busy_connections_makes_room_for_another(bank: PatchBank) -> None:
    limits = Limits(connections=8, per_address=8)
    questions = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100
    with serving(bank, limits) as port, ExitStack() as stack:
        for _ in range(8):
            connection = stack.enter_context(
                socket.create_connection(("127.0.0.1", port), timeout=60, source_address=("127.0.0.2", 0))
            )
            connection.sendall(questions)
        assert [status(port) for _ in range(4)] == [200] * 4


def test_the_server_ends_without_those_who_send_or_take_nothing(bank: PatchBank) -> None:
    limits = Limits(request_seconds=NEVER, answer_seconds=NEVER, end_seconds=0.2)
    with ExitStack() as stack, serving(bank, limits) as port:
        send(stack, port, HEAD + b"Content-Length: 50\r\n\r\n{")
        send(stack, port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 400)
        assert status(port) == 200


def test_connections_fit_into_the_files_that_the_process_may_open() -> None:
    assert Limits().fitting(1 << 20) == Limits()
    for files in range(32, 2000):
        limits = Limits().fitting(files)
        assert limits.connections + 4 * limits.accepted + limits.room + min(limits.connections, 40) + 16 <= files
        assert limits.per_address >= 1
    with pytest.raises(UserError, match="may open 31 more files; `bank serve` needs 32"):
        Limits().fitting(31)


def test_with_few_files_there_is_neither_a_lockout_nor_a_traceback(bank: PatchBank) -> None:
    command = f"ulimit -n 64; exec {sys.executable} -m vlmixer bank serve {bank.folder} --port 0"
    process = subprocess.Popen(["bash", "-c", command], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        port = next(int(line.rpartition(":")[2]) for line in lines if "http://" in line)
        with ExitStack() as stack:
            for _ in range(200):
                with suppress(OSError):
                    send(stack, port, HEAD)
            assert [status(port) for _ in range(5)] == [200] * 5
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()
