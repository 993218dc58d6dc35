"""Pictures as queries of the bank's server: what is found, what is refused, and what is held in memory."""

import gc
import http.client
import io
import json
import re
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.pipeline.report.small import BankPatch, jpeg, make_bank

from vlmixer.artifacts.errors import UserError
from vlmixer.bank.query import Embed
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.image.embedding import embedder
from vlmixer.pipeline.report.connections import Limits
from vlmixer.pipeline.report.pictures import PictureLimits, Pictures
from vlmixer.pipeline.report.server import LIMITS, make_server

MAX_K = 8
SMALL = PictureLimits(file_bytes=4000, held_bytes=10_000, pixels=5000)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> PatchBank:
    folder: Path = tmp_path_factory.mktemp("served")
    patches = [BankPatch(f"d-{row}", "dog", jpeg("red")) for row in range(6)]
    patches += [BankPatch("k-0", "kite", jpeg("blue"), context=(0,)), BankPatch("k-1", "kite", jpeg("blue"))]
    return make_bank(folder / "bank", [["dog", "puppy"], ["kite"]], patches)


def colours(picture: Image.Image, concept: str | None) -> np.ndarray:
    """A detector for tests: how red, green and blue a picture is, and whether a dog is looked for."""
    pixels = np.asarray(picture, np.float32).reshape(-1, 3) / 255
    if not pixels.any():
        raise UserError("the bank's detector finds nothing in the picture.")
    return np.array([*pixels.mean(axis=0), concept == "dog"], np.float32)


@contextmanager
def serving(bank: PatchBank, pictures: Pictures | None, limits: Limits = LIMITS) -> Iterator[int]:
    """The port of a server."""
    server = make_server(bank, "127.0.0.1", 0, max_k=MAX_K, pictures=pictures, limits=limits)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def port(bank: PatchBank) -> Iterator[int]:
    with serving(bank, Pictures(lambda: colours, SMALL)) as port:
        yield port


