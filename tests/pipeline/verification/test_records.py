"""Contents that are wrong although the hashes are right, as a fault of the writing program would leave them."""

from dataclasses import replace
from typing import Any

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.pipeline.verification.rewriting import rewrite_manifest, rewrite_rows

from vlmixer.artifacts import manifest
from vlmixer.artifacts.manifest import Counts
from vlmixer.artifacts.stages import DETECT
from vlmixer.bank.store import PatchBank


def test_counts_that_do_not_add_up(out, problems):
    counts = Counts(999, 564, {"no_patch": 1})
    rewrite_manifest(out / "shards", counts={"views": counts, "images": Counts(150, 150)})
    assert ("shards/manifest.json", f"views do not add up: {counts}") in problems(out)


@pytest.mark.parametrize(
    ("folder", "kind"), [("tagged", "sentences"), ("regions", "images"), ("bank", "regions"), ("shards", "views")]
)
def test_counts_that_are_not_the_records(out, problems, folder, kind):
    counts = manifest.read(str(out / folder)).counts
    fewer = replace(counts[kind], read=counts[kind].read - 1, written=counts[kind].written - 1)
    rewrite_manifest(out / folder, counts=counts | {kind: fewer})
    what = f"{counts[kind].written} {kind} found, the manifest counts {fewer.written}"
    assert (folder, what) in problems(out)


@pytest.mark.parametrize(
    ("folder", "name"),
    [("tagged", "mentions"), ("tagged", "not_meant"), ("regions", "regions"), ("shards", "replaced")],
)
def test_numbers_by_concept_that_are_not_the_records(out, problems, folder, name):
    details: Any = manifest.read(str(out / folder)).details
    rewrite_manifest(out / folder, details=replace(details, **{name: {**getattr(details, name), "dog": 999}}))
    [(_, what)] = problems(out / folder)
    assert what.startswith(f"{name} by concept: ")
    assert what.endswith(" of 'dog' found, the manifest says 999")


def test_concepts_that_the_manifest_does_not_name(out, problems):
    details = manifest.read(str(out / "regions"), DETECT).details
    rewrite_manifest(out / "regions", details=replace(details, regions={}))
    regions = sum(details.regions.values())
    what = f"regions by concept: {regions} of concepts that the manifest does not name"
    assert [said for _, said in problems(out / "regions")] == [what]


@pytest.mark.parametrize(
    ("folder", "changes", "what"),
    [
        ("regions", {"images_by_part": (22, 64, 64, 5)}, "images_by_part is not for each part"),
        ("tagged", {"sources": {"0" * 12: "/dev/zero"}}, "sources: a name that is not the one of its id"),
    ],
)
def test_details_that_are_of_no_record(out, problems, folder, changes, what):
    details: Any = manifest.read(str(out / folder)).details
    rewrite_manifest(out / folder, details=replace(details, **changes))
    assert problems(out / folder) == [("manifest.json", what)]


def test_a_record_that_names_another_source(out, problems):
    def change(rows: list[dict]) -> None:
        rows[3]["source"] = "elsewhere.jpg"

    rewrite_rows(out / "regions" / "record" / "images.parquet", change, out / "regions")
    what = "1 images are not in the parts with the same id, size, source and key"
    assert problems(out / "regions") == [("record/images.parquet", what)]


def test_rejects_that_are_not_those_counted(out, problems):
    counts = manifest.read(str(out / "tagged")).counts["sentences"]
    more = {reason: number + 1 for reason, number in counts.rejected.items()}
    changed = replace(counts, read=counts.read + len(more), rejected=more)
    rewrite_manifest(out / "tagged", counts={"sentences": changed})
    what = f"stage tag: {counts.rejected} listed, the manifest counts {more}"
    assert ("rejects", what) in problems(out)


def test_a_mention_that_is_not_what_the_text_says(out, problems):
    def change(rows: list[dict]) -> None:
        rows[3]["mentions"][0]["start"] += 1

    rewrite_rows(out / "tagged" / "part-00000.parquet", change)
    found = problems(out / "tagged")
    assert [file for file, _ in found] == ["part-00000.parquet"]
    assert "does not match the text" in found[0][1]


def test_a_sentence_id_twice(out, problems):
    def change(rows: list[dict]) -> None:
        rows[1]["sentence_id"] = rows[0]["sentence_id"]

    rewrite_rows(out / "tagged" / "part-00000.parquet", change)
    assert any("occurs twice" in what for _, what in problems(out / "tagged"))


