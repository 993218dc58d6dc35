"""The FAISS index of a bank: the bytes that FAISS itself would write, and what is said where it is unusable."""

import io
import struct
from collections.abc import Callable
from typing import Any

import faiss
import faiss.contrib.ivf_tools
import numpy as np
import pytest
from tests.bank.numbered import COUNTS, DIM, damaged, write

from vlmixer.artifacts.errors import UserError
from vlmixer.bank.index import IndexWriter, empty_index
from vlmixer.bank.selection import normalised
from vlmixer.bank.store import PatchBank


def test_the_index_has_one_list_per_concept(folder):
    index: Any = faiss.read_index(f"{folder}/index.faiss")
    assert (index.nlist, index.ntotal, index.d) == (4, 43, DIM)
    assert [index.invlists.list_size(number) for number in range(4)] == [30, 0, 1, 12]


NEW_FAISS = f"""FAISS {faiss.__version__} writes an index differently from bank/index.py.

bank/index.py writes the format itself, so as to hold only one list in memory. Compare the two files with FAISS's
faiss/impl/index_write.cpp (write_index, write_ivf_header, write_InvertedLists), adapt IndexWriter, and set the versions
that it agrees with in pyproject.toml. If this FAISS cannot read banks of the former format, raise SCHEMA_VERSION in
artifacts/manifest.py as well."""


@pytest.mark.parametrize("sizes", [[30, 0, 1, 12], [0, 1], [1, 0, 0, 0, 2]])
def test_the_index_is_byte_for_byte_the_one_that_faiss_writes(tmp_path, sizes):
    features = np.random.default_rng(0).normal(size=(sum(sizes), DIM)).astype(np.float16)
    expected = empty_index(DIM, len(sizes))
    # As they are stored: FAISS rounds ties away from zero, numpy to even digits.
    vectors = normalised(features).astype(np.float16).astype(np.float32)
    lists = np.repeat(np.arange(len(sizes)), sizes)
    faiss.contrib.ivf_tools.add_preassigned(expected, vectors, lists, np.arange(sum(sizes)))
    faiss.write_index(expected, str(tmp_path / "faiss"))
    with open(tmp_path / "ours", "wb") as file:
        writer = IndexWriter(file, DIM, sizes)
        for rows in np.split(features, np.cumsum(sizes)[:-1]):
            writer.write_list(rows)
    ours = (tmp_path / "ours").read_bytes()
    if np.count_nonzero(sizes) <= len(sizes) / 2:
        # Where half of the lists or more are empty, FAISS lists the sizes of the others only. It reads both ways.
        ours = faiss.serialize_index(faiss.read_index(str(tmp_path / "ours"))).tobytes()
    assert ours == (tmp_path / "faiss").read_bytes(), NEW_FAISS


def test_an_index_has_the_same_bytes_in_a_process_that_flushes_the_smallest_numbers():
    torch = pytest.importorskip("torch")
    # All but the first are below 6e-5, where float16 has fewer digits.
    features = np.tile(np.array([1, *np.geomspace(2e-7, 6e-5, 63)], np.float16), (3, 1))
    written = []
    for flush in (False, True):
        file = io.BytesIO()
        assert torch.set_flush_denormal(flush)
        try:
            IndexWriter(file, 64, [3]).write_list(features)
        finally:
            torch.set_flush_denormal(False)
        written.append(file.getvalue())
    assert written[0] == written[1]
    codes = np.frombuffer(written[0][: -3 * 8], "<f2")[-3 * 64 :].reshape(3, 64).astype(np.float32)
    assert (codes > 0).all()
    assert np.linalg.norm(codes, axis=1) == pytest.approx(1, abs=1e-3)


def test_an_index_that_breaks_off(folder, tmp_path):
    bank = PatchBank.open(damaged(folder, tmp_path, "index.faiss", lambda data: data[:100]))
    with pytest.raises(UserError, match=r"index\.faiss: not an index of 43 vectors of 4 concepts, 8-d \(100 bytes"):
        bank.search("dog", like="dog-0")
    assert len(bank.search("dog")) == 16


def test_the_index_of_another_bank(folder, tmp_path):
    write(str(tmp_path / "other"), COUNTS | {"kite": 11})
    other = (tmp_path / "other" / "index.faiss").read_bytes()
    bank = PatchBank.open(damaged(folder, tmp_path, "index.faiss", lambda data: other))
    with pytest.raises(UserError, match=r"not an index of 43 vectors .*belongs to another bank"):
        bank.search("dog", like="dog-0")


def chained(data: bytes) -> bytes:
    """An index in a map of ids in a map of ids, and so on, thousands deep."""
    head = b"IxMp" + struct.pack("<iqqqBi", DIM, 43, 1 << 20, 1 << 20, 1, 0)
    return (head * (len(data) // len(head) + 1))[: len(data)]


def set_at(place: int, number: int) -> Callable[[bytes], bytes]:
    """A change of the index: these 8 bytes are the number. place: counted from the end if negative."""
    return lambda data: data[:place] + struct.pack("<Q", number) + data[place + 8 or None :]


SIZES = -(43 * (2 * DIM + 8)) - 4 * 8
"""Where the sizes of the lists begin."""


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (set_at(8, 1 << 60), "header"),  # vectors
        (set_at(SIZES - 8, 1 << 60), "header"),  # lists
        (set_at(SIZES - 28, 1 << 60), "header"),  # bytes of a vector
        (set_at(SIZES, 1 << 63), "sizes"),
        (set_at(SIZES, 29), "sizes"),
        (lambda data: b"IHNf" + data[4:], "header"),
        (lambda data: b"IBwF" + data[4:], "header"),
        (lambda data: data + bytes(8), "length"),
        (chained, "header"),
    ],
)
def test_faiss_reads_no_index_but_ours(folder, tmp_path, monkeypatch, change, what):
    monkeypatch.setattr(faiss, "read_index", None)
    bank = PatchBank.open(damaged(folder, tmp_path, "index.faiss", change))
    with pytest.raises(UserError, match=rf"not an index of .*{what}"):
        bank.search("dog", like="dog-0")
