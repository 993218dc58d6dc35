"""Does a damaged image stop the detect stage, get lost in it, or exhaust its memory?

    python benchmarks/fuzz_images.py --photos DIR [--number 2000] [--megapixels 12] [--seed 0]

Writes mutated copies of the photos as JPEG, PNG and WebP, runs `vlmixer detect` on copies and photos, and compares with
a run on the photos alone. Counts must add up, the photos must keep their exact regions, and the peak of memory may rise
by no more than a photo of the largest allowed size needs.
"""

import argparse
import io
import json
import random
import struct
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.parquet as pq
import yaml
from PIL import Image

from vlmixer.pipeline.image.decoding import BYTES_PER_PIXEL

ROOT = Path(__file__).resolve().parents[1]
KINDS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}


def encoded(image: Image.Image, kind: str) -> bytes:
    """The image as a file of this kind."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"exif": image.getexif()} if kind == "JPEG" else {}))
    return buffer.getvalue()


def mutated(data: bytes, kind: str, other: bytes, chance: random.Random) -> bytes:
    """A damaged copy of `data`; `other` is a file to splice parts from."""
    changes: list[Callable[[bytearray], None]] = [
        lambda it: _flip(it, len(it), chance),
        lambda it: _flip(it, 64, chance),
        lambda it: it.__delitem__(slice(chance.randrange(len(it)), None)),
        lambda it: _cut(it, chance),
        lambda it: _splice(it, other, chance),
        lambda it: _fill(it, chance),
        lambda it: _resize(it, kind, chance),
    ]
    result = bytearray(data)
    for change in chance.choices(changes, k=chance.choice((1, 1, 1, 2, 3))):
        if len(result) > 16:
            change(result)
    if kind == "PNG" and chance.random() < 0.7:
        _mend_checksums(result)
    return bytes(result)


def _flip(it: bytearray, within: int, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 2, 10, 100))):
        it[chance.randrange(min(within, len(it)))] ^= 1 << chance.randrange(8)


def _cut(it: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(it))
    del it[start : start + chance.randrange(1, 200)]


def _splice(it: bytearray, other: bytes, chance: random.Random) -> None:
    start = chance.randrange(len(other))
    at = chance.randrange(len(it))
    it[at:at] = other[start : start + chance.randrange(1, 2000)]


def _fill(it: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(it))
    length = min(chance.randrange(1, 300), len(it) - start)
    it[start : start + length] = bytes([chance.choice((0, 255, chance.randrange(256)))]) * length


def _resize(it: bytearray, kind: str, chance: random.Random) -> None:
    """Write another size into the header: zero, one, huge, or random."""
    sides = [chance.choice((0, 1, 3000, 16_383, 30_000, 65_535, chance.randrange(65_536))) for _ in range(2)]
    if kind == "PNG":
        it[16:24] = struct.pack(">II", *(side * chance.choice((1, 1, 30_000)) for side in sides))
    elif kind == "JPEG":
        for marker in (b"\xff\xc0", b"\xff\xc2"):
            at = it.find(marker)
            if 0 < at < len(it) - 9:
                it[at + 5 : at + 9] = struct.pack(">HH", *sides)
    elif it[12:16] == b"VP8X":
        it[24:30] = b"".join(struct.pack("<I", side)[:3] for side in sides)
    else:
        it[26:30] = struct.pack("<HH", *(side & 0x3FFF for side in sides))


def _mend_checksums(it: bytearray) -> None:
    """Repair the checksums, so that a PNG reader gets past them."""
    at = 8
    while at + 12 <= len(it):
        (length,) = struct.unpack_from(">I", it, at)
        end = at + 8 + length
        if end + 4 > len(it):
            return
        it[end : end + 4] = struct.pack(">I", zlib.crc32(it[at + 4 : end]))
        at = end + 4


def write_mutations(photos: Sequence[Path], folder: Path, number: int, seed: int, largest: int = 512) -> None:
    """Write `number` mutated copies of the photos, scaled down to `largest` pixels, to `folder`."""
    chance = random.Random(seed)
    folder.mkdir(parents=True)
    seeds: list[tuple[str, bytes]] = []
    for path in photos:
        with Image.open(path) as image:
            image.thumbnail((largest, largest))
            picture = image.convert("RGB")
            alpha = picture.convert("RGBA")
            alpha.putalpha(picture.convert("L"))
            seeds += [("JPEG", encoded(picture, "JPEG")), ("PNG", encoded(picture, "PNG"))]
            seeds += [("WEBP", encoded(picture, "WEBP")), ("PNG", encoded(picture.quantize(32), "PNG"))]
            seeds += [("WEBP", encoded(alpha, "WEBP")), ("JPEG", encoded(picture.convert("CMYK"), "JPEG"))]
    for index in range(number):
        kind, data = seeds[index % len(seeds)]
        content = mutated(data, kind, chance.choice(seeds)[1], chance)
        (folder / f"{index:06d}.{KINDS[kind]}").write_bytes(content)


def detect(config: Path, out: Path) -> int:
    """Run `vlmixer detect` in a process of its own; returns its peak memory in bytes. Raises CalledProcessError."""
    code = (
        "import resource, sys; from vlmixer.pipeline.commands.main import main; code = main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    call = [sys.executable, "-c", code, "detect", str(config), "--out", str(out), "--workers", "1"]
    said = subprocess.run(call, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return int(said.split()[-1]) * 1024


def regions_of(out: Path, names: set[str]) -> dict[str, list[str]]:
    """The regions of the photos `names`, by name."""
    found: dict[str, list[str]] = {}
    for part in sorted((out / "regions").glob("part-*")):
        for row in pq.read_table(part).to_pylist():
            if row["source"] in names:
                found.setdefault(row["source"], []).append(str(row))
    return found


@dataclass(frozen=True)
class Outcome:
    """Counts, rejects by reason, whether the photos kept their regions, and memory in bytes.

    allowed: by how much peak_fuzzed may exceed peak_clean.
    """

    read: int
    written: int
    rejected: dict[str, int]
    neighbours_kept: bool
    peak_clean: int
    peak_fuzzed: int
    allowed: int


def compare(config: dict, photos: Sequence[Path], mutations: Path, work: Path, megapixels: float) -> Outcome:
    """Run the stage on the photos, and on photos and mutations."""
    names = [str(photo) for photo in photos]
    peaks = []
    for name, inputs in (("clean", names), ("fuzzed", [*names, str(mutations)])):
        images = {**config["images"], "inputs": inputs, "max_megapixels": megapixels}
        (work / f"{name}.yaml").write_text(yaml.safe_dump({**config, "images": images, "max_bad_fraction": 1.0}))
        peaks.append(detect(work / f"{name}.yaml", work / name))
    counts = json.loads((work / "fuzzed" / "regions" / "manifest.json").read_text())["counts"]["images"]
    listed: Counter[str] = Counter()
    for part in (work / "fuzzed" / "rejects").glob("detect-*"):
        listed.update(pq.read_table(part)["reason"].to_pylist())
    return Outcome(
        read=counts["read"],
        written=counts["written"],
        rejected=dict(listed),
        neighbours_kept=regions_of(work / "clean", set(names)) == regions_of(work / "fuzzed", set(names)),
        peak_clean=peaks[0],
        peak_fuzzed=peaks[1],
        allowed=int(megapixels * 1e6 * BYTES_PER_PIXEL + 64e6),
    )


def main() -> None:
    """Print the outcome; exit code 1 if a requirement is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR")
    parser.add_argument("--number", type=int, default=2000)
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--detector", default="demo")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--vocabulary", default="coco")
    args = parser.parse_args()
    photos = sorted(path for path in args.photos.iterdir() if path.is_file())[:40]
    config = {
        "vocabulary": args.vocabulary,
        "images": {"detector": args.detector, "weights": args.weights, "min_regions": 1, "device": "cpu"},
    }
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_mutations(photos, work / "mutations", args.number, args.seed)
        result = compare(config, photos, work / "mutations", work, args.megapixels)
    for name, value in asdict(result).items():
        print(f"{name:16} {value}")
    sound = (
        result.read == len(photos) + args.number == result.written + sum(result.rejected.values())
        and result.neighbours_kept
        and result.peak_fuzzed <= result.peak_clean + result.allowed
    )
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
