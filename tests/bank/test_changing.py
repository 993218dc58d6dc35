"""Banks made of banks: what is taken out, what is put together, and that both are sound."""

import weakref

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.bank.small import DIM, Given, small_bank

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.image_names import ImageName, ImageNames, SimilarNames, is_ambiguous
from vlmixer.artifacts.rejects import RejectFile
from vlmixer.artifacts.samples import ImageSample, Patch
from vlmixer.bank import changing
from vlmixer.bank.changing import affected_samples, drop_images, merge_banks
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.verification.verify import verify


def axis(number, length=1.0):
    return np.eye(DIM)[number % DIM] * length


def given(*ids, first=0):
    return [Given(patch_id, 0.9 - 0.01 * row, axis(first + row)) for row, patch_id in enumerate(ids)]


@pytest.fixture
def bank(tmp_path):
    patches = {"dog": given("a-0", "b-0", "c-0"), "cat": [], "kite": given("a-1", "d-0"), "car": given("e-0", "f-0")}
    return small_bank(str(tmp_path / "bank"), patches)


def contents(bank):
    """Everything that a patch is, by concept: id, score, box, source, context, feature, crop."""
    return {
        name: [
            (p.patch_id, p.score, p.box, p.source, p.context, bank.features([p.row])[0].tolist(), p.crop)
            for p in bank.patches(name)
        ]
        for name in bank.counts
    }


def test_dropping_images_leaves_the_others_as_they_are(bank, tmp_path):
    out = str(tmp_path / "new" / "bank")
    dropped = drop_images(bank, ["a", "photos/f.jpg", "nobody"], out)
    assert (dropped.images, dropped.patches, dropped.unknown) == (
        ("a", "f"), {"dog": 1, "kite": 1, "car": 1}, ("nobody",)
    )  # fmt: skip
    expected = contents(bank)
    for name, place in (("dog", 0), ("kite", 0), ("car", 1)):
        del expected[name][place]
    new = PatchBank.open(out)
    assert contents(new) == expected
    assert new.search(like=axis(1), k=1)[0].patch.patch_id in {"b-0", "d-0"}
    assert new.search("dog", like="c-0", k=5)[0].patch.patch_id == "c-0"
    assert (new.candidates, new.near_duplicates) == (bank.candidates, bank.near_duplicates)


