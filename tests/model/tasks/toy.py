"""A toy world for the tests of tasks: photos of some concepts, whose features show them, and questions about them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tests.model.runs import SMALL

from vlmixer.artifacts import manifest, schemas
from vlmixer.artifacts.details import DetectorIdentity, RegionsDetails
from vlmixer.artifacts.manifest import Counts, Manifest
from vlmixer.artifacts.rng import generator
from vlmixer.model.tasks.config import TaskConfig, TaskSettings

CONCEPTS = ("dog", "cat", "kite", "boat")
DIM = 6
SHORT: dict[str, Any] = {
    "batch_size": 8,
    "workers": 0,
    "log_every": 1,
    "checkpoint_every": 4,
    "warmup_steps": 2,
    "precision": "float32",
}
MODEL = {key: value for key, value in vars(SMALL).items() if value is not None}


def concept_of(photo: int) -> str:
    """What photo number `photo` shows."""
    return CONCEPTS[photo % len(CONCEPTS)]


def write_regions(
    folder: Path,
    photos: int = 24,
    name: Callable[[int], str] = "photos/{}.jpg".format,
    per_group: int = 3,
    feature: Any = None,
    key: Callable[[int], str] = lambda photo: "",
) -> str:
    """regions/ as detect writes it: one region of its concept per photo, and a second one of no particular feature.

    feature: instead of the feature of every region.
    """
    schema = schemas.regions(DIM)
    path = str(folder / "part-00000.parquet")
    with schemas.writing_parquet(path, schema) as writer:
        for first in range(0, photos, per_group):
            rows = [
                row
                for photo in range(first, min(first + per_group, photos))
                for row in _rows(photo, name(photo), key(photo), feature)
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    details = RegionsDetails(
        detector=DetectorIdentity("made", weights="-", device="cpu", options={}),
        feature_dim=DIM,
        vocabulary="v",
        vocabulary_hash="-",
        regions=dict.fromkeys([*CONCEPTS, "thing"], 1),
        labels_not_in_vocabulary=(),
        images_by_part=(photos,),
        not_images=0,
    )
    outputs = [manifest.output_of(str(folder), "part-00000.parquet", 2 * photos)]
    made = Manifest("detect", "", "", {}, [], outputs, [], {"images": Counts(photos, photos)}, details)
    manifest.publish(str(folder), made)
    return str(folder)


def _rows(photo: int, name: str, key: str, feature: Any) -> list[dict[str, Any]]:
    random = generator(0, "photo", photo)
    shown = 4 * np.eye(len(CONCEPTS), DIM)[photo % len(CONCEPTS)] + random.normal(0, 0.1, DIM)
    found = []
    for number, (vector, concept) in enumerate([(shown, concept_of(photo)), (random.normal(0, 0.1, DIM), "thing")]):
        found.append(
            {
                "image_id": f"{photo:016x}", "patch_id": f"{photo:016x}-{number:03d}",
                "box": [10.0 + 45 * number, 20.0, 50.0 + 45 * number, 60.0], "concept": concept,
                "score": 0.9 - number / 10,
                "feature": (vector if feature is None else np.full(DIM, feature)).astype(np.float16), "crop": b"",
                "width": 100, "height": 80, "source": name, "key": key, "url": "", "license": "",
            }
        )  # fmt: skip
    return found


def write_json(path: Path, value: Any) -> str:
    """A JSON file; of a .jsonl file, an item a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(item) + "\n" for item in value) if path.suffix == ".jsonl" else json.dumps(value)
    path.write_text(lines)
    return str(path)


def lines(photos: int = 24) -> list[dict[str, Any]]:
    """Questions as DAQUAR is distributed: two a photo, the second without a need to look."""
    found: list[dict[str, Any]] = []
    for photo in range(photos):
        image = f"{photo}.jpg"
        asked = {"question_id": 2 * photo, "image": image, "question": "what is in it?", "answer": concept_of(photo)}
        found += [asked, {"question_id": 2 * photo + 1, "image": image, "question": "a photo?", "answer": "yes"}]
    return found


def official(photos: int = 24) -> tuple[dict[str, Any], dict[str, Any]]:
    """VQA's questions and annotations of the same kind, with ten answers."""
    questions, annotations = [], []
    for line in lines(photos):
        key = {"question_id": line["question_id"], "image_id": int(line["image"].removesuffix(".jpg"))}
        answers = [line["answer"]] * 7 + ["maybe"] * 3
        questions.append({**key, "question": line["question"]})
        annotations.append(
            {
                **key, "question_type": " ".join(line["question"].split()[:2]), "answer_type": "other",
                "multiple_choice_answer": line["answer"],
                "answers": [
                    {"answer": answer, "answer_confidence": "yes", "answer_id": number}
                    for number, answer in enumerate(answers, 1)
                ],
            }
        )  # fmt: skip
    return {"info": {}, "license": {}, "questions": questions}, {"info": {}, "license": {}, "annotations": annotations}


def settings(
    regions: str, train: Sequence[str], kind: type[TaskConfig] = TaskConfig, **changes: Any
) -> TaskSettings[Any]:
    """A short fine-tuning from scratch."""
    task = kind(**{"regions": regions, "train": tuple(train), "validation": tuple(train), **SHORT, **changes})
    return TaskSettings(task, seed=1, model=MODEL)
