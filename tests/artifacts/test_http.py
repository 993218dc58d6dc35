"""Fetching from a server that answers, stalls, fails, forbids."""

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vlmixer.artifacts.files.http import FetchPolicy, NotFetched, fetch
from vlmixer.artifacts.rejects import RejectLog, bad_count, is_bad, meaning

pytest.importorskip("aiohttp", reason="fsspec fetches with aiohttp, which the extra `pipeline` brings")

QUICK = FetchPolicy(timeout=0.4, backoff=0.001)
LONG = replace(QUICK, timeout=20.0)


class Server:
    """A server on the loopback. Its paths say what it does. asked: requests by path; agents: who asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.agents: set[str] = set()
        self.released = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path
        self.asked[path] += 1
        self.agents.add(request.headers["User-Agent"])
        first, second, *_ = [*path.strip("/").split("/"), ""]
        if first == "stall":
            self.released.wait(60)
            return
        if first == "hangup":
            return
        status = int(first) if first.isdecimal() and not (second == "once" and self.asked[path] > 1) else 200
        request.send_response(status)
        if status in (429, 503):
            request.send_header("Retry-After", "0")
        if status == 302:
            request.send_header("Location", "/whole")
        if first == "robots":
            request.send_header("X-Robots-Tag", second.replace("%20", " "))
        request.send_header("Content-Length", "5")
        request.end_headers()
        request.wfile.write(b"by" if first in ("half", "drip") else b"bytes")
        if first == "drip":
            request.wfile.flush()
            self.released.wait(60)

    def close(self) -> None:
        self.released.set()
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()


def test_bytes_come_whole_or_as_far_as_asked_with_our_name(server):
    assert fetch(f"{server.url}/whole", 100, LONG) == b"bytes"
    assert fetch(f"{server.url}/whole", 3, LONG) == b"byt"
    assert fetch(f"{server.url}/302", 100, LONG) == b"bytes"
    assert {agent.partition("/")[0] for agent in server.agents} == {"vlmixer"}


@pytest.mark.parametrize("path", ["stall", "drip"])
def test_a_server_that_stalls_is_asked_once(server, path):
    assert fetch(f"{server.url}/{path}", 100, QUICK) == NotFetched("timeout", "no whole answer within 0.4 s")
    assert server.asked[f"/{path}"] == 1


@pytest.mark.parametrize(("status", "times"), [(404, 1), (403, 1), (410, 1), (500, 3), (503, 3), (429, 3)])
def test_refusals_are_named_and_busy_servers_are_asked_again(server, status, times):
    found = fetch(f"{server.url}/{status}", 100, LONG)
    assert isinstance(found, NotFetched)
    assert found.reason == f"http_{status}"
    assert found.detail.startswith(f"{status} ")
    assert server.asked[f"/{status}"] == times


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_recovers_gives_the_bytes(server, status):
    assert fetch(f"{server.url}/{status}/once", 100, LONG) == b"bytes"


@pytest.mark.parametrize("path", ["hangup", "half"])
def test_a_server_that_hangs_up(server, path):
    found = fetch(f"{server.url}/{path}", 100, LONG)
    assert isinstance(found, NotFetched)
    assert found.reason == "no_connection"
    assert server.asked[f"/{path}"] in (3, 6), "aiohttp itself repeats a request whose connection closes at once"


@pytest.mark.parametrize("url", ["http://", "http://127.0.0.1:1/a", "http://a b/c", "https://[::1"])
def test_urls_that_lead_nowhere(url):
    found = fetch(url, 100, replace(LONG, retries=0))
    assert isinstance(found, NotFetched)
    assert found.reason == "no_connection"


@pytest.mark.parametrize(
    ("tag", "allowed"),
    [("noai", False), ("noindex,%20nofollow", False), ("all,%20NoImageAI", False), ("vlmixer:%20noai", False),
     ("*:%20noindex", False), ("googlebot:%20noindex", True), ("nofollow", True), ("none", False),
     ("none:%20noai", True)],
)  # fmt: skip
def test_x_robots_tag_is_honoured_unless_it_is_for_others(server, tag, allowed):
    found = fetch(f"{server.url}/robots/{tag}", 100, LONG)
    if allowed:
        assert found == b"bytes"
    else:
        assert isinstance(found, NotFetched)
        assert (found.reason, found.detail.partition(":")[0]) == ("not_allowed", "X-Robots-Tag")
    assert fetch(f"{server.url}/robots/{tag}", 100, replace(LONG, respect_robots=False)) == b"bytes"


def test_which_answers_are_bad():
    assert [is_bad(reason) for reason in ("http_404", "http_429", "http_503", "timeout", "not_downloaded")] == [
        False, True, True, True, False
    ]  # fmt: skip
    assert bad_count([("http_404", 5), ("http_500", 2), ("duplicate", 1)]) == 2
    log = RejectLog("detect")
    log.add("http://x", "", "http_451")
    assert log.counts() == {"http_451": 1}
    assert meaning("http_451") == "the server answered 451"
    with pytest.raises(ValueError, match="unknown reject reason"):
        log.add("http://x", "", "http_200")
