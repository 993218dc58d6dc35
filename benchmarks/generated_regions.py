"""Generates any number of regions as `vlmixer detect` writes them, or of patches in a bank, to measure their readers.

Features are short and crops tiny, so ten million fit on a disk. Concepts are as uneven as real ones.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from tqdm import tqdm

from vlmixer.artifacts import manifest, schemas
from vlmixer.artifacts.details import BankDetails, BankSelection, DetectorIdentity, RegionsDetails
from vlmixer.artifacts.manifest import Counts, Manifest
from vlmixer.bank import building
from vlmixer.bank.concepts import load_vocabulary, make_vocabulary

REGIONS_PER_PART = 20_000
REGIONS_PER_IMAGE = 5
REGIONS_PER_ROW_GROUP = 2_000


def write_regions(out: Path, regions: int, *, concepts: int = 1600, feature_dim: int = 64) -> Path:
    """Write OUT/regions, OUT/words.txt (the vocabulary) and OUT/config.yaml; returns the config's path."""
    out.mkdir(parents=True, exist_ok=True)
    words = out / "words.txt"
    words.write_text("".join(f"thing {number:04d}\n" for number in range(concepts)))
    config = out / "config.yaml"
    config.write_text(f"vocabulary: {words}\n")
    vocabulary = load_vocabulary(str(words))
    names = pa.array(vocabulary.names)
    shares = 1 / (np.arange(concepts) + 50.0)
    shares /= shares.sum()
    centres = np.random.default_rng(0).normal(size=(concepts, feature_dim)).astype(np.float32)
    crops = pa.array([_crop(number) for number in range(64)], pa.binary())
    schema = schemas.regions(feature_dim)
    outputs, images_by_part = [], []
    counts = np.zeros(concepts, np.int64)
    for part in tqdm(range(-(-regions // REGIONS_PER_PART)), desc=f"{regions:,} regions", disable=None):
        rng = np.random.default_rng([1, part])
        first = part * REGIONS_PER_PART
        numbers = np.arange(first, min(first + REGIONS_PER_PART, regions))
        images = numbers // REGIONS_PER_IMAGE
        ids = rng.choice(concepts, size=len(numbers), p=shares)
        counts += np.bincount(ids, minlength=concepts)
        features = centres[ids] + rng.standard_normal((len(ids), feature_dim), dtype=np.float32)
        image_ids = [f"{image:016x}" for image in images]
        boxes = np.tile(np.array([10, 20, 110, 100], np.float32), len(ids))
        columns = {
            "image_id": image_ids,
            "patch_id": [
                f"{image}-{number % REGIONS_PER_IMAGE:03d}" for image, number in zip(image_ids, numbers, strict=True)
            ],
            "box": pa.FixedSizeListArray.from_arrays(pa.array(boxes), 4),
            "concept": names.take(pa.array(ids)),
            "score": rng.uniform(0.3, 1, len(ids)).astype(np.float32),
            "feature": pa.FixedSizeListArray.from_arrays(
                pa.array(features.astype(np.float16).reshape(-1)), feature_dim
            ),
            "crop": crops.take(pa.array(numbers % 64)),
            "width": np.full(len(ids), 640, np.int32),
            "height": np.full(len(ids), 480, np.int32),
        }
        columns |= {name: [""] * len(ids) for name in schemas.PROVENANCE}
        columns["source"] = [f"photos/{image}.jpg" for image in images]
        name = f"part-{part:05d}.parquet"
        with schemas.writing_parquet(str(out / "regions" / name), schema) as writer:
            writer.write_table(pa.table(columns, schema=schema), row_group_size=REGIONS_PER_ROW_GROUP)
        outputs.append(manifest.output_of(str(out / "regions"), name, len(ids)))
        images_by_part.append(len(np.unique(images)))
    details = RegionsDetails(
        detector=DetectorIdentity("generated", weights="none", device="cpu", options={}),
        feature_dim=feature_dim,
        vocabulary=str(words),
        vocabulary_hash=vocabulary.hash,
        regions={name: int(count) for name, count in zip(vocabulary.names, counts, strict=True) if count},
        labels_not_in_vocabulary=(),
        images_by_part=tuple(images_by_part),
        not_images=0,
    )
    total = sum(images_by_part)
    manifest.publish(
        str(out / "regions"),
        Manifest("detect", "", "", {}, [], outputs, [], {"images": Counts(total, total)}, details),
    )
    return config


def write_bank(folder: Path, patches: int, *, concepts: int = 1600, feature_dim: int = 16) -> None:
    """Write a bank with this number of patches, as many of each concept. Image i has the id i, in 16 digits."""
    vocabulary = make_vocabulary("things", [[f"thing {number:04d}"] for number in range(concepts)])
    own = patches // concepts
    crops = pa.array([_crop(number) for number in range(64)], pa.binary())
    schema = building.chosen_schema(feature_dim)

    def tables() -> Iterator[pa.Table]:
        for concept in tqdm(range(concepts), desc=f"{patches:,} patches", disable=None):
            rng = np.random.default_rng([3, concept])
            numbers = np.arange(concept * own, (concept + 1) * own)
            images = [f"{number // REGIONS_PER_IMAGE:016x}" for number in numbers]
            features = rng.standard_normal((own, feature_dim), dtype=np.float32).astype(np.float16)
            boxes = pa.array(np.tile(np.array([10, 20, 110, 100], np.float32), own))
            columns = {name: [""] * own for name in schemas.PROVENANCE} | {
                "patch_id": [
                    f"{image}-{number % REGIONS_PER_IMAGE:03d}" for image, number in zip(images, numbers, strict=True)
                ],
                "image_id": images,
                "concept_id": np.full(own, concept, np.int32),
                "score": np.sort(rng.uniform(0.3, 1, own).astype(np.float32))[::-1],
                "box": pa.FixedSizeListArray.from_arrays(boxes, 4),
                "width": np.full(own, 640, np.int32),
                "height": np.full(own, 480, np.int32),
                "source": [f"photos/{image}.jpg" for image in images],
                "context": [[] for _ in images],
                "feature": building.feature_column(features),
                "crop": crops.take(pa.array(numbers % 64)),
            }
            yield pa.table({name: columns[name] for name in schema.names}, schema=schema)

    counts = [building.ConceptCounts(own, own)] * concepts
    outputs = building.write_bank(str(folder), vocabulary.concepts, feature_dim, counts, tables())
    details = BankDetails(
        feature_dim=feature_dim,
        vocabulary=vocabulary.name,
        vocabulary_hash=vocabulary.hash,
        detector=DetectorIdentity("generated", weights="none", device="cpu", options={}),
        selection=BankSelection(own, "score", 0.95, 0),
    )
    total = own * concepts
    made = Manifest("index", "", "", {}, [], outputs, [], {"regions": Counts(total, total)}, details)
    manifest.publish(str(folder), made)


def _crop(number: int) -> bytes:
    """A JPEG of 8 × 8 pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), tuple(np.random.default_rng(number).integers(0, 255, 3).tolist())).save(buffer, "JPEG")
    return buffer.getvalue()
