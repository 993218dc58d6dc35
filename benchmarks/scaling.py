"""Do ten times the corpora take ten times the work and the same memory? Draws docs/images/scaling.svg.

    python benchmarks/scaling.py --out DIR [--svg FILE] [--workers 1] [--times 0.1 1 10]

The corpora are multiples of the demo's drawn world (1,500 photos, 20,000 sentences), made by generated_corpora.py.
Each stage is a command of its own. Its start-up time is subtracted; the line through the two smallest corpora gives it.
Work is in CPU seconds; memory is the own memory of the largest process.
"""

import argparse
import json
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `benchmarks`

from benchmarks.generated_corpora import write_corpora
from benchmarks.watching import MIB, STAGES, vlmixer, watch

PHOTOS, SENTENCES = 1500, 20_000
COLOURS = dict(zip(STAGES, ("#3465a4", "#cc6600", "#4e9a06", "#a40000"), strict=True))


@dataclass(frozen=True)
class Point:
    """A stage over `times` times the demo's corpora: CPU and wall-clock seconds, bytes of memory."""

    times: float
    stage: str
    cpu: float
    seconds: float
    memory: int


def measure(folder: Path, times: float, workers: int) -> list[Point]:
    """Run all stages once."""
    config = write_corpora(folder / "world", round(PHOTOS * times), round(SENTENCES * times), workers=2)
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    points = []
    for stage in STAGES:
        taken = watch(vlmixer(stage, config, "--out", out, "--workers", workers))
        points.append(Point(times, stage, taken.cpu, taken.seconds, taken.largest))
        print(asdict(points[-1]), file=sys.stderr, flush=True)
    shutil.rmtree(out)
    return points


def starts(points: list[Point]) -> dict[str, float]:
    """CPU seconds of each stage for an empty corpus, extrapolated from its two smallest corpora."""
    found = {}
    for stage in STAGES:
        small, larger = sorted((point for point in points if point.stage == stage), key=lambda point: point.times)[:2]
        each = (larger.cpu - small.cpu) / (larger.times - small.times)
        found[stage] = max(small.cpu - each * small.times, 0.0)
    return found


def table(points: list[Point]) -> str:
    """A Markdown table; the columns of ratios compare the two largest corpora."""
    sizes = sorted({point.times for point in points})
    known = {(point.stage, point.times): point for point in points}
    begin = starts(points)
    grown = f"×{sizes[-1]:g} / ×{sizes[-2]:g}"
    head = [
        "",
        "start, s",
        *(f"×{times:g}, s" for times in sizes),
        grown,
        *(f"×{times:g}, MiB" for times in sizes),
        grown,
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for stage in STAGES:
        work = [known[stage, times].cpu - begin[stage] for times in sizes]
        memory = [known[stage, times].memory / MIB for times in sizes]
        cells = [f"{begin[stage]:.1f}", *(f"{value:.1f}" for value in work), f"{work[-1] / work[-2]:.1f}"]
        cells += [*(f"{value:.0f}" for value in memory), f"{memory[-1] / memory[-2]:.2f}"]
        lines.append(f"| {stage} | " + " | ".join(cells) + " |")
    total = [sum(known[stage, times].cpu - begin[stage] for stage in STAGES) for times in sizes]
    memory = [max(known[stage, times].memory for stage in STAGES) / MIB for times in sizes]
    cells = [f"{sum(begin.values()):.1f}", *(f"{value:.1f}" for value in total), f"{total[-1] / total[-2]:.1f}"]
    cells += [*(f"{value:.0f}" for value in memory), f"{memory[-1] / memory[-2]:.2f}"]
    lines.append("| **all** | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def svg(points: list[Point]) -> str:
    """A drawing of work and memory over the size of the corpora; all axes are logarithmic."""
    from math import log10

    sizes = sorted({point.times for point in points})
    begin = starts(points)
    width, height, left, top = 300, 220, 52, 34
    low, high = log10(sizes[0]), log10(sizes[-1])

    def chart(
        at: int, title: str, values: dict[tuple[str, float], float], bounds: tuple[float, float], unit: str
    ) -> str:
        def place(times: float, value: float) -> str:
            x = at + left + (log10(times) - low) / (high - low) * width
            share = (log10(max(value, bounds[0])) - log10(bounds[0])) / (log10(bounds[1]) - log10(bounds[0]))
            return f"{x:.1f},{top + height * (1 - share):.1f}"

        parts = [f'<text x="{at + left}" y="18" font-weight="bold">{title}</text>']
        parts.append(f'<rect x="{at + left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#bbb"/>')
        for times in sizes:
            x = place(times, bounds[0]).split(",")[0]
            parts.append(f'<text x="{x}" y="{top + height + 16}" text-anchor="middle">×{times:g}</text>')
        tick = bounds[0]
        while tick <= bounds[1] * 1.01:
            y = float(place(sizes[0], tick).split(",")[1])
            parts.append(f'<text x="{at + left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g} {unit}</text>')
            parts.append(f'<path d="M{at + left} {y:.1f}h{width}" stroke="#eee"/>')
            tick *= 10
        for stage in STAGES:
            line = " ".join(place(times, values[stage, times]) for times in sizes)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[stage]}" stroke-width="2"/>')
            parts += [
                '<circle cx="{}" cy="{}" r="3" fill="{}"/>'.format(
                    *place(times, values[stage, times]).split(","), COLOURS[stage]
                )
                for times in sizes
            ]
        return "\n".join(parts)

    work = {(point.stage, point.times): max(point.cpu - begin[point.stage], 0.01) for point in points}
    memory = {(point.stage, point.times): point.memory / MIB for point in points}
    most = max(work.values())
    bound = 10.0
    while bound < most:
        bound *= 10
    legend = "".join(
        f'<text x="{left + 8 + 62 * number}" y="{top + height + 36}" fill="{COLOURS[stage]}">● {stage}</text>'
        for number, stage in enumerate(STAGES)
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * (left + width) + 40}" height="{top + height + 48}" '
            'font-family="sans-serif" font-size="11" style="background:white">',
            chart(0, "CPU seconds, without the start", work, (0.1, bound), "s"),
            chart(left + width + 20, "Memory of the largest process", memory, (10, 1000), "MiB"),
            legend,
            "</svg>\n",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for corpora and runs")
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--times", type=float, nargs="+", default=[0.1, 1, 10])
    options = parser.parse_args()
    points = []
    for times in sorted(options.times):
        kept = options.out / f"{times:g}" / f"points-{options.workers}.json"
        if kept.exists():  # measured in an earlier call
            points += [Point(**entry) for entry in json.loads(kept.read_text())]
            continue
        found = measure(options.out.resolve() / f"{times:g}", times, options.workers)
        kept.write_text(json.dumps([asdict(point) for point in found]))
        points += found
    print(table(points))
    if options.svg:
        options.svg.write_text(svg(points), encoding="utf-8")


if __name__ == "__main__":
    main()
