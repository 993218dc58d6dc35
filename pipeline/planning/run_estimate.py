"""The plan of a whole run, as a table for people and as JSON for programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vlmixer.pipeline.planning.estimate import CorpusSize
from vlmixer.pipeline.planning.stage_plan import StagePlan


@dataclass(frozen=True)
class RunEstimate:
    """What a run will take.

    workers: the numbers of workers to compare. cores: processors of this machine. price: of one worker for one hour.
    efficiency: what each of several workers achieves, compared with a single one.
    """

    corpus: CorpusSize
    stages: Sequence[StagePlan]
    workers: Sequence[int]
    cores: int
    price: float | None
    efficiency: float
    assumptions: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """Plain data: seconds, bytes, and costs in the price's currency."""
        return {
            "corpus": {**asdict(self.corpus), "text_units": self.corpus.text_units or 0},
            "cores": self.cores,
            "efficiency": self.efficiency,
            "stages": [self._stage_json(plan) for plan in self.stages],
            "seconds": {str(count): self._total(count) for count in self.workers},
            "cost": None if self.price is None else {str(count): self._total_cost(count) for count in self.workers},
            "assumptions": list(self.assumptions),
        }

    def to_table(self) -> str:
        """A table with one row per stage, and the assumptions."""
        rows = [
            ["stage", "units", "what goes in", "", "on disk", "memory", *(_workers(count) for count in self.workers)],
            *(self._row(plan) for plan in self.stages),
            self._total_row(),
        ]
        if self.price is not None:
            costs = [f"{self._total_cost(count):,.2f}" for count in self.workers]
            rows.append([f"cost, at {self.price:g} per worker and hour", "", "", "", "", "", *costs])
        return "\n".join([_aligned(rows), "", *(f"- {text}" for text in (self._launcher(), *self.assumptions))])

    def _launcher(self) -> str:
        alone = sum(plan.launcher * (1 - plan.done) for plan in self.stages)
        share = alone / max(sum(plan.work for plan in self.stages), 1e-9)
        return f"the launching process needs {duration(alone)} for its own part, {100 * share:.2g}% of all work"

    def _row(self, plan: StagePlan) -> list[str]:
        times = ["done" if plan.done >= 1 else duration(plan.time(count, self.efficiency)) for count in self.workers]
        return [
            plan.stage if not 0 < plan.done < 1 else f"{plan.stage} ({plan.done:.0%} done)",
            f"{plan.units:,}",
            " + ".join(f"{number:,} {kind}" for kind, number in plan.items.items()),
            format_bytes(plan.input_bytes),
            format_bytes(plan.output_bytes),
            format_bytes(plan.memory),
            *times,
        ]

    def _total_row(self) -> list[str]:
        units = sum(plan.units for plan in self.stages)
        written = sum(plan.output_bytes for plan in self.stages)
        times = [duration(self._total(count)) for count in self.workers]
        return ["all", f"{units:,}", "", "", format_bytes(written), "", *times]

    def _stage_json(self, plan: StagePlan) -> dict[str, Any]:
        costs = None
        if self.price is not None:
            costs = {str(count): plan.cost(count, self.price, self.efficiency) for count in self.workers}
        return {
            "stage": plan.stage,
            "done": plan.done,
            "units": plan.units,
            "items": dict(plan.items),
            "input_bytes": plan.input_bytes,
            "output_bytes": plan.output_bytes,
            "work_seconds": plan.work,
            "launcher_seconds": plan.launcher,
            "passes": [{"pass": each.name, "units": each.units, "work_seconds": each.seconds} for each in plan.passes],
            "seconds": {str(count): plan.time(count, self.efficiency) for count in self.workers},
            "processor_seconds": {str(count): plan.processor(count) for count in self.workers},
            "cost": costs,
            "memory_bytes": plan.memory,
        }

    def _total(self, workers: int) -> float:
        return sum(plan.time(workers, self.efficiency) for plan in self.stages)

    def _total_cost(self, workers: int) -> float:
        return sum(plan.cost(workers, self.price or 0.0, self.efficiency) for plan in self.stages)


def duration(seconds: float) -> str:
    """Seconds below ten minutes, else hours and minutes."""
    if seconds < 600:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,}:{minutes % 60:02d} h"


def format_bytes(amount: float) -> str:
    """Bytes in a decimal unit."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 100 else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:,.3g} TB" if amount < 1000 else f"{amount:,.0f} TB"


def _workers(count: int) -> str:
    return f"{count} worker{'s' * (count > 1)}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    left = {0, 2}
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
