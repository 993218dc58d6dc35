"""The FAISS index of a bank, written and read: one inverted list per concept, so that a concept is searched exactly.

The number of a list is its concept's id, and the id of a vector its row in the bank. Vectors are the features scaled to
length 1, as float16; similarity is the inner product. Callers always name the lists, in adding and in searching, so the
centroids of the quantizer stay zero.
"""

import io
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import IO, Any

import faiss
import faiss.contrib.ivf_tools
import numpy as np

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.snapshot import unchecked
from vlmixer.bank.selection import normalised


class IndexWriter:
    """Writes the index list by list, holding one list in memory.

    FAISS itself cannot: it writes an index that is wholly in memory (`write_index`), or one whose lists are in a second
    file that the first names by its path (`OnDiskInvertedLists`, `merge_ondisk`). The file written here is the one that
    `write_index` writes: the header of an empty index, with the number of vectors filled in; the sizes of the lists;
    codes and ids of each list. tests/bank/test_index.py compares the bytes and says what to do when a new FAISS changes
    them. pyproject.toml bounds the version.
    """

    def __init__(self, file: IO[bytes], feature_dim: int, sizes: Sequence[int]) -> None:
        """sizes: for each concept, in id order, its number of patches."""
        self._file = file
        self._row = 0
        file.write(_before_sizes(sum(sizes), len(sizes), feature_dim) + np.asarray(sizes, "<u8").tobytes())

    def write_list(self, features: np.ndarray) -> None:
        """Write the list of the next concept. features: (n, D) float16, the next n rows of the bank."""
        count = len(features)
        if count:
            # Not FAISS's own encoder. It turns the smallest numbers into zeros if a library, such as a detector's, has
            # set the processor to flush them, so the bytes would depend on what ran before in the process.
            self._file.write(np.ascontiguousarray(normalised(features), "<f2").data)
            self._file.write(np.arange(self._row, self._row + count, dtype="<i8").data)
            self._row += count


def empty_index(feature_dim: int, lists: int) -> Any:
    """The index of a bank without patches, (feature_dim,) vectors in `lists` lists."""
    quantizer = faiss.IndexFlatIP(feature_dim)
    quantizer.add(np.zeros((lists, feature_dim), np.float32))
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, feature_dim, lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
    )
    index.is_trained = True
    return index


_NTOTAL = 8  # offset of the number of vectors in the header
_LISTS = b"ilar"  # what the part with the lists begins with


def _before_sizes(vectors: int, lists: int, feature_dim: int) -> bytes:
    """The bytes of an index before the sizes of its lists."""
    empty = empty_index(feature_dim, lists)
    header = bytearray(faiss.serialize_index(empty).tobytes())
    header = header[: header.rindex(_LISTS)]
    struct.pack_into("<q", header, _NTOTAL, vectors)
    return bytes(header) + _LISTS + struct.pack("<QQ", lists, empty.code_size) + b"full" + struct.pack("<Q", lists)


def check_layout(file: IO[bytes], size: int, vectors: int, lists: int, feature_dim: int) -> None:
    """Raises ValueError unless the file, of `size` bytes, is one that IndexWriter writes for so many vectors and lists.

    FAISS trusts a file: it takes the memory that a number in it says, makes an index of any kind, and can crash.
    """
    rest = 8 * lists + vectors * (2 * feature_dim + 8)
    if size < 4 * lists * feature_dim + rest:  # before memory is taken for the header, which has the centroids
        raise ValueError(f"{size:,} bytes are too few")
    before = _before_sizes(vectors, lists, feature_dim)
    if size != len(before) + rest or file.read(len(before)) != before:
        raise ValueError("its header or its length is another")
    sizes = np.frombuffer(file.read(8 * lists), "<u8")
    if (sizes > vectors).any() or sizes.sum() != vectors:
        raise ValueError("the sizes of its lists are others")


def stored_lists(
    file: IO[bytes], size: int, feature_dim: int, sizes: Sequence[int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What an index has for each concept, one at a time: vectors, (n, D) float16, and rows of the bank, (n,) int64.

    size: bytes of the file. sizes: as of IndexWriter. Raises ValueError if the lists are of other sizes.
    """
    before = b"full" + struct.pack("<Q", len(sizes)) + np.asarray(sizes, "<u8").tobytes()
    begin = size - sum(sizes) * (2 * feature_dim + 8)
    file.seek(max(begin - len(before), 0))
    if file.read(len(before)) != before:
        raise ValueError("its lists do not have as many vectors as the concepts have patches")
    for count in sizes:
        vectors = np.frombuffer(file.read(2 * count * feature_dim), "<f2").reshape(count, feature_dim)
        yield vectors, np.frombuffer(file.read(8 * count), "<i8")


class IndexFile:
    """The index of a bank at a path or URL; memory-mapped where it is local, else read whole when it is first used."""

    def __init__(
        self, path: str, vectors: int, lists: int, feature_dim: int, check: Callable[[], None] = unchecked
    ) -> None:
        """vectors, lists, feature_dim: the bank's. check: called after reading; raises if the file was replaced."""
        self.path = path
        self._expected = (vectors, lists, feature_dim)
        self._check = check
        self._searching = threading.Lock()  # nprobe belongs to the index, not to a search

    @property
    def vectors(self) -> int:
        """Number of vectors. Raises UserError if the file cannot be read or is the index of another bank."""
        return int(self._index.ntotal)

    def search(self, queries: np.ndarray, lists: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k most similar vectors for each query: similarities, (n, k) float32, descending, and rows, (n, k) int64.

        queries: (n, D) float. lists: (n, m) int64, the concept ids to search for each query. If there are fewer than k
        vectors, the remaining rows are -1.
        """
        named = np.ascontiguousarray(lists, dtype=np.int64)
        with self._searching:
            self._index.nprobe = named.shape[1]
            similarities, rows = faiss.contrib.ivf_tools.search_preassigned(self._index, normalised(queries), k, named)
        return similarities, rows

    @cached_property
    def _index(self) -> Any:
        vectors, lists, width = self._expected
        try:
            index: Any
            if files.is_url(self.path):
                data = files.read_bytes(self.path)
                check_layout(io.BytesIO(data), len(data), *self._expected)
                index = faiss.deserialize_index(np.frombuffer(data, np.uint8))
            else:
                with files.open_read(self.path) as file:
                    check_layout(file, files.size(self.path), *self._expected)
                index = faiss.read_index(self.path, faiss.IO_FLAG_MMAP)
        except (RuntimeError, ValueError) as error:
            self._check()
            raise UserError(
                f"{self.path}: not an index of {vectors} vectors of {lists} concepts, {width}-d ({short(error)}). It "
                "is damaged, or belongs to another bank. Build the bank again."
            ) from None
        self._check()
        return index


def short(error: Exception) -> str:
    """The last line of an error's message: the part that says what happened."""
    return str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
