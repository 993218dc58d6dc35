"""A bank whose patches are numbered: 30 dogs, a hot dog and 12 kites, with random features and text for crops."""

import dataclasses
import shutil

import numpy as np
import pyarrow as pa

from vlmixer.artifacts import manifest, schemas
from vlmixer.artifacts.details import BankDetails, BankSelection, DetectorIdentity
from vlmixer.artifacts.manifest import Manifest
from vlmixer.bank import building
from vlmixer.bank.building import ConceptCounts
from vlmixer.bank.concepts import make_vocabulary
from vlmixer.bank.selection import normalised

DIM = 8
VOCABULARY = make_vocabulary("v", [["dog", "puppy"], ["unicorn"], ["hot dog"], ["kite"]])
COUNTS = {"dog": 30, "unicorn": 0, "hot dog": 1, "kite": 12}
ROWS = {"dog": range(30), "hot dog": range(30, 31), "kite": range(31, 43)}


def table(concept, count):
    rng = np.random.default_rng(concept.id)
    features = rng.normal(size=(count, DIM)).astype(np.float16)
    columns = {
        "patch_id": [f"{concept.name}-{number}" for number in range(count)],
        "image_id": [f"image-{number}" for number in range(count)],
        "concept_id": [concept.id] * count,
        "score": [1 - number / 100 for number in range(count)],
        "box": [[0.0, 1.0, 2.0, 3.0]] * count,
        "width": [640] * count,
        "height": [480] * count,
        **dict.fromkeys(schemas.PROVENANCE, [""] * count),
        "source": [f"photos/{number}.jpg" for number in range(count)],
        "license": ["CC BY 4.0"] * count,
        "context": [[3] if number % 5 == 4 else [2, 3] if number % 7 == 6 else [] for number in range(count)],
        "feature": list(features),
        "crop": [f"jpeg of {concept.name} {number}".encode() for number in range(count)],
    }
    return pa.table(columns, schema=building.chosen_schema(DIM))


DETAILS = BankDetails(
    detector=DetectorIdentity("drawn", weights="-", device="cpu", options={}),
    feature_dim=DIM,
    vocabulary="small",
    vocabulary_hash=VOCABULARY.hash,
    selection=BankSelection(100, "score", duplicate_similarity=0.95, seed=0),
)


def write(folder, counts=COUNTS):
    announced = [ConceptCounts(count, 2 * count, count // 10) for count in counts.values()]
    tables = [table(concept, counts[concept.name]) for concept in VOCABULARY.concepts]
    outputs = building.write_bank(folder, VOCABULARY.concepts, DIM, announced, tables)
    manifest.publish(folder, Manifest("index", "", "", {}, [], outputs, rejects=[], counts={}, details=DETAILS))
    return outputs


def all_features():
    return np.concatenate([np.stack(table(concept, COUNTS[concept.name])["feature"].to_pylist())
                           for concept in VOCABULARY.concepts if COUNTS[concept.name]]).astype(np.float16)  # fmt: skip


def cosines(like, rows):
    """Brute force: similarity of each of these rows of the bank, largest first, as (row, similarity)."""
    similar = normalised(all_features()[list(rows)]) @ normalised(like[None])[0]
    order = np.argsort(-similar, kind="stable")
    return [(list(rows)[place], float(similar[place])) for place in order]


def damaged(folder, tmp_path, name, change):
    """A copy of the bank in which a file was changed, and its manifest made to fit."""
    copy = shutil.copytree(folder, tmp_path / "damaged")
    (copy / name).write_bytes(change((copy / name).read_bytes()))
    description = manifest.read(folder)
    outputs = [manifest.output_of(str(copy), output.name, output.rows) for output in description.outputs]
    manifest.publish(str(copy), dataclasses.replace(description, outputs=outputs))
    return str(copy)
