"""`vlmixer bank stats`, `show` and `query`."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from vlmixer.artifacts import manifest
from vlmixer.bank.store import PatchBank


def test_bank_stats(answer, call, out):
    described, counts = manifest.read(str(out / "bank")), PatchBank.open(str(out / "bank")).counts
    stats = answer("bank", "stats", out / "bank")
    assert (stats["patches"], stats["feature_dim"]) == (sum(counts.values()), 6)
    assert stats["detector"] == "quadrants:Quadrants"
    by_name = {entry["concept"]: entry for entry in stats["concepts"]}
    assert {name: entry["patches"] for name, entry in by_name.items()} == counts
    assert by_name["dog"]["sizes"] == [16, 16, 16]
    assert stats["quantiles"] == [0.1, 0.5, 0.9]
    assert by_name["horse"]["scores"] is None
    assert sum(entry["candidates"] for entry in stats["concepts"]) == described.counts["regions"].read

    code, table, said = call("bank", "stats", out / "bank")
    assert (code, said) == (0, "")
    assert f"{stats['patches']} patches of 3 concepts" in table
    assert "without patches (1): horse" in table


def test_bank_show(answer, call, out, tmp_path):
    counts = PatchBank.open(str(out / "bank")).counts
    concepts = answer("bank", "show", out / "bank")["concepts"]
    assert {name: entry["count"] for name, entry in concepts.items()} == counts
    assert {name: len(entry["patches"]) for name, entry in concepts.items()} == {
        name: min(count, 24) for name, count in counts.items()
    }
    code, printed, _ = call("bank", "show", out / "bank", "--html", tmp_path / "sheet.html")
    assert (code, printed) == (0, "")
    drawn = sum(len(entry["patches"]) for entry in concepts.values())
    assert (tmp_path / "sheet.html").read_text().count("data:image/jpeg") == drawn


@pytest.mark.parametrize("word", ["dog", "puppy", " Puppy "])
def test_bank_query_by_name_and_synonym(answer, out, word):
    hits = answer("bank", "query", out / "bank", "--concept", word)["hits"]
    assert len(hits) == 16
    assert {hit["concept"] for hit in hits} == {"dog"}
    assert [hit["row"] for hit in hits] == list(range(hits[0]["row"], hits[0]["row"] + 16))


@pytest.mark.parametrize("concept", ["dog", "horse"])
def test_bank_query_for_more_than_there_are(answer, out, concept):
    hits = answer("bank", "query", out / "bank", "--concept", concept, "-k", 500)["hits"]
    assert len(hits) == PatchBank.open(str(out / "bank")).counts[concept]


def test_bank_query_by_likeness(answer, out):
    [first] = answer("bank", "query", out / "bank", "--concept", "cat", "-k", 1)["hits"]
    hits = answer("bank", "query", out / "bank", "--like", first["patch_id"], "-k", 50)["hits"]
    assert hits[0]["patch_id"] == first["patch_id"]
    assert hits[0]["similarity"] == pytest.approx(1, abs=1e-3)
    similarities = [hit["similarity"] for hit in hits]
    assert similarities == sorted(similarities, reverse=True)
    assert len({hit["concept"] for hit in hits}) > 1
    dogs = answer("bank", "query", out / "bank", "--like", first["patch_id"], "--concept", "dog", "-k", 5)["hits"]
    assert [hit["patch_id"] for hit in dogs] == [hit["patch_id"] for hit in hits if hit["concept"] == "dog"][:5]


def test_bank_query_by_context(answer, out):
    hits = answer("bank", "query", out / "bank", "--concept", "dog", "--context", "kite, cat", "-k", 500)["hits"]
    matches = [len({"kite", "cat"} & set(hit["context"])) for hit in hits]
    assert matches == sorted(matches, reverse=True)
    assert matches[0] == 2
    assert matches[-1] < 2


def test_bank_query_for_people(call, out):
    code, printed, said = call("bank", "query", out / "bank", "--concept", "kite", "-k", 3)
    assert (code, said) == (0, "")
    assert len(printed.splitlines()) == 3
    assert all("  kite  " in line for line in printed.splitlines())


def test_bank_query_saved(answer, out, tmp_path):
    folder = tmp_path / "crops"
    hits = answer("bank", "query", out / "bank", "--concept", "kite", "-k", 3, "--save", folder)["hits"]
    lines = [json.loads(line) for line in (folder / "patches.jsonl").read_text().splitlines()]
    assert [line["patch_id"] for line in lines] == [hit["patch_id"] for hit in hits]
    assert {path.name for path in folder.iterdir()} == {"patches.jsonl", *(line["file"] for line in lines)}
    for line in lines:
        assert Path(line["source"]).exists()
        with Image.open(folder / line["file"]) as crop:
            assert crop.format == "JPEG"
            assert crop.size[0] == crop.size[1]


def test_bank_query_like_an_image(answer, call, small_run, out, tmp_path):
    [kite] = answer("bank", "query", out / "bank", "--concept", "kite", "-k", 1)["hits"]
    config = small_run.folder / "config.yaml"
    arguments = ["--concept", "kite", "--like", kite["source"], "-k", 5]
    hits = answer("bank", "query", out / "bank", *arguments, "--config", config)["hits"]
    assert {hit["concept"] for hit in hits} == {"kite"}
    similarities = [hit["similarity"] for hit in hits]
    assert similarities == sorted(similarities, reverse=True)
    assert similarities[0] > 0.9
    (tmp_path / "no.jpg").write_bytes(b"no image")
    code, _, said = call("bank", "query", out / "bank", "--like", tmp_path / "no.jpg", "--config", config)
    assert code == 2
    assert "no.jpg: not usable as an image: not_an_image" in said


def test_bank_query_as_a_webdataset(call, out, tmp_path):
    folder = tmp_path / "kites"
    code, printed, said = call("bank", "query", out / "bank", "--concept", "kite", "-k", 7, "--to-wds", folder)
    assert (code, printed) == (0, "")
    assert "7 crops in 1 shards" in said
    with tarfile.open(folder / "patches-000000.tar") as tar:
        assert len(tar.getnames()) == 7 * 3


def test_bank_stats_tell_what_the_text_wants(answer, call, out, tmp_path):
    stats = answer("bank", "stats", out / "bank")
    mentions = {entry["concept"]: entry["mentions"] for entry in stats["concepts"]}
    assert mentions["dog"] > 0
    assert stats["wanted"] == {}
    (tmp_path / "linked").symlink_to(out / "bank")
    assert answer("bank", "stats", tmp_path / "linked") == stats
    shutil.copytree(out / "bank", tmp_path / "alone")
    assert answer("bank", "stats", tmp_path / "alone")["wanted"] is None
    assert answer("bank", "stats", tmp_path / "alone", "--tagged", out / "tagged") == stats
    code, _, said = call("bank", "stats", out / "bank", "--tagged", out / "regions")
    assert code == 2
    assert "wrote, expected the folder of stage 'tag'" in said


def test_bank_stats_with_quality(answer, call, out):
    quality = answer("bank", "stats", out / "bank", "--quality")["quality"]
    assert {entry["concept"] for entry in quality["concepts"]} == {"dog", "cat", "kite"}
    assert "impurity" in call("bank", "stats", out / "bank", "--quality")[1]


def test_bank_query_as_a_page(call, out, tmp_path):
    page = tmp_path / "hits.html"
    code, printed, said = call("bank", "query", out / "bank", "--concept", "kite", "-k", 3, "--html", page)
    assert (code, printed) == (0, "")
    assert "3 patches" in said
    assert page.read_text().count("data:image/jpeg") == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--concept", "kites"], ["'kites'", "Near: kite"]),
        (["--concept", "zebra"], ["'zebra'", "bank stats"]),
        (["--concept", "dog", "--context", "cats"], ["'cats'", "Near: cat"]),
        (["--like", "none-000"], ["'none-000'"]),
        (["--like", "no/photo.jpg"], ["no/photo.jpg: no such file"]),
        ([], ["concept"]),
    ],
)
def test_bank_query_for_what_there_is_not(call, out, arguments, words):
    code, printed, said = call("bank", "query", out / "bank", *arguments, "--json")
    assert code == 2
    assert printed == ""
    assert all(word in said for word in words)


def test_a_folder_that_is_no_bank(call, out):
    code, printed, said = call("bank", "stats", out / "tagged")
    assert (code, printed) == (2, "")
    assert "expected the folder of stage 'index'" in said


@pytest.mark.parametrize(("inner", "said"), [("", "Did you mean"), ("nowhere", "no bank here")])
def test_a_folder_without_a_bank(call, out, inner, said):
    code, printed, error = call("bank", "stats", out / inner)
    assert (code, printed) == (2, "")
    assert said in error
    assert inner or f"{out}/bank?" in error


def test_a_used_folder_is_refused(call, out, tmp_path):
    for option in ("--save", "--to-wds"):
        arguments = ["bank", "query", out / "bank", "-k", 2, option, tmp_path / option]
        assert call(*arguments, "--concept", "kite")[0] == 0
        code, printed, said = call(*arguments, "--concept", "dog")
        assert (code, printed) == (2, "")
        assert said.count("\n") == 1
        assert "not empty" in said
        assert call(*arguments, "--concept", "dog", "--overwrite")[0] == 0
