"""RefCOCO, RefCOCO+, RefCOCOg: which region of a photo an expression means.

Reads the official references as JSON with COCO's instances.json; MDETR's files, whose images have captions; and lines
of {"image": …, "expression": …, "bbox": [x, y, width, height]}. The distributed refs(unc).p is a pickle, which can run
code where it is read, so it is not read here; docs/tasks.md says how to convert it. How a region is chosen is left to
region_choice.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import nn

from vlmixer.artifacts.boxes import box_iou
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.texts import encodable
from vlmixer.model.network import Network
from vlmixer.model.ranks import Ranks
from vlmixer.model.tasks.base import Answer, Encoded, Evaluation, Example, Labels, Setup, Task, TaskNetwork
from vlmixer.model.tasks.classification import Head, json_result, number_or_text, views_of
from vlmixer.model.tasks.config import TaskConfig
from vlmixer.model.tasks.files import Entry, entries, expand, identifier
from vlmixer.model.tasks.photos import Photo
from vlmixer.model.tasks.region_choice import NO_REGION, RegionChooser, choose, target_of
from vlmixer.model.tasks.scores import Measure

TRAINING_SPLIT = "train"
_FORMATS = (
    "Expected RefCOCO's references as JSON (ref_id, ann_id, sentences) with instances.json; MDETR's files (images with "
    'a caption, annotations with a bbox); or lines of {"image": …, "expression": …, "bbox": [x, y, width, height]}.'
)
_PICKLE = (".p", ".pkl", ".pickle")


@dataclass(frozen=True)
class RefCocoConfig(TaskConfig):
    """Fine-tuning for referring expressions."""

    split: str | None = None  # to score, of files that have splits; null: all but train, each by itself
    min_overlap: float = 0.5  # intersection over union from which a region counts as the one that is meant

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.min_overlap <= 1:
            raise CallError(f"task.min_overlap: {self.min_overlap} is not above 0 and at most 1.")


class RefCoco(Task[RefCocoConfig]):
    """An expression for a region of a photo. The details of an example are its box, (4,) float32 xyxy, or None."""

    name: ClassVar[str] = "refcoco"
    title: ClassVar[str] = "referring expressions (RefCOCO, RefCOCO+)"
    config = RefCocoConfig
    regions_note: ClassVar[str] = (
        "Orange: how likely each region is the one that is meant, in percent. The green frame is the right box."
    )

    def read(
        self, paths: Sequence[str], settings: RefCocoConfig, log: RejectLog, training: bool
    ) -> tuple[list[Example], int]:
        reading = _Reading(log)
        for path in expand(paths, "task.train"):
            if path.lower().endswith(_PICKLE):
                raise CallError(
                    f"{path}: a pickle, which can run code where it is read. Convert it to JSON (docs/tasks.md)."
                )
            before = reading.seen
            for entry in entries(path):
                if isinstance(entry.value, dict) and entry.name not in ("info", "licenses", "categories"):
                    reading.add(entry)
            if reading.seen == before:
                raise UserError(f"{path}: no expressions or boxes in it. {_FORMATS}")
        if not reading.expressions and not reading.unusable:
            raise UserError(f"{', '.join(paths)}: no expressions in it. {_FORMATS}")
        splits = {each.split for each in reading.expressions.values() if each.split}
        wanted = {TRAINING_SPLIT} if training else {settings.split} if settings.split else splits - {TRAINING_SPLIT}
        if splits and not wanted & splits:
            asked = " or ".join(sorted(map(str, wanted))) or "to score"
            raise UserError(
                f"{', '.join(paths)}: no expression is of the split {asked}. Splits in it: "
                f"{', '.join(sorted(splits))}. Set task.split to one of them."
            )
        before, found = log.total, []
        for key, each in reading.expressions.items():
            if each.split and each.split not in wanted:
                continue
            box = reading.box_of(each)
            if box is None and training:
                log.add(each.path, key, "no_answer", f"no box: annotation {each.annotation or 'of the expression'}")
                continue
            answers = (_text(box),) if box is not None else ()
            groups = {"split": each.split} if each.split else {}
            found.append(Example(key, (each.image,), each.text, answers, groups, box))
        return found, len(found) + log.total - before + reading.unusable

    def labels(self, examples: Sequence[Example], settings: RefCocoConfig) -> Labels:
        return {}

    def head(self, setup: Setup[RefCocoConfig], network: Network) -> nn.Module:
        hidden, dropout = setup.model.hidden_size, setup.settings.dropout
        return Head(hidden, hidden, 1, setup.model.dropout_rate if dropout is None else dropout, soft=False)

    def objective(self, setup: Setup[RefCocoConfig], network: TaskNetwork, ranks: Ranks) -> RegionChooser:
        return RegionChooser(setup, network, ranks)

    def encode(
        self,
        setup: Setup[RefCocoConfig],
        examples: Sequence[Example],
        photos: Sequence[Sequence[Photo]],
        training: bool,
    ) -> list[Encoded]:
        """One view per expression. `extra`: the boxes of its regions, (n, 4) float32 xyxy in pixels."""
        found = []
        for example, (photo,), views in zip(examples, photos, views_of(setup, examples, photos), strict=True):
            boxes = photo.boxes[: len(views[0].regions)]
            target = {}
            if training:
                target["region"] = np.array(target_of(boxes, example.details, setup.settings.min_overlap), np.int64)
            found.append(Encoded(views, target, boxes))
        return found

    def evaluate(
        self,
        setup: Setup[RefCocoConfig],
        network: TaskNetwork,
        examples: Sequence[Example],
        numbers: np.ndarray,
        encoded: Iterator[tuple[int, list[Encoded]]],
    ) -> Evaluation:
        boxes: list[np.ndarray] = []

        def noted() -> Iterator[tuple[int, list[Encoded]]]:
            for start, block in encoded:
                boxes.extend(one.extra for one in block)
                yield start, block

        least = setup.settings.min_overlap
        answers, rows, reachable = [], [], []
        for example, choice, found in zip(
            examples, choose(RegionChooser(setup, network, Ranks()), noted()), boxes, strict=True
        ):
            box = None if choice.region == NO_REGION else found[choice.region]
            value = None
            if example.details is not None:
                value = float(box is not None and box_iou(box[None], example.details[None])[0, 0] >= least)
                reachable.append(target_of(found, example.details, least) != NO_REGION)
            likely = float(choice.likely.max()) if len(choice.likely) else None
            answers.append(Answer("no region" if box is None else _text(box), value, likely))
            rows.append({"sent_id": number_or_text(example.key), "bbox": None if box is None else _xywh(box)})
        return Evaluation(answers, _measures(examples, answers), json_result(rows), note=_note(reachable, least))

    def mattered(
        self, setup: Setup[RefCocoConfig], network: TaskNetwork, encoded: Encoded, answer: str
    ) -> Sequence[np.ndarray]:
        """(regions,) float32: how likely each region is the one that is meant."""
        (choice,) = choose(RegionChooser(setup, network, Ranks()), iter([(0, [encoded])]))
        return [choice.likely]

    def right_boxes(self, example: Example) -> np.ndarray:
        return np.zeros((0, 4), np.float32) if example.details is None else example.details[None]


@dataclass(frozen=True)
class _Expression:
    """An expression while its files are read. `annotation`: the id of its box; "": `box`, or that of its image."""

    path: str
    image: str
    text: str
    split: str = ""
    annotation: str = ""
    entry: str = ""
    box: np.ndarray | None = None


@dataclass
class _Reading:
    """Expressions and boxes, as far as the files were read. `unusable`: expressions that are in the log."""

    log: RejectLog
    expressions: dict[str, _Expression] = field(default_factory=dict)
    seen: int = 0
    unusable: int = 0
    _boxes: dict[str, np.ndarray] = field(default_factory=dict)
    _of_entry: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Take what the entry says. Raises UserError if it says nothing of expressions, photos or boxes."""
        self.seen += 1
        sentences, has_box = entry.field("sentences"), "bbox" in entry.value
        if isinstance(sentences, list) and entry.identifier("ref_id", "ann_id"):
            self._add_reference(entry, sentences)
        elif entry.name == "images":
            if "caption" in entry.value:
                key = entry.identifier("id")
                image = entry.identifier("file_name", "original_id")
                self._add(key, _Expression(entry.path, image, entry.text("caption"), entry=key))
        elif has_box and any(name in entry.value for name in ("expression", "sentence", "caption")):
            text = entry.text("expression") or entry.text("sentence") or entry.text("caption")
            key = entry.identifier("id", "sent_id") or str(entry.number)
            image = entry.identifier("image", "file_name", "image_id")
            self._add(key, _Expression(entry.path, image, text, entry.text("split"), box=_box(entry.field("bbox"))))
        elif has_box and (key := entry.identifier("id")):
            box = _box(entry.field("bbox"))
            if box is not None:
                self._boxes.setdefault(key, box)
                self._of_entry.setdefault(entry.identifier("image_id"), box)
        else:
            raise UserError(f"{entry.where}: neither an expression nor a box. {_FORMATS}")

    def box_of(self, each: _Expression) -> np.ndarray | None:
        """The box of an expression, when all files are read."""
        if each.annotation:
            return self._boxes.get(each.annotation)
        return self._of_entry.get(each.entry) if each.entry else each.box

    def _add_reference(self, entry: Entry, sentences: Sequence[Any]) -> None:
        image, box = entry.identifier("image_id", "file_name"), entry.identifier("ann_id")
        for number, sentence in enumerate(sentences):
            given: Mapping[str, Any] = sentence if isinstance(sentence, dict) else {}
            text = next((given[name] for name in ("sent", "raw") if isinstance(given.get(name), str)), "")
            key = identifier(given.get("sent_id")) or f"{entry.identifier('ref_id', 'ann_id')}#{number}"
            text = " ".join(encodable(text).split())
            self._add(key, _Expression(entry.path, image, text, entry.text("split"), box))

    def _add(self, key: str, found: _Expression) -> None:
        if not key or not found.image or not found.text:
            what = "no id" if not key else "no image" if not found.image else "an empty expression"
            reason, detail = "missing_field", what
        elif key in self.expressions:
            reason, detail = "duplicate_id", "the expression's id occurs twice; the first is used"
        else:
            self.expressions[key] = found
            return
        self.log.add(found.path, key, reason, detail)
        self.unusable += 1


