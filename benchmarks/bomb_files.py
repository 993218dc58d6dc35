"""The contents of small hostile files, for bombs.py, which says what reads them. Each is made when it is tried."""

import base64
import bz2
import io
import json
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from onnx import TensorProto, helper, numpy_helper

Make = Callable[[], bytes]
GIB = 1 << 30
HUGE = 1 << 40
NESTED = 5_000_000
DIGITS = 20_000_000


def packed(kind: str, pattern: bytes, size: int = GIB) -> bytes:
    """So many bytes of the pattern, packed as gz, zst, bz2 or xz."""
    packer: Any = {
        "gz": lambda: zlib.compressobj(6, zlib.DEFLATED, 31),
        "zst": lambda: zstandard.ZstdCompressor().compressobj(),
        "bz2": bz2.BZ2Compressor,
        "xz": lambda: lzma.LZMACompressor(preset=1),
    }[kind]()
    block = pattern * ((1 << 20) // len(pattern))
    return b"".join(packer.compress(block) for _ in range(size >> 20)) + bytes(packer.flush())


def header(size: int = 0, kind: bytes = tarfile.REGTYPE, name: str = "0.txt", **fields: str) -> bytes:
    """The header of a tar's member that says this size. fields: those of pax."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    member.pax_headers = {key.replace("_", "."): value for key, value in fields.items()}
    return member.tobuf(tarfile.PAX_FORMAT if fields else tarfile.GNU_FORMAT)


def sparse(name: str = "0.txt") -> bytes:
    """A member that is a terabyte of nothing."""
    return header(name=name, GNU_sparse_map="0,0", GNU_sparse_size=str(HUGE), GNU_sparse_numblocks="1") + bytes(1024)


def pax(size: int = 200_000_000) -> bytes:
    """A member whose pax header has so many bytes."""
    return header(size, tarfile.XHDTYPE) + b"a" * size + bytes(1024)


TARS: Mapping[str, Make] = {
    "says a terabyte": lambda: header(HUGE) + b"a dog",
    "a sparse terabyte": sparse,
    "200 MB of pax header": pax,
    "20,000 headers in a row": lambda: (header(1, tarfile.GNUTYPE_LONGNAME) + bytes(512)) * 20_000,
    "100,000 empty members": lambda: b"".join(header(name=f"{n}.json") for n in range(100_000)) + bytes(1024),
    "a sparse map of digits": lambda: header(GNU_sparse_map="0," * 200_000, GNU_sparse_size="1") + bytes(1024),
}


def parquet(column: str, value: str | bytes, rows: int) -> bytes:
    """Rows of one value, which is in the file once, and packed."""
    buffer = io.BytesIO()
    once = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([value]))
    with pq.ParquetWriter(buffer, pa.schema([(column, once.type)]), compression="zstd", store_schema=False) as writer:
        writer.write_table(pa.table({column: once}))
    return buffer.getvalue()


PARQUET: Mapping[str, Make] = {
    "a value of 64 MB in 200 rows": lambda: parquet("caption", "a dog " * 10_700_000, 200),
    "a value of 1 kB in 5 million rows": lambda: parquet("caption", "a dog " * 170, 5_000_000),
    "a footer of 2 GB": lambda: b"PAR1" + bytes(100) + struct.pack("<I", (1 << 31) - 1) + b"PAR1",
    "a footer of 2^31 columns": lambda: b"PAR1\x15\x02\x19\xfc\xff\xff\xff\xff\x07\x09\0\0\0PAR1",
}  # fmt: skip

JSON: Mapping[str, Make] = {
    "nested": lambda: b"[" * NESTED,
    "nested objects": lambda: b'{"caption":' * (NESTED // 10),
    "a number of many digits": lambda: b'{"caption": "a dog", "n": ' + b"9" * DIGITS + b"}",
    "1e999": lambda: b'{"caption": "a dog", "n": 1e999}',
    "a million keys": lambda: json.dumps({"caption": "a dog"} | dict.fromkeys(map(str, range(1_000_000)))).encode(),
}

YAML: Mapping[str, Make] = {
    "aliases of aliases": lambda: (
        b"a0: &a0 [dog]\n"
        + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 20))
    ),
    "an alias in itself": lambda: b"a: &a [*a]\n",
    "nested": lambda: b"[" * 1_000_000,
    "digits by sixties": lambda: b"seed: 1" + b":59" * 1_000_000 + b"\n",
}


def floats(count: int) -> str:
    """Zeros as region features have them."""
    return base64.b64encode(bytes(4 * count)).decode()


def line(identity: str = "1", width: object = 60, height: object = 40, count: object = 1, boxes: int = 1) -> str:
    """A line of LXMERT's: id, height, width, two kinds of labels with scores, number of boxes, boxes, features."""
    labels, scores = floats(2 * boxes), floats(boxes)
    packed_columns = f"{labels}\t{scores}\t{labels}\t{scores}"
    return f"{identity}\t{height}\t{width}\t{packed_columns}\t{count}\t{floats(4 * boxes)}\t{floats(10 * boxes)}\n"


FEATURES: Mapping[str, Make] = {
    "says a trillion boxes": lambda: line(count=HUGE).encode(),
    "says digits of boxes": lambda: line(count="9" * 1_000_000).encode(),
    "a photo of 10^300 pixels": lambda: line(width=10**150, height=10**150).encode(),
    "no boxes and many": lambda: (line(count=0, boxes=0) + line("2", count=-1)).encode(),
    "ids of a megabyte": lambda: b"".join(line(str(n) + "a" * 1_000_000).encode() for n in range(100)),
    "nested predictions": lambda: b'1\t{"objects":' + b"[" * NESTED + b"\n",
    "2 million empty columns": lambda: b"1" + b"\t" * 2_000_000 + b"\n",
}


def npy(shape: object, kind: str = "<f2", data: bytes = b"") -> bytes:
    """A .npy file whose header says this."""
    head = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head + data


def archive(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def _says(data: bytes, size: int) -> bytes:
    """A zip file whose directory says another size of its first member."""
    at = data.index(b"PK\1\2")
    return data[: at + 20] + struct.pack("<II", size, size) + data[at + 28 :]


def _twice() -> bytes:
    return archive({"a.npy": npy("(1, 8)"), "b.npy": b"x"}).replace(b"b.npy", b"a.npy")


ARRAYS: Mapping[str, Make] = {
    "says a trillion rows": lambda: npy(f"({HUGE}, 8)"),
    "rows of nothing": lambda: npy(f"({HUGE}, 0)"),
    "objects": lambda: npy("(1,)", "|O", b"\x80\x04N."),
    "a header of nested tuples": lambda: npy("(" * 200 + "1" + ",)" * 200),
    "a header of digits": lambda: npy("(" + "9" * 60_000 + ", 8)"),
    "a packed archive": lambda: archive({"a.npy": npy(f"({GIB // 16}, 8)", data=bytes(GIB))}, zipfile.ZIP_DEFLATED),
    "an archive that says 4 GB": lambda: _says(archive({"a.npy": npy("(1, 8)", data=bytes(16))}), (1 << 32) - 2),
    "an archive of 50,000 members": lambda: archive({f"{n}.npy": b"" for n in range(50_000)}),
    "an archive of pickles, twice the same name and ../": lambda: _twice() + archive({"../../a.npy": b"\x80\x04N."}),
    "a broken archive": lambda: b"PK\3\4" + bytes(1000),
}


def text(value: str) -> bytes:
    """A text in a pickle."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    """A number in a pickle."""
    return b"\x8a\x08" + struct.pack("<q", value)


def tensor(stored: int, size: int, stride: int = 1) -> bytes:
    """A tensor of float32 in a pickle, over so many numbers of the storage 0."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(stored) + b"tQ"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0" + number(size) + b"\x85" + number(stride)
        + b"\x85\x89ccollections\nOrderedDict\n)RtR"
    )  # fmt: skip


def saved(value: bytes, method: int = zipfile.ZIP_STORED, numbers: bytes = bytes(16)) -> bytes:
    """A file of torch.save with this value under the name "a"."""
    members = {"a/data.pkl": b"\x80\2}" + text("a") + value + b"s.", "a/byteorder": b"little", "a/data/0": numbers}
    return archive({**members, "a/version": b"3\n"}, method)


def _laughs() -> bytes:
    """Twenty dictionaries, each with the one before nine times."""
    value = b"}(" + text("0") + b"}q\0"
    for n in range(1, 20):
        value += text(str(n)) + b"}q%c(" % n + b"".join(text(str(k)) + b"h%c" % (n - 1) for k in range(9)) + b"u"
    return saved(value + b"u")


def _old() -> bytes:
    """A file of torch.save as it was before zip files, with numbers that say a terabyte."""
    value = b"}" + text("a") + tensor(HUGE, HUGE) + b"s"
    parts = (b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19", b"M\xe9\3", b"}", value, b"]" + text("0") + b"a")
    return b"".join(b"\x80\2" + part + b"." for part in parts) + struct.pack("<Q", HUGE)


