"""The page of a fine-tuned run's answers."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.model.tasks.toy import lines, settings, write_json, write_regions

from vlmixer.model.finetuning import finetune
from vlmixer.model.tasks.evaluation import evaluate_run
from vlmixer.model.tasks.vqa import Vqa
from vlmixer.pipeline.report.answers import verdict_of, write_answers_page


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A run that looks: it answers what is in the photo by the first region, and half of the files' answers differ."""
    folder = tmp_path_factory.mktemp("answers")
    (folder / "photos").mkdir()
    for photo in range(0, 24, 2):  # the files of the others are gone
        Image.new("RGB", (100, 80), "green").save(folder / "photos" / f"{photo}.jpg")
    regions = write_regions(folder / "regions", name=lambda photo: f"{folder}/photos/{photo}.jpg")
    train = write_json(folder / "train.jsonl", lines())
    asked = settings(regions, [train], tags="none", epochs=40, learning_rate=5e-3)
    run = finetune(Vqa(), asked, str(folder / "run"))
    wrong = [{**line, "answer": "a <b>"} if line["question_id"] % 8 == 0 else line for line in lines()]
    return evaluate_run(run, "vqa", [write_json(folder / "test.jsonl", wrong)])


def test_the_page_shows_photo_question_answer_and_the_region_that_mattered(scored, tmp_path):
    page = tmp_path / "page.html"
    write_answers_page(str(page), scored, count=100)
    content = Path(page).read_text()
    sections = content.split('<section class="asked" ')[1:]
    assert len(sections) == 48
    verdicts = [re.findall(r'^data-verdict="(\w+)"', section)[0] for section in sections]
    assert (verdicts.count("right"), verdicts.count("wrong")) == (42, 6)
    assert '<button type="button" data-verdict="wrong" aria-pressed="false">wrong <small>6</small>' in content
    assert "a &lt;b&gt;" in content
    mattered = []
    for section in sections:
        drawn = re.findall(r'title="(\w+): ([\d.]+) points" style="left:10.0%;top:25.0%;width:40.0%', section)
        if "what is in it?" in section:  # the first region shows it
            ((concept, points),) = drawn
            assert re.findall(r'<p class="said \w+">(\w+) ', section) == [concept]
            mattered.append(float(points))
        else:
            assert not drawn
    assert np.median(mattered) > 20


def test_a_photo_whose_file_is_gone_is_drawn_from_its_regions(scored, tmp_path):
    page = tmp_path / "page.html"
    write_answers_page(str(page), scored, count=48)
    assert Path(page).read_text().count('<img src="data:image/jpeg;base64,') == 48


def test_the_drawn_examples_depend_on_the_seed_alone(scored, tmp_path):
    pages = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_answers_page(str(tmp_path / name), scored, count=5, seed=seed)
        pages.append(Path(tmp_path, name).read_bytes())
    assert pages[0] == pages[1] != pages[2]
    assert pages[0].count(b'<section class="asked"') == 5


def test_verdicts():
    assert [verdict_of(value, 0.5, 0.0) for value in (None, 0.0, 0.3, 0.5, 1.0)] == [
        "unknown", "wrong", "partly", "right", "right",
    ]  # fmt: skip
    assert [verdict_of(value, None, 2.0) for value in (None, 1.9, 2.0)] == ["unknown", "worse", "better"]


def test_without_the_region_the_answer_is_less_likely(scored):
    """What `mattered` says is the difference of two evaluations."""
    tuned, photos = scored.tuned, scored.photos
    number = photos.number("0.jpg")
    example = next(one for one in scored.examples.examples if one.key == "0")
    photo = photos.read([number], 6)[number]
    (whole,) = tuned.task.encode(tuned.setup, [example], [[photo]], training=False)
    (lost,) = tuned.task.mattered(tuned.setup, tuned.network, whole, "dog")
    less = type(photo)(photo.features[1:], photo.boxes[1:], 100, 80, photo.concepts[1:], photo.tags)
    (without,) = tuned.task.encode(tuned.setup, [example], [[less]], training=False)
    answers = tuned.task.predict(tuned.setup, tuned.network, iter([(0, [whole, without])]))
    assert lost.shape == (2,)
    assert answers[0].answer == "dog"
    if answers[1].answer == "dog":
        assert np.isclose(lost[0], answers[0].confidence - answers[1].confidence, atol=1e-6)
    else:
        assert lost[0] >= answers[0].confidence - answers[1].confidence
