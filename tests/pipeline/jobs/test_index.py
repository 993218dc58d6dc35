"""The stage `index` on regions made for it: what comes into the bank, what does not, and both are all there was."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.bank.small import ORIGIN, jpeg

from vlmixer.artifacts import manifest, schemas
from vlmixer.artifacts.details import DetectorIdentity, RegionsDetails
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Counts, Manifest
from vlmixer.bank import selection
from vlmixer.bank.concepts import make_vocabulary
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.config import BankSettings, Config
from vlmixer.pipeline.jobs import index
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.index import Cut, Ranking, list_places, other_concepts, plan_concepts, plan_groups, run_index
from vlmixer.pipeline.units import doing
from vlmixer.pipeline.verification.verify import verify

DIM = 6
VOCABULARY = make_vocabulary("v", [["dog", "puppy"], ["cat"], ["unicorn"], ["kite"]])
IMAGES = 120
IMAGES_A_PART = 10


def make_regions(out: Path, *, images=IMAGES, change=None) -> list[dict]:
    """Random regions of `images` images in parts of ten, as detect writes them; returns their rows.

    change: what is done to a part's table before it is written.
    """
    rng = np.random.default_rng(0)
    schema = schemas.regions(DIM)
    rows, outputs = [], []
    for part in range(-(-images // IMAGES_A_PART)):
        of_part = []
        for image in range(part * IMAGES_A_PART, min(images, (part + 1) * IMAGES_A_PART)):
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
        outputs.append(manifest.describe(str(out / "regions"), name, len(table)))
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


def build(out: Path, *, workers=1, max_bad_fraction=0.05, seed=0, **settings) -> PatchBank:
    config = Config(out=str(out), seed=seed, max_bad_fraction=max_bad_fraction, bank=BankSettings(**settings))
    run_index(config, VOCABULARY, Engine(workers), overwrite=False)
    return PatchBank.open(str(out / "bank"))


def rejects(out: Path) -> dict[str, str]:
    """Reason by patch id; every id once."""
    rows = [row for path in (out / "rejects").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert len({row["key"] for row in rows}) == len(rows)
    return {row["key"]: row["reason"] for row in rows}


@pytest.fixture
def small_groups(monkeypatch):
    """Several groups and units of several concepts, though the regions are few."""
    monkeypatch.setattr(index, "REGIONS_A_GROUP", 60)
    monkeypatch.setattr(index, "MOST_CONCEPT_UNITS", 2)


def test_the_best_scored_regions_come_in_with_all_that_is_known_of_them(tmp_path, small_groups):
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
def test_every_region_ends_in_the_bank_or_in_the_rejects(tmp_path, small_groups, kind):
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


def test_diverse_chooses_among_four_times_as_many(tmp_path, small_groups):
    rows = make_regions(tmp_path)
    bank = build(tmp_path, max_patches_per_concept=5)
    dogs = sorted((row for row in rows if row["concept"] == "dog"), key=lambda row: -row["score"])
    chosen = selection.choose("diverse", np.stack([row["feature"] for row in dogs[:20]]), 5, 0.95)
    assert bank.patches("dog").patch_ids == [dogs[row]["patch_id"] for row in chosen.kept]


def test_the_same_bytes_however_the_work_is_cut(tmp_path, monkeypatch):
    make_regions(tmp_path / "one")
    first = build(tmp_path / "one", max_patches_per_concept=9).manifest
    for name, regions, units in (("small", 30, 1), ("middle", 100, 2)):
        monkeypatch.setattr(index, "REGIONS_A_GROUP", regions)
        monkeypatch.setattr(index, "MOST_CONCEPT_UNITS", units)
        shutil.copytree(tmp_path / "one" / "regions", tmp_path / name / "regions")
        again = build(tmp_path / name, max_patches_per_concept=9).manifest
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


def test_features_that_are_not_finite_are_rejected_one_by_one(tmp_path, small_groups):
    def break_one(table):
        feature = np.array(table["feature"][3].as_py(), np.float16)
        feature[2] = np.nan
        return put(table, "feature", 3, feature) if table["image_id"][0].as_py() == "i0000" else table

    rows = make_regions(tmp_path, change=break_one)
    bank = build(tmp_path, selection="score")
    assert rejects(tmp_path) == {rows[3]["patch_id"]: "bad_feature"}
    assert len(bank) == len(rows) - 1
    assert bank.manifest.counts["regions"].rejected == {"bad_feature": 1}


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
    with pytest.raises(UserError, match=r"part-00000\.parquet: regions of 'dragon', which is no concept"):
        build(tmp_path / "a")
    make_regions(tmp_path / "b", change=lambda table: put(table, "score", 1, float("nan")))
    with pytest.raises(UserError, match="a score that is not finite"):
        build(tmp_path / "b")
    for name in "ab":
        assert not (tmp_path / name / "bank" / "manifest.json").exists()


def test_a_damaged_part_is_named(tmp_path):
    make_regions(tmp_path)
    path = tmp_path / "regions" / "part-00003.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"part-00003\.parquet: cannot be read"):
        build(tmp_path)


def test_a_part_that_was_mended_counts_in_full(tmp_path, small_groups):
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


def test_interrupted_between_units_it_ends_with_the_same_bytes(tmp_path, small_groups, monkeypatch):
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


def test_groups_hold_all_parts_in_order():
    parts = [manifest.Output(f"part-{number}", rows, 0, "") for number, rows in enumerate([5, 0, 7, 9, 1, 30, 2])]
    groups = plan_groups(parts)
    assert [name for group in groups for name in group.parts] == [
        "part-0",
        "part-2",
        "part-3",
        "part-4",
        "part-5",
        "part-6",
    ]
    assert len(groups) == 1
    many = [manifest.Output(f"part-{number}", 20_000, 0, "") for number in range(2000)]
    groups = plan_groups(many)
    assert len(groups) <= index.MOST_GROUPS
    assert [name for group in groups for name in group.parts] == [part.name for part in many]
    assert [group.first for group in groups] == [int(group.parts[0].removeprefix("part-")) for group in groups]


def test_concepts_share_units_only_where_there_are_many():
    assert [unit.content for unit in plan_concepts([3, 5, 9])] == [(3,), (5,), (9,)]
    units = plan_concepts(range(1600))
    assert len(units) <= 256
    assert [number for unit in units for number in unit.content] == list(range(1600))


def test_a_cut_takes_the_best_and_ties_by_place():
    places = np.array([(-0.9, 0, 1), (-0.5, 0, 2), (-0.5, 0, 3), (-0.5, 1, 0), (-0.1, 0, 0)], selection.PLACE)
    assert Cut(5, -0.5, 0, 3).candidates(places).tolist() == [True, True, True, False, False]


def test_the_combiner_finds_the_cut_however_places_come_together():
    rng = np.random.default_rng(0)
    ranks = -rng.integers(0, 9, (9, 50)) / 9
    places = np.array([(rank, *place) for place, rank in np.ndenumerate(ranks)], selection.PLACE)
    keep = index._KeepBest(40)
    last = selection.best(places, 40)[-1]
    for pieces in (1, 3, 17):
        accumulators = []
        for group in np.array_split(rng.permutation(places), pieces):
            accumulator = keep.create_accumulator()
            for piece in np.array_split(group, 4):
                accumulator = keep.add_input(accumulator, index.Places(piece, len(piece)))
                assert len(accumulator.best) <= 2 * 40 + len(piece)
            accumulators.append(accumulator)
        cut = keep.extract_output(keep.merge_accumulators(accumulators))
        assert (cut.total, cut.rank, cut.part, cut.row) == (450, *last.tolist())


def test_places_of_a_group(tmp_path):
    rows = make_regions(tmp_path, images=25)
    ranking = Ranking("score", 3, 0, VOCABULARY.ids, str(tmp_path / "regions"))
    (group,) = plan_groups(manifest.read(str(tmp_path / "regions")).outputs)
    found = list_places(group, ranking)
    assert {VOCABULARY.names[number]: places.total for number, places in found.items()} == {
        name: sum(row["concept"] == name for row in rows) for name in ("dog", "cat", "kite")
    }
    dogs = sorted(-row["score"] for row in rows if row["concept"] == "dog")[:3]
    assert found[0].best["rank"].tolist() == dogs


def test_other_concepts_of_an_image():
    images, ids = np.array([0, 0, 0, 1, 2, 2]), np.array([5, 1, 5, 5, 2, 0])
    found = other_concepts(images, ids, np.array([0, 1, 3, 4]))
    assert [concepts.tolist() for concepts in found] == [[1], [5], [], [0]]
