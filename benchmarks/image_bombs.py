"""Do image files of a few bytes take gigabytes or minutes to decode?

    python benchmarks/image_bombs.py [--only NAME]... [--megapixels 100]

Makes one file of each kind, decodes it in a process of its own as `detect` does, and prints a line of a Markdown table:
what came of it, processor time, and by how much the process grew. The peak may be 24 bytes for each allowed pixel, and
the time a minute.
"""

import argparse
import io
import os
import resource
import struct
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from PIL import Image, ImageFile

from vlmixer.pipeline.image.bombs import MAX_SCANS
from vlmixer.pipeline.image.decoding import BYTES_PER_PIXEL, SPARE_BYTES, ImageRejected, decode

SECONDS = 60
CEILING = 8 << 30
"""Address space that decoding may ask for beyond what the process has."""
SIDE = 9_900


def encoded(kind: str, size: tuple[int, int] = (16, 16), **options: object) -> bytes:
    """A plain image as a file of this kind."""
    buffer = io.BytesIO()
    Image.new("RGB", size, "green").save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with(*chunks: bytes) -> bytes:
    """A small PNG with these chunks after its header."""
    plain = encoded("PNG")
    return plain[:33] + b"".join(chunks) + plain[33:]


@cache
def zeros() -> bytes:
    """A gibibyte of zeros, packed."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(1 << 10)) + packer.flush()


def png_text() -> bytes:
    """Many texts that unpack to a gigabyte each."""
    packed = zeros()
    return png_with(*(chunk(b"zTXt", b"%d\0\0" % place + packed) for place in range(20)))


def png_pixels() -> bytes:
    """A picture of one pixel whose data unpacks to a gigabyte."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zeros()) + chunk(b"IEND", b"")


def shared_tags(room: int = 4 << 20, tags: int = 60_000) -> bytes:
    """A TIFF directory of tags that all have the same `room` bytes as their value."""
    at = 8
    value = at + 2 + 12 * tags + 4
    entries = b"".join(struct.pack("<HHII", 1 + tag, 7, room, value) for tag in range(tags))
    return b"II*\0" + struct.pack("<IH", at, tags) + entries + bytes(4 + room)


def tiff_circle() -> bytes:
    """A TIFF whose directories follow one another in a circle."""
    data = bytearray(encoded("TIFF"))
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    struct.pack_into("<I", data, at + 2 + 12 * count, at)
    return bytes(data)


def png_profile() -> bytes:
    """A PNG with such EXIF as digits in a packed text."""
    digits = shared_tags(400_000, 5_000).hex().encode()
    return png_with(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n8\n" + digits)))


def jpeg_exif() -> bytes:
    """A JPEG with EXIF in many segments, whose tags share their values."""
    exif, size = shared_tags(), 65_000
    parts = (b"Exif\0\0" + exif[start : start + size] for start in range(0, len(exif), size))
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts)
    plain = encoded("JPEG")
    return plain[:2] + segments + plain[2:]


def webp_exif() -> bytes:
    """A WebP with such EXIF."""
    return encoded("WEBP", exif=b"Exif\0\0" + shared_tags())


def jpeg_scans(scans: int) -> bytes:
    """A large progressive JPEG whose last scan, which says nothing, is repeated."""
    plain = encoded("JPEG", (SIDE, SIDE), progressive=True)
    last = plain.rindex(b"\xff\xda")
    start = plain.rfind(b"\xff\xc4", 0, last)
    return plain[:-2] + plain[start:-2] * scans + plain[-2:]


def ico() -> bytes:
    """An icon that says 16 × 16 and holds a PNG of 170 million pixels."""
    inner = encoded("PNG", (17_000, 10_000), compress_level=9)
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + inner


def jpeg2000_precincts() -> bytes:
    """A JPEG 2000 that is divided into precincts of a pixel, of which it has none."""
    siz = struct.pack(">HIIIIIIIIH", 0, SIDE, SIDE, 0, 0, SIDE, SIDE, 0, 0, 3) + bytes((7, 1, 1)) * 3
    cod = bytes((1, 0, 0, 1, 0, 0, 0, 0, 0, 1)) + bytes(1)
    qcd = bytes((0x40, 0x40))
    parts = b"".join(
        struct.pack(">HH", marker, len(data) + 2) + data
        for marker, data in ((0xFF51, siz), (0xFF52, cod), (0xFF5C, qcd))
    )
    tile = struct.pack(">HHHIBB", 0xFF90, 10, 0, 0, 0, 1) + b"\xff\x93" + bytes(64) + b"\xff\xd9"
    return b"\xff\x4f" + parts + tile


