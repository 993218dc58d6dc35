"""Compares `vlmixer plan` with the run that follows: stage by stage, one worker, into a new folder.

    python benchmarks/plan.py CONFIG.yaml --out DIR [--seconds 5] [--set KEY=VALUE ...]

Times are CPU seconds, which other work on the machine affects less than wall-clock time. Each stage is a command of
its own; the start-up time of a command, measured first, is subtracted.
"""

import argparse
import json
import shutil
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `benchmarks`

from benchmarks.watching import MIB, STAGES, vlmixer, watch

from vlmixer.artifacts import stages

FOLDERS = {stage.name: stage.folder for stage in stages.STAGES}


@dataclass(frozen=True)
class Row:
    """A stage, planned and measured: CPU seconds, bytes on disk, bytes of memory of the largest process."""

    stage: str
    items: int
    planned: float
    cpu: float
    planned_bytes: int
    bytes: int
    planned_memory: int
    memory: int
    seconds: float


def start_of_a_command() -> float:
    """CPU seconds until a command begins its work."""
    script = "import vlmixer.pipeline.commands.main, vlmixer.pipeline.jobs.chain"
    return statistics.median(watch([sys.executable, "-c", script]).cpu for _ in range(3))


def compare(config: Path, out: Path, more: list[str], seconds: float) -> list[Row]:
    """Plan, then run each stage."""
    shutil.rmtree(out, ignore_errors=True)
    call = [config, "--out", out, *more]
    planned = watch(vlmixer("plan", *call, "--seconds", seconds, "--json"))
    plan = json.loads(planned.output[planned.output.index("{") :])
    if out.exists():
        raise SystemExit(f"{out}: the plan wrote to this folder")
    print(f"the plan took {planned.cpu:.0f} CPU seconds, {planned.seconds:.0f} by wall clock", file=sys.stderr)
    stages = {entry["stage"]: entry for entry in plan["stages"]}
    start = start_of_a_command()
    rows = []
    for stage in STAGES:
        taken = watch(vlmixer(stage, *call, "--workers", 1))
        entry = stages[stage]
        rows.append(
            Row(
                stage, sum(entry["items"].values()), entry["seconds"]["1"], taken.cpu - start, entry["output_bytes"],
                _bytes(out, stage), entry["memory_bytes"], taken.largest, taken.seconds,
            )
        )  # fmt: skip
        print(asdict(rows[-1]), file=sys.stderr)
    return rows


def _bytes(out: Path, stage: str) -> int:
    own = [path for path in (out / FOLDERS[stage]).rglob("*") if path.is_file() and path.name != "manifest.json"]
    return sum(path.stat().st_size for path in [*own, *(out / "rejects").glob(f"{stage}-*")])


def print_rows(rows: list[Row]) -> None:
    """Print a Markdown table."""
    print("| | items | planned, s | measured, s | | planned, MB | measured, MB | memory planned, MiB | measured |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in [*rows, _sum(rows)]:
        print(
            f"| {row.stage} | {row.items:,} | {row.planned:.1f} | {row.cpu:.1f} | {row.cpu / row.planned:.2f} "
            f"| {row.planned_bytes / 1e6:.1f} | {row.bytes / 1e6:.1f} "
            f"| {row.planned_memory / MIB:.0f} | {row.memory / MIB:.0f} |"
        )


def _sum(rows: list[Row]) -> Row:
    return Row(
        stage="all",
        items=0,
        planned=sum(row.planned for row in rows),
        cpu=sum(row.cpu for row in rows),
        planned_bytes=sum(row.planned_bytes for row in rows),
        bytes=sum(row.bytes for row in rows),
        planned_memory=max(row.planned_memory for row in rows),
        memory=max(row.memory for row in rows),
        seconds=sum(row.seconds for row in rows),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; its contents are removed")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    more = [word for assignment in options.set for word in ("--set", assignment)]
    print_rows(compare(options.config, options.out, more, options.seconds))


if __name__ == "__main__":
    main()
