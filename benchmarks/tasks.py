"""Does unpaired pre-training help a downstream task? Fine-tunes in several ways, compares on the same examples.

    python benchmarks/tasks.py TASK CONFIG.yaml --runs RUN RUN RUN --out DIR [--only VARIANT …] [--photos N]
           [--bert SETTINGS.yaml] [--template] [--set task.epochs=20 …]

CONFIG.yaml is one for `vlmixer finetune`, whose regions are there already. RUN: pre-trained runs, one per seed. The
variants: pre-trained; scratch, the same network with random weights; bert, from the BERT weights that the section
`model` of SETTINGS.yaml names; text, no regions and no tags; shuffled, each photo replaced by another; tags, no
regions. --template, for captioning: adds captions that nothing learned, "a dog and a person" from the tags of the
photos. --photos N: only the examples of N training photos, chosen by a hash. DIR keeps everything: rerun to resume.
DIR/tasks.md has the table: the mean over the seeds, each seed, and the difference to `pre-trained` with its 95 %
bootstrap interval over photos, of the scores' means over the seeds.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vlmixer.artifacts import files
from vlmixer.artifacts.rng import stable_hash
from vlmixer.model.finetuning import finetune
from vlmixer.model.tasks import find_task
from vlmixer.model.tasks.cider import CiderD
from vlmixer.model.tasks.config import load_task_settings
from vlmixer.model.tasks.evaluation import evaluate_run
from vlmixer.model.tasks.scores import Measure, difference, estimate

PRETRAINED = "pre-trained"
VARIANTS = {
    PRETRAINED: (),
    "scratch": ("task.init=null",),
    "bert": ("task.init=null",),
    "text": ("task.regions=none", "task.tags=none"),
    "tags": ("task.regions=none",),
    "shuffled": ("task.shuffled_photos=true",),
}


def few(path: str, photos: int, out: Path) -> str:
    """A file with the lines of this many photos of a file of lines {"image": …}, chosen by a hash. Returns its path."""
    lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    names = sorted({line["image"] for line in lines}, key=lambda name: stable_hash("few", name))[:photos]
    kept = [line for line in lines if line["image"] in names]
    place = out / f"train-{photos}.jsonl"
    files.publish_bytes(str(place), "".join(f"{json.dumps(line)}\n" for line in kept).encode())
    return str(place)


def one_run(options: argparse.Namespace, variant: str, seed: int) -> dict[str, Measure]:
    """Fine-tune, unless that is done, and score. Returns the measures by name."""
    task = find_task(options.task)
    run = options.out / "runs" / f"{variant}-{seed}"
    given = [f"seed={seed}", f"task.init={options.runs[seed]}", *VARIANTS[variant], *options.set]
    path = options.bert if variant == "bert" else options.config
    settings = load_task_settings(path, task.config, given)
    if options.photos:
        train = tuple(few(each, options.photos, options.out) for each in settings.task.train)
        settings = replace(settings, task=replace(settings.task, train=train))
    finetune(task, settings, str(run), resume=run.exists())
    return {measure.name: measure for measure in evaluate_run(str(run), task.name).evaluation.measures}


def template(options: argparse.Namespace, seed: int) -> dict[str, Measure]:
    """The CIDEr-D of "a dog and a person", from the tags, on the photos that the pre-trained run is scored on."""
    scored = evaluate_run(str(options.out / "runs" / f"{PRETRAINED}-{seed}"), options.task)
    photos = scored.photos.read(scored.examples.photos[:, 0], scored.tuned.setup.feature_dim)
    scorer = CiderD([example.answers for example in scored.examples.examples])
    (own,) = (measure for measure in scored.evaluation.measures if measure.name == "CIDEr-D")
    tags = [photos[number].tags for number in scored.examples.photos[:, 0]]
    captions = [" and ".join(f"a {tag}" for tag in names) for names in tags]
    return {own.name: replace(own, values=np.array([scorer.score(n, text) for n, text in enumerate(captions)]))}


def mean_of(measures: Sequence[Measure]) -> Measure:
    """The mean over seeds: of the values of each unit, or, of what is no mean over units, of the wholes."""
    first = measures[0]
    if first.whole is not None:
        return replace(first, whole=float(np.mean([measure.whole for measure in measures])))
    return replace(first, values=np.mean([measure.values for measure in measures], axis=0))


def table(found: dict[str, list[dict[str, Measure]]]) -> str:
    """The scores as a table in Markdown."""
    lines = []
    for name in next(iter(found.values()))[0]:
        rows = {variant: runs for variant, runs in found.items() if name in runs[0]}
        lines += [f"**{name}**", "", "| | mean | ± | each seed | against pre-trained |", "|---|---|---|---|---|"]
        means = {variant: mean_of([run[name] for run in runs]) for variant, runs in rows.items()}
        for variant, measure in means.items():
            whole = estimate(measure)
            seeds = ", ".join(f"{run[name].value:.1f}" for run in rows[variant])
            ahead = ""
            if variant != PRETRAINED and PRETRAINED in means:
                less = difference(measure, means[PRETRAINED])
                ahead = f"{less.value:+.1f} ({less.low:+.1f} to {less.high:+.1f})"
            lines.append(f"| {variant} | {whole.value:.1f} | {(whole.high - whole.low) / 2:.1f} | {seeds} | {ahead} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Run the variants and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("config")
    parser.add_argument("--runs", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=VARIANTS)
    parser.add_argument("--photos", type=int, default=0)
    parser.add_argument("--bert")
    parser.add_argument("--template", action="store_true")
    parser.add_argument("--set", nargs="+", default=[])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = options.only or [variant for variant in VARIANTS if variant != "bert" or options.bert]
    found = {variant: [one_run(options, variant, seed) for seed in range(len(options.runs))] for variant in wanted}
    if options.template:
        found["template"] = [template(options, seed) for seed in range(len(options.runs))]
    text = table(found)
    files.publish_bytes(str(options.out / "tasks.md"), text.encode())
    print(text)


if __name__ == "__main__":
    main()
