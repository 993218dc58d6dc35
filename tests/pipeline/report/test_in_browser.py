"""The bank's pages in headless Chromium, as a user clicks through them: no error in the console, no request outside.

Marked `browser`: these need a Chromium on the machine, which no Python package brings along (see the Makefile).
"""

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.model.tasks.toy import lines, settings, write_json
from tests.pipeline.report.small import BankPatch, jpeg, make_bank, mention, mixed, patch

from vlmixer.bank.store import PatchBank
from vlmixer.model.finetuning import finetune
from vlmixer.model.tasks.evaluation import evaluate_run
from vlmixer.model.tasks.vqa import Vqa
from vlmixer.pipeline.report.answers import write_answers_page
from vlmixer.pipeline.report.bank import write_bank_page, write_hits_page
from vlmixer.pipeline.report.pictures import PictureLimits, Pictures
from vlmixer.pipeline.report.samples import write_samples_page
from vlmixer.pipeline.report.server import make_server
from vlmixer.pipeline.report.texts import Texts

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.fail("no Chromium here: install it (apt-get install chromium), or leave these out: -m 'not browser'")
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not run as root, as whom CI tests.
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A window in which any message on the console, exception or request to somewhere else fails the test."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    wrong: list[str] = []
    opened.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda request: None if _inside(request.url) else wrong.append(request.url))
    yield opened
    opened.close()
    assert wrong == []


