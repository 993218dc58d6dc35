"""`vlmixer show`: samples as a page and as JSON."""

import shutil

import pytest


def test_show_of_an_output_folder_and_of_shards(answer, out):
    samples = answer("show", out, "-n", 8)["samples"]
    assert [sample["kind"] for sample in samples] == ["mixed"] * 6 + ["image"] * 2
    assert answer("show", out / "shards", "-n", 8)["samples"] == samples
    for sample in samples[:6]:
        assert all(sample["text"][m["start"] : m["end"]] == m["surface"] for m in sample["mentions"])
        assert {patch["mention"] for patch in sample["patches"]} == set(sample["replaced"])


@pytest.mark.parametrize("inner", ["", "shards"])
def test_show_as_a_page(call, out, tmp_path, inner):
    code, printed, said = call("show", out / inner, "--html", tmp_path / "page.html", "-n", 3)
    assert code == 0
    assert printed == ""
    assert "3 samples" in said
    page = (tmp_path / "page.html").read_text()
    assert "data:image/jpeg;base64," in page, "crops come from the bank beside the shards"


def test_show_without_a_bank_beside_it(call, out, tmp_path):
    shutil.copytree(out / "shards", tmp_path / "alone")
    code, _, _ = call("show", tmp_path / "alone", "--html", tmp_path / "page.html", "-n", 3)
    assert code == 0
    assert "data:image/jpeg" not in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("inner", ["tagged", "bank", "logs", "nowhere"])
def test_show_of_something_else(call, out, inner):
    code, printed, said = call("show", out / inner, "--json")
    assert code == 2
    assert printed == ""
    assert "shards" in said


@pytest.mark.parametrize(("command", "inner"), [(["show"], ""), (["bank", "show"], "bank")])
def test_neither_page_nor_data(call, out, command, inner):
    code, _, said = call(*command, out / inner)
    assert code == 2
    assert "--html" in said
    assert "--json" in said


def test_show_by_a_synonym(call, answer, out):
    samples = answer("show", out, "--concept", "puppy", "-n", 4)["samples"]
    assert samples
    assert all("dog" in {patch["concept"] for patch in sample["patches"]} for sample in samples)
    code, printed, said = call("show", out, "--concept", "kites", "--json")
    assert (code, printed) == (2, "")
    assert "Near: kite" in said
