import base64
import dataclasses
import io
import os
import shutil

import faiss
import faiss.contrib.ivf_tools
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vlmixer.artifacts import files, manifest, schemas
from vlmixer.artifacts.details import BankDetails, BankSelection, DetectorIdentity, TaggedDetails
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.manifest import Manifest
from vlmixer.bank import building
from vlmixer.bank.building import ConceptCounts
from vlmixer.bank.concepts import make_vocabulary
from vlmixer.bank.selection import normalised
from vlmixer.bank.store import PatchBank

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
    content = {"config_hash": "", "plan_hash": "", "versions": {}, "inputs": [], "rejects": [], "counts": {}}
    manifest.publish(folder, Manifest(stage="index", outputs=outputs, details=DETAILS, **content))
    return outputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("bank"))
    write(path)
    return path


@pytest.fixture
def bank(folder):
    return PatchBank.open(folder)


def all_features():
    return np.concatenate([np.stack(table(concept, COUNTS[concept.name])["feature"].to_pylist())
                           for concept in VOCABULARY.concepts if COUNTS[concept.name]]).astype(np.float16)  # fmt: skip


def cosines(like, rows):
    """Brute force: similarity of each of these rows of the bank, largest first, as (row, similarity)."""
    similar = normalised(all_features()[list(rows)]) @ normalised(like[None])[0]
    order = np.argsort(-similar, kind="stable")
    return [(list(rows)[place], float(similar[place])) for place in order]


def test_the_same_patches_give_the_same_bytes(folder, tmp_path):
    write(str(tmp_path))
    names = files.list_files(folder)
    assert names == ["concepts.parquet", "crops.bin", "features.npy", "index.faiss", "manifest.json", "patches.parquet"]
    for name in names:
        assert files.sha256(f"{folder}/{name}") == files.sha256(str(tmp_path / name)), name


def test_outputs_tell_rows_bytes_and_hashes_of_the_files(folder, tmp_path):
    for output in write(str(tmp_path)):
        assert output == manifest.describe(folder, output.name, 4 if output.name == "concepts.parquet" else 43)


def test_what_a_bank_says_of_itself(bank):
    assert len(bank) == 43
    assert bank.counts == COUNTS
    assert [concept.words for concept in bank.concepts] == [("dog", "puppy"), ("unicorn",), ("hot dog",), ("kite",)]
    assert "43 patches of 3 concepts, 8-d features" in repr(bank)


def test_concepts_tell_how_many_candidates_there_were(folder):
    rows = pq.read_table(f"{folder}/concepts.parquet").to_pylist()
    assert [(row["first"], row["count"], row["candidates"], row["near_duplicates"]) for row in rows] == [
        (0, 30, 60, 3), (30, 0, 0, 0), (30, 1, 2, 0), (31, 12, 24, 1)
    ]  # fmt: skip


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


@pytest.mark.parametrize("concept", ["dog", "kite", "hot dog"])
def test_search_within_a_concept_is_exact(bank, concept):
    rng = np.random.default_rng(5)
    for k in (1, 5, 30):
        like = rng.normal(size=DIM).astype(np.float32)
        hits = bank.search(concept, like=like, k=k)
        expected = cosines(like, ROWS[concept])[:k]
        assert [hit.patch.row for hit in hits] == [row for row, _ in expected]
        assert [hit.similarity for hit in hits] == pytest.approx([similar for _, similar in expected], abs=2e-3)
        assert {hit.patch.concept for hit in hits} == {concept}


def test_search_over_all_concepts_is_exact(bank):
    like = np.random.default_rng(6).normal(size=DIM).astype(np.float32)
    hits = bank.search(like=like, k=43)
    assert [hit.patch.row for hit in hits] == [row for row, _ in cosines(like, range(43))]


def test_a_patch_is_most_like_itself(bank):
    for row in (0, 17, 30, 40):
        hit = bank.search(like=bank.features([row])[0].astype(np.float32), k=1)[0]
        assert hit.patch.row == row
        assert hit.similarity == pytest.approx(1, abs=2e-3)


def test_without_something_to_be_like_patches_come_in_bank_order(bank):
    hits = bank.search("dog", k=4)
    assert [(hit.patch.row, hit.similarity) for hit in hits] == [(0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0)]


def test_patches_with_more_of_the_context_come_first(bank):
    assert [hit.patch.row for hit in bank.search("dog", context=["hot dog", "kite"], k=9)] == [
        6, 13, 20, 27, 4, 9, 14, 19, 24
    ]  # fmt: skip
    like = np.random.default_rng(7).normal(size=DIM).astype(np.float32)
    with_kite = [number for number in range(30) if number % 5 == 4 or number % 7 == 6]
    expected = [row for row, _ in cosines(like, with_kite)]
    assert [hit.patch.row for hit in bank.search("dog", like=like, context=["kite"], k=len(expected))] == expected


