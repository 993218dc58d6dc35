"""How much does the network learn from how much data? R@10 against sentences, photos, patches per concept, and steps.

    python benchmarks/learning_curve.py --text CAPTIONS.txt.gz --images 'photos/*.jpg' … --test CAPTIONS.jsonl[@PART] …
           --out DIR [--detector … --weights …] [--svg FILE] [--seeds 0] [--set train.steps=1000 …]
           [--sentences 5000 20000 70000] [--photos 100 300] [--patches 1 5 25] [--steps 250 500 2000]

The corpora, the lists and the other options are those of benchmarks/evidence.py. One quantity changes at a time; the
others stay whole. Smaller corpora are parts of larger ones, drawn by a hash. DIR keeps everything: rerun the command to
resume. DIR/curve.md has the table; --svg draws it.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log10
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `benchmarks`

from benchmarks.evidence import IMPORT_PATHS, Gallery, add_corpora, measure, prepare, training_settings

from vlmixer.artifacts import files, stages
from vlmixer.artifacts.rng import stable_hash
from vlmixer.model.config import Settings
from vlmixer.model.training import train
from vlmixer.pipeline.config import Config
from vlmixer.pipeline.jobs.chain import run_stages
from vlmixer.pipeline.jobs.engine import Engine

AXES = {"sentences": "Sentences", "photos": "Photos", "patches": "Patches per concept, at most", "steps": "Steps"}
KEPT = {"sentences": ("detect",), "photos": ("tag",), "patches": ("tag", "detect"), "steps": ()}
"""Stages whose results do not depend on the quantity, and are copied."""
METHODS = ("regions", "regions + tags + overlap", "tag overlap")
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")


@dataclass(frozen=True)
class Point:
    """R@10 of each method on each list, a mean over seeds, where the quantity `axis` has the value `value`."""

    axis: str
    value: int
    scores: tuple[tuple[float, ...], ...]


def first_lines(source: Path, count: int) -> str:
    """`count` lines of a file, the first by a hash, in the order of the file."""
    lines = source.read_text(encoding="utf-8").splitlines()
    chosen = sorted(range(len(lines)), key=lambda row: stable_hash("learning curve", row, lines[row]))[:count]
    return "".join(f"{lines[row]}\n" for row in sorted(chosen))


def shards_of(axis: str, value: int, config: Config) -> str:
    """The folder of shards with this much data."""
    base, out = Path(config.out), Path(config.out) / "points" / f"{axis}-{value}"
    if axis == "steps":
        return str(base / "shards")
    out.mkdir(parents=True, exist_ok=True)
    for name in KEPT[axis]:
        folder = next(stage.folder for stage in stages.STAGES if stage.name == name)
        if not (out / folder).exists():
            shutil.copytree(base / folder, out / f"{folder}.part", dirs_exist_ok=True)
            (out / f"{folder}.part").rename(out / folder)
    ours = replace(config, out=str(out))
    if axis == "sentences":
        files.publish_bytes(str(out / "text.txt"), first_lines(base / "text.txt", value).encode())
        ours = replace(ours, text=replace(config.text, inputs=(str(out / "text.txt"),)))
    elif axis == "photos":
        files.publish_bytes(str(out / "images.txt"), first_lines(base / "images.txt", value).encode())
        ours = replace(ours, images=replace(config.images, inputs=(str(out / "images.txt"),)))
    else:
        ours = replace(ours, bank=replace(config.bank, max_patches_per_concept=value))
    run_stages(ours, stages.NAMES, Engine(), overwrite=False, import_paths=IMPORT_PATHS)
    return str(out / "shards")


def point(
    axis: str, value: int, config: Config, galleries: Sequence[Gallery], asked: Settings, seeds: Sequence[int]
) -> Point:
    """Train on this much data with each seed, and measure."""
    kept = Path(config.out) / "points" / f"{axis}-{value}.json"
    if kept.exists():
        return Point(axis, value, tuple(map(tuple, json.loads(kept.read_text()))))
    shards = shards_of(axis, value, config)
    steps = value if axis == "steps" else asked.train.steps
    scores = np.zeros((len(galleries), len(METHODS)))
    for seed in seeds:
        ours = replace(asked, seed=seed, out=config.out, train=replace(asked.train, steps=steps))
        run = train(ours, shards, str(Path(config.out) / "points" / f"{axis}-{value}" / f"run-{seed}"), resume=True)
        for row, gallery in enumerate(galleries):
            report = measure(run, gallery)
            scores[row] += [report.score(method).recall[10].value / len(seeds) for method in METHODS]
    files.publish_bytes(str(kept), json.dumps(scores.tolist()).encode())
    print(f"{axis} {value}: {scores.round(1).tolist()}", file=sys.stderr)
    return Point(axis, value, tuple(map(tuple, scores.tolist())))


def table(points: Sequence[Point], titles: Sequence[str]) -> str:
    """All points as Markdown."""
    head = [f"{title}: {method}" for title in titles for method in METHODS[:-1]]
    lines = [f"| R@10 | | {' | '.join(head)} |", "|---|" + "---|" * (len(head) + 1)]
    for each in points:
        cells = [f"{value:.1f}" for row in each.scores for value in row[:-1]]
        lines.append(f"| {AXES[each.axis]} | {each.value:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def svg(points: Sequence[Point], titles: Sequence[str]) -> str:
    """A chart per axis: R@10 from regions on each list and, dashed, of tag overlap. Horizontal axes are logarithmic."""
    width, height, left, top, gap = 190, 200, 36, 34, 26
    most = 10 * (1 + int(max(max(row) for each in points for row in each.scores) // 10))
    parts = []
    for number, (axis, title) in enumerate(AXES.items()):
        own = sorted((each for each in points if each.axis == axis), key=lambda each: each.value)
        at = left + number * (width + gap)
        low, high = log10(own[0].value), log10(own[-1].value)

        def place(value: int, score: float, at: int = at, low: float = low, high: float = high) -> tuple[float, float]:
            share = (log10(value) - low) / (high - low) if high > low else 0.5
            return at + 8 + share * (width - 16), top + height * (1 - score / most)

        parts.append(f'<text x="{at}" y="18" font-weight="bold">{title}</text>')
        parts.append(f'<rect x="{at}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#bbb"/>')
        for score in range(0, most + 1, 10):
            y = place(own[0].value, score)[1]
            parts.append(f'<path d="M{at} {y:.1f}h{width}" stroke="#eee"/>')
            if not number:
                parts.append(f'<text x="{at - 6}" y="{y + 4:.1f}" text-anchor="end">{score}</text>')
        for each in own:
            x = place(each.value, 0)[0]
            label = f"{each.value / 1000:.0f}k" if each.value >= 10_000 else f"{each.value:,}"
            parts.append(f'<text x="{x:.1f}" y="{top + height + 16}" text-anchor="middle">{label}</text>')
        for row in range(len(titles)):
            for column, dash in ((0, ""), (METHODS.index("tag overlap"), ' stroke-dasharray="4 3"')):
                line = [place(each.value, each.scores[row][column]) for each in own]
                joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
                style = f'fill="none" stroke="{COLOURS[row]}" stroke-width="2"{dash}'
                parts.append(f'<polyline points="{joined}" {style}/>')
                if not dash:
                    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[row]}"/>' for x, y in line]
    for row, title in enumerate(titles):
        parts.append(f'<text x="{left + 220 * row}" y="{top + height + 38}" fill="{COLOURS[row]}">● {title}</text>')
    parts.append(f'<text x="{left + 220 * len(titles)}" y="{top + height + 38}">dashed: tag overlap</text>')
    size = f'width="{left + len(AXES) * (width + gap)}" height="{top + height + 48}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11"'
    return "\n".join([f'{head} style="background:white">', *parts, "</svg>\n"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_corpora(parser)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sentences", type=int, nargs="*", default=[5_000, 20_000, 70_000])
    parser.add_argument("--photos", type=int, nargs="*", default=[100, 300])
    parser.add_argument("--patches", type=int, nargs="*", default=[1, 5, 25])
    parser.add_argument("--steps", type=int, nargs="*", default=[250, 500, 2000])
    options = parser.parse_args()
    config, lists = prepare(options)
    galleries = [gallery for _, _, gallery in lists]
    titles = [f"{Path(path).parts[-2]} {part}" for path, part, _ in lists]
    asked = training_settings(options)
    whole = point("steps", asked.train.steps, config, galleries, asked, options.seeds)
    counts = {
        "sentences": len((options.out / "text.txt").read_text(encoding="utf-8").splitlines()),
        "photos": len((options.out / "images.txt").read_text(encoding="utf-8").splitlines()),
        "patches": config.bank.max_patches_per_concept,
        "steps": asked.train.steps,
    }
    points = []
    for axis, count in counts.items():
        for value in sorted(set(getattr(options, axis)) - {count}):
            points.append(point(axis, value, config, galleries, asked, options.seeds))
        points.append(replace(whole, axis=axis, value=count))
    points.sort(key=lambda each: (list(AXES).index(each.axis), each.value))
    text = table(points, titles)
    files.publish_bytes(str(options.out / "curve.md"), text.encode())
    if options.svg:
        options.svg.write_text(svg(points, titles), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
