"""A bank as it is opened: its concepts, patches, features and crops; and damage, which is named."""

import base64
import dataclasses
import io
import os
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.bank.numbered import COUNTS, DIM, all_features, damaged, write

from vlmixer.artifacts import files, manifest, stages
from vlmixer.artifacts.details import TaggedDetails
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.manifest import Manifest
from vlmixer.bank.store import PatchBank


def test_what_a_bank_says_of_itself(bank):
    assert len(bank) == 43
    assert bank.counts == COUNTS
    assert [concept.words for concept in bank.concepts] == [("dog", "puppy"), ("unicorn",), ("hot dog",), ("kite",)]
    assert "43 patches of 3 concepts, 8-d features" in repr(bank)


def test_patches_of_a_concept(bank):
    kites = bank.patches("kite")
    assert len(kites) == 12
    assert [record.row for record in kites] == list(range(31, 43))
    assert kites.scores.dtype == np.float32
    record = kites[6]
    assert (record.patch_id, record.image_id, record.concept, record.source) == (
        "kite-6", "image-6", "kite", "photos/6.jpg"
    )  # fmt: skip
    assert (record.box, record.width, record.height) == ((0.0, 1.0, 2.0, 3.0), 640, 480)
    assert record.score == pytest.approx(0.94)
    assert record.context == ("hot dog", "kite")
    assert {name: rows.tolist() for name, rows in kites.rows_by_context.items()} == {"kite": [4, 6, 9], "hot dog": [6]}


def test_a_concept_is_found_by_synonym_case_and_spacing(bank):
    assert bank.patches("Puppy").concept == "dog"
    assert bank.patches(" hot  DOG ").concept == "hot dog"


def test_a_concept_without_patches(bank):
    assert len(bank.patches("unicorn")) == 0
    assert bank.patches("unicorn").rows_by_context == {}
    assert bank.search("unicorn") == []
    assert bank.search("unicorn", like=np.ones(DIM)) == []


def test_an_unknown_concept_names_near_ones(bank):
    with pytest.raises(CallError, match=r"no concept 'kites' in this bank\. Near: kite\."):
        bank.patches("kites")
    with pytest.raises(CallError, match=r"no concept 'zebra' in this bank\. See `vlmixer bank stats`"):
        bank.search("zebra")
    with pytest.raises(CallError, match="no concept 'gras'"):
        bank.search("dog", context=["gras"])


def test_features_come_in_the_order_asked_for(bank):
    rows = [42, 0, 7, 7, 30]
    found = bank.features(rows)
    assert found.dtype == np.float16
    assert np.array_equal(found, all_features()[rows])
    assert bank.features([]).shape == (0, DIM)
    with pytest.raises(IndexError):
        bank.features([43])


def test_features_are_memory_mapped_and_an_ordinary_npy_file(bank, folder):
    loaded = np.load(f"{folder}/features.npy", allow_pickle=False)
    assert loaded.dtype == np.float16
    assert np.array_equal(loaded, all_features())
    bank.features([0])
    assert isinstance(bank._features._mapped, np.memmap)


def test_crops(bank):
    assert bank.crop(bank.patches("dog")[3]) == b"jpeg of dog 3"
    assert bank.crop(bank.patches("kite")[11]) == b"jpeg of kite 11"


def test_a_patch_by_its_id(bank):
    assert bank.patch("hot dog-0").row == 30
    with pytest.raises(CallError, match="no patch 'nobody' in this bank"):
        bank.patch("nobody")


def test_a_bank_in_an_object_store(folder, bank):
    for name in files.list_files(folder):
        files.publish_bytes(f"memory://test-bank/{name}", files.read_bytes(f"{folder}/{name}"))
    remote = PatchBank.open("memory://test-bank")
    like = np.random.default_rng(8).normal(size=DIM).astype(np.float32)
    assert remote.search("dog", like=like) == bank.search("dog", like=like)
    assert remote.crop(remote.patches("dog")[3]) == b"jpeg of dog 3"
    assert np.array_equal(remote.features([3, 40]), bank.features([3, 40]))