def test_a_bank_without_images_is_sound_and_says_what_it_lacks(bank, tmp_path):
    out = tmp_path / "new" / "bank"
    drop_images(bank, ["a"], str(out))
    assert verify(str(out)).problems == []
    assert verify(str(tmp_path / "new")).problems == []
    made = manifest.read(str(out))
    assert made.counts["regions"] == manifest.Counts(7, 5, {"taken_down": 2})
    assert [(entry.name, entry.sha256) for entry in made.inputs] == [("bank 0", bank.manifest.content_hash)]
    rows = pq.read_table(out / "left-out.parquet").to_pylist()
    assert [(row["source"], row["key"], row["reason"]) for row in rows] == [
        ("photos/a.jpg", "a-0", "taken_down"), ("photos/a.jpg", "a-1", "taken_down")
    ]  # fmt: skip
    for name in ("left-out.parquet", "features.npy"):
        data = (out / name).read_bytes()
        (out / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert [problem.what for problem in verify(str(out)).problems] == [
            "its bytes changed: its SHA-256 is not the one in the manifest"
        ]
        (out / name).write_bytes(data)


def test_dropping_twice_gives_the_same_bytes(bank, tmp_path):
    for name in ("one", "two"):
        drop_images(bank, ["a"], str(tmp_path / name))
    for name in files.list_files(str(tmp_path / "one")):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_dropping_nothing_or_onto_something_is_refused(bank, tmp_path):
    with pytest.raises(CallError, match=r"has no patch of these 1 images, so there is nothing to drop\.$"):
        drop_images(bank, ["nobody"], str(tmp_path / "new"))
    with pytest.raises(CallError, match=r"nothing to drop\. Near: photos/a\.jpg"):
        drop_images(bank, ["photos/aa.jpg"], str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "file").touch()
    with pytest.raises(CallError, match="is not empty"):
        drop_images(bank, ["a"], str(tmp_path / "new"))
    for inside in ("", "/", "/clean"):
        with pytest.raises(CallError, match="is in the bank"):
            drop_images(bank, ["a"], bank.folder + inside)


@pytest.mark.parametrize(
    "name",
    ["a", "A", "photos/a.jpg", "./photos/a.jpg", "a.jpg", "/data/out/photos/a.jpg", "file:///data/photos/a.jpg",
     "s3://bucket/photos/a.jpg", "photos//a.jpg", "other/../photos/a.jpg", "Photos/A.JPG", "photos\\a.jpg"],
)  # fmt: skip
def test_images_are_found_however_their_names_are_written(bank, tmp_path, name):
    dropped = drop_images(bank, [name], str(tmp_path / "new"))
    assert (dropped.images, dropped.unknown, dropped.ambiguous) == (("a",), (), {})


def test_images_in_files_and_ambiguous_names():
    known = [
        ImageName("01", "shards/0.tar", "000/cat.jpg", "https://x.org/cat?size=2"),
        ImageName("02", "shards/0.tar", "001/cat.jpg"),
        ImageName("03", "mine/dog.jpg"),
        ImageName("04", "yours/dog.jpg"),
        ImageName("05", "yours/Dog.jpg"),
    ]
    images, similar = ImageNames(known), SimilarNames(["dogs.jpg"])
    similar.look(known)

    def found(name):
        return [image.image_id for image in images.find(name)]

    assert found("shards/0.tar") == found("0.tar") == ["01", "02"]
    assert not is_ambiguous(images.find("0.tar"))
    assert found("000/cat.jpg") == found("shards/0.tar/000/cat.jpg") == found("https://x.org/cat?size=2") == ["01"]
    assert found("dog.jpg") == ["03", "04"]
    assert is_ambiguous(images.find("dog.jpg"))
    assert found("Dog.jpg") == ["05"]
    assert found("at.jpg") == found("theirs/dog.jpg") == found("") == []
    assert similar.to("dogs.jpg")[:2] == ("mine/dog.jpg", "yours/dog.jpg")


def test_dropping_all_leaves_an_empty_bank(bank, tmp_path):
    drop_images(bank, list("abcdef"), str(tmp_path / "new"))
    assert len(PatchBank.open(str(tmp_path / "new"))) == 0
    assert verify(str(tmp_path / "new")).problems == []


def test_a_damaged_crop_publishes_no_bank(bank, tmp_path):
    path = tmp_path / "bank" / "crops.bin"
    path.write_bytes(path.read_bytes()[:-4])
    damaged = PatchBank(bank.folder, bank.manifest)
    with pytest.raises(UserError, match="ends before the crop of patch f-0"):
        drop_images(damaged, ["a"], str(tmp_path / "new"))
    assert files.list_files(str(tmp_path / "new")) == []


def sample(key, *patch_ids):
    patches = tuple(
        Patch(None, patch_id, patch_id.rpartition("-")[0], "dog", 0.5, (0.0, 0.0, 1.0, 1.0), 9, 9)
        for patch_id in patch_ids
    )
    return ImageSample(key, key, "x.jpg", 9, 9, ("dog",), patches, np.zeros((len(patches), DIM), np.float16))


def test_samples_with_a_patch_of_an_image_are_affected():
    samples = [sample("one", "a-0", "b-0"), sample("two", "b-1"), sample("three", "c-0", "a-7")]
    assert list(affected_samples(samples, {"a"})) == ["one", "three"]
    assert list(affected_samples(samples, {"b", "x.jpg"})) == ["one", "two", "three"]
    assert list(affected_samples(samples, {"nobody"})) == []


def test_merging_keeps_all_patches_by_score(bank, tmp_path):
    other = small_bank(
        str(tmp_path / "other"),
        {"dog": [Given("g-0", 0.885, axis(5)), Given("h-0", 0.1, axis(6))], "cat": given("i-0"), "kite": [], "car": []},
    )
    out = tmp_path / "merged" / "bank"
    merged = merge_banks([bank, other], str(out))
    new = PatchBank.open(str(out))
    assert new.patches("dog").patch_ids == ["a-0", "b-0", "g-0", "c-0", "h-0"]
    before = {**{p[0]: p for rows in contents(bank).values() for p in rows}}
    before |= {p[0]: p for rows in contents(other).values() for p in rows}
    assert {p[0]: p for rows in contents(new).values() for p in rows} == before
    assert new.candidates["dog"] == bank.candidates["dog"] + other.candidates["dog"]
    assert merged.counts["regions"] == manifest.Counts(10, 10)
    assert verify(str(tmp_path / "merged")).problems == []


def test_a_patch_that_two_banks_hold_counts_once(bank, tmp_path):
    merged = merge_banks([bank, bank], str(tmp_path / "merged"))
    assert contents(PatchBank.open(str(tmp_path / "merged"))) == contents(bank)
    assert merged.counts["regions"] == manifest.Counts(14, 7, {"near_duplicate": 7})
    assert verify(str(tmp_path / "merged")).problems == []


def test_merging_chooses_again_where_there_are_too_many(bank, tmp_path):
    other = small_bank(str(tmp_path / "other"), {"dog": given("g-0", "h-0", first=4), "cat": [], "kite": [], "car": []})
    merged = merge_banks([bank, other], str(tmp_path / "merged"), max_patches=2)
    new = PatchBank.open(str(tmp_path / "merged"))
    assert new.patches("dog").patch_ids == ["a-0", "g-0"]
    assert merged.counts["regions"].rejected == {"over_limit": 3}
    assert new.manifest.details.selection.max_patches_per_concept == 2
    assert verify(str(tmp_path / "merged")).problems == []


def test_diverse_banks_lose_near_duplicates_of_one_another(tmp_path):
    far = [Given(f"a-{row}", 0.9 - row / 100, axis(row)) for row in range(6)]
    near = [Given("b-0", 0.95, axis(0) + 0.01 * axis(1)), Given("b-1", 0.3, axis(6))]
    banks = [
        small_bank(str(tmp_path / name), {"dog": patches}, selection={"selection": "diverse"})
        for name, patches in (("one", far), ("two", near))
    ]
    merge_banks(banks, str(tmp_path / "merged"))
    new = PatchBank.open(str(tmp_path / "merged"))
    assert sorted(new.patches("dog").patch_ids) == ["a-1", "a-2", "a-3", "a-4", "a-5", "b-0", "b-1"]
    assert new.near_duplicates["dog"] == 3 + 1 + 1


def test_one_concept_of_each_bank_is_in_memory_and_few_of_the_patches_left_out(bank, tmp_path, monkeypatch):
    merge_banks([bank, bank], str(tmp_path / "merged"))
    held: weakref.WeakSet[object] = weakref.WeakSet()
    most = []

    class Watched(PatchBank):
        def _read_concept(self, number):
            patches = super()._read_concept(number)
            held.add(patches)
            most.append(len(held))
            return patches

    monkeypatch.setattr(
        changing,
        "RejectFile",
        lambda stage, path: RejectFile(stage, path, batch=2),  # so each batch is a row group
    )
    banks = [Watched.open(bank.folder) for _ in range(2)]
    merge_banks(banks, str(tmp_path / "again"))
    drop_images(banks[0], ["a", "b", "c"], str(tmp_path / "dropped"))
    assert max(most) == len(banks)
    again, merged = (pq.ParquetFile(tmp_path / name / "left-out.parquet") for name in ("again", "merged"))
    assert (again.num_row_groups, merged.num_row_groups) == (4, 1)
    assert again.read() == merged.read()
    assert pq.ParquetFile(tmp_path / "dropped" / "left-out.parquet").num_row_groups == 2


@pytest.mark.parametrize(
    ("detector", "concepts", "what"),
    [
        ({"name": "drawn", "weights": "sha256:2", "device": "cpu", "options": {}}, "dog cat kite car", "detector"),
        ({"name": "other", "weights": "sha256:1", "device": "cpu", "options": {}}, "dog cat kite car", "detector"),
        (None, "dog cat kite", "vocabulary"),
    ],
)
def test_banks_that_do_not_go_together(bank, tmp_path, detector, concepts, what):
    other = small_bank(
        str(tmp_path / "other"), {name: given(f"{name}-9") for name in concepts.split()}, detector=detector
    )
    with pytest.raises(UserError, match=f"built with another {what}"):
        merge_banks([bank, other], str(tmp_path / "merged"))
    assert not (tmp_path / "merged").exists()


def test_the_device_makes_no_other_detector(bank, tmp_path):
    detector = {"name": "drawn", "weights": "sha256:1", "device": "cuda", "options": {}}
    other = small_bank(
        str(tmp_path / "other"), {"dog": given("g-0"), "cat": [], "kite": [], "car": []}, detector=detector
    )
    assert merge_banks([bank, other], str(tmp_path / "merged")).counts["regions"].written == 8


def test_merging_one_bank_or_onto_something_is_refused(bank):
    with pytest.raises(CallError, match="two banks or more"):
        merge_banks([bank], "anywhere")
    with pytest.raises(CallError, match="is in the bank"):
        merge_banks([bank, bank], bank.folder)
