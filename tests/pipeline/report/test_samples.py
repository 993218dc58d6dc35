"""The page of `vlmixer show`, and which samples it shows."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.pipeline.report.small import BankPatch, image, jpeg, make_bank, mention, mixed, patch, read_page

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.samples import Sample, write_shard
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.report.samples import choose_samples, write_samples_page

HOSTILE = '</script><b>bold</b> & "dog" <img src=x onerror=alert(1)> \' {{ 7 * 7 }}'
RED, BLUE = jpeg("red"), jpeg("blue")


@pytest.fixture
def bank(tmp_path: Path) -> PatchBank:
    patches = [BankPatch("p-red", "dog", RED), BankPatch("p-blue", "kite", BLUE)]
    return make_bank(tmp_path / "bank", [["dog"], ["kite"], ["boat"]], patches)


def uri(crop: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(crop).decode()


def test_every_replaced_mention_is_a_picture_in_its_place(tmp_path: Path, bank: PatchBank) -> None:
    text = "a dog 🐕 and e\u0301 a kite by a boat"
    mentions = [mention(text, "dog"), mention(text, "kite"), mention(text, "boat")]
    sample = mixed("key-1", text, mentions, [patch("p-red", "dog", 0), patch("p-blue", "kite", 1)])
    path = tmp_path / "page.html"
    assert write_samples_page(str(path), [sample], bank, title="Samples") == 1
    page = read_page(path)
    pictures = page.all("img", inside="sentence")
    assert [(picture.attributes["src"], picture.attributes["alt"]) for picture in pictures] == [
        (uri(RED), "dog"), (uri(BLUE), "kite")
    ]  # fmt: skip
    assert [small.text for small in page.all("small", inside="pasted")] == ["dog", "kite"]
    assert [mark.text for mark in page.all("mention", inside="sentence")] == ["boat"]
    assert page.all("sentence")[0].text == text
    facts = dict(json.loads(page.all("patch")[0].attributes["data-facts"]))
    assert (facts["replaces"], facts["concept"], facts["score"], facts["image"]) == ("dog", "dog", "0.88", "image-1")
    assert "key-1" in page.all("li")[0].text


@pytest.mark.parametrize("at_hand", [True, False], ids=["not in the bank", "no bank"])
def test_a_patch_without_crop_is_a_labelled_frame_of_its_shape(tmp_path: Path, bank: PatchBank, at_hand: bool) -> None:
    samples: list[Sample] = [
        mixed("m", "a dog", [mention("a dog", "dog")], [patch("gone", "dog", 0)]),
        image("i", [patch("gone", "kite"), patch("gone", "unheard of")]),
    ]
    path = tmp_path / "page.html"
    assert write_samples_page(str(path), samples, bank if at_hand else None, title="Samples") == 2
    page = read_page(path)
    assert page.all("img") == []
    frames = page.all("missing")
    assert [frame.text for frame in frames] == ["dog", "kite", "unheard of"]
    assert {frame.attributes["style"] for frame in frames} == {"aspect-ratio:2.000"}
    assert "An empty frame is" in path.read_text()


def test_image_samples_show_tags_patches_and_where_they_lie(tmp_path: Path, bank: PatchBank) -> None:
    path = tmp_path / "page.html"
    write_samples_page(str(path), [image("i-1", [patch("p-red", "dog"), patch("p-blue", "kite")])], bank, title="S")
    page = read_page(path)
    assert [tag.text for tag in page.all("mark", inside="tags")] == ["dog", "kite"]
    assert [picture.attributes["src"] for picture in page.all("img")] == [uri(RED), uri(BLUE)]
    assert [(box.attributes["x"], box.attributes["width"]) for box in page.all("rect")] == [("10.0", "40.0")] * 2
    assert "An empty frame is" not in path.read_text()


def test_data_is_text_whatever_it_looks_like(tmp_path: Path) -> None:
    sample = mixed(HOSTILE, HOSTILE, [mention(HOSTILE, "dog", HOSTILE)], [patch(HOSTILE, HOSTILE, 0)])
    kept = mixed("k", HOSTILE, [mention(HOSTILE, "bold", HOSTILE)], [])
    path, plain = tmp_path / "page.html", tmp_path / "plain.html"
    write_samples_page(str(path), [sample, kept, image("i", [patch("p", HOSTILE)], HOSTILE)], None, title=HOSTILE)
    write_samples_page(str(plain), [], None, title="plain")
    page = read_page(path)
    assert page.all("b") == page.all("img") == []
    assert len(page.all("script")) == len(read_page(plain).all("script"))
    assert page.all("h1")[0].text == page.all("title")[0].text == HOSTILE
    assert page.all("sentence")[1].text == HOSTILE
    assert dict(json.loads(page.all("patch")[0].attributes["data-facts"]))["concept"] == HOSTILE
    assert page.all("mark", inside="sentence")[0].attributes["title"] == HOSTILE


def test_the_page_loads_nothing_and_is_the_same_twice(tmp_path: Path, bank: PatchBank) -> None:
    source = "https://example.org/photos/a.jpg"
    samples: list[Sample] = [
        mixed("m", "a dog", [mention("a dog", "dog")], [patch("p-red", "dog", 0)]), image("i", [], source)
    ]  # fmt: skip
    for name in ("one.html", "two.html"):
        write_samples_page(str(tmp_path / name), samples, bank, title="Samples")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    page = read_page(tmp_path / "one.html")
    assert page.loads() == []
    (policy,) = [meta.attributes["content"] for meta in page.all("meta") if "http-equiv" in meta.attributes]
    assert policy.startswith("default-src 'none'; img-src data: file:;")


def test_no_samples_make_a_page_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    assert write_samples_page(str(path), [], None, title="Samples") == 0
    assert "No samples to show." in read_page(path).all("main")[0].text


def test_a_sample_that_does_not_fit_leaves_no_page(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    with pytest.raises(UserError, match="key-9"):
        write_samples_page(str(path), [mixed("key-9", "dog", [mention("a dog", "dog")], [])], None, title="S")
    assert list(tmp_path.iterdir()) == []


def write(folder: Path, name: str, samples: Sequence[Sample]) -> None:
    with open(folder / name, "wb") as file:
        write_shard(file, samples)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Five shards of three mixed samples, m<shard>-<place>, and two of two image samples, i<shard>-<place>."""
    for shard in range(5):
        write(tmp_path, f"mixed-{shard:06d}.tar", [mixed(f"m{shard}-{place}", "text", [], []) for place in range(3)])
    for shard in range(2):
        write(tmp_path, f"images-{shard:06d}.tar", [image(f"i{shard}-{place}", []) for place in range(2)])
    return tmp_path