def send(port: int, data: bytes, asked: str = "", kind: str | None = "image/jpeg") -> tuple[int, Any]:
    """Status and content of the answer to a picture."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": kind} if kind else {}
    connection.request("POST", f"/api/search/picture{asked}", data, headers)
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    return answer.status, content


def png(colour: str, size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def expected(bank: PatchBank, feature: list[float], concept: str | None, k: int) -> list[tuple[str, float]]:
    hits = bank.search(concept, like=np.array(feature, np.float32), k=k)
    return [(hit.patch.patch_id, hit.similarity) for hit in hits]


def found(content: Any) -> list[tuple[str, float]]:
    return [(patch["patch_id"], patch["similarity"]) for patch in content["patches"]]


def test_a_picture_is_compared_by_what_the_detector_sees(port: int, bank: PatchBank) -> None:
    status, content = send(port, png("#00ff00", (40, 30)), "?k=3", "image/png")
    assert status == 200
    assert found(content) == expected(bank, [0, 1, 0, 0], None, 3)
    status, content = send(port, png("#00ff00", (40, 30)), "?concept=Puppy&k=4", "application/octet-stream")
    assert found(content) == expected(bank, [0, 1, 0, 1], "dog", 4)
    _, content = send(port, png("#00ff00", (40, 30)), "?context=dog&k=1")
    assert [name for name, _ in found(content)] == ["k-0"]


def test_it_is_decoded_as_a_run_decodes_photos(port: int, bank: PatchBank) -> None:
    whole = png("#0000ff", (40, 30))
    broken = whole.replace(b"IDAT", b"tEXt\0\0\0\0IDAT", 1)
    assert send(port, broken)[0] == 415
    half_clear = io.BytesIO()
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(half_clear, "PNG")
    assert found(send(port, half_clear.getvalue(), "?k=2")[1]) == expected(bank, [1, 1, 1, 0], None, 2)


@pytest.mark.parametrize(
    ("data", "asked", "kind", "status", "why"),
    [
        (jpeg("red"), "", None, 415, "expected a picture, with its type"),
        (jpeg("red"), "", "application/x-www-form-urlencoded", 415, "expected a picture"),
        (jpeg("red"), "", "multipart/form-data; boundary=x", 415, "expected a picture"),
        (jpeg("red"), "", "text/plain", 415, "expected a picture"),
        (b"", "", "image/png", 415, "not usable as an image: empty_file"),
        (b"GIF89a", "", "image/gif", 415, "not usable as an image: "),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "", "image/svg+xml", 415, "SVG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "", "image/x-eps", 415, "not usable as an image: "),
        (
            png("red", (100, 51)),
            "",
            "image/png",
            413,
            "has 100×51 pixels; expected at most 0.005 million, and 65,535 on a side",
        ),
        (jpeg("red").ljust(4001, b"\0"), "", "image/jpeg", 413, "more than 4,000 bytes"),
        (jpeg("black"), "", "image/jpeg", 422, "finds nothing in the picture"),
        (jpeg("red"), "?concept=dgo", "image/jpeg", 400, "Near: dog"),
        (jpeg("red"), "?context=dog,dgo", "image/jpeg", 400, "Near: dog"),
        (jpeg("red"), f"?context={'dog,' * 33}", "image/jpeg", 400, "at most 32"),
        (jpeg("red"), "?k=9", "image/jpeg", 400, "from 1 to 8, found '9'"),
        (jpeg("red"), "?like=d-0", "image/jpeg", 400, "expected concept, context and k"),
    ],
)
def test_what_is_refused(port: int, data: bytes, asked: str, kind: str | None, status: int, why: str) -> None:
    got, content = send(port, data, asked, kind)
    assert got == status
    assert why in content["error"]
    assert "\n" not in content["error"]


def test_the_length_counts_also_if_it_was_not_announced(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "image/jpeg"}
    connection.request("POST", "/api/search/picture", iter([b"x" * 3000, b"x" * 3000]), headers, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    assert send(port, jpeg("red").ljust(4000, b"\0"))[0] == 200


def test_more_pictures_than_memory_is_set_aside_for_wait_outside(bank: PatchBank) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(picture: Image.Image, concept: str | None) -> np.ndarray:
        begun.set()
        assert go_on.wait(60)
        return colours(picture, concept)

    picture = jpeg("red").ljust(3000, b"\0")
    statuses: list[int] = []

    def ask(port: int) -> None:
        statuses.append(send(port, picture)[0])

    pictures = Pictures(lambda: slow, PictureLimits(file_bytes=3000, held_bytes=8999))
    with serving(bank, pictures) as port:
        threads = [threading.Thread(target=ask, args=(port,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        # One is looked at, one waits, and there is no room for the third.
        deadline = time.monotonic() + 60
        while not statuses and time.monotonic() < deadline:
            time.sleep(0.01)
        assert begun.wait(60)
        assert statuses == [503]
        go_on.set()
        for thread in threads:
            thread.join(60)
        assert sorted(statuses) == [200, 200, 503]
        assert send(port, picture)[0] == 200


def test_an_upload_that_does_not_arrive_whole_is_ended_and_holds_nothing(bank: PatchBank) -> None:
    pictures = Pictures(lambda: colours, PictureLimits(file_bytes=3000, held_bytes=3000))
    head = b"POST /api/search/picture HTTP/1.1\r\nHost: localhost\r\n"
    head += b"Content-Type: image/jpeg\r\nContent-Length: 3000\r\n\r\n"
    with serving(bank, pictures, Limits(request_seconds=0.3)) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(head + b"x" * 2900)
            assert connection.recv(1) == b""
        assert send(port, jpeg("red").ljust(3000, b"\0"))[0] == 200


def test_a_detector_that_cannot_be_loaded_is_tried_again(bank: PatchBank) -> None:
    attempts: list[int] = []

    def load() -> Embed:
        attempts.append(len(attempts))
        if attempts == [0]:
            raise UserError("no weights here.")
        return colours

    with serving(bank, Pictures(load)) as port:
        assert send(port, jpeg("red")) == (503, {"error": "the bank's detector cannot be loaded: no weights here."})
        assert [send(port, jpeg("red"))[0] for _ in range(2)] == [200, 200]
    assert attempts == [0, 1]


def test_a_detector_that_fails_is_an_answer_in_json(bank: PatchBank) -> None:
    def wrong(picture: Image.Image, concept: str | None) -> np.ndarray:
        raise ValueError("secret path")

    with serving(bank, Pictures(lambda: wrong)) as port:
        status, content = send(port, jpeg("red"))
    assert (status, content) == (500, {"error": "the server failed at this request. Its log has the traceback."})


def test_a_server_without_the_banks_detector_says_so(bank: PatchBank) -> None:
    with serving(bank, None) as port:
        status, content = send(port, jpeg("red"))
        page = _page(port)
    assert status == 501
    assert "the bank's detector is not known" in content["error"]
    assert 'type="file"' not in page


def test_the_page_takes_pictures_up_to_the_limit(port: int) -> None:
    page = _page(port)
    assert re.search(r'type="file"[^>]* data-most="4000"', page)
    assert "img-src &#39;self&#39; data: blob:" in page or "img-src 'self' data: blob:" in page


def _page(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/")
    page = connection.getresponse().read().decode()
    connection.close()
    return page


def test_the_banks_own_detector_is_asked(small_run: Any) -> None:
    folder = str(small_run.folder / "out" / "bank")

    def load() -> Embed:
        return embedder(folder, import_paths=[str(small_run.folder)], trust_detector=True)

    bank = PatchBank.open(folder, embed=load())
    photo = Path(bank.patches("kite")[3].source)
    expected = bank.search("kite", like=Image.open(photo), k=5)
    with serving(bank, Pictures(load)) as port:
        status, content = send(port, photo.read_bytes(), "?concept=kite&k=5")
    assert status == 200
    assert found(content) == [(hit.patch.patch_id, pytest.approx(hit.similarity)) for hit in expected]


def test_what_a_picture_took_is_not_kept(bank: PatchBank) -> None:
    kept: list[weakref.ref[np.ndarray]] = []

    def finds_nothing(picture: Image.Image, concept: str | None) -> np.ndarray:
        pixels = np.array(picture)
        kept.append(weakref.ref(pixels))
        raise UserError("the bank's detector finds nothing in the picture.")

    gc.disable()  # what is left in cycles of errors stays
    try:
        with serving(bank, Pictures(lambda: finds_nothing, SMALL)) as port:
            assert [send(port, png("red", (9, 9)))[0] for _ in range(3)] == [422] * 3
            assert [pixels() is None for pixels in kept] == [True] * 3
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("error", "why"),
    [(MemoryError(), "out of memory"), (RuntimeError("can't start new thread"), "out of memory (can't start new"),
     (OSError(24, "Too many open files"), "Too many open files.")],
)  # fmt: skip
def test_what_the_system_refuses_is_no_traceback(
    bank: PatchBank, error: Exception, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(picture: Image.Image, concept: str | None) -> np.ndarray:
        raise error

    with serving(bank, Pictures(lambda: refused, SMALL)) as port:
        status, content = send(port, png("red", (9, 9)))
    assert status == 503
    assert content["error"].startswith(why)
    assert not any(record.exc_info for record in caplog.records)