def test_a_record_tells_all_of_a_patch_and_its_crop(bank):
    record = bank.patch("kite-4")
    assert record.crop == b"jpeg of kite 4"
    assert record.to_json() == {
        "row": 35, "patch_id": "kite-4", "image_id": "image-4", "concept": "kite", "score": pytest.approx(0.96),
        "box": (0.0, 1.0, 2.0, 3.0), "width": 640, "height": 480,
        "source": "photos/4.jpg", "key": "", "url": "", "license": "CC BY 4.0",
        "context": ("kite",),
        "crop_start": record.crop_start, "crop_bytes": 14,
    }  # fmt: skip
    assert record == bank.record(35) == bank.patches("kite")[-8] == bank.patches("kite")[4:5][0]
    with pytest.raises(UserError, match=r"crops\.bin: the crop of patch kite-4 cannot be decoded"):
        _ = record.picture
    for row in (-1, 43):
        with pytest.raises(IndexError, match="of a bank of 43 patches"):
            bank.record(row)
    with pytest.raises(IndexError):
        bank.patches("kite")[12]


def test_features_by_patch_id(bank):
    assert np.array_equal(bank.features(["kite-0", "dog-2"]), all_features()[[31, 2]])
    with pytest.raises(CallError, match="no patch 'kite-99'"):
        bank.features(["dog-0", "kite-99"])


def test_what_a_notebook_shows(bank):
    hits = bank.search("kite", like="kite-1", k=2)
    for shown in (bank.patch("kite-1"), hits[0], hits, bank.patches("kite"), bank):
        text = shown._repr_html_()
        assert base64.b64encode(b"jpeg of kite 1").decode() in text
        assert text.count("<figure") == text.count("</figure>") >= 1
    assert bank.search("unicorn")._repr_html_() == "<p>no patch</p>"
    assert (hits.rows.tolist(), hits.similarities.dtype) == ([hit.patch.row for hit in hits], np.float32)


@pytest.mark.parametrize("name", ["concepts.parquet", "patches.parquet", "features.npy", "crops.bin", "index.faiss"])
def test_a_file_that_is_missing_or_truncated_is_named_when_the_bank_is_opened(folder, tmp_path, name):
    copy = shutil.copytree(folder, tmp_path / "bank")
    size = (copy / name).stat().st_size
    os.truncate(copy / name, size - 1)
    with pytest.raises(UserError, match=rf"{name}: {size - 1} bytes, expected {size}: truncated or changed"):
        PatchBank.open(str(copy))
    os.unlink(copy / name)
    with pytest.raises(UserError, match=f"{name}: missing"):
        PatchBank.open(str(copy))


def test_patches_that_are_damaged(folder, tmp_path):
    bank = PatchBank.open(damaged(folder, tmp_path, "patches.parquet", lambda data: data[:4] + b"x" * 300 + data[304:]))
    with pytest.raises(UserError, match=r"patches\.parquet: damaged"):
        bank.patches("dog")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("box", [0.0, 0.0, float("inf"), 9.0]),
        ("box", [5.0, 0.0, 5.0, 9.0]),
        ("box", [0.0, 0.0, 641.0, 9.0]),
        ("width", 0),
        ("score", float("nan")),
        ("patch_id", "../../x"),
        ("patch_id", "/x"),
        ("patch_id", ".x"),
        ("patch_id", "x\n"),
        ("patch_id", ""),
    ],
)
def test_numbers_that_are_not_finite_and_ids_that_are_no_file_names_are_damage(folder, tmp_path, column, value):
    def forged(data: bytes) -> bytes:
        groups = pq.ParquetFile(io.BytesIO(data))
        changed = io.BytesIO()
        with pq.ParquetWriter(changed, groups.schema_arrow) as writer:
            for number in range(groups.num_row_groups):
                table = groups.read_row_group(number)
                place = table.schema.get_field_index(column)
                values = pa.array([value] * len(table), table.schema.field(place).type)
                writer.write_table(table.set_column(place, table.schema.field(place), values))
        return changed.getvalue()

    bank = PatchBank.open(damaged(folder, tmp_path, "patches.parquet", forged))
    with pytest.raises(UserError, match=r"patches\.parquet: damaged \(its rows are not the 12 patches"):
        bank.patches("kite")


