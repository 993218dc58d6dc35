"""The bank's server over real HTTP: what it answers, what it refuses, and that nothing is opened that is asked for."""

import html
import http.client
import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image
from tests.pipeline.report.small import BankPatch, jpeg, make_bank

from vlmixer.artifacts import schemas
from vlmixer.artifacts.errors import UserError
from vlmixer.pipeline.report.server import make_server

MAX_K = 8
MAX_BODY = 150_000


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    photo = folder / "photo.jpg"
    Image.new("RGB", (100, 80), "green").save(photo)
    (folder / "secret.txt").write_text("secret")
    patches = [BankPatch(f"d-{row}", "dog", jpeg("red", (40 + row, 20)), source=str(photo)) for row in range(12)]
    patches += [BankPatch("k-0", "kite", jpeg("blue"), source=str(folder / "secret.txt"), context=(0,)),
                BankPatch("k-1", "kite", b"no jpeg", source=str(folder / "gone.jpg"))]  # fmt: skip
    return make_bank(folder / "bank", [["dog", "puppy"], ["kite"], ["horse"]], patches)


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.fixture(scope="module")
def port(bank):
    server = make_server(bank, "127.0.0.1", 0, max_k=MAX_K, max_body=MAX_BODY)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def ask(port):
    def asked(path, body=None, method=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        given = {"Content-Type": "application/json"} if body is not None else {}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(
            method or ("GET" if body is None else "POST"), path, data,
            {**given, **{name.replace("_", "-"): value for name, value in headers.items()}},
        )  # fmt: skip
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        kind = answer.headers.get("Content-Type", "")
        return answer.status, json.loads(content) if kind == "application/json" else content, answer.headers

    return asked


def ids(content):
    return [patch["patch_id"] for patch in content["patches"]]


def test_the_page_asks_this_server_only(ask):
    status, page, headers = ask("/")
    assert status == 200
    assert "connect-src 'self'" in html.unescape(page.decode())
    assert b"data:image" not in page
    assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")


def test_what_the_bank_is(ask):
    _, content, _ = ask("/api/bank")
    assert content == {
        "patches": 14, "feature_dim": 4, "detector": "drawn", "vocabulary": "small", "max_k": MAX_K, "pictures": False,
            "texts": False,
        "concepts": [{"id": 0, "words": ["dog", "puppy"], "patches": 12}, {"id": 1, "words": ["kite"], "patches": 2},
                     {"id": 2, "words": ["horse"], "patches": 0}],
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/nothing", "/favicon.ico", "/x/y"])
def test_an_unknown_address_is_an_answer_in_json(ask, path):
    status, content, headers = ask(path)
    assert status == 404
    assert content["error"].startswith(f"{path}: no such address. There are /, /api/bank, /api/concepts/ID, ")
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_another_method_is_an_answer_in_json(ask):
    status, content, headers = ask("/api/search")
    assert (status, content, headers["Allow"]) == (405, {"error": "GET: expected POST here."}, "POST")
    assert ask("/api/bank", {}, "POST")[0] == 405
    assert ask("/", {}, "DELETE")[:2] == (405, {"error": "DELETE: expected GET, HEAD here."})


def test_patches_of_a_concept(ask):
    _, content, _ = ask("/api/concepts/0?k=3")
    assert ids(content) == ["d-0", "d-1", "d-2"]
    assert content["patches"][0]["picture"] == "crops/d-0"
    assert content["patches"][0]["view"]["image"] == "images/d-0"
    assert {"score", "box", "concept", "context", *schemas.PROVENANCE} <= content["patches"][0].keys()
    assert ids(ask("/api/concepts/2")[1]) == []


def test_search(ask, bank):
    assert ids(ask("/api/search", {"concept": "Puppy", "k": 2})[1]) == ["d-0", "d-1"]
    _, found, _ = ask("/api/search", {"like": "d-1", "k": 3})
    assert ids(found) == [hit.patch.patch_id for hit in bank.search(like="d-1", k=3)]
    assert found["patches"][0]["similarity"] == pytest.approx(1, abs=1e-3)
    _, by_feature, _ = ask("/api/search", {"like": [0.0, 1.0, 0.0, 0.0], "concept": "dog", "k": 3})
    assert ids(by_feature) == [hit.patch.patch_id for hit in bank.search("dog", like=np.eye(4)[1], k=3)]
    assert ids(ask("/api/search", {"concept": "kite", "context": ["dog"], "k": 1})[1]) == ["k-0"]
    assert ids(ask("/api/search", {"concept": "horse"})[1]) == []


def test_many_searches_at_the_same_time(ask, bank):
    expected = {f"d-{row}": [hit.patch.patch_id for hit in bank.search(like=f"d-{row}", k=4)] for row in range(12)}
    found = {}

    def look(patch_id):
        concept = {"concept": "dog"} if patch_id.endswith("5") else {}
        found[patch_id] = ids(ask("/api/search", {"like": patch_id, "k": 4, **concept})[1])

    threads = [threading.Thread(target=look, args=(patch_id,)) for patch_id in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key: value for key, value in found.items() if key != "d-5"} == {
        key: value for key, value in expected.items() if key != "d-5"
    }


def test_pictures(ask, bank):
    status, data, headers = ask("/crops/d-3")
    assert (status, data, headers["Content-Type"]) == (200, bank.patch("d-3").crop, "image/jpeg")
    status, data, headers = ask("/images/d-3")
    assert (status, headers["Content-Type"]) == (200, "image/webp")


@pytest.mark.parametrize(
    ("path", "status", "why"),
    [
        ("/crops/d-99", 404, "no patch 'd-99'"),
        ("/images/d-99", 404, "no patch 'd-99'"),
        ("/images/k-0", 404, "cannot be read"),
        ("/images/k-1", 404, "cannot be read"),
        ("/crops/..%2F..%2Fsecret.txt", 404, None),
        ("/crops/%2Fetc%2Fpasswd", 404, None),
        ("/images/..%2f..%2fsecret.txt", 404, None),
        ("/../secret.txt", 404, None),
        ("/secret.txt", 404, None),
        ("/api/concepts/99", 404, "no concept with the id '99'"),
        ("/api/concepts/" + "9" * 5000, 404, "no concept with the id '999999999999999999';"),
        ("/api/concepts/%C2%B2", 404, "no concept"),
        ("/api/concepts/dog", 404, "no concept with the id 'dog'; there are 3"),
        ("/api/concepts/-1", 404, None),
        ("/api/concepts/0?k=9", 400, "from 1 to 8, found '9'"),
        ("/api/concepts/0?k=0", 400, "from 1 to 8"),
        ("/api/concepts/0?k=many", 400, "from 1 to 8"),
        ("/api/search", 405, None),
    ],
)
def test_what_is_not_there_or_too_much(ask, path, status, why):
    got, content, _ = ask(path)
    assert got == status
    assert b"secret" not in json.dumps(str(content)).encode().replace(b"secret.txt", b"")
    if why:
        assert why in content["error"]


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b"{", 400, "not valid JSON"),
        (b"[" * 100_000, 400, "not valid JSON"),
        (b"\xff\xfe", 400, "not valid JSON"),
        ([], 400, "expected a JSON object"),
        ({"concept": "dog", "path": "/etc/passwd"}, 400, "expected a JSON object"),
        ({}, 400, "needs a concept"),
        ({"concept": "dgo"}, 400, "Near: dog"),
        ({"concept": 5}, 400, "concept: expected a name"),
        ({"concept": "dog", "context": "kite"}, 400, "context: expected a list"),
        ({"concept": "dog", "context": ["dog"] * 33}, 400, "at most 32"),
        ({"concept": "dog", "k": 9}, 400, "from 1 to 8, found 9"),
        ({"concept": "dog", "k": 10**400}, 400, "from 1 to 8"),
        ({"concept": "dog", "k": None}, 400, "from 1 to 8"),
        ({"like": "../../secret.txt"}, 404, "no patch"),
        ({"like": [1, 2]}, 400, "shape (2,)"),
        ({"like": ["a"] * 4}, 400, "list of numbers"),
        ({"like": [True] * 4}, 400, "list of numbers"),
        ({"like": {"path": "x"}}, 400, "list of numbers"),
        (b'{"like": [NaN, 1, 1, 1]}', 400, "not finite"),
        (b'{"like": [1e999, 1, 1, 1]}', 400, "not finite"),
        ({"like": [10**400, 1, 1, 1]}, 400, "not finite"),
        ({"like": "\ud800"}, 400, "not valid JSON"),
        ({"concept": "dog", "context": ["\udfff"]}, 400, "not valid JSON"),
    ],
)
def test_questions_that_are_wrong(ask, body, status, why):
    got, content, _ = ask("/api/search", body)
    assert got == status
    assert why in content["error"]


