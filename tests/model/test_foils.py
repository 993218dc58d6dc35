import numpy as np
import pytest
import torch
from tests.model.world import CONCEPTS, SIDE, World

from vlmixer.artifacts.errors import UserError
from vlmixer.model.checkpoint import load_run
from vlmixer.model.embedding import ImageRegions
from vlmixer.model.foils import FoilCase, FoilReport, FoilScore, _first, foils, text_likelihoods
from vlmixer.model.padding import pad
from vlmixer.model.views import no_regions, text_view


def image(scene):
    return ImageRegions(scene.features, scene.boxes, SIDE, SIDE, tuple(CONCEPTS[number] for number in scene.concepts))


@pytest.mark.parametrize(
    ("scores", "won"), [([2, 1, 0], 1.0), ([1, 2], 0.0), ([1, 1], 0.5), ([3, 3, 3, 1], 1 / 3), ([0, 1, 1], 0.0)]
)
def test_a_tie_at_the_top_counts_as_its_share(scores, won):
    assert _first(np.array(scores)) == pytest.approx(won)


def test_kinds_are_scored_apart_and_together(straight):
    scenes = [World().scene(number) for number in range(6)]
    images = {str(number): image(scene) for number, scene in enumerate(scenes)}
    cases = [
        FoilCase(
            str(n),
            scene.caption,
            (scenes[n - 1].caption, scenes[n - 2].caption)[: 1 + n % 2],
            "odd" if n % 2 else "even",
        )
        for n, scene in enumerate(scenes)
    ]
    report = foils(straight, images, cases)
    assert [(score.kind, score.cases, score.chance) for score in report.scores] == [
        ("even", 3, 50), ("odd", 3, pytest.approx(100 / 3)), ("all", 6, pytest.approx(125 / 3))
    ]  # fmt: skip
    even, odd, together = report.scores
    for name in ("regions", "regions_and_tags", "text_only"):
        assert getattr(together, name) == pytest.approx((getattr(even, name) + getattr(odd, name)) / 2)
    assert len(report.to_table().splitlines()) == 4


def test_a_caption_equal_to_its_foil_is_a_tie(straight):
    scene = World().scene(0)
    (score,) = foils(straight, {"a": image(scene)}, [FoilCase("a", scene.caption, (scene.caption,), "x")]).scores
    assert score == FoilScore("x", 1, 50, 50, 50, 50)
    assert FoilReport((score,)).to_json()["scores"][0]["regions"] == 50


def test_the_likelihood_of_a_text_masks_each_piece_in_turn(straight):
    network, tokenizer, settings = load_run(straight)
    text = World().scene(0).caption
    (pieces,) = tokenizer.encode([text])
    view = text_view(pieces, tokenizer, 64, no_regions(settings.model.feature_dim or 0))
    expected = []
    with torch.no_grad():
        for item in range(1, len(view.ids) - 1):
            batch = pad([view])
            batch.ids[0, item] = tokenizer.mask
            logits = network.words(network.bert(batch), torch.tensor([[0, item]]))
            expected.append(logits.log_softmax(-1)[0, view.ids[item]].item())
    found = text_likelihoods(network, tokenizer, settings.model, [text, ""])
    assert found.tolist() == pytest.approx([np.mean(expected), 0.0], rel=1e-5)


def test_without_a_case_there_is_nothing_to_measure(straight):
    with pytest.raises(UserError, match="No case"):
        foils(straight, {}, [])