def _inside(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:http://127.0.0.1:", "http://127.0.0.1:"))


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> PatchBank:
    folder = tmp_path_factory.mktemp("bank")
    photo = folder / "a photo.jpg"
    Image.new("RGB", (100, 80), "green").save(photo)
    patches = [
        BankPatch(f"d-{row}", "dog", jpeg("red", (40 + row, 20)), source=str(photo), context=(1,)) for row in range(9)
    ]
    patches += [BankPatch("c-0", "hot air balloon", jpeg("blue"), source="photos/gone.jpg")]
    return make_bank(folder / "bank", [["dog", "puppy"], ["hot air balloon"], ["boat"]], patches)


@pytest.fixture
def sheet(tmp_path: Path, bank: PatchBank, page: Page) -> Page:
    """The bank's page, opened from disk."""
    write_bank_page(str(tmp_path / "page.html"), bank)
    page.goto((tmp_path / "page.html").as_uri())
    return page


def test_search_narrows_the_list_and_the_rows(sheet: Page) -> None:
    expect(sheet.locator("#list button:visible")).to_have_text(["dog9", "hot air balloon1"])
    expect(sheet.locator(".concept:visible")).to_have_count(2)
    sheet.fill("#search", "PUP")
    expect(sheet.locator("#list button:visible")).to_have_text(["dog9"])
    expect(sheet.locator(".concept:visible h2")).to_have_text(["dog"])
    expect(sheet.locator("#found")).to_have_text("1 of 2 concepts")
    sheet.fill("#search", "zebra")
    expect(sheet.locator(".concept:visible")).to_have_count(0)
    sheet.fill("#search", "")
    expect(sheet.locator(".concept:visible")).to_have_count(2)


def test_a_concept_opens_and_closes(sheet: Page) -> None:
    sheet.click("#list button >> text=hot air")
    expect(sheet.locator(".concept:visible h2")).to_have_text(["hot air balloon"])
    expect(sheet.locator("#list [aria-current=true]")).to_have_text("hot air balloon1")
    expect(sheet.locator(".opened .patch img")).to_have_count(1)
    sheet.click("#back")
    expect(sheet.locator(".concept:visible")).to_have_count(2)
    sheet.click(".concept h2 button >> text=dog")
    expect(sheet.locator(".concept:visible h2")).to_have_text(["dog"])
    sheet.fill("#search", "balloon")
    expect(sheet.locator(".concept:visible h2")).to_have_text(["hot air balloon"])


def test_pointing_at_a_patch_tells_its_facts(sheet: Page) -> None:
    sheet.hover(".concept .patch >> nth=2")
    tip = sheet.locator("#tip")
    expect(tip).to_be_visible()
    for fact in ("0.50", "hot air balloon", "a photo.jpg", "d-2"):
        expect(tip).to_contain_text(fact)


def test_a_patch_is_shown_in_its_image_or_alone_where_that_is_gone(sheet: Page) -> None:
    sheet.click(".concept .patch >> nth=0")
    viewer = sheet.locator("#viewer")
    expect(viewer).to_be_visible()
    image = viewer.locator(".whole img")
    expect(image).to_be_visible()
    assert image.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [100, 80]
    box, rect = image.bounding_box(), viewer.locator("rect").bounding_box()
    assert box is not None
    assert rect is not None
    # The box is 10, 20 … 50, 40 of 100 × 80 pixels.
    assert (rect["x"] - box["x"]) / box["width"] == pytest.approx(0.1, abs=0.03)
    assert (rect["y"] - box["y"]) / box["height"] == pytest.approx(0.25, abs=0.03)
    assert rect["width"] / box["width"] == pytest.approx(0.4, abs=0.05)
    sheet.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    sheet.focus(".concept >> nth=1 >> .patch")
    sheet.keyboard.press("Enter")
    expect(viewer).to_contain_text("could not be read")
    expect(viewer.locator(".alone img")).to_be_visible()
    sheet.click("#viewer >> text=Close")
    expect(viewer).to_be_hidden()


def test_rows_are_drawn_as_they_come_into_view(tmp_path: Path, page: Page) -> None:
    words = [[f"thing {number:04d}"] for number in range(1600)]
    crop = jpeg("red")
    patches = [BankPatch(f"p{number}", name, crop) for number, (name,) in enumerate(words)]
    write_bank_page(str(tmp_path / "page.html"), make_bank(tmp_path / "bank", words, patches))
    page.goto((tmp_path / "page.html").as_uri())
    expect(page.locator(".concept .patch").first).to_be_visible()
    assert 0 < page.locator(".concept .patch").count() < 200
    page.fill("#search", "thing 1234")
    expect(page.locator(".concept:visible .patch")).to_have_count(1)


def test_the_hits_of_a_query(tmp_path: Path, bank: PatchBank, page: Page) -> None:
    write_hits_page(str(tmp_path / "page.html"), bank, bank.search("dog", like="d-1", k=3), title="dog, like d-1")
    page.goto((tmp_path / "page.html").as_uri())
    expect(page.locator(".hit")).to_have_count(3)
    page.click(".hit .patch >> nth=0")
    image = page.locator("#viewer .whole img")
    expect(image).to_be_visible()
    assert str(image.get_attribute("src")).startswith("data:image/webp")


def _redness(picture: Image.Image, concept: str | None) -> np.ndarray:
    """A detector for tests."""
    return np.array([np.asarray(picture)[..., 0].mean() / 255, 0.5, 0, 0], np.float32)


def _word(text: str) -> np.ndarray:
    """An encoder of texts for tests."""
    return np.array([1.0, 0.5, 0, 0], np.float32)


@pytest.fixture(scope="module")
def address(bank: PatchBank) -> Iterator[str]:
    """Where the bank is served."""
    yield from _served(bank)


@pytest.fixture(scope="module")
def address_of_words(bank: PatchBank) -> Iterator[str]:
    """Where the bank is served that is also asked in words."""
    yield from _served(bank, Texts(lambda: _word))


def _served(bank: PatchBank, texts: Texts | None = None) -> Iterator[str]:
    pictures = Pictures(lambda: _redness, PictureLimits(file_bytes=10_000))
    server = make_server(bank, "127.0.0.1", 0, max_k=6, pictures=pictures, texts=texts)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)


def test_the_served_page_draws_asks_and_finds_what_is_alike(address: str, page: Page) -> None:
    page.goto(address)
    expect(page.locator("#concept-0 .patch img")).to_have_count(6)
    page.fill("[name=concept]", "puppy")
    page.fill("[name=context]", "hot air balloon")
    page.click("#ask button")
    expect(page.locator("#answer h2")).to_have_text("puppy, with hot air balloon")
    expect(page.locator("#answer .patch img")).to_have_count(6)
    page.click("#answer .patch >> nth=2")
    expect(page.locator("#viewer .whole img")).to_be_visible()
    page.click("#viewer >> text=More like this")
    expect(page.locator("#answer h2")).to_have_text("Like d-2")
    expect(page.locator("#answer figcaption >> nth=0")).to_have_text("dog 1.000")
    page.fill("[name=context]", "")
    page.fill("[name=concept]", "boat")
    page.keyboard.press("Enter")
    expect(page.locator("#answer p")).to_have_text("The bank has no such patch.")
    expect(page.locator("#ask")).to_be_in_viewport()