def animated(kind: str, frames: int = 2_000) -> bytes:
    """An animation."""
    images = [Image.new("RGB", (8, 8), (place % 256, place // 256, 0)) for place in range(frames)]
    buffer = io.BytesIO()
    images[0].save(buffer, kind, save_all=True, append_images=images[1:])
    return buffer.getvalue()


BOMBS: Mapping[str, Callable[[], bytes]] = {
    "PNG: colour profile of 1 GiB": lambda: png_with(chunk(b"iCCP", b"x\0\0" + zeros())),
    "PNG: 20 texts of 1 GiB": png_text,
    "PNG: international texts of 1 GiB": lambda: png_with(chunk(b"iTXt", b"x\0\1\0\0\0" + zeros())),
    "PNG: pixels of 1 GiB for one": png_pixels,
    "PNG: a million chunks": lambda: png_with(chunk(b"teXt", b"") * 1_000_000),
    "PNG: EXIF, tags that share values": lambda: png_with(chunk(b"eXIf", shared_tags())),
    "PNG: frames that are not there": lambda: png_with(chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
    "PNG: an animation": lambda: animated("PNG"),
    "WebP: an animation": lambda: animated("WEBP"),
    "GIF: an animation": lambda: animated("GIF"),
    "AVIF: an animation": lambda: animated("AVIF", 100),
    "MPO: many pictures": lambda: animated("MPO", 200),
    "TIFF: tags that share values": shared_tags,
    "TIFF: directories in a circle": tiff_circle,
    "TIFF: pages": lambda: animated("TIFF"),
    "JPEG: EXIF, tags that share values": jpeg_exif,
    "WebP: EXIF, tags that share values": webp_exif,
    "JPEG: 5,000 scans": lambda: jpeg_scans(5_000),
    "JPEG: as many scans as are allowed": lambda: jpeg_scans(MAX_SCANS - 10),
    "PNG: EXIF that begins 500,000 times": lambda: png_with(chunk(b"eXIf", b"Exif\0\0" * 500_000)),
    "PNG: EXIF in a text": png_profile,
    "ICO: more pixels than it says": ico,
    "JPEG 2000: precincts of a pixel": jpeg2000_precincts,
}


def attempt(data: bytes, max_pixels: float) -> tuple[str, float, float]:
    """Decode in a process of its own. Returns what came of it, its processor time, and its growth in bytes."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, _outcome(data, max_pixels).encode()[:1000])
        os._exit(0)
    os.close(writer)
    _, status, used = os.wait4(child, 0)
    with os.fdopen(reader) as said:
        outcome = said.read() or f"killed ({status})"
    return outcome, used.ru_utime + used.ru_stime, 1024 * (used.ru_maxrss - _held())


def _held() -> int:
    """What this process holds, in KiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1024


def _outcome(data: bytes, max_pixels: float) -> str:
    with open("/proc/self/statm") as file:
        has = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + CEILING,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (2 * SECONDS,) * 2)
    try:
        height, width, _ = decode(data, max_pixels=max_pixels).shape
        return f"{width}×{height}"
    except ImageRejected as rejected:
        return str(rejected)[:100]
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:100]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 if a bomb took too much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="names, or parts of them")
    parser.add_argument("--megapixels", type=float, default=100)
    options = parser.parse_args(arguments)
    ImageFile.MAXBLOCK = 1 << 26
    bad = 0
    print("| file | kB | came of it | seconds | MB | |\n|---|---|---|---|---|---|")
    for name, make in BOMBS.items():
        if options.only and not any(part in name for part in options.only):
            continue
        data = make()
        outcome, seconds, grown = attempt(data, options.megapixels * 1e6)
        held = seconds <= SECONDS and grown <= options.megapixels * 1e6 * BYTES_PER_PIXEL + SPARE_BYTES
        held = held and not outcome.startswith(("killed", "MemoryError"))
        bad += not held
        kilobytes = f"{len(data) / 1e3:,.0f}"
        verdict = "held" if held else "BAD"
        print(f"| {name} | {kilobytes} | {outcome} | {seconds:.1f} | {grown / 1e6:,.0f} | {verdict} |", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