@pytest.mark.parametrize(
    ("count", "keys"),
    [
        (1, "m0-0"),
        (4, "m0-0 m1-0 m3-0 i0-0"),
        (8, "m0-0 m1-0 m2-0 m3-0 m4-0 m0-1 i0-0 i1-0"),
        (99, "m0-0 m1-0 m2-0 m3-0 m4-0 m0-1 m1-1 m2-1 m3-1 m4-1 m0-2 m1-2 m2-2 m3-2 m4-2 i0-0 i1-0 i0-1 i1-1"),
    ],
)
def test_samples_are_spread_over_the_shards(shards: Path, count: int, keys: str) -> None:
    assert [sample.key for sample in choose_samples(str(shards), count)] == keys.split()


def test_either_kind_fills_up_what_the_other_lacks(shards: Path) -> None:
    for path in shards.glob("mixed-*"):
        path.unlink()
    write(shards, "mixed-000000.tar", [])
    assert [sample.key for sample in choose_samples(str(shards), 3)] == ["i0-0", "i1-0", "i0-1"]
    (shards / "mixed-000000.tar").unlink()
    assert [sample.key for sample in choose_samples(str(shards), 3)] == ["i0-0", "i1-0", "i0-1"]
    for path in shards.glob("images-*"):
        path.unlink()
    write(shards, "mixed-000000.tar", [mixed("only", "text", [], [])])
    assert [sample.key for sample in choose_samples(str(shards), 8)] == ["only"]


def test_only_the_shards_that_are_wanted_are_read(shards: Path) -> None:
    (shards / "mixed-000001.tar").write_bytes(b"damaged")
    assert [sample.key for sample in choose_samples(str(shards), 2)] == ["m0-0", "m2-0"]
    (shards / "mixed-000002.tar").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"mixed-000002\.tar: damaged"):
        choose_samples(str(shards), 2)


def test_a_folder_without_shards_is_named(tmp_path: Path) -> None:
    with pytest.raises(CallError, match=r"holds no shards of vlmixer \(\*\.tar\)"):
        choose_samples(str(tmp_path), 3)


def test_a_patch_knows_its_image_which_the_page_holds_once(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(jpeg("green", (100, 80)))
    patches = [BankPatch("p-red", "dog", RED, str(photo)), BankPatch("p-blue", "kite", BLUE, str(photo))]
    bank = make_bank(tmp_path / "bank", [["dog"], ["kite"], ["boat"]], patches)
    text = "a dog and a kite"
    mentions = [mention(text, "dog"), mention(text, "kite")]
    both = mixed("m", text, mentions, [patch("p-red", "dog", 0), patch("p-blue", "kite", 1)])
    alone: list[Sample] = [both]
    for samples in (alone, [*alone, image("i", [patch("p-red", "dog")])]):
        path = tmp_path / "page.html"
        write_samples_page(str(path), samples, bank, title="S")
        assert path.read_text().count("data:image/webp") == 1
        views = [json.loads(found.attributes["data-view"]) for found in read_page(path).all("patch")]
        assert {view["image"] for view in views} == {"#image-image-1"}
        assert views[0]["box"] == [10, 20, 50, 40]
    photo.unlink()
    write_samples_page(str(path), [both], bank, title="S")
    views = [json.loads(found.attributes["data-view"]) for found in read_page(path).all("patch")]
    assert {view["image"] for view in views} == {""}


def test_only_samples_with_a_concept(shards: Path) -> None:
    with_kite = mixed("kite", "a kite", [mention("a kite", "kite")], [patch("p", "kite", 0)])
    without = mixed("word", "a kite", [mention("a kite", "kite")], [])
    write(shards, "mixed-000003.tar", [without, with_kite])
    assert [sample.key for sample in choose_samples(str(shards), 5, "kite")] == ["kite"]
    assert choose_samples(str(shards), 5, "boat") == []