def test_an_answer_of_the_served_page_can_be_linked(address: str, page: Page) -> None:
    page.goto(address)
    assert page.locator("[type=search]").count() == 1
    page.fill("[name=concept]", "puppy")
    page.fill("[name=context]", "hot air balloon")
    page.click("#ask button")
    assert page.url == f"{address}?concept=puppy&context=hot+air+balloon"
    page.click("#answer .patch >> nth=2")
    page.click("#viewer >> text=More like this")
    expect(page.locator("#answer h2")).to_have_text("Like d-2")
    assert page.url == f"{address}?like=d-2"
    page.go_back()
    expect(page.locator("#answer h2")).to_have_text("puppy, with hot air balloon")
    assert page.input_value("[name=context]") == "hot air balloon"
    page.goto(f"{address}?concept=dog&like=d-2")
    expect(page.locator("#answer h2")).to_have_text("dog, like d-2")
    expect(page.locator("#answer figcaption >> nth=0")).to_have_text("dog 1.000")
    assert page.input_value("[name=concept]") == "dog"
    page.fill("[name=concept]", "")
    page.fill("[name=context]", "")
    page.keyboard.press("Enter")
    expect(page.locator("#answer h2")).to_have_count(0)
    assert page.url == address


def test_a_picture_is_searched_for(address: str, page: Page, tmp_path: Path) -> None:
    (tmp_path / "my photo.jpg").write_bytes(jpeg("red"))
    page.goto(address)
    page.set_input_files("#picture", tmp_path / "my photo.jpg")
    expect(page.locator("#answer h2")).to_have_text("Like your picture")
    expect(page.locator("#answer .patch img")).to_have_count(6)
    shown = page.locator("#answer .query img")
    expect(shown).to_be_visible()
    assert shown.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [40, 20]
    expect(page.locator("#answer .query")).to_contain_text("This answer has no link")
    expect(page.locator("#chosen")).to_contain_text("my photo.jpg")
    expect(page.locator("#ask")).to_be_in_viewport()
    assert page.url == address
    page.fill("[name=concept]", "puppy")
    page.click("#ask button >> text=Find")
    expect(page.locator("#answer h2")).to_have_text("puppy, like your picture")
    page.click("#answer .patch >> nth=0")
    page.click("#viewer >> text=More like this")
    expect(page.locator("#answer h2")).to_have_text(re.compile(r"^Like d-\d$"))
    expect(page.locator("#answer .query")).to_have_count(0)
    expect(page.locator("#chosen")).to_be_hidden()
    page.go_back()
    expect(page.locator("#answer h2")).to_have_text("puppy, like your picture")
    page.click("#chosen button")
    expect(page.locator("#answer h2")).to_have_text("puppy")
    page.go_back()
    page.go_back()
    expect(page.locator("#answer h2")).to_have_text("Like your picture")
    page.reload()
    expect(page.locator("#answer p")).to_have_text("The picture is no longer in this page. Choose it again.")