@pytest.mark.parametrize("place", ["local", "remote"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_feature_that_is_not_finite_is_found_where_it_is_read(folder, tmp_path, place, value):
    row = np.array([1, value, 0, 0, 0, 0, 0, 0], np.float16).tobytes()
    forged = damaged(folder, tmp_path, "features.npy", lambda data: data[:-32] + row + data[-16:])
    if place == "remote":
        for name in files.list_files(forged):
            files.publish_bytes(f"memory://not-finite-{value}/{name}", files.read_bytes(f"{forged}/{name}"))
        forged = f"memory://not-finite-{value}"
    bank = PatchBank.open(forged)
    assert bank.features([40, 42]).shape == (2, DIM)
    with pytest.raises(UserError, match=r"features\.npy: damaged \(the feature in row 41 is not finite\)"):
        bank.features([42, 3, 41])


@pytest.mark.parametrize(
    ("forged", "what"),
    [
        (lambda data: data.replace(b"'fortran_order': False", b"'fortran_order': True "), "would not write"),
        (lambda data: data.replace(b"(43, 8)", b"(8, 43)"), "not the bank's features"),
        (lambda data: data.replace(b"'<f2'", b"'|O' "), "would not write"),
        (lambda data: b"PK\3\4" + data, "not a .npy file"),  # what numpy takes for an archive, .npz
    ],
)
def test_features_of_another_kind_are_not_the_banks(folder, tmp_path, forged, what):
    bank = PatchBank.open(damaged(folder, tmp_path, "features.npy", forged))
    with pytest.raises(UserError, match=rf"features\.npy: damaged \(.*{what}"):
        bank.features([0])


IDS = 12 * 8
"""Bytes of the ids of the last concept's list, the 12 kites, at the end of the index; before them are its vectors."""


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda data: data[: -IDS - 16] + np.full(8, np.nan, np.float16).tobytes() + data[-IDS:], "missing or not"),
        (lambda data: data[: -IDS - 16] + np.full(8, np.inf, np.float16).tobytes() + data[-IDS:], "missing or not"),
        (lambda data: data[:-IDS] + np.arange(12, dtype="<i8").tobytes(), "rows of another concept"),
        (lambda data: data[:-IDS] + np.full(12, 99, "<i8").tobytes(), "row 99 of 43 patches"),
        (lambda data: data[:-IDS] + np.full(12, -7, "<i8").tobytes(), "missing or not"),
    ],
)
def test_an_index_whose_vectors_or_rows_are_not_the_banks(folder, tmp_path, change, what):
    bank = PatchBank.open(damaged(folder, tmp_path, "index.faiss", change))
    assert len(bank.search("dog", like=np.ones(DIM))) == 16
    with pytest.raises(UserError, match=rf"index\.faiss: damaged \(.*{what}"):
        bank.search("kite", like=np.ones(DIM))


def test_crops_that_end_early(folder, tmp_path):
    bank = PatchBank.open(damaged(folder, tmp_path, "crops.bin", lambda data: data[:-3]))
    with pytest.raises(UserError, match=r"crops\.bin: ends before the crop of patch kite-11"):
        _ = bank.patch("kite-11").crop
    assert bank.patch("kite-10").crop == b"jpeg of kite 10"


