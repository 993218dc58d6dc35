"""The scores of a fine-tuned run on a task's official files."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from vlmixer.artifacts.errors import CallError, one_line
from vlmixer.artifacts.manifest import Counts
from vlmixer.artifacts.rejects import CappedRejects
from vlmixer.model.finetuning import FineTuned, load_finetuned, open_photos, trained_photos
from vlmixer.model.scoring import Estimate
from vlmixer.model.tasks import scores
from vlmixer.model.tasks.base import Evaluation, Task
from vlmixer.model.tasks.config import TaskSettings
from vlmixer.model.tasks.data import Encoding, ExampleSet, check_bad, in_order, with_photos
from vlmixer.model.tasks.photos import Photos, UnknownPhoto

GROUPS_SHOWN = 20
"""Groups of one kind in the table for people, the largest ones."""


@dataclass(frozen=True)
class Scored:
    """A run's answers to the examples, and their scores. `trained_on`: photos of the examples, all different, that the
    run was fine-tuned on, of `different` photos."""

    tuned: FineTuned
    photos: Photos
    examples: ExampleSet
    evaluation: Evaluation
    trained_on: int
    different: int

    @property
    def counts(self) -> Counts:
        """What was read, and what could not be used."""
        return self.examples.counts

    def estimates(self) -> list[tuple[scores.Measure, Estimate]]:
        """The measures with their intervals."""
        return [(measure, scores.estimate(measure)) for measure in self.evaluation.measures]

    def to_json(self, other: "Scored | None" = None) -> dict[str, Any]:
        """Plain data: scores, groups, and the differences to another run."""
        found: dict[str, Any] = {
            "task": self.tuned.task.name,
            "counts": vars(self.counts),
            "scores": [scores.to_json(measure, found) for measure, found in self.estimates()],
            "note": self.evaluation.note,
            "photos": {"different": self.different, "trained_on": self.trained_on},
            "groups": [vars(group) for measure in self.evaluation.measures[:1] for group in scores.by_group(measure)],
        }
        if other is not None:
            found["differences"] = [
                scores.to_json(measure, estimate) for measure, _, estimate in differences(self, other)
            ]
        return found

    def to_table(self, other: "Scored | None" = None) -> str:
        """A table for people."""
        lines = [f"{len(self.examples):,} examples; ±: half of the 95 % bootstrap interval over photos"]
        for measure, found in self.estimates():
            lines.append(f"{measure.name:<32}{len(measure.units):>8,}{found.value:>9.2f}{_half(measure, found)}")
        if self.evaluation.note:
            lines.append(self.evaluation.note)
        if self.trained_on:
            lines.append(
                f"{self.trained_on:,} of the {self.different:,} photos were trained on: not scores of unseen photos"
            )
        for measure, theirs, found in differences(self, other) if other is not None else ():
            name = f"{measure.name}, ahead of the other"
            lines.append(f"{name:<40}{found.value:>+9.2f}{_half(measure, found)}   (the other: {theirs.value:.2f})")
        for kind, groups in _by_kind(self.evaluation.measures[:1]).items():
            lines += ["", f"by {kind}"]
            lines += [f"{group.name[:30]:<32}{group.units:>8,}{group.value:>9.2f}" for group in groups[:GROUPS_SHOWN]]
            if len(groups) > GROUPS_SHOWN:
                lines.append(f"… and {len(groups) - GROUPS_SHOWN:,} more; --json lists them all")
        return "\n".join(map(one_line, lines))


def differences(one: Scored, other: Scored) -> list[tuple[scores.Measure, scores.Measure, Estimate]]:
    """Each measure, that of the other run, and their difference. Raises CallError if they are not of the same units."""
    theirs = {measure.name: measure for measure in other.evaluation.measures}
    return [
        (measure, theirs[measure.name], scores.difference(measure, theirs[measure.name]))
        for measure in one.evaluation.measures
        if measure.name in theirs
    ]


def evaluate_run(
    run: str,
    task: str,
    paths: Sequence[str] = (),
    split: str = "validation",
    regions: str | None = None,
    tags: str | None = None,
    max_bad_fraction: float | None = None,
) -> Scored:
    """Score a finished run on official files.

    task: what the run must be for. paths: the files; none: those of the config's `split`, "train" or "validation".
    regions, tags: instead of the config's, as in TaskConfig. Raises UserError or CallError.
    """
    tuned = load_finetuned(run)
    kind: Task[Any] = tuned.task
    if kind.name != task:
        raise CallError(f"{run}: is fine-tuned for {kind.name}, not for {task}. Run `vlmixer eval {kind.name}`.")
    asked = tuned.setup.settings
    asked = replace(asked, regions=regions or asked.regions, tags=tags or asked.tags)
    if max_bad_fraction is not None:
        asked = replace(asked, max_bad_fraction=max_bad_fraction)
    named = tuple(paths) or getattr(asked, split)
    if not named:
        raise CallError(f"{run}: its config names no files for task.{split}. Name the official files to score.")
    photos = open_photos(TaskSettings(asked))
    tuned = replace(tuned, setup=replace(tuned.setup, settings=asked))
    log = CappedRejects("eval")
    examples, read = kind.read(named, asked, log, training=False)
    shuffled = tuned.seed if asked.shuffled_photos else None
    found = with_photos(kind, examples, photos, log, read, shuffled)
    check_bad(found.counts, log, asked.max_bad_fraction, ", ".join(named))
    device = torch.device("cuda" if torch.cuda.is_available() and asked.device != "cpu" else "cpu")
    network = tuned.network.to(device)
    encoded = in_order(Encoding(kind, tuned.setup, photos), found)
    with torch.inference_mode():
        evaluation = kind.evaluate(tuned.setup, network, found.examples, found.photos, encoded)
    scored = _numbers(photos, (name for example in found.examples for name in example.images))
    trained = _numbers(photos, trained_photos(run))
    return Scored(tuned, photos, found, evaluation, len(scored & trained), len(scored))


def _numbers(photos: Photos, names: Iterable[str]) -> set[int]:
    """The numbers of those names that a photo has."""
    found = set()
    for name in names:
        with suppress(UnknownPhoto):
            found.add(photos.number(name))
    return found


def _by_kind(measures: Sequence[scores.Measure]) -> dict[str, list[scores.GroupOf]]:
    found: dict[str, list[scores.GroupOf]] = {}
    for group in (group for measure in measures for group in scores.by_group(measure)):
        found.setdefault(group.kind, []).append(group)
    return found


def _half(measure: scores.Measure, found: Estimate) -> str:
    """Half of the interval; nothing for a score of all examples together, such as BLEU, which has none."""
    return "" if measure.whole is not None else f" ± {(found.high - found.low) / 2:.2f}"
