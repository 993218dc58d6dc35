"""A full disk and a read-only disk in every stage: there must be one clear error, and the right bytes afterwards.

    python benchmarks/full_disk.py --out DIR        (as root: mounts a small tmpfs below DIR)

Does this for each stage and for training, with one worker and with two. It runs the stages before with enough space.
Then it fills the disk, in turn leaving nothing, a page, half, and nine tenths of what the stage wrote in an undisturbed
run. The stage must end with exit code 1 and one line that says what, where and what to do. With space again, the same
command must end with the bytes of the undisturbed run. Then the same with the disk mounted read-only.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.kill_run import write_config
from benchmarks.same_bytes import contents, faults

from vlmixer.artifacts import stages

STAGES = {**{stage.name: stage.folder for stage in stages.STAGES}, "train": "run"}
DISK = 64 << 20
LEFT = ("nothing", "a page", "half", "nine tenths")


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """Mount a tmpfs of DISK bytes."""
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def command(stage: str, config: Path, out: Path, workers: int) -> subprocess.CompletedProcess:
    """Run the stage's command; training resumes what it began."""
    call = [sys.executable, "-m", "vlmixer", stage, str(config)]
    call += ["--out", str(out / "run"), "--resume", "--set", f"out={out}"] if stage == "train" else []
    call += [] if stage == "train" else ["--out", str(out), "--workers", str(workers)]
    return subprocess.run(call, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)


def fill(disk: Path, leave: int) -> None:
    """Fill the disk but for `leave` bytes."""
    space = os.statvfs(disk)
    with (disk / "filler").open("wb") as filler:
        filler.truncate(0)
        rest = space.f_bavail * space.f_frsize - leave
        filler.write(b"\0" * max(rest, 0))


def judge(done: subprocess.CompletedProcess, reason: str) -> str:
    """The error line of a run that must have failed for this reason. Raises SystemExit if it did not."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    if done.returncode != 1 or "Traceback" in done.stderr or len(errors) != 1 or reason not in errors[0]:
        raise SystemExit(
            f"expected exit code 1 and one error line (exit {done.returncode}):\n{done.stdout}{done.stderr}"
        )
    return errors[0]


def expect(done: subprocess.CompletedProcess) -> None:
    """Raises SystemExit if the run failed."""
    if done.returncode:
        raise SystemExit(done.stderr)


def size_of(folder: Path) -> int:
    """Bytes below the folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> int:
    """Run the benchmark; returns 1 if a byte differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    config = write_config(options.out)
    easy = options.out / "easy"
    for stage in STAGES:
        expect(command(stage, config, easy, 1))
    expected = contents(easy)
    print(f"undisturbed: {len(expected)} files, {size_of(easy):,} bytes")

    failures = 0
    for workers in options.workers:
        with small_disk(options.out / f"disk-{workers}") as disk:
            out = disk / "out"
            for stage, folder in STAGES.items():
                wanted = size_of(easy / folder)
                for name, leave in zip(LEFT, (0, 4096, wanted // 2, wanted * 9 // 10), strict=True):
                    fill(disk, leave)
                    done = command(stage, config, out, workers)
                    (disk / "filler").unlink()
                    if done.returncode == 0:
                        print(f"{stage}, {workers} workers, {name} left: enough space")
                        break
                    error = judge(done, "No space left on device")
                    failures += 1
                    print(f"{stage}, {workers} workers, {name} left: {error.replace(str(disk), 'DISK')}", flush=True)
                if stage != "train":
                    shutil.rmtree(out / folder, ignore_errors=True)
                expect(command(stage, config, out, workers))
                subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
                error = judge(command(stage, config, out, workers), "Read-only file system")
                subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
                print(f"{stage}, {workers} workers, read-only: {error.replace(str(disk), 'DISK')}", flush=True)
            if wrong := faults(expected, out):
                print(wrong)
                return 1
            print(f"{workers} workers: the bytes of the undisturbed run")
    print(f"the disk was full {failures} times, each time with one line and exit code 1")
    return 0


if __name__ == "__main__":
    sys.exit(main())