def test_k(bank):
    assert len(bank.search("kite", k=1000)) == 12
    assert len(bank.search("kite", like=np.ones(DIM), k=1000)) == 12
    with pytest.raises(CallError, match="k: expected at least 1, found 0"):
        bank.search("kite", k=0)


def test_a_search_for_nothing(bank):
    with pytest.raises(CallError, match="wants a concept"):
        bank.search()


def test_a_feature_of_another_width(bank):
    with pytest.raises(UserError, match=r"feature has shape \(4,\), this bank's have \(8,\)"):
        bank.search("dog", like=np.ones(4))


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
    with pytest.raises(UserError, match=r"crops\.bin: the crop of patch kite-4 is no picture"):
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


def test_search_like_a_patch_of_the_bank(bank):
    assert bank.search("kite", like="dog-3", k=5) == bank.search("kite", like=all_features()[3], k=5)
    assert bank.search(like="dog-3", k=1)[0].patch.patch_id == "dog-3"


def test_search_over_all_concepts_with_a_context(bank):
    like = np.random.default_rng(7).normal(size=DIM).astype(np.float32)
    hits = bank.search(like=like, context=["kite", "hot dog"], k=43)
    matches = [len({"kite", "hot dog"} & set(hit.patch.context)) for hit in hits]
    assert matches == sorted(matches, reverse=True)
    with_both = [row for row, _ in cosines(like, range(43)) if len(bank.record(row).context) == 2]
    assert [hit.patch.row for hit in hits][: len(with_both)] == with_both


def test_many_searches_at_once(bank):
    like = np.random.default_rng(9).normal(size=(5, DIM)).astype(np.float32)
    assert bank.search_batch(like, "dog", k=3) == [bank.search("dog", like=one, k=3) for one in like]
    assert bank.search_batch(like, k=3) == [bank.search(like=one, k=3) for one in like]
    words = ["dog", "hot dog", "unicorn", "kite", "puppy"]
    found = bank.search_batch(like, words, k=3)
    assert found == [bank.search(word, like=one, k=3) for word, one in zip(words, like, strict=True)]
    assert [len(hits) for hits in found] == [3, 1, 0, 3, 3]
    rows, similarities = bank.search_rows(like, words, k=3)
    assert (rows.shape, similarities.shape, rows.dtype, similarities.dtype) == ((5, 3), (5, 3), np.int64, np.float32)
    assert rows[1].tolist() == [30, -1, -1]
    assert bank.search_batch(np.zeros((0, DIM)), "dog") == []
    with pytest.raises(CallError, match="2 concepts for 5 features"):
        bank.search_rows(like, ["dog", "kite"])


def test_a_query_that_is_not_finite(bank):
    for value in (np.nan, np.inf):
        with pytest.raises(CallError, match="not finite"):
            bank.search("dog", like=np.full(DIM, value))


def test_search_like_a_picture_asks_the_one_who_knows_the_detector(folder, bank):
    asked = []

    def embed(picture, concept):
        asked.append((picture.size, concept))
        return all_features()[34].astype(np.float32)

    picture = Image.new("RGB", (30, 20))
    knowing = PatchBank.open(folder, embed=embed)
    assert knowing.search("Puppy", like=picture, k=4) == bank.search("dog", like="kite-3", k=4)
    assert knowing.search(like=picture, k=1)[0].patch.patch_id == "kite-3"
    assert asked == [((30, 20), "dog"), ((30, 20), None)]
    with pytest.raises(CallError, match=r"embed=vlmixer\.pipeline\.image\.embedding\.embedder"):
        bank.search("dog", like=picture)


def test_a_sample_holds_each_patch_once_and_follows_from_the_generator(bank):
    def draw(n, seed=0):
        return [record.row for record in bank.sample("kite", n, np.random.default_rng(seed))]

    assert draw(5) == draw(5) != draw(5, seed=1)
    assert len(set(draw(5))) == 5
    assert sorted(draw(100)) == list(ROWS["kite"])
    assert bank.sample("unicorn", 3, np.random.default_rng(0)) == []


def test_what_a_notebook_shows(bank):
    hits = bank.search("kite", like="kite-1", k=2)
    for shown in (bank.patch("kite-1"), hits[0], hits, bank.patches("kite"), bank):
        text = shown._repr_html_()
        assert base64.b64encode(b"jpeg of kite 1").decode() in text
        assert text.count("<figure") == text.count("</figure>") >= 1
    assert bank.search("unicorn")._repr_html_() == "<p>no patch</p>"
    assert (hits.rows.tolist(), hits.similarities.dtype) == ([hit.patch.row for hit in hits], np.float32)


def damaged(folder, tmp_path, name, change):
    """A copy of the bank in which a file was changed, and its manifest made to fit."""
    copy = shutil.copytree(folder, tmp_path / "damaged")
    (copy / name).write_bytes(change((copy / name).read_bytes()))
    description = manifest.read(folder)
    outputs = [manifest.describe(str(copy), output.name, output.rows) for output in description.outputs]
    manifest.publish(str(copy), dataclasses.replace(description, outputs=outputs))
    return str(copy)


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


