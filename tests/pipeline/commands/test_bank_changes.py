"""`vlmixer bank drop` and `merge`: new banks, and what else holds parts of images that were taken out."""

import pytest

from vlmixer.artifacts.samples import read_shard
from vlmixer.bank.store import PatchBank


def test_bank_drop_lists_what_is_affected_and_leaves_a_sound_bank(answer, call, out, tmp_path):
    # Two images of which mixed samples hold a cat; which images those are depends on the test's folder.
    used = {
        patch.image_id
        for name in (out / "shards").glob("mixed-*.tar")
        for sample in read_shard(str(name))
        for patch in sample.patches
    }
    hits = answer("bank", "query", out / "bank", "--concept", "cat", "-k", 500)["hits"]
    hits = [hit for hit in hits if hit["image_id"] in used][:2]
    images = tmp_path / "images.txt"
    images.write_text(f"\ufeff{hits[0]['image_id']}\n\n./{hits[1]['source']}\n")
    dropped = answer(
        "bank", "drop", out / "bank", "--images", images, "--out", tmp_path / "new" / "bank", "--shards", out / "shards"
    )
    gone = {hit["image_id"] for hit in hits}
    assert set(dropped["images"]) == gone
    assert dropped["unknown"] == []
    assert dropped["patches"]["cat"] >= 2
    expected = {
        name.name: [
            sample.key for sample in read_shard(str(name)) if gone & {patch.image_id for patch in sample.patches}
        ]
        for name in sorted((out / "shards").glob("*.tar"))
    }
    assert dropped["samples"] == {name: keys for name, keys in expected.items() if keys}
    assert any(name.startswith("mixed") for name in dropped["samples"])
    assert call("verify", tmp_path / "new" / "bank")[0] == 0
    code, listed, _ = call("bank", "query", tmp_path / "new" / "bank", "--concept", "cat", "-k", 99, "--json")
    assert code == 0
    assert not any(image in listed for image in gone)

    images.write_text(f"{hits[0]['image_id']}\n{hits[1]['source']}\nnobody.jpg\n")
    code, printed, said = call(
        "bank", "drop", out / "bank", "--images", images, "--out", tmp_path / "other", "--shards", out / "shards"
    )
    assert code == 1, "not all were found"
    assert "not found: nobody.jpg" in printed
    assert all(key in printed for keys in expected.values() for key in keys)
    assert "run again" in said

    # The new bank has nothing of the first image, but the shards do.
    images.write_text(f"{hits[0]['source']}\n")
    arguments = ("--images", images, "--out", tmp_path / "third", "--shards", out / "shards")
    code, printed, _ = call("bank", "drop", tmp_path / "new" / "bank", *arguments)
    assert code == 0
    assert "No new bank was written" in printed
    assert hits[0]["image_id"] in printed
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(
    ("images", "shards", "word"),
    [("nobody.jpg\n", None, "there is nothing to drop"), (None, None, "images.txt"), ("a\n", "bank", "no shards")],
)
def test_bank_drop_that_cannot_be_done(call, out, tmp_path, images, shards, word):
    if images is not None:
        (tmp_path / "images.txt").write_text(images)
    where = ["--shards", out / shards] if shards else []
    code, printed, said = call(
        "bank", "drop", out / "bank", "--images", tmp_path / "images.txt", "--out", tmp_path / "new", *where
    )
    assert (code, printed) == (2, "")
    assert word in said
    assert not (tmp_path / "new").exists()


def test_bank_merge(answer, call, out, tmp_path):
    code, printed, said = call("bank", "merge", out / "bank", out / "bank", "--out", tmp_path / "merged")
    assert (code, printed) == (0, "")
    patches = len(PatchBank.open(str(out / "bank")))
    assert f"{patches} of {2 * patches} regions, {patches} not used ({patches} near_duplicate)" in said
    assert call("verify", tmp_path / "merged")[0] == 0
    code, _, said = call("bank", "merge", out / "bank", "--out", tmp_path / "one")
    assert code == 2
    assert "two banks" in said