SAVED: Mapping[str, Make] = {
    "a bytearray of 16 GB": lambda: saved(b"cbuiltins\nbytearray\n" + number(16 * GIB) + b"\x85R"),
    "hexadecimal digits of digits": lambda: saved(
        b"c_codecs\nencode\nq\0" + b"h\0" * 34 + text("a") + text("ascii") + b"\x86R" + (text("hex") + b"\x86R") * 34
    ),
    "a repeated number as float64": lambda: saved(
        b"ctorch._utils\n_rebuild_device_tensor_from_cpu_tensor\n(" + tensor(4, 2 * GIB, 0) + b"ctorch\nfloat64\n"
        + text("cpu") + b"\x89tR"
    ),
    "a repeated number": lambda: saved(tensor(4, HUGE, 0)),
    "a storage that says a terabyte": lambda: saved(tensor(HUGE, HUGE)),
    "packed numbers": lambda: saved(tensor(GIB // 4, GIB // 4), zipfile.ZIP_DEFLATED, bytes(GIB)),
    "a storage of 4 GB in the directory": lambda: _says(saved(tensor(4, 4)), (1 << 32) - 2),
    "dictionaries in dictionaries": _laughs,
    "nested lists": lambda: saved(b"]" * 1_000_000 + b"a" * 999_999),
    "a million names": lambda: saved(b"}(" + b"".join(text(str(n)) + b"K\1" for n in range(1_000_000)) + b"u"),
    "an old file that says a terabyte": _old,
}  # fmt: skip


def safetensors(content: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file. length: what it says of its header instead of the truth."""
    head = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + data


def _entry(*shape: int, begin: int = 0, end: int = 0) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


TENSORS: Mapping[str, Make] = {
    "a header of 2^60 bytes": lambda: safetensors({}, length=1 << 60),
    "a header of 90 MB, nested": lambda: safetensors(b'{"a":' + b"[" * 90_000_000),
    "a million tensors": lambda: safetensors({str(n): _entry(0) for n in range(1_000_000)}),
    "tensors over one another": lambda: safetensors(
        {str(n): _entry(GIB >> 7, end=GIB >> 5) for n in range(2_000)}, bytes(GIB >> 5)
    ),
    "a shape of 2^80": lambda: safetensors({"a": _entry(HUGE, HUGE)}),
    "a million classes": lambda: safetensors(
        {"__metadata__": {"classes": json.dumps(["a"] * 1_000_000)}, "a": _entry(1, end=4)}, bytes(4)
    ),
}  # fmt: skip


def index(data: bytes, fourcc: bytes = b"IwSq", at: int = 0, value: int = 0) -> bytes:
    """A FAISS index of another kind, or with another number at a place, from a sound one."""
    changed = fourcc + data[4:]
    return changed if not at else changed[:at] + struct.pack("<Q", value) + changed[at:][8:]


def chained(fourcc: bytes, data: bytes) -> bytes:
    """An index in an index in an index, and so on, as long as the sound one."""
    head = fourcc + struct.pack("<iqqqBi", 8, 1, 1 << 20, 1 << 20, 1, 0)
    head += struct.pack("<i", 0) if fourcc == b"IxPT" else b""
    return (head * (len(data) // len(head) + 1))[: len(data)]


def network(*nodes: Any, constants: Any = (), side: int = 64) -> bytes:
    """An ONNX model whose nodes make "raw" of what is constant, and ignore the image."""
    graph = helper.make_graph(
        list(nodes), "bomb", [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("raw", TensorProto.FLOAT, None)], list(constants),
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def _filled(*shape: int, name: str = "raw") -> tuple[Any, Any]:
    """A node that makes a tensor of ones, and the constant that it needs."""
    one = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
    node = helper.make_node("ConstantOfShape", [f"{name} shape"], [name], value=one)
    return node, numpy_helper.from_array(np.array(shape, np.int64), f"{name} shape")


def _loop() -> bytes:
    of, one = helper.make_tensor_value_info, TensorProto.FLOAT
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["was"], ["is"])],
        "body",
        [of("n", TensorProto.INT64, []), of("go", TensorProto.BOOL, []), of("was", one, [1])],
        [of("on", TensorProto.BOOL, []), of("is", one, [1])],
    )
    values = {"times": np.array((1 << 63) - 1), "true": np.array(True), "zero": np.zeros(1, np.float32)}
    constants = [numpy_helper.from_array(value, name) for name, value in values.items()]
    return network(helper.make_node("Loop", [*values], ["raw"], body=body), constants=constants)


def _elsewhere(path: str, length: int) -> bytes:
    stored = onnx.TensorProto(name="raw0", data_type=TensorProto.FLOAT, dims=[length // 4])
    stored.data_location = TensorProto.EXTERNAL
    for key, value in (("location", path), ("offset", "0"), ("length", str(length))):
        stored.external_data.add(key=key, value=value)
    return network(helper.make_node("Identity", ["raw0"], ["raw"]), constants=[stored])


def _subgraphs(depth: int = 5_000) -> bytes:
    """A graph in an attribute of a node of a graph, and so on, as bytes: onnx makes no such file."""
    data = b""
    for field in (*(6, 5, 1) * depth, 7):
        size = len(data)
        data = struct.pack("<BBBB", 8 * field + 2, size & 127 | 128, size >> 7 & 127 | 128, size >> 14) + data
    return b"\x08\x08" + data


def _product(side: int = 40_000) -> bytes:
    (left, one), (right, two) = _filled(side, side, name="l"), _filled(side, side, name="r")
    last = helper.make_node("ReduceSum", ["p"], ["raw"])
    return network(left, right, helper.make_node("MatMul", ["l", "r"], ["p"]), last, constants=[one, two])


def _of_shape(*shape: int, side: int = 64) -> bytes:
    node, constant = _filled(*shape)
    return network(node, constants=[constant], side=side)


NETWORKS: Mapping[str, Make] = {
    "a constant that says a trillion": lambda: network(
        helper.make_node("Identity", ["c"], ["raw"]),
        constants=[onnx.TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[HUGE], raw_data=b"1234")],
    ),
    "a trillion ones": lambda: _of_shape(HUGE),
    "12 GB of ones": lambda: _of_shape(3, GIB),
    "a loop without end": _loop,
    "a product of large matrices": lambda: _product(),
    "numbers from /dev/zero": lambda: _elsewhere("/dev/zero", GIB),
    "numbers from ../../etc/passwd": lambda: _elsewhere("../" * 20 + "etc/passwd", 400),
    "5,000 graphs in graphs": _subgraphs,
    "a field of 2^62 bytes": lambda: b"\x08\x08\x3a" + b"\x80" * 8 + b"\x40",
    "an input of 2^40 pixels": lambda: _of_shape(1, side=1 << 20),
}  # fmt: skip