def _box(value: Any) -> np.ndarray | None:
    """(4,) float32 xyxy from COCO's x, y, width, height; None if it is no box with an area."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(isinstance(each, int | float) and not isinstance(each, bool) and abs(each) < 1e9 for each in value):
        return None
    x, y, width, height = value
    return np.array([x, y, x + width, y + height], np.float32) if width > 0 and height > 0 else None


def _xywh(box: np.ndarray) -> list[float]:
    left, top, right, bottom = (round(float(side), 2) for side in box)
    return [left, top, round(right - left, 2), round(bottom - top, 2)]


def _text(box: np.ndarray) -> str:
    return ", ".join(f"{side:.0f}" for side in box)


def _measures(examples: Sequence[Example], answers: Sequence[Answer]) -> list[Measure]:
    """The accuracy of each split, or of all together if there are none."""
    rows: dict[str, list[int]] = {}
    for row, (example, answer) in enumerate(zip(examples, answers, strict=True)):
        if answer.value is not None:
            rows.setdefault(example.groups.get("split", ""), []).append(row)
    return [
        Measure(
            f"accuracy, {split}" if split else "accuracy",
            np.array([answers[row].value for row in of_split], np.float64),
            [examples[row].key for row in of_split],
            [examples[row].images[0] for row in of_split],
        )
        for split, of_split in (rows or {"": []}).items()
    ]


def _note(reachable: Sequence[bool], least: float) -> str:
    """What the regions allow at best, if that is not everything."""
    missing = len(reachable) - sum(reachable)
    if not missing:
        return ""
    return (
        f"{missing:,} of {len(reachable):,} expressions have no region that overlaps with their box by {least:g}; at "
        f"best {100 * sum(reachable) / len(reachable):.2f} can be reached"
    )