def test_columns_of_another_kind(out, problems):
    path = out / "tagged" / "part-00000.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["mentions"]), path)
    rewrite_manifest(path.parent)
    assert any(file == path.name and "columns" in what for file, what in problems(out / "tagged"))


@pytest.mark.parametrize("box", [[0.0, 0.0, 33.0, 16.0], [-1.0, 0.0, 16.0, 16.0], [8.0, 0.0, 8.0, 16.0], [np.nan] * 4])
def test_a_box_outside_its_image(out, problems, box):
    rewrite_rows(out / "regions" / "part-00000.parquet", lambda rows: rows[5].update(box=box))
    found = problems(out / "regions")
    assert [file for file, _ in found] == ["part-00000.parquet"]
    assert "is not inside 32×32" in found[0][1]


def test_regions_that_are_not_sound(out, problems):
    def change(rows: list[dict]) -> None:
        rows[0]["crop"] = b"no picture"
        rows[1]["feature"] = [np.float16(np.inf)] * 6
        rows[2]["patch_id"] = rows[3]["patch_id"]

    rewrite_rows(out / "regions" / "part-00000.parquet", change)
    found = " ".join(what for _, what in problems(out / "regions"))
    assert "its crop does not decode" in found
    assert "not finite" in found
    assert "occurs twice" in found


@pytest.mark.parametrize(
    ("feature", "said"),
    [([6e-8, 1000, 6e-8, 1000, 6e-8, 1000], "read as another type"), ([0.0] * 6, "features are all 0")],
)
def test_numbers_that_were_read_wrongly(out, problems, feature, said):
    def change(rows: list[dict]) -> None:
        for row in rows:
            row |= {"feature": [np.float16(number) for number in feature], "score": 2.0}

    rewrite_rows(out / "regions" / "part-00000.parquet", change)
    found = " ".join(what for _, what in problems(out / "regions"))
    assert said in found
    assert "score 2 is not from 0 to 1" in found


@pytest.mark.parametrize(
    "name", ["tagged/part-00000.parquet", "regions/part-00000.parquet", "bank/concepts.parquet", "bank/patches.parquet",
             "bank/features.npy", "bank/index.faiss", "shards/mixed-000000.tar", "shards/.nv-meta/.info.json"],
)  # fmt: skip
def test_a_file_that_is_nothing_of_its_kind_is_a_problem_and_no_crash(out, problems, name):
    (out / name).write_bytes(b"something else")
    rewrite_manifest(out / name.partition("/")[0])
    assert any(file.startswith(name.partition("/")[0]) for file, _ in problems(out))


def test_an_index_of_fewer_vectors(out, problems):
    patches = len(PatchBank.open(str(out / "bank")))
    path = str(out / "bank" / "index.faiss")
    index = faiss.read_index(path)
    index.remove_ids(np.array([7], np.int64))  # type: ignore[arg-type]  # the stub lacks arrays
    faiss.write_index(index, path)
    rewrite_manifest(out / "bank")
    [(file, what)] = problems(out / "bank")
    assert file == "index.faiss"
    assert f"not an index of {patches} vectors of 4 concepts, 6-d" in what


@pytest.mark.parametrize(("more", "wider"), [(-1, 0), (0, -1), (1, 0)])
def test_bank_features_of_another_shape(out, problems, more, wider):
    rows, columns = np.load(out / "bank" / "features.npy").shape
    shape = (rows + more, columns + wider)
    np.save(out / "bank" / "features.npy", np.zeros(shape, np.float16))
    rewrite_manifest(out / "bank")
    what = f"float16 of shape {shape}, expected float16 of shape {(rows, columns)}"
    assert problems(out / "bank") == [("features.npy", what)]


def test_bank_features_cut_short(out, problems):
    path = out / "bank" / "features.npy"
    shape = np.load(path).shape
    path.write_bytes(path.read_bytes()[:-4])
    rewrite_manifest(out / "bank")
    assert problems(out / "bank") == [("features.npy", f"4 bytes too few for its shape {shape}")]


def test_bank_crops_that_go_on(out, problems):
    with (out / "bank" / "crops.bin").open("ab") as file:
        file.write(b"more")
    rewrite_manifest(out / "bank")
    assert [file for file, _ in problems(out / "bank")] == ["crops.bin"]


def test_a_bank_patch_under_another_concept(out, problems):
    rewrite_rows(out / "bank" / "patches.parquet", lambda rows: rows[0].update(concept_id=2))
    found = problems(out / "bank")
    assert [file for file, what in found if "concept_id" in what] == ["patches.parquet"]
