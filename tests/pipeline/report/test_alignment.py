import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.model.world import CONCEPTS, FEATURE_DIM, SIDE, World, write_shards

from vlmixer.model.config import ModelConfig, Settings, TrainConfig
from vlmixer.model.embedding import ImageRegions
from vlmixer.model.training import train
from vlmixer.pipeline.report.alignment import MAX_REGIONS, colour_share, times_likelier, write_alignment_page


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alignment")
    shards = write_shards(str(folder / "shards"), [World().mixed(number) for number in range(20)])
    model = ModelConfig(layers=1, hidden_size=16, heads=2, feed_forward_size=32, projection_size=8, vocabulary_size=200)
    return train(Settings(model=model, train=TrainConfig(steps=1, workers=0)), shards, str(folder / "run"))


def test_the_page_shows_photos_with_their_regions_captions_and_words(run, tmp_path):
    names, images, captions = [], [], []
    for number in range(4):
        path = tmp_path / f"photo<{number}>.jpg"
        Image.new("RGB", (SIDE, SIDE)).save(path)
        scene = World().scene(number)
        names.append(str(path))
        tags = tuple(CONCEPTS[concept] for concept in scene.concepts)
        images.append(ImageRegions(scene.features, scene.boxes, SIDE, SIDE, tags))
        captions.append([scene.caption, f"Another & caption {number}"])
    nothing = ImageRegions(np.zeros((0, FEATURE_DIM), np.float16), np.zeros((0, 4), np.float32), SIDE, SIDE, ())
    features, boxes = (np.repeat(part, 4, axis=0) for part in (images[3].features, images[3].boxes))
    images[2:] = [nothing, ImageRegions(features, boxes, SIDE, SIDE, images[3].tags)]
    page = tmp_path / "page.html"
    write_alignment_page(str(page), run, names, images, captions, count=9)
    content = Path(page).read_text()
    # One without regions is not shown; of twelve regions the first are.
    shown = content.split('<section class="photo">')[1:]
    assert [re.findall(r"photo&lt;(\d)", section)[0] for section in shown] == ["0", "1", "3"]
    assert [section.count('<span style="left:25.0%;top:25.0%;width:50.0%') for section in shown] == [3, 3, MAX_REGIONS]
    for section, number in zip(shown, (0, 1, 3), strict=True):
        found = re.findall(r"<li( class=\"own\")?>(.*) \(([\d,]+(?:\.\d)?)\s×\)</li>", section)
        assert len(found) == 5
        times = [float(value.replace(",", "")) for _, _, value in found]
        assert times == sorted(times, reverse=True)
        rank = int(re.findall(r"first own caption at rank (\d)", section)[0])
        own = [place for place, (mark, _, _) in enumerate(found, 1) if mark]
        assert own[:1] == [rank] * (rank <= 5)
        words = re.findall(r"<tr><th>.*?>([\w'-]+)</label></th><td", section)
        assert words == list(dict.fromkeys(captions[number][0].lower().split()))
        assert section.count("<td ") == len(words) * section.count("<span style")
        cells = re.findall(r"<td [^>]*>([\d,]+(?:\.\d)?)\s×</td>", section)
        table = np.array([float(cell.replace(",", "")) for cell in cells]).reshape(len(words), -1)
        drawn = re.findall(
            r"<span [^>]*?;((?:--w\d+:\d\.\d\d;)+)\"><b style=\"[^\"]*\">(\d)<i> ([\w'-]+)</i></b>", section
        )
        assert [int(number) for _, number, _ in drawn] == list(range(1, table.shape[1] + 1))
        for column, (style, _, word) in zip(table.T, drawn, strict=True):
            assert column[words.index(word)] == column.max()
            shades = [float(value) for value in re.findall(r":(\d\.\d\d)", style)]
            assert shades == pytest.approx([0.8 * colour_share(value) for value in column], abs=0.03)
    assert "Another & caption" not in content


def test_how_many_times_likelier_is_shown_in_full_from_twenty_on():
    assert [colour_share(times) for times in (0.01, 1.0, 20.0, 400.0)] == [0.0, 0.0, 1.0, 1.0]
    assert colour_share(20.0**0.5) == pytest.approx(0.5)
    assert [times_likelier(times) for times in (0.04, 1.0, 9.94, 10.2, 1234.5)] == [
        "0.0\N{NO-BREAK SPACE}×", "1.0\N{NO-BREAK SPACE}×", "9.9\N{NO-BREAK SPACE}×", "10\N{NO-BREAK SPACE}×",
        "1,234\N{NO-BREAK SPACE}×",
    ]  # fmt: skip
