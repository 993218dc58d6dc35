"""Changes every file of a finished output folder in every way that we know, and says which command takes it badly.

    python -m tests.pipeline.hostile OUT CONFIG [--only GLOB] [--every N]

Each change is made in a copy of OUT, alone. Then the commands that read the file are called in this process: they must
end with exit code 0, 1 or 2, at most a line of error, and within a minute. A traceback or a hang is a finding. Tests
run some of the changes (test_hostile_files.py), this script runs all.
"""

import argparse
import contextlib
import fnmatch
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from vlmixer.artifacts import manifest

SECONDS = 60
SPARSE = 1 << 40
VALUES: tuple[Any, ...] = (None, [], {}, "x", -1, 10**9, 10**400, 1.5, True, [[["deep"]]], "\ud800")
"""What each field is replaced by."""


@dataclass(frozen=True)
class Change:
    """What is done to a file. signed: whether the manifest is rewritten to match, as somebody who forges it would."""

    name: str
    make: Callable[[Path], None]
    signed: bool = False


def written(data: bytes) -> Callable[[Path], None]:
    """Replaces the file by another."""

    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for place in range(0, len(data), max(len(data) // 40, 1)):
        data[place] ^= 0xFF
    path.write_bytes(data)


def _instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


def _sparse(path: Path) -> None:
    os.truncate(path, SPARSE)


ANY = (
    Change("gone", Path.unlink),
    Change("folder", _instead(Path.mkdir)),
    Change("broken link", _instead(lambda path: path.symlink_to("nowhere"))),
    Change("link to itself", _instead(lambda path: path.symlink_to(path.name))),
    Change("pipe", _instead(os.mkfifo)),
    Change("device", _instead(lambda path: path.symlink_to("/dev/zero"))),
    Change("a terabyte", _sparse),
)
CONTENT = (
    ("empty", written(b"")),
    ("cut", _cut),
    ("flipped", _flip),
    ("noise", written(bytes(range(256)) * 40)),
    ("null", written(b"null")),
    ("deep", written(b"[" * 100_000)),
    ("pickle", written(b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00N.")),
)


def changes(path: Path) -> Iterator[Change]:
    """All changes of a file."""
    yield from ANY
    parts = [*CONTENT]
    kind = path.name.rpartition(".")[2]
    if kind in ("json", "yaml"):
        parts += _fields(path, json if kind == "json" else yaml)
    elif kind == "parquet":
        parts += _columns(path)
    elif kind == "npy":
        parts += [
            ("objects", written(_npy("|O"))),
            ("other shape", written(_npy("<f4"))),
            ("huge", written(_npy(None))),
        ]
    elif kind == "tar":
        parts += _members(path)
    elif kind == "safetensors":
        parts += _tensors()
    for name, make in parts:
        yield Change(name, make)
        if path.name != manifest.NAME:
            yield Change(name, make, signed=True)


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values; of a list or a long mapping, of the first entries."""
    yield at
    inner = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, each in inner[: 20 if isinstance(value, dict) else 1]:
        yield from _places(each, (*at, key))


def _set(value: Any, at: Sequence[Any], new: Any) -> Any:
    if not at:
        return new
    copy = list(value) if isinstance(value, list) else dict(value)
    copy[at[0]] = _set(copy[at[0]], at[1:], new)
    return copy


def _fields(path: Path, module: Any) -> Iterator[tuple[str, Callable[[Path], None]]]:
    whole = json.loads(path.read_bytes()) if module is json else yaml.safe_load(path.read_bytes())
    for at in _places(whole):
        for new in VALUES:
            changed = _set(whole, at, new)
            if module is json:
                data = _resigned(changed) if path.name == manifest.NAME else json.dumps(changed).encode()
            elif new == "\ud800" or new == 10**400:
                continue
            else:
                data = yaml.safe_dump(changed).encode()
            yield f"{'.'.join(map(str, at))} = {str(new)[:12]!r}", written(data)


def _resigned(content: Any) -> bytes:
    """A manifest with the hash of its new content."""
    try:
        plain = {key: value for key, value in content.items() if key != "content_hash"}
        return manifest.canonical({**plain, "content_hash": manifest.digest(plain)}, indent=1)
    except (AttributeError, ValueError):
        return json.dumps(content).encode()


def _columns(path: Path) -> Iterator[tuple[str, Callable[[Path], None]]]:
    table = pq.read_table(path)

    def rewritten(changed: pa.Table) -> Callable[[Path], None]:
        return lambda place: pq.write_table(changed, place)

    yield "no rows", rewritten(table.slice(0, 0))
    yield "one row group", rewritten(table)
    yield "other names", rewritten(table.rename_columns([f"{name}x" for name in table.column_names]))
    for place, name in enumerate(table.column_names):
        rows = len(table)
        yield f"no {name}", rewritten(table.drop_columns([name]))
        for new in (pa.nulls(rows), pa.array(["x"] * rows), pa.array([-1] * rows), pa.array([[1.5]] * rows),
                    pa.array([2**40] * rows), pa.nulls(rows, table.schema.field(name).type)):  # fmt: skip
            yield f"{name}: {new.type}", rewritten(table.set_column(place, name, new))
        reversed_rows = table[name].take(pa.array(range(rows - 1, -1, -1), pa.int64()))
        yield f"{name} reversed", rewritten(table.set_column(place, table.schema.field(name), reversed_rows))


def _npy(dtype: str | None) -> bytes:
    shape = "(1000000000000, 8)" if dtype is None else "(3,)"
    head = f"{{'descr': '{dtype or '<f2'}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (117 - len(head)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(64)


def _members(path: Path) -> Iterator[tuple[str, Callable[[Path], None]]]:
    with tarfile.open(path) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]

    def rewritten(changed: list[tuple[str, bytes]]) -> Callable[[Path], None]:
        def write(place: Path) -> None:
            with tarfile.open(place, "w") as tar:
                for name, data in changed:
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))

        return write

    first = json.loads(members[0][1])
    for at in _places(first):
        for new in VALUES:
            record = json.dumps(_set(first, at, new)).encode()
            yield f"{'.'.join(map(str, at))} = {str(new)[:12]!r}", rewritten([(members[0][0], record), *members[1:]])
    yield "no features", rewritten([(name, data if name[-3:] != "npy" else _npy("<f2")) for name, data in members])
    yield "no members", rewritten([])
    yield "long name", rewritten([("a" * 10_000 + ".json", b"{}")])


def _tensors() -> Iterator[tuple[str, Callable[[Path], None]]]:
    import numpy as np
    from safetensors.numpy import save

    yield "other tensors", written(save({"other": np.zeros((2, 3), np.float32)}))
    yield "no tensors", written(save({}))
    yield "long header", written((1 << 50).to_bytes(8, "little") + b"{}")


def sign(out: Path, path: Path) -> None:
    """Rewrite the manifest that lists the file, as it is now, if one does."""
    for place in out.glob(f"*/{manifest.NAME}"):
        content = json.loads(place.read_bytes())
        folder = {"rejects": out / "rejects"}
        for part in ("outputs", "rejects"):
            for entry in content[part] or []:
                if folder.get(part, place.parent) / entry["name"] == path:
                    entry |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
                    place.write_bytes(_resigned(content))


def calls(out: Path, name: str, config: Path, *, light: bool = False) -> list[list[str]]:
    """The commands that read the file `name` of OUT. light: without those that load Beam or PyTorch."""
    folder = name.partition("/")[0]
    bank = [["bank", "stats", f"{out}/bank"], ["bank", "query", f"{out}/bank", "--concept", "dog", "--json"],
            ["bank", "query", f"{out}/bank", "--like", _a_patch(out), "--json"],
            ["bank", "show", f"{out}/bank", "--html", f"{out}.html"]]  # fmt: skip
    shards = [["show", str(out), "--html", f"{out}.html", "-n", "400"]]
    again = [[stage, str(config), "--out", str(out)] for stage in ("tag", "detect", "index", "mix")]
    train = ["train", str(config), "--set", f"train.shards={out}/shards", "--out"]
    pairs, photo = f"{config.parent}/pairs.jsonl", f"{config.parent}/photos/0001.jpg"
    readers = {
        "tagged": [again[0], again[3]],
        "regions": again[1:],
        "bank": [*bank, again[2], again[3]],
        "shards": [*shards, again[3], [*train, f"{out}-new"]],
        "run": [
            [*train, f"{out}/run", "--resume"],
            ["eval", "retrieval", "--run", f"{out}/run", "--images", pairs, "--trust-detector"],
        ],
        "contents.json": [*again[:1], *shards],
        "config.yaml": [["bank", "query", f"{out}/bank", "--like", photo, "--trust-detector"]],
    }
    found = [["verify", str(out)], *readers.get(folder, [])]
    if light:
        found = [call for call in found if call[0] in ("verify", "bank", "show") and "--trust-detector" not in call]
    return found


def _a_patch(out: Path) -> str:
    try:
        found: str = pq.read_table(out / "bank" / "patches.parquet", columns=["patch_id"])["patch_id"][0].as_py()
        return str(found)
    except Exception:  # it was changed
        return "none"


class Stuck(BaseException):
    """A command did not end in time."""


def call(arguments: Sequence[str], seconds: int = SECONDS) -> str:
    """ "" if the command ended as it should, else what it did instead."""
    from vlmixer.pipeline.commands.main import main

    def stop(*_: object) -> None:
        raise Stuck

    said = io.StringIO()
    # Of processor time, since other programs may hold the machine; and of time by the clock, for what waits.
    for clock, name, most in ((signal.ITIMER_PROF, signal.SIGPROF, seconds), (signal.ITIMER_REAL, signal.SIGALRM, 600)):
        signal.signal(name, stop)
        signal.setitimer(clock, most)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = main(list(arguments))
    except Stuck:
        return f"still running after {seconds} s"
    except SystemExit as leaving:
        return f"exit {leaving.code}"
    except BaseException:
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    text = said.getvalue()
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    if "Traceback" in text:
        return text
    if code not in (0, 1, 2) or len(errors) > 1 or any(len(line) > 3000 for line in errors):
        return f"exit code {code}: {text}"
    return ""


def attempt(sound: Path, name: str, change: Change, config: Path, place: Path, *, light: bool = False) -> list[str]:
    """Make the change in a copy at `place` and call the commands. Returns what went wrong."""
    out = place / "out"
    shutil.copytree(sound, out)
    try:
        change.make(out / name)
        if change.signed:
            sign(out, out / name)
        wrong = []
        for arguments in calls(out, name, config, light=light):
            found = call(arguments)
            if found:
                shown = " ".join(arguments).replace(str(place), "")
                wrong.append(f"{name}: {change.name}{' (signed)' if change.signed else ''}: {shown}\n{found}")
        return wrong
    finally:
        for left in place.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("config", type=Path)
    parser.add_argument("--only", default="*", help="files below OUT")
    parser.add_argument("--every", type=int, default=1, help="only each N-th change")
    parser.add_argument("--light", action="store_true", help="without commands that load Beam or PyTorch")
    parser.add_argument("--skip", type=int, default=0, help="changes to leave out at the beginning")
    options = parser.parse_args()
    if not options.light:  # an import that is interrupted would fail ever after
        import apache_beam  # noqa: F401
        import spacy  # noqa: F401
        import torch  # noqa: F401
    names = sorted(str(path.relative_to(options.out)) for path in options.out.rglob("*") if path.is_file())
    names = [
        name for name in names if fnmatch.fnmatch(name, options.only) and not name.startswith(("logs/", "reports/"))
    ]
    cases = [(name, change) for name in names for change in changes(options.out / name)][options.skip :: options.every]
    tried = bad = 0
    seen: set[str] = set()
    with tempfile.TemporaryDirectory() as place:
        for name, change in cases:
            began = time.monotonic()
            for wrong in attempt(options.out, name, change, options.config, Path(place), light=options.light):
                bad += 1
                last = wrong.strip().splitlines()[-1]
                print(wrong if last not in seen else wrong.splitlines()[0] + " … " + last[:200], flush=True)
                seen.add(last)
            tried += 1
            if tried % 50 == 0 or time.monotonic() - began > 20:
                print(
                    f"… {tried} of {len(cases)} ({name}: {change.name}, {time.monotonic() - began:.1f} s), {bad} bad",
                    flush=True,
                )
    print(f"{tried} changes tried, {bad} commands took them badly")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
