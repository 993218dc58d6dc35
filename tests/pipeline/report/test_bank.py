"""The contact sheet of a bank, and the page of a search."""

import base64
import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from tests.pipeline.report.small import BankPatch, jpeg, make_bank, read_page

from vlmixer.artifacts.errors import UserError
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.report.bank import SheetLimits, write_bank_page, write_hits_page

HOSTILE = "</script><b>dog</b> & 'cat'"


@pytest.fixture
def bank(tmp_path: Path) -> PatchBank:
    patches = [
        BankPatch("p-0", "dog", jpeg("red"), context=(1,)),
        BankPatch("p-1", "dog", jpeg("blue", (160, 80)), source=HOSTILE),
        BankPatch("p-2", "dog", jpeg("green")),
        BankPatch("p-3", "hot air balloon", jpeg("white")),
    ]
    return make_bank(tmp_path / "bank", [["dog", "puppy"], ["hot air balloon"], ["boat"]], patches)


def picture(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_one_row_per_concept_with_counts_synonyms_and_patches(tmp_path: Path, bank: PatchBank) -> None:
    path = tmp_path / "page.html"
    write_bank_page(str(path), bank, per_concept=2)
    page = read_page(path)
    assert [row.attributes["data-words"] for row in page.all("concept")] == [
        "dog\npuppy",
        "hot air balloon",
    ]
    assert [count.text for count in page.all("count")] == ["3", "1"]
    dogs, balloons = page.data()
    assert [dict(patch["facts"])["patch"] for patch in dogs] == ["p-0", "p-1"]
    assert dict(dogs[0]["facts"]) == {
        "score": "0.50", "seen with": "hot air balloon", "source": "photos/a.jpg",
        "size": "40 × 20 of 100 × 80 pixels", "patch": "p-0",
    }  # fmt: skip
    assert dict(dogs[1]["facts"])["seen with"] == "nothing else"
    assert base64.b64decode(dogs[0]["picture"].partition(",")[2]) == jpeg("red")
    assert [patch["aspect"] for patch in balloons] == ["2.000"]
    assert dogs[0]["view"] == {"id": "p-0", "image": "", "width": 100, "height": 80, "box": [10, 20, 50, 40]}
    assert [button.text for button in page.all("button", inside="nav")] == ["dog3", "hot air balloon1"]
    text = page.all("main")[0].text
    assert "4 patches of 2 of 3 concepts" in text
    assert "Concepts without patches" in text
    assert "boat" in text


def test_names_and_sources_cannot_leave_their_place(tmp_path: Path) -> None:
    bank = make_bank(
        tmp_path / "bank", [[HOSTILE, HOSTILE + "s"]], [BankPatch("p-0", HOSTILE, jpeg("red"), source=HOSTILE)]
    )
    path = tmp_path / "page.html"
    write_bank_page(str(path), bank)
    page = read_page(path)
    assert page.all("b") == []
    assert page.all("h2")[0].text == HOSTILE
    assert page.all("concept")[0].attributes["data-words"] == f"{HOSTILE}\n{HOSTILE}s"
    ((patch,),) = page.data()
    assert dict(patch["facts"])["source"] == HOSTILE
    write_hits_page(str(path), bank, bank.search(HOSTILE), title=HOSTILE)
    page = read_page(path)
    assert page.all("b") == []
    assert page.all("h1")[0].text == HOSTILE


def test_a_large_sheet_shows_thumbnails(tmp_path: Path, bank: PatchBank) -> None:
    path = tmp_path / "page.html"
    write_bank_page(str(path), bank, limits=SheetLimits(full_size=3))
    dogs, _ = read_page(path).data()
    assert [picture(patch["picture"]).size for patch in dogs] == [(40, 20), (96, 48), (40, 20)]


def test_an_empty_bank_has_a_page(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank", [["dog"], ["cat"]], [])
    path = tmp_path / "page.html"
    write_bank_page(str(path), bank)
    page = read_page(path)
    assert page.data() == page.all("concept") == []
    assert "The bank has no patches." in page.all("main")[0].text
    assert "dog, cat" in page.all("main")[0].text


def test_a_crop_that_is_no_picture_is_named_and_leaves_no_page(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank", [["dog"]], [BankPatch("p-bad", "dog", b"no jpeg")])
    path = tmp_path / "page.html"
    with pytest.raises(UserError, match=r"the crop of patch p-bad is not a picture .* `vlmixer verify`"):
        write_bank_page(str(path), bank)
    with pytest.raises(UserError, match="p-bad"):
        write_hits_page(str(path), bank, bank.search("dog"), title="dog")
    assert [entry.name for entry in tmp_path.iterdir()] == ["bank"]


def test_hits_stand_in_order_with_their_similarity(tmp_path: Path, bank: PatchBank) -> None:
    hits = bank.search("dog", like=bank.features([1])[0], k=2)
    path = tmp_path / "page.html"
    write_hits_page(str(path), bank, hits, title="dog, like p-1")
    page = read_page(path)
    captions = [caption.text for caption in page.all("figcaption")]
    assert len(captions) == 2
    assert captions[0] == f"dog 1.000alone in its image{HOSTILE.rpartition('/')[2]}"
    assert captions[1].startswith("dog 0.000")
    assert len(page.all("img")) == 2


def test_hits_of_a_search_without_likeness_show_none(tmp_path: Path, bank: PatchBank) -> None:
    path = tmp_path / "page.html"
    write_hits_page(str(path), bank, bank.search("hot air balloon"), title="hot air balloon")
    page = read_page(path)
    assert [caption.text for caption in page.all("figcaption")] == ["hot air balloonalone in its imagea.jpg"]
    assert "1 patch from the bank" in page.all("header")[0].text
    write_hits_page(str(path), bank, [], title="boat")
    assert "The bank has no such patch." in read_page(path).all("main")[0].text


def test_pages_load_nothing_and_are_the_same_twice(tmp_path: Path, bank: PatchBank) -> None:
    for name in ("one", "two"):
        write_bank_page(str(tmp_path / f"bank-{name}.html"), bank)
        write_hits_page(str(tmp_path / f"hits-{name}.html"), bank, bank.search("dog"), title="dog")
    for kind in ("bank", "hits"):
        one, two = tmp_path / f"{kind}-one.html", tmp_path / f"{kind}-two.html"
        assert one.read_bytes() == two.read_bytes()
        assert read_page(one).loads() == []


def test_a_sheet_of_many_concepts_shows_few_of_each(tmp_path: Path) -> None:
    limits = SheetLimits(patches=60, min_per_concept=2, max_per_concept=5)
    crop = jpeg("red")
    for concepts, shown in ((3, 5), (20, 3), (40, 2)):
        words = [[f"thing {number}"] for number in range(concepts)]
        patches = [
            BankPatch(f"p{number}-{row}", f"thing {number}", crop) for number in range(concepts) for row in range(6)
        ]
        path = tmp_path / f"{concepts}.html"
        write_bank_page(str(path), make_bank(tmp_path / str(concepts), words, patches), limits=limits)
        assert [len(block) for block in read_page(path).data()] == [shown] * concepts


def test_a_sheet_refers_to_images_and_a_page_of_hits_holds_them(tmp_path: Path) -> None:
    photo = tmp_path / "a photo.jpg"
    turned = Image.new("RGB", (80, 100), "green")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(photo, exif=exif)
    patches = [BankPatch("p-0", "dog", jpeg("red"), source=str(photo)),
               BankPatch("p-1", "dog", jpeg("red"), source=str(tmp_path / "gone.jpg")),
               BankPatch("p-2", "dog", jpeg("red"), source="memory://elsewhere/b.jpg")]  # fmt: skip
    bank = make_bank(tmp_path / "bank", [["dog"]], patches)
    path = tmp_path / "page.html"
    write_bank_page(str(path), bank)
    (dogs,) = read_page(path).data()
    assert [patch["view"]["image"] for patch in dogs] == [photo.resolve().as_uri(), "", ""]
    write_hits_page(str(path), bank, bank.search("dog"), title="dog")
    views = [json.loads(element.attributes["data-view"]) for element in read_page(path).all("patch")]
    assert [view["image"] for view in views[1:]] == ["", ""]
    assert picture(views[0]["image"]).size == (100, 80)


def test_a_page_of_many_hits_refers_to_images(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (100, 80)).save(photo)
    patches = [BankPatch(f"p-{row}", "dog", jpeg("red"), source=str(photo)) for row in range(2)]
    bank = make_bank(tmp_path / "bank", [["dog"]], patches)
    path = tmp_path / "page.html"
    write_hits_page(str(path), bank, bank.search("dog"), title="dog", images_inside=1)
    assert json.loads(read_page(path).all("patch")[0].attributes["data-view"])["image"] == photo.resolve().as_uri()


def test_images_are_looked_for_beside_the_bank_too(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (100, 80)).save(tmp_path / "photos" / "a.jpg")
    bank = make_bank(tmp_path / "bank", [["dog"]], [BankPatch("p-0", "dog", jpeg("red"), source="photos/a.jpg")])
    path = tmp_path / "page.html"
    write_bank_page(str(path), bank)
    ((patch,),) = read_page(path).data()
    assert patch["view"]["image"] == (tmp_path / "photos" / "a.jpg").resolve().as_uri()


def test_an_image_in_a_tar_is_found_by_its_member(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (100, 80), "green").save(photo)
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(photo, "inside/0001.png")
    patches = [
        BankPatch(f"p-{row}", "dog", jpeg("red"), source=str(tmp_path / "photos.tar"), key=key)
        for row, key in enumerate(["inside/0001.png", "inside/0002.png"])
    ]
    bank = make_bank(tmp_path / "bank", [["dog"]], patches)
    path = tmp_path / "page.html"
    write_hits_page(str(path), bank, bank.search("dog"), title="dog")
    found, gone = [json.loads(element.attributes["data-view"])["image"] for element in read_page(path).all("patch")]
    assert picture(found).size == (100, 80)
    assert gone == ""
    write_bank_page(str(path), bank)
    assert [patch["view"]["image"] for patch in read_page(path).data()[0]] == ["", ""]


def test_no_server_is_called_because_a_bank_names_it(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (100, 80)).save(photo)
    # file:// stands for all URLs that are not those of an object store.
    patches = [BankPatch("p-0", "dog", jpeg("red"), source=f"file://{photo}")]
    bank = make_bank(tmp_path / "bank", [["dog"]], patches)
    path = tmp_path / "page.html"
    write_hits_page(str(path), bank, bank.search("dog"), title="dog")
    (element,) = read_page(path).all("patch")
    assert json.loads(element.attributes["data-view"])["image"] == ""
