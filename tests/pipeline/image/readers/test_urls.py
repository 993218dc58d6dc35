"""Lists of URLs, and what img2dataset says of downloads that failed."""

import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.artifacts.test_http import LONG, QUICK, Server
from tests.pipeline.image.readers.made import jpeg, refs, write_tar

from vlmixer.pipeline.image.readers.base import Unreadable
from vlmixer.pipeline.image.readers.corpus import plan, read_images, survey

PATHS = ["/whole", "/404", "/503/once", "/robots/noai"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()


def outcome(url: str, server: Server) -> str:
    return url.removeprefix(server.url)


@pytest.mark.parametrize("name", ["urls.txt", "laion.parquet"])
def test_a_list_of_urls_says_what_each_server_answered(server, tmp_path, name):
    urls = [f"{server.url}{path}" for path in PATHS]
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in urls))
    pq.write_table(pa.table({"URL": [*urls, None], "TEXT": ["a"] * 5}), tmp_path / "laion.parquet")
    pieces = plan([str(tmp_path / name)]).pieces
    found = [ref for piece in pieces for ref in survey(piece, contents=True, fetch=LONG)]
    reasons = {outcome(ref.source, server): ref.reason for ref in found if ref.source.startswith("http")}
    assert reasons == {"/whole": "", "/404": "http_404", "/503/once": "", "/robots/noai": "not_allowed"}
    asked = server.asked["/404"]
    read = {outcome(ref.source, server): data for ref, data in read_images(found, 1e6, LONG)}
    assert read["/whole"] == b"bytes"
    assert read["/404"] == Unreadable("http_404", "404 Not Found")
    assert server.asked["/404"] == asked, "what failed is not asked for again"
    (copy,) = [ref for ref in found if ref.digest == found[0].digest and ref is not found[0]]
    assert outcome(copy.source, server) == "/503/once"
    rows = [(ref.source, ref.key, ref.reason) for ref in found if not ref.source.startswith("http")]
    assert rows == ([(str(tmp_path / name), "4", "missing_field")] if name.endswith("parquet") else [])
    unread = [
        ref for piece in pieces for ref in survey(piece, contents=False, fetch=LONG) if ref.source.endswith("/404")
    ]
    assert [data for _, data in read_images(unread, 1e6, LONG)] == [Unreadable("http_404", "404 Not Found")]


def test_servers_that_stall_are_asked_once_each(server, tmp_path):
    (tmp_path / "urls.txt").write_text("".join(f"{server.url}/stall/{number}\n" for number in range(20)))
    (piece,) = plan([str(tmp_path / "urls.txt")]).pieces
    found = list(survey(piece, contents=True, fetch=QUICK))
    assert [ref.reason for ref in found] == ["timeout"] * 20
    assert [data.reason for _, data in read_images(found, 1e6, QUICK) if isinstance(data, Unreadable)] == [
        "timeout"
    ] * 20
    assert max(server.asked[f"/stall/{number}"] for number in range(20)) == 1


def test_rows_whose_download_failed_are_not_bad(tmp_path):
    table = pa.table(
        {
            "url": ["http://x/1", "http://x/2", "http://x/3"],
            "status": ["success", "failed_to_download", "failed_to_resize"],
            "error_message": [None, "HTTP Error 404: Not Found", None],
            "jpg": [jpeg(1), None, None],
        }
    )
    pq.write_table(table, tmp_path / "00000.parquet")
    for contents in (True, False):
        found = refs(tmp_path / "00000.parquet", contents=contents)
        read = [data for _, data in read_images(found, 1e6)]
        assert read[0] == jpeg(1)
        assert read[1:] == [
            Unreadable("not_downloaded", "failed_to_download: HTTP Error 404: Not Found"),
            Unreadable("not_downloaded", "failed_to_resize"),
        ]
    pq.write_table(table.select(["jpg"]), tmp_path / "bare.parquet")
    assert [ref.reason for ref in refs(tmp_path / "bare.parquet")] == ["", "missing_field", "missing_field"]


def test_samples_of_a_tar_whose_download_failed_are_not_bad(tmp_path):
    said = {"status": "failed_to_download", "error_message": "HTTP Error 404: Not Found", "url": "http://x/2"}
    members = [("0.jpg", jpeg(1)), ("0.json", b'{"status": "success"}'), ("1.json", json.dumps(said).encode()),
               ("1.txt", b"a dog"), ("2.json", b"{"), ("3.txt", b"a cat")]  # fmt: skip
    found = refs(write_tar(tmp_path / "00000.tar", members))
    assert [(ref.reason, ref.detail) for ref in found] == [
        ("", ""), ("not_downloaded", "failed_to_download: HTTP Error 404: Not Found"), ("no_image", "2.json"),
        ("no_image", "3.txt"),
    ]  # fmt: skip
