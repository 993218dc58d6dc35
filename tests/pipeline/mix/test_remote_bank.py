"""Features and crops of a bank behind a URL. A server counts the requests."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest

from vlmixer.artifacts.samples import Mention
from vlmixer.bank import features
from vlmixer.bank.features import FeatureFile
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.mix.samples import Sentence, mix_sentences
from vlmixer.pipeline.mix.settings import CutMixSettings


class Server:
    """Files of a folder over HTTP, by ranges; notes (name, bytes sent) of every GET."""

    def __init__(self, folder: Path) -> None:
        self.requests: list[tuple[str, int]] = []
        notes = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def answer(self, *, body):
                path = folder / self.path.lstrip("/")
                if not path.is_file():
                    self.send_error(404)
                    return
                data = path.read_bytes()
                size, status = len(data), 200
                if "Range" in self.headers:
                    first, last = self.headers["Range"].removeprefix("bytes=").split("-")
                    data, status = data[int(first) : int(last) + 1 if last else None], 206
                self.send_response(status)
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(len(data)))
                if status == 206:
                    self.send_header("Content-Range", f"bytes {first}-{int(first) + len(data) - 1}/{size}")
                self.end_headers()
                if body:
                    notes.append((path.name, len(data)))
                    self.wfile.write(data)

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()

    def of(self, name: str) -> list[int]:
        return [size for requested, size in self.requests if requested == name]


@pytest.fixture
def serve():
    servers = []

    def start(folder: Path) -> Server:
        servers.append(Server(folder))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
    fsspec.get_filesystem_class("http").clear_instance_cache()


@pytest.fixture
def table(tmp_path) -> np.ndarray:
    """20,000 rows of 64 features, 2.5 MB, in features.npy."""
    rows = np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float16)
    np.save(tmp_path / "features.npy", rows)
    return rows


@pytest.mark.parametrize("rows", [[], [0], [19_999], [0, 1, 2, 19_999], [3, 600, 601, 9_000, 9_001, 15_000]])
def test_rows_behind_a_url_are_those_of_the_file(tmp_path, serve, table, rows):
    wanted = np.array(rows, np.int64)
    found = FeatureFile(f"{serve(tmp_path).url}/features.npy").read(wanted)
    assert found.dtype == np.float16
    assert np.array_equal(found, table[wanted])
    assert np.array_equal(FeatureFile(str(tmp_path / "features.npy")).read(wanted), table[wanted])


def test_rows_that_lie_near_are_one_request_and_nothing_far_is_read(tmp_path, serve, table):
    server = serve(tmp_path)
    remote = FeatureFile(f"{server.url}/features.npy")
    remote.read(np.array([100, 101, 130, 12_000, 12_400], np.int64))
    header, *ranges = server.of("features.npy")
    assert header == features.HEADER
    assert sorted(ranges) == [31 * 128, 401 * 128]
    server.requests.clear()
    remote.read(np.arange(200, 20_000, 600))
    assert server.of("features.npy") == [128] * 33


def test_a_request_has_a_limit(tmp_path, serve, table):
    server = serve(tmp_path)
    remote = FeatureFile(f"{server.url}/features.npy", max_per_request=128 * 1000, parallel_requests=3)
    found = remote.read(np.arange(20_000))
    assert np.array_equal(found, table)
    assert max(server.of("features.npy")) == 128 * 1000
    assert sum(server.of("features.npy")) == table.nbytes + features.HEADER


def test_mixing_from_a_bank_behind_a_url(small_run, serve):
    out = small_run.folder / "out"
    server = serve(out)
    text = "a dog and a cat"
    mentions = (Mention(2, 5, "dog", "dog", "dog"), Mention(12, 15, "cat", "cat", "cat"))
    sentences = [Sentence(f"s-{number}", text, mentions) for number in range(50)]
    local, remote = (
        mix_sentences(sentences, PatchBank.open(folder), CutMixSettings(), 0, crops=True)
        for folder in (str(out / "bank"), f"{server.url}/bank")
    )
    for one, other in zip(local, remote, strict=True):
        assert (one.patches, one.picture) == (other.patches, other.picture)
        assert np.array_equal(one.features, other.features)
    assert len(server.of("features.npy")) == 2
    assert not server.of("index.faiss")
    crops = server.of("crops.bin")
    assert len(crops) == sum(len(sample.patches) for sample in local)
    assert max(crops) < (out / "bank" / "crops.bin").stat().st_size / 50