def test_a_body_that_is_too_long_is_not_read_to_its_end(ask):
    assert ask("/api/search", b" " * (MAX_BODY + 1))[0] == 413
    question = b'{"concept": "dog"}'
    assert ask("/api/search", question.ljust(MAX_BODY))[0] == 200


def test_a_request_that_says_its_length_twice_is_refused_and_the_rest_is_not_read(port):
    hidden = b"GET /crops/hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"not both" in answer
    assert b"hidden" not in answer


def test_other_types_and_hosts_are_refused(ask):
    assert ask("/api/search", b"{}", Content_Type="text/plain")[0] == 415
    assert ask("/api/search", method="POST")[0] == 415
    assert ask("/", Host="elsewhere.example")[0] == 400
    assert ask("/", Host="localhost:1234")[0] == 200


def test_without_its_libraries_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "vlmixer.pipeline.report.server")
    with pytest.raises(UserError, match=r"Run `pip install '.*starlette.*uvicorn"):
        importlib.import_module("vlmixer.pipeline.report.server")


def test_the_command_serves_until_it_is_interrupted(bank):
    command = [sys.executable, "-m", "vlmixer", "bank", "serve", bank.folder, "--port"]
    port = free_port()
    process = subprocess.Popen([*command, str(port)], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert re.match(r"no searches with pictures: .*config\.yaml: not found.* Give --config", line)
        line = process.stderr.readline()
        assert re.search(rf"14 patches .*: http://127\.0\.0\.1:{port}$", line)
        for _ in range(100):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/bank", timeout=10) as answer:
                    assert json.load(answer)["patches"] == 14
                break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail("no answer")
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()


def test_a_config_that_is_given_must_name_the_detector(bank, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("images: {inputs: [a], detector: 'tsv:regions.tsv'}\ntext: {inputs: [b]}\n")
    command = [sys.executable, "-m", "vlmixer", "bank", "serve", bank.folder, "--port", "0", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {config}: the bank's regions are from a file (tsv:FILE), so no detector can look at a picture.\n"
    )


def test_a_used_port_is_one_message(bank, port):
    command = [sys.executable, "-m", "vlmixer", "bank", "serve", bank.folder, "--port", str(port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: cannot listen at 127.0.0.1, port {port}: ")
