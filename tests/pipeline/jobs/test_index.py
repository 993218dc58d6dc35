"""The stage `index` on regions made for it: what comes into the bank, what does not, and both are all there was."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.pipeline.indexing.small_regions import DIM, VOCABULARY, make_regions

from vlmixer.artifacts import schemas
from vlmixer.artifacts.errors import UserError
from vlmixer.bank import selection
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.config import BankSettings, Config
from vlmixer.pipeline.indexing.units import SIZES, IndexSizes
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.index import run_index
from vlmixer.pipeline.units import doing
from vlmixer.pipeline.verification.verify import verify

SMALL = IndexSizes(regions_per_group=60, max_concept_units=2)
"""Several groups, and units of several concepts, though the regions are few."""


def build(out: Path, *, sizes=SMALL, max_bad_fraction=0.05, seed=0, **settings) -> PatchBank:
    config = Config(out=str(out), seed=seed, max_bad_fraction=max_bad_fraction, bank=BankSettings(**settings))
    run_index(config, VOCABULARY, Engine(1), overwrite=False, sizes=sizes)
    return PatchBank.open(str(out / "bank"))


def rejects(out: Path) -> dict[str, str]:
    """Reason by patch id; every id once."""
    rows = [row for path in (out / "rejects").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert len({row["key"] for row in rows}) == len(rows)
    return {row["key"]: row["reason"] for row in rows}


def test_the_best_scored_regions_come_in_with_all_that_is_known_of_them(tmp_path):
    rows = make_regions(tmp_path)
    bank = build(tmp_path, selection="score", max_patches_per_concept=20)
    by_image: dict[str, set[str]] = {}
    for row in rows:
        by_image.setdefault(row["image_id"], set()).add(row["concept"])
    for name in ("dog", "cat", "kite"):
        # Equal scores keep the order of regions/.
        best = sorted((row for row in rows if row["concept"] == name), key=lambda row: -row["score"])[:20]
        patches = bank.patches(name)
        assert patches.patch_ids == [row["patch_id"] for row in best]
        assert np.array_equal(bank.features(patches.patch_ids), np.stack([row["feature"] for row in best]))
        for patch, row in zip(patches, best, strict=True):
            assert (patch.score, patch.box, patch.source, patch.image_id) == (
                row["score"], tuple(row["box"]), row["source"], row["image_id"]
            )  # fmt: skip
            assert patch.crop == row["crop"]
            assert patch.provenance == {name: row[name] for name in schemas.PROVENANCE}
            assert patch.context == tuple(
                c.name for c in VOCABULARY.concepts if c.name in by_image[row["image_id"]] - {name}
            )
        assert bank.candidates[name] == sum(row["concept"] == name for row in rows)
    assert bank.candidates["unicorn"] == len(bank.patches("unicorn")) == 0


@pytest.mark.parametrize("kind", ["diverse", "score", "random"])
def test_every_region_ends_in_the_bank_or_in_the_rejects(tmp_path, kind):
    rows = make_regions(tmp_path)
    bank = build(tmp_path, selection=kind, max_patches_per_concept=8, duplicate_similarity=0.8)
    kept = {patch_id for name in bank.counts for patch_id in bank.patches(name).patch_ids}
    left = rejects(tmp_path)
    assert kept.isdisjoint(left)
    assert kept | set(left) == {row["patch_id"] for row in rows}
    made = bank.manifest.counts["regions"]
    assert (made.read, made.written) == (len(rows), len(kept)) == (len(rows), 8 + 8 + 8)
    assert set(left.values()) == {"over_limit", "near_duplicate"} if kind == "diverse" else {"over_limit"}
    assert sum(bank.near_duplicates.values()) == list(left.values()).count("near_duplicate")
    assert bank.manifest.details.selection.selection == kind
    assert [problem.what for problem in verify(str(tmp_path / "bank")).problems] == []


def test_diverse_chooses_among_four_times_as_many(tmp_path):
    rows = make_regions(tmp_path)
    bank = build(tmp_path, max_patches_per_concept=5)
    dogs = sorted((row for row in rows if row["concept"] == "dog"), key=lambda row: -row["score"])
    chosen = selection.choose("diverse", np.stack([row["feature"] for row in dogs[:20]]), 5, 0.95)
    assert bank.patches("dog").patch_ids == [dogs[row]["patch_id"] for row in chosen.kept]


def test_the_same_bytes_however_the_work_is_cut(tmp_path):
    make_regions(tmp_path / "one")
    first = build(tmp_path / "one", max_patches_per_concept=9, sizes=SIZES).manifest
    for name, regions, units in (("small", 30, 1), ("middle", 100, 2)):
        shutil.copytree(tmp_path / "one" / "regions", tmp_path / name / "regions")
        again = build(tmp_path / name, max_patches_per_concept=9, sizes=IndexSizes(regions, 512, units)).manifest
        assert [dataclasses.astuple(output) for output in again.outputs] == [
            dataclasses.astuple(output) for output in first.outputs
        ]
        assert again.counts == first.counts


def test_the_seed_moves_the_random_choice_alone(tmp_path):
    make_regions(tmp_path / "a")
    shutil.copytree(tmp_path / "a" / "regions", tmp_path / "b" / "regions")
    banks = [build(tmp_path / name, selection="random", max_patches_per_concept=6, seed=seed) for name, seed in
             (("a", 0), ("b", 1))]  # fmt: skip
    assert banks[0].patches("dog").patch_ids != banks[1].patches("dog").patch_ids


def put(table, column, row, value):
    """The table with another value in a place."""
    values = table[column].to_pylist()
    values[row] = value
    place = table.column_names.index(column)
    return table.set_column(place, table.schema.field(column), pa.array(values, table.schema.field(column).type))


def test_features_that_are_not_finite_are_rejected_one_by_one(tmp_path):
    def break_one(table):
        feature = np.array(table["feature"][3].as_py(), np.float16)
        feature[2] = np.nan
        return put(table, "feature", 3, feature) if table["image_id"][0].as_py() == "i0000" else table

    rows = make_regions(tmp_path, change=break_one)
    bank = build(tmp_path, selection="score")
    assert rejects(tmp_path) == {rows[3]["patch_id"]: "bad_feature"}
    assert len(bank) == len(rows) - 1
    assert bank.manifest.counts["regions"].rejected == {"bad_feature": 1}


def test_boxes_that_are_not_finite_are_rejected_one_by_one(tmp_path):
    def break_one(table):
        first = table["image_id"][0].as_py() == "i0000"
        return put(table, "box", 3, [0.0, 0.0, float("inf"), 9.0]) if first else table

    rows = make_regions(tmp_path, change=break_one)
    bank = build(tmp_path, selection="score")
    assert rejects(tmp_path) == {rows[3]["patch_id"]: "bad_feature"}
    assert len(bank) == len(rows) - 1


def test_too_many_bad_features_publish_no_bank(tmp_path):
    def break_all(table):
        nothing = np.full((len(table), DIM), np.inf, np.float16)
        column = pa.FixedSizeListArray.from_arrays(pa.array(nothing.reshape(-1)), DIM)
        return table.set_column(table.column_names.index("feature"), table.schema.field("feature"), column)

    make_regions(tmp_path, change=break_all)
    with pytest.raises(UserError, match="regions were bad"):
        build(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        PatchBank.open(str(tmp_path / "bank"))


def test_regions_of_an_unknown_concept_or_a_score_that_is_none(tmp_path):
    make_regions(tmp_path / "a", change=lambda table: put(table, "concept", 1, "dragon"))
    with pytest.raises(UserError, match=r"part-00000\.parquet: has regions of 'dragon', which is not a concept"):
        build(tmp_path / "a")
    make_regions(tmp_path / "b", change=lambda table: put(table, "score", 1, float("nan")))
    with pytest.raises(UserError, match="has a score that is not from 0 to 1"):
        build(tmp_path / "b")
    for name in "ab":
        assert not (tmp_path / name / "bank" / "manifest.json").exists()


def test_a_damaged_part_is_named(tmp_path):
    make_regions(tmp_path)
    path = tmp_path / "regions" / "part-00003.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"part-00003\.parquet: cannot be read"):
        build(tmp_path)


def test_a_part_that_was_mended_counts_in_full(tmp_path):
    make_regions(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole" / "regions", tmp_path / "mended" / "regions")
    whole = build(tmp_path / "whole", max_patches_per_concept=9).manifest
    path = tmp_path / "mended" / "regions" / "part-00003.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    with pytest.raises(UserError, match="cannot be read"):
        build(tmp_path / "mended", max_patches_per_concept=9)
    path.write_bytes(data)
    assert build(tmp_path / "mended", max_patches_per_concept=9).manifest.content_hash == whole.content_hash


def test_interrupted_between_units_it_ends_with_the_same_bytes(tmp_path, monkeypatch):
    make_regions(tmp_path / "whole")
    whole = build(tmp_path / "whole", max_patches_per_concept=9).manifest
    for stops in (1, 4, 6):
        out = tmp_path / f"stopped-{stops}"
        shutil.copytree(tmp_path / "whole" / "regions", out / "regions")
        left = stops

        def stop(stage, unit, result, publish=doing.publish_result):
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            publish(stage, unit, result)

        with monkeypatch.context() as patched:
            patched.setattr("vlmixer.pipeline.units.doing.publish_result", stop)
            with pytest.raises((KeyboardInterrupt, RuntimeError)):
                build(out, max_patches_per_concept=9)
        assert build(out, max_patches_per_concept=9).manifest.content_hash == whole.content_hash