def test_an_index_that_faiss_cannot_read(folder, tmp_path):
    bank = PatchBank.open(damaged(folder, tmp_path, "index.faiss", lambda data: data[:100]))
    with pytest.raises(UserError, match=r"index\.faiss: FAISS cannot read it"):
        bank.search("dog", like="dog-0")
    assert len(bank.search("dog")) == 16


def test_the_index_of_another_bank(folder, tmp_path):
    write(str(tmp_path / "other"), COUNTS | {"kite": 11})
    other = (tmp_path / "other" / "index.faiss").read_bytes()
    bank = PatchBank.open(damaged(folder, tmp_path, "index.faiss", lambda data: other))
    with pytest.raises(UserError, match="42 vectors of 4 concepts, 8-d; expected 43 of 4, 8-d"):
        bank.search("dog", like="dog-0")


def test_patches_that_are_damaged(folder, tmp_path):
    bank = PatchBank.open(damaged(folder, tmp_path, "patches.parquet", lambda data: data[:4] + b"x" * 300 + data[304:]))
    with pytest.raises(UserError, match=r"patches\.parquet: damaged"):
        bank.patches("dog")


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
    empty = {"config_hash": "", "plan_hash": "", "versions": {}, "inputs": [], "outputs": [], "rejects": []}
    tagged = TaggedDetails("rules", "coco", "-", mentions={}, not_meant={}, sources={}, not_split=0)
    manifest.publish(str(tmp_path), Manifest(stage="tag", counts={}, details=tagged, **empty))
    with pytest.raises(CallError, match="holds what stage 'tag' wrote, expected the folder of stage 'index'"):
        PatchBank.open(str(tmp_path))


def test_a_total_that_does_not_hold_publishes_no_bank(tmp_path):
    tables = [table(concept, 1) for concept in VOCABULARY.concepts]
    counts = [ConceptCounts(count) for count in (1, 1, 1, 2)]
    with pytest.raises(ValueError, match="kite: 2 patches were announced, 1 came"):
        building.write_bank(str(tmp_path), VOCABULARY.concepts, DIM, counts, tables)
    assert files.list_files(str(tmp_path)) == []


def test_the_index_holds_a_list_a_concept(folder):
    index = faiss.read_index(f"{folder}/index.faiss")
    assert (index.nlist, index.ntotal, index.d) == (4, 43, DIM)
    assert [index.invlists.list_size(number) for number in range(4)] == [30, 0, 1, 12]


def test_the_index_is_the_one_that_faiss_would_write(folder):
    quantizer = faiss.IndexFlatIP(DIM)
    quantizer.add(np.zeros((4, DIM), np.float32))
    expected = faiss.IndexIVFScalarQuantizer(
        quantizer, DIM, 4, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
    )
    expected.is_trained = True
    lists = np.repeat(np.arange(4), list(COUNTS.values()))
    faiss.contrib.ivf_tools.add_preassigned(expected, normalised(all_features()), lists, np.arange(43))
    # Read into memory and written again, FAISS's own way of telling list sizes has taken the place of ours.
    found = faiss.read_index(f"{folder}/index.faiss")
    assert faiss.serialize_index(found).tobytes() == faiss.serialize_index(expected).tobytes()


def test_feature_rows_of_a_slice():
    rows = table(VOCABULARY.concepts[0], 6)["feature"]
    expected = np.stack(rows.to_pylist()).astype(np.float16)
    assert np.array_equal(building.feature_rows(rows.slice(2, 3)), expected[2:5])
    assert np.array_equal(building.feature_rows(pa.chunked_array([rows.chunk(0)[:2], rows.chunk(0)[2:]])), expected)


def test_crops_file_is_the_crops_one_after_the_other(folder):
    content = io.BytesIO(files.read_bytes(f"{folder}/crops.bin"))
    assert content.read(26) == b"jpeg of dog 0jpeg of dog 1"


def test_an_index_has_the_same_bytes_in_a_process_that_flushes_the_smallest_numbers():
    torch = pytest.importorskip("torch")
    # All but the first are below 6e-5, where float16 has fewer digits.
    features = np.tile(np.array([1, *np.geomspace(2e-7, 6e-5, 63)], np.float16), (3, 1))
    written = []
    for flush in (False, True):
        file = io.BytesIO()
        assert torch.set_flush_denormal(flush)
        try:
            building.IndexWriter(file, 64, [3]).write_list(features)
        finally:
            torch.set_flush_denormal(False)
        written.append(file.getvalue())
    assert written[0] == written[1]
    codes = np.frombuffer(written[0][: -3 * 8], "<f2")[-3 * 64 :].reshape(3, 64).astype(np.float32)
    assert (codes > 0).all()
    assert np.linalg.norm(codes, axis=1) == pytest.approx(1, abs=1e-3)
