"""Search in a bank, against brute force."""

import numpy as np
import pytest
from PIL import Image
from tests.bank.numbered import DIM, ROWS, all_features, cosines

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.bank.store import PatchBank


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
    with pytest.raises(CallError, match="needs a concept"):
        bank.search()


def test_a_feature_of_another_width(bank):
    with pytest.raises(UserError, match=r"feature of shape \(4,\), expected \(8,\)"):
        bank.search("dog", like=np.ones(4))


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


def test_arguments_as_users_have_them(bank):
    like = all_features()[34]
    expected = bank.search("dog", like=like, k=3)
    assert bank.search("dog", like=like.tolist(), k=np.int64(3)) == expected
    assert bank.search("dog", context="kite") == bank.search("dog", context=["kite"])
    for k in (2.5, "3", None):
        with pytest.raises(CallError, match="k: expected a whole number"):
            bank.search("dog", k=k)


def test_a_tensor_is_a_feature(bank):
    torch = pytest.importorskip("torch")
    like = all_features()[34]
    assert bank.search("dog", like=torch.from_numpy(like), k=3) == bank.search("dog", like=like, k=3)


def test_a_picture_is_given_as_an_image_a_path_or_pixels(folder, bank, tmp_path, monkeypatch):
    seen = []
    knowing = PatchBank.open(folder, embed=lambda picture, _: seen.append(picture) or all_features()[34])
    Image.new("RGBA", (30, 20), (255, 0, 0, 255)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    expected = bank.search("dog", like="kite-3", k=2)
    with Image.open("photo.png") as image:
        for like in (image, tmp_path / "photo.png", "photo.png", np.zeros((20, 30, 3), np.uint8)):
            assert knowing.search("dog", like=like, k=2) == expected
    assert {(picture.size, picture.mode) for picture in seen} <= {((30, 20), "RGB"), ((30, 20), "RGBA")}
    with pytest.raises(CallError, match=r"nowhere\.png: cannot be read as a picture"):
        knowing.search("dog", like=tmp_path / "nowhere.png")
    with pytest.raises(CallError, match=r"no patch, and no file, 'photo\.jpg'"):
        knowing.search("dog", like="photo.jpg")


def test_search_like_whatever_stands_for_a_feature(bank):
    torch = pytest.importorskip("torch")
    feature = all_features()[3]
    expected = bank.search("dog", like=feature, k=5)
    tensor = torch.tensor(feature.astype(np.float32))
    for like in (feature.tolist(), tensor, tensor.requires_grad_(), bank.record(3), expected[0], bank.patch("dog-3")):
        assert bank.search("dog", like=like, k=5) == expected
    rounded = bank.search("dog", like=tensor.to(torch.bfloat16), k=5)
    assert rounded.similarities == pytest.approx(expected.similarities, abs=0.01)
    assert bank.search_batch(tensor[None], "dog", k=5) == [expected]


@pytest.mark.parametrize("like", [b"bytes", ["a", "b"], {"x": 1}, object()])
def test_what_stands_for_no_feature_is_named(bank, like):
    with pytest.raises(
        CallError, match=f"expected a patch, its id, a feature or a picture, found {type(like).__name__}"
    ):
        bank.search("dog", like=like)


@pytest.mark.parametrize("arguments", [{"concept": 5}, {"concept": "dog", "context": [5]}])
def test_names_are_text(bank, arguments):
    with pytest.raises(CallError, match="concept: expected its name, found 5"):
        bank.search(**arguments)


def test_pixels_and_tensors_of_pixels_are_pictures(folder):
    torch = pytest.importorskip("torch")
    seen = []
    bank = PatchBank.open(folder, embed=lambda picture, concept: seen.append(picture.size) or all_features()[3])
    pixels = np.zeros((20, 30, 3), np.uint8)
    assert bank.search("dog", like=pixels) == bank.search("dog", like=torch.tensor(pixels))
    assert seen == [(30, 20), (30, 20)]
