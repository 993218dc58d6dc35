import itertools

import numpy as np
import pytest

from vlmixer.model.scoring import (
    FoldScore,
    GroupScore,
    RetrievalReport,
    expected_hits,
    expected_ranks,
    fold_scores,
    group_scores,
    score_matrix,
    tag_overlap,
)


def brute_force(scores, right, cutoffs):
    """Mean over all orders of the gallery, sorted stably by score: rank and hits of the best right answer."""
    ranks, hits = [], []
    for order in itertools.permutations(range(len(scores))):
        ranking = sorted(order, key=lambda item: -scores[item])
        first = next(rank for rank, item in enumerate(ranking, 1) if right[item])
        ranks.append(first)
        hits.append([first <= cutoff for cutoff in cutoffs])
    return np.mean(ranks), np.mean(hits, axis=0)


CASES = [
    ([3, 2, 1, 0, 0], [0, 1, 0, 0, 0]),
    ([1, 1, 1, 1, 1], [0, 0, 1, 0, 0]),
    ([1, 1, 1, 1, 1], [1, 0, 1, 0, 0]),
    ([5, 2, 2, 2, 0], [0, 1, 0, 1, 1]),
    ([5, 5, 2, 2, 2], [0, 0, 1, 0, 0]),
    ([0, 0, 0, 0, 9], [1, 1, 1, 1, 0]),
    ([4, 4, 1, 1, 1], [1, 1, 1, 1, 1]),
]


@pytest.mark.parametrize(("scores", "right"), CASES)
def test_ties_count_as_the_mean_over_all_orders(scores, right):
    row, truth = np.array([scores], float), np.array([right], bool)
    rank, hits = brute_force(scores, right, (1, 2, 3, 5))
    assert expected_ranks(row, truth).tolist() == pytest.approx([rank])
    assert expected_hits(row, truth, (1, 2, 3, 5))[0].tolist() == pytest.approx(hits.tolist())


def test_queries_of_different_ties_are_scored_together():
    scores = np.array([case[0] for case in CASES], float)
    right = np.array([case[1] for case in CASES], bool)
    together = expected_hits(scores, right, (1, 2, 3))
    alone = [expected_hits(scores[[row]], right[[row]], (1, 2, 3))[0] for row in range(len(CASES))]
    assert np.allclose(together, alone)


def test_images_without_captions_are_in_the_gallery_but_ask_nothing():
    scores = np.array([[3, 2, 1.0], [1, 3, 2.0]])
    owner = np.array([0, 2])
    first, second = (score_matrix("m", scores, scores, owner, text_first, 10, 0) for text_first in (True, False))
    assert first.recall[1].value == 50
    assert second.recall[1].value == 100
    assert second.median_rank.value == 1


def test_chance_is_the_cutoffs_share_of_the_gallery():
    score = score_matrix("chance", np.zeros((40, 20)), np.zeros((40, 20)), np.repeat(np.arange(20), 2), True, 10, 0)
    assert [score.recall[k].value for k in (1, 5, 10)] == pytest.approx([5, 25, 50])
    assert score.median_rank.value == 10.5
    assert score.log2_rank.value == pytest.approx(np.log2(10.5))


# Two images with two captions each: captions 0 and 1 belong to image 0, captions 2 and 3 to image 1.
OWNER = np.array([0, 0, 1, 1])
SCORES = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.4], [0.1, 0.7]])


def test_text_to_image_asks_for_each_captions_own_image():
    score = score_matrix("x", SCORES, SCORES, OWNER, True, 10, 0)
    assert (score.direction, score.recall[1].value, score.recall[5].value) == ("text to image", 75, 100)
    assert score.median_rank.value == 1


def test_image_to_text_asks_for_any_of_the_images_captions():
    score = score_matrix("x", SCORES, SCORES, OWNER, False, 10, 0)
    # Image 0 ranks its caption 0 first; image 1 has caption 1, of image 0, before its own.
    assert (score.direction, score.recall[1].value, score.recall[5].value) == ("image to text", 50, 100)
    assert score.median_rank.value == 1.5


def test_the_bootstrap_is_the_same_for_the_same_seed_and_brackets_the_value():
    scores = np.random.default_rng(0).normal(size=(60, 30))
    owner = np.repeat(np.arange(30), 2)
    one, again, other = (score_matrix("x", scores, scores, owner, True, 200, seed) for seed in (0, 0, 1))
    assert one == again
    assert one != other
    for estimate in (*one.recall.values(), one.median_rank, one.log2_rank):
        assert estimate.low <= estimate.value <= estimate.high
    assert one.recall[10].low < one.recall[10].high


