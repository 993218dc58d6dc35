"""Regions made for tests of the stage `index`, as detect writes them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from tests.bank.small import ORIGIN, jpeg

from vlmixer.artifacts import manifest, schemas
from vlmixer.artifacts.details import DetectorIdentity, RegionsDetails
from vlmixer.artifacts.manifest import Counts, Manifest
from vlmixer.bank.concepts import make_vocabulary

DIM = 6
VOCABULARY = make_vocabulary("v", [["dog", "puppy"], ["cat"], ["unicorn"], ["kite"]])
IMAGES = 120
IMAGES_PER_PART = 10


def make_regions(out: Path, *, images=IMAGES, change=None) -> list[dict]:
    """Random regions of `images` images in parts of ten, as detect writes them; returns their rows.

    change: what is done to a part's table before it is written.
    """
    rng = np.random.default_rng(0)
    schema = schemas.regions(DIM)
    rows, outputs = [], []
    for part in range(-(-images // IMAGES_PER_PART)):
        of_part = []
        for image in range(part * IMAGES_PER_PART, min(images, (part + 1) * IMAGES_PER_PART)):
            names = sorted(rng.choice(["dog", "cat", "kite"], rng.integers(1, 5), p=[0.6, 0.3, 0.1]))
            for number, name in enumerate(names):
                of_part.append(
                    {
                        "image_id": f"i{image:04d}", "patch_id": f"i{image:04d}-{number:03d}", "box": [1, 2, 11, 22],
                        "concept": name, "score": float(np.float32(rng.integers(30, 60) / 60)),
                        "feature": rng.normal(5, 1, DIM).astype(np.float16), "crop": jpeg(image), "width": 40,
                        "height": 30, **ORIGIN, "source": f"photos/{image}.jpg", "license": f"licence {image % 3}",
                    }
                )  # fmt: skip
        table = pa.Table.from_pylist(of_part, schema=schema)
        if change is not None:
            table = change(table)
        name = f"part-{part:05d}.parquet"
        with schemas.writing_parquet(str(out / "regions" / name), schema) as writer:
            writer.write_table(table, row_group_size=7)
        outputs.append(manifest.output_of(str(out / "regions"), name, len(table)))
        rows += of_part
    details = RegionsDetails(
        detector=DetectorIdentity("made", weights="-", device="cpu", options={}),
        feature_dim=DIM,
        vocabulary="v",
        vocabulary_hash=VOCABULARY.hash,
        regions={name: sum(row["concept"] == name for row in rows) for name in ("dog", "cat", "kite")},
        labels_not_in_vocabulary=(),
        images_by_part=(),
        not_images=0,
    )
    counts = {"images": Counts(images, images)}
    manifest.publish(str(out / "regions"), Manifest("detect", "", "", {}, [], outputs, [], counts, details))
    return rows
