import json
import tarfile

import pytest
import webdataset
from tests.bank.small import Given, jpeg, small_bank

from vlmixer.artifacts.errors import CallError
from vlmixer.bank.export import save_hits, write_webdataset


@pytest.fixture
def bank_of_dogs(tmp_path):
    dogs = [Given(f"image.{row}-0", 0.9 - row / 100, [1, row, 0, 0, 0, 0, 0, 0]) for row in range(5)]
    return small_bank(str(tmp_path / "bank"), {"dog": dogs})


def test_saved_crops_and_their_provenance(bank_of_dogs, tmp_path):
    hits = bank_of_dogs.search("dog", like="image.2-0", k=2)
    save_hits(hits, str(tmp_path / "found"))
    lines = [json.loads(line) for line in (tmp_path / "found" / "patches.jsonl").read_text().splitlines()]
    assert [(line["patch_id"], line["source"], line["concept"]) for line in lines] == [
        (hit.patch.patch_id, hit.patch.source, "dog") for hit in hits
    ]
    assert lines[0]["similarity"] == pytest.approx(1, abs=1e-3)
    assert lines[0]["box"] == [10, 20, 50, 40]
    assert (tmp_path / "found" / lines[0]["file"]).read_bytes() == jpeg(2)


def test_a_webdataset_of_the_hits(bank_of_dogs, tmp_path):
    hits = bank_of_dogs.search("dog", k=5)
    sizes = {"patches-000000.tar": 3, "patches-000001.tar": 2}
    for name in ("one", "two"):
        assert write_webdataset(hits, str(tmp_path / name), per_shard=3) == sizes
    assert json.loads((tmp_path / "one" / "sizes.json").read_text()) == sizes
    for name in sizes:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        with tarfile.open(tmp_path / "one" / name) as tar:
            assert {member.mtime for member in tar} == {0}
    shards = [str(tmp_path / "one" / name) for name in sizes]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8"))
    assert [sample["__key__"] for sample in samples] == [f"image_{row}-0" for row in range(5)]
    assert [sample["txt"] for sample in samples] == ["dog"] * 5
    assert samples[3]["json"] == hits[3].to_json() | {"box": list(hits[3].patch.box), "context": []}
    assert samples[3]["jpg"].shape == (8, 12, 3)


def test_no_hits_make_an_empty_set(tmp_path):
    assert write_webdataset([], str(tmp_path / "none")) == {}
    save_hits([], str(tmp_path / "no crops"))
    assert (tmp_path / "no crops" / "patches.jsonl").read_text() == ""


@pytest.mark.parametrize("write", [save_hits, write_webdataset])
def test_a_used_folder_is_refused_or_replaced(bank_of_dogs, tmp_path, write):
    folder, first, second = tmp_path / "crops", bank_of_dogs.search("dog", k=3), bank_of_dogs.search("dog", k=2)
    write(first, str(folder))
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(CallError, match=r"crops: not empty\. Give a new folder, or --overwrite"):
        write(second, str(folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept
    (folder / "mine.jpg").write_bytes(b"mine")
    write(second, str(folder), overwrite=True)
    write(second, str(tmp_path / "fresh"))
    fresh = {path.name: path.read_bytes() for path in (tmp_path / "fresh").iterdir()}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == fresh | {"mine.jpg": b"mine"}
    with pytest.raises(CallError, match=r"mine\.jpg: is a file"):
        write(second, str(folder / "mine.jpg"))


def test_overwriting_removes_nothing_that_a_foreign_list_names(bank_of_dogs, tmp_path):
    (tmp_path / "precious.jpg").write_bytes(b"mine")
    folder = tmp_path / "crops"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a.jpg").write_bytes(b"mine")
    (folder / "config.yaml").write_text("mine")
    names = ["../precious.jpg", "inner/a.jpg", "config.yaml", ["a.jpg"], None, str(tmp_path / "precious.jpg")]
    lines = [*(json.dumps({"file": name}) for name in names), "no json", "[]"]
    (folder / "patches.jsonl").write_text("\n".join(lines))
    save_hits(bank_of_dogs.search("dog", k=1), str(folder), overwrite=True)
    assert (tmp_path / "precious.jpg").read_bytes() == (folder / "inner" / "a.jpg").read_bytes() == b"mine"
    assert (folder / "config.yaml").read_text() == "mine"