def test_captions_of_one_image_are_drawn_together():
    # All captions of image 0 fail and all others succeed, so a draw scores 100 or less by whole images.
    scores = np.eye(4).repeat(5, axis=0)
    scores[:5] = [0, 1, 1, 1]
    score = score_matrix("x", scores, scores, np.repeat(np.arange(4), 5), True, 500, 0)
    assert (score.recall[1].value, score.recall[1].low, score.recall[1].high) == (75, 25, 100)


def test_the_lead_over_tag_overlap_is_taken_on_the_same_draws():
    owner = np.arange(20)
    overlap = np.random.default_rng(0).normal(size=(20, 20))
    better = overlap.copy()
    better[3:7, 3:7] += 99 * np.eye(4)
    one, same = (score_matrix("x", scores, overlap, owner, True, 300, 0) for scores in (better, overlap))
    assert (same.ahead.value, same.ahead.low, same.ahead.high) == (0, 0, 0)
    plain = score_matrix("overlap", overlap, overlap, owner, True, 300, 0)
    assert one.ahead.value == pytest.approx(one.recall[10].value - plain.recall[10].value)
    # Nowhere worse, so in no draw: the interval of the difference says so, where those of the two overlap.
    assert 0 <= one.ahead.low <= one.ahead.value <= one.ahead.high
    assert plain.recall[10].high > one.recall[10].low


def test_tag_overlap_weighs_rare_tags_more():
    images = [{"dog", "person"}, {"person"}, {"kite", "person"}, {"dog"}]
    overlap = tag_overlap([{"dog", "person"}, {"kite", "unicorn"}, set()], images)
    dog, person, kite = np.log(4 / 2), np.log(4 / 3), np.log(4 / 1)
    assert overlap.tolist() == [
        pytest.approx([dog + person, person, person, dog]),
        pytest.approx([0, 0, kite, 0]),
        [0, 0, 0, 0],
    ]


def test_tag_overlap_of_images_without_any_tag_is_zero():
    assert tag_overlap([{"dog"}], [set(), set()]).tolist() == [[0, 0]]


def test_the_table_and_the_json_hold_every_score():
    scores = tuple(score_matrix("x", SCORES, SCORES, OWNER, first, 10, 0) for first in (True, False))
    report = RetrievalReport(2, 4, scores)
    table = report.to_table()
    assert [line.split()[:1] for line in table.splitlines() if line.startswith("x")] == [["x"], ["x"]]
    assert "75.0 ±" in table
    assert report.to_json()["scores"][0]["recall"][1]["value"] == 75
    assert report.score("x", "image to text") is scores[1]
    with pytest.raises(KeyError):
        report.score("y")


def test_a_concepts_captions_are_scored_among_all_images():
    # 12 images of one caption each; the captions of the even ones find theirs, the others rank it last.
    scores = np.where(np.arange(12)[:, None] % 2 == 0, np.eye(12), -np.eye(12))
    concepts = [{"dog"}, {"dog"}, {"cat"}, {"kite"}, {"cat", "dog"}, set(), set(), *({"kite"} for _ in range(5))]
    groups = group_scores(scores, np.zeros((12, 12)), np.arange(12), concepts)
    assert [(group.concept, group.captions) for group in groups] == [("kite", 6), ("dog", 3), ("cat", 2), (None, 2)]
    assert [group.regions for group in groups] == pytest.approx([100 / 3, 200 / 3, 100, 50])
    assert [group.tag_overlap for group in groups] == pytest.approx([1000 / 12] * 4)
    text = RetrievalReport(12, 12, (), groups=(*groups, GroupScore("bear", 1, 0.0, 0.0))).to_table()
    assert "captions without a concept" in text
    assert text.endswith("never found: bear")


def test_a_long_list_is_also_scored_by_folds(monkeypatch):
    monkeypatch.setattr("vlmixer.model.scoring.FOLDS", (2, 5))
    # Images 0 to 4, a caption each; caption 3 takes image 2 for its own, caption 1 image 4, which is in another fold.
    scores = np.eye(5)
    scores[3, 2] = scores[1, 4] = 2
    found = {(fold.size, fold.direction): fold for fold in fold_scores({"x": scores}, np.arange(5))}
    assert found[2, "text to image"] == FoldScore(2, 2, "x", "text to image", {1: 75, 5: 100, 10: 100})
    assert found[5, "text to image"].recall[1] == 60
    assert found[5, "image to text"].folds == 1
    assert not fold_scores({"x": np.eye(1)}, np.arange(1))