def test_a_bank_without_patches(tmp_path):
    write(str(tmp_path), dict.fromkeys(COUNTS, 0))
    bank = PatchBank.open(str(tmp_path))
    assert len(bank) == bank.indexed == 0
    assert bank.search("dog") == bank.search(like=np.ones(DIM)) == []
    assert bank.features([]).shape == (0, DIM)


def test_what_is_no_bank(tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json: no such file"):
        PatchBank.open(str(tmp_path))
    tagged = TaggedDetails("rules", "coco", "-", mentions={}, not_meant={}, sources={}, not_split=0)
    manifest.publish(str(tmp_path), Manifest("tag", "", "", {}, [], [], rejects=[], counts={}, details=tagged))
    with pytest.raises(CallError, match="holds what stage 'tag' wrote, expected the folder of stage 'index'"):
        PatchBank.open(str(tmp_path))


READS = {
    "features": lambda bank: bank.features([3]).tolist(),
    "crops": lambda bank: bank.crop(bank.patches("dog")[3]),
    "patches": lambda bank: bank.patches("kite").patch_ids,
    "ids": lambda bank: bank.patch("kite-3").row,
    "index": lambda bank: [array.tolist() for array in bank.search_rows(np.ones((1, DIM)), "dog")],
}


@pytest.mark.parametrize("place", ["local", "memory"])
@pytest.mark.parametrize("name", READS)
def test_a_bank_that_was_replaced_is_not_mixed_with_the_new_one(tmp_path, name, place):
    """A file that is opened late must not be the new bank's."""
    folder = str(tmp_path / "bank") if place == "local" else f"memory://replaced-{name}"
    write(folder)
    unread, read = PatchBank.open(folder), PatchBank.open(folder)
    before = READS[name](read)
    files.remove(folder)
    write(folder, COUNTS | {"dog": 29, "kite": 13})
    with pytest.raises(UserError, match=f"{folder}: was replaced after it was opened. Open it again"):
        READS[name](unread)
    if place == "local":  # where the old file is still open
        assert READS[name](read) == before


def test_a_bank_and_its_records_go_to_other_processes(bank, folder):
    bank.search("dog", like="dog-3")
    patch = bank.patch("kite-4")
    assert patch.crop
    there, record = pickle.loads(pickle.dumps((bank, patch)))
    assert there.search("dog", like="dog-3") == bank.search("dog", like="dog-3")
    assert (record, record.crop) == (patch, b"jpeg of kite 4")


def test_a_pickled_bank_that_was_replaced_is_not_opened(tmp_path):
    write(str(tmp_path))
    pickled = pickle.dumps(PatchBank.open(str(tmp_path)))
    write(str(tmp_path), COUNTS | {"dog": 29})
    with pytest.raises(UserError, match="was replaced after the bank was pickled"):
        pickle.loads(pickled)


def test_two_concepts_of_one_name_are_damage(folder, tmp_path):
    def forged(data: bytes) -> bytes:
        table, changed = pq.read_table(io.BytesIO(data)), io.BytesIO()
        names = pa.array(["dog", *table["name"].to_pylist()[:-1]])
        place = table.schema.get_field_index("name")
        pq.write_table(table.set_column(place, table.schema.field("name"), names), changed)
        return changed.getvalue()

    with pytest.raises(UserError, match=r"concepts\.parquet: damaged \(two concepts have the same name\)"):
        PatchBank.open(damaged(folder, tmp_path, "concepts.parquet", forged))


def test_features_of_less_than_no_numbers_are_damage(folder, tmp_path):
    copy = damaged(folder, tmp_path, "crops.bin", lambda data: data)
    description = manifest.read(copy, stages.INDEX)
    forged = dataclasses.replace(description.details, feature_dim=-1)
    manifest.publish(copy, dataclasses.replace(description, details=forged))
    said = r"manifest\.json: damaged \(details of stage .index.: feature_dim: Input should be .* than or equal to 0"
    with pytest.raises(UserError, match=said):
        PatchBank.open(copy)