def test_what_is_wrong_with_a_picture_is_said_on_the_page(address: str, browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("no picture")
    (tmp_path / "large.jpg").write_bytes(jpeg("red").ljust(20_000, b"\0"))
    page = browser.new_page(viewport={"width": 400, "height": 800})
    page.goto(address)
    page.set_input_files("#picture", tmp_path / "notes.jpg")
    expect(page.locator("#answer .cards p")).to_contain_text("not usable as an image")
    page.set_input_files("#picture", tmp_path / "large.jpg")
    expect(page.locator("#answer .cards p")).to_contain_text("MiB, more than the 0.0 that the server takes")
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    page.close()


@pytest.mark.parametrize("width", [320, 400, 1280])
def test_a_bank_is_asked_in_words_on_pages_of_any_width(address_of_words: str, browser: Browser, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(address_of_words)
    page.fill("[name=text]", "a wet dog in snow")
    page.keyboard.press("Enter")
    expect(page.locator("#answer h2")).to_have_text("“a wet dog in snow”")
    expect(page.locator("#answer .patch img")).to_have_count(6)
    assert page.url == f"{address_of_words}?text=a+wet+dog+in+snow"
    assert page.evaluate("document.documentElement.scrollWidth") == width
    fields = [
        page.locator(f"#ask {name}")
        for name in ("[name=concept]", "[name=context]", "[name=text]", "button >> text=Find")
    ]
    boxes = [field.bounding_box() for field in fields]
    assert all(box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
    assert boxes[2] is not None
    assert boxes[2]["width"] >= min(width - 40, 700)  # a sentence needs the whole line
    # The form, which stays on top, does not cover the answer, once the page has scrolled to it.
    page.wait_for_function("""() => {
        const [form, title] = ["#ask", "#answer h2"].map(name => document.querySelector(name).getBoundingClientRect());
        return form.top >= 0 && form.bottom <= title.top && title.bottom < innerHeight;
    }""")
    page.fill("[name=concept]", "puppy")
    page.keyboard.press("Enter")
    expect(page.locator("#answer h2")).to_have_text("puppy, “a wet dog in snow”")
    page.reload()
    assert page.input_value("[name=text]") == "a wet dog in snow"
    page.close()


def test_a_served_page_tells_what_was_wrong_with_a_question(address: str, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(address)
    page.fill("[name=concept]", "dgo")
    page.click("#ask button")
    expect(page.locator("#answer p")).to_contain_text("no concept 'dgo' in this bank. Near: dog")
    page.close()


def test_samples_are_chosen_by_concept_and_patches_seen_in_their_image(page: Page, tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(jpeg("green", (100, 80)))
    patches = [
        BankPatch("p-red", "dog", jpeg("red"), str(photo)),
        BankPatch("p-blue", "kite", jpeg("blue"), "gone.jpg"),
    ]
    bank = make_bank(tmp_path / "bank", [["dog"], ["kite"]], patches)
    samples = [
        mixed("one", "a dog", [mention("a dog", "dog")], [patch("p-red", "dog", 0)]),
        mixed("two", "a kite", [mention("a kite", "kite")], [patch("p-blue", "kite", 0)]),
    ]
    write_samples_page(str(tmp_path / "page.html"), samples, bank, title="S")
    page.goto((tmp_path / "page.html").as_uri())
    rows = page.locator("ol.sentences > li:visible")
    expect(rows).to_have_count(2)
    page.click("#chips button >> text=kite")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("two")
    page.click("#chips button >> text=kite")
    expect(rows).to_have_count(2)
    page.click(".patch >> nth=0")
    whole = page.locator("#viewer .whole img")
    expect(whole).to_be_visible()
    assert whole.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [100, 80]
    rect = page.locator("#viewer rect")
    assert [rect.get_attribute(name) for name in ("x", "y", "width", "height")] == ["10", "20", "40", "20"]


def test_answers_are_filtered_by_verdict_and_words(tmp_path: Path, page: Page) -> None:
    train = write_json(tmp_path / "train.jsonl", lines())
    run = finetune(Vqa(), settings("none", [train], tags="none", epochs=10), str(tmp_path / "run"))
    write_answers_page(str(tmp_path / "page.html"), evaluate_run(run, "vqa"))
    page.goto((tmp_path / "page.html").as_uri())
    shown = page.locator(".asked:visible")
    right = page.locator(".asked[data-verdict=right]").count()
    assert 0 < right < 48
    page.get_by_role("button", name="right").click()
    expect(shown).to_have_count(right)
    page.get_by_role("button", name="all").click()
    page.get_by_role("searchbox").fill("PHOTO? yes")
    expect(shown).to_have_count(24)
    page.get_by_role("searchbox").fill("unheard-of")
    expect(shown).to_have_count(0)
    expect(page.get_by_text("No example fits.")).to_be_visible()
