from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from vlmixer.artifacts.rng import uniforms
from vlmixer.artifacts.samples import Mention
from vlmixer.artifacts.schemas import PATCHES, PROVENANCE
from vlmixer.bank.records import ConceptPatches
from vlmixer.pipeline.mix.cutmix import CONTEXT_WEIGHT, choose_mentions, draw, mix, patch_weights
from vlmixer.pipeline.mix.settings import CutMixSettings

NAMES = ["dog", "kite", "car", "unicorn", "tree", "teddy bear"]
PLAIN = CutMixSettings(sampler="uniform", patches_per_plural=None)


def patches(concept, contexts, scores=None, images=None, first=0):
    scores = scores or [0.5] * len(contexts)
    images = images or [f"i{row}" for row in range(len(contexts))]
    rows = [
        {"patch_id": f"{concept}-{row}", "image_id": images[row], "concept_id": 0, "score": scores[row],
         "box": [0.0, 0.0, 1.0, 1.0], "width": 9, "height": 9, **dict.fromkeys(PROVENANCE, ""), "source": "a.jpg",
         "context": [NAMES.index(name) for name in context], "crop_start": 0, "crop_bytes": 0}
        for row, context in enumerate(contexts)
    ]  # fmt: skip
    return ConceptPatches(concept, first, pa.Table.from_pylist(rows, schema=PATCHES), NAMES)


def mention(surface, start=0, concept=None, lemma=None):
    return Mention(start, start + len(surface), concept or surface, surface, lemma or concept or surface)


BANK = {
    "dog": patches("dog", [(), ("kite",), (), ("kite", "car")]),
    "kite": patches("kite", [("dog",)], first=4),
    "teddy bear": patches("teddy bear", [(), ()], first=5),
    "unicorn": patches("unicorn", []),
}


def made(*mentions, seed=0, bank=BANK, **settings):
    given = [mention(entry) if isinstance(entry, str) else entry for entry in mentions]
    return mix(given, bank.__getitem__, replace(PLAIN, **settings), uniforms(seed))


def mixed(*mentions, **settings):
    return [(paste.patch.mention, paste.patch.patch_id) for paste in made(*mentions, **settings).pasted]


def replaced(*mentions, **settings):
    return {index for index, verdict in enumerate(made(*mentions, **settings).verdicts) if verdict.replaced}


def chosen(candidates, seed=0, **settings):
    verdicts = choose_mentions(candidates, replace(PLAIN, **settings), uniforms(seed, "test"))
    return [index for index in candidates if verdicts[index].replaced]


@pytest.mark.parametrize("seed", range(20))
def test_probability_one_replaces_all_and_zero_the_least_that_is_asked_for(seed):
    assert chosen([0, 2, 5], seed, replace_probability=1.0, min_replaced=0) == [0, 2, 5]
    assert chosen([0, 2, 5], seed, replace_probability=0.0, min_replaced=0) == []
    assert len(chosen([0, 2, 5], seed, replace_probability=0.0, min_replaced=2)) == 2
    assert chosen([0, 2, 5], seed, replace_probability=0.0, min_replaced=9) == [0, 2, 5]
    assert chosen([], seed, replace_probability=1.0) == []


def test_each_mention_is_replaced_with_the_probability():
    counts = Counter(
        i for seed in range(4000) for i in chosen([0, 1, 2], seed, replace_probability=0.3, min_replaced=0)
    )
    assert all(abs(counts[index] / 4000 - 0.3) < 0.03 for index in range(3))


def test_what_is_missing_is_drawn_evenly():
    counts = Counter(index for seed in range(3000) for index in chosen([0, 1, 2], seed, replace_probability=0.0))
    assert all(abs(counts[index] / 3000 - 1 / 3) < 0.03 for index in range(3))


def test_at_most_max_replaced_and_those_drawn_evenly():
    counts: Counter[int] = Counter()
    for seed in range(3000):
        found = chosen([1, 3, 4, 8], seed, replace_probability=1.0, max_replaced=2)
        assert len(found) == 2
        counts.update(found)
    assert all(abs(counts[index] / 3000 - 0.5) < 0.04 for index in (1, 3, 4, 8))


def test_why_a_mention_is_replaced_or_not():
    verdicts = choose_mentions([0, 1, 2], replace(PLAIN, replace_probability=0.5, max_replaced=1), uniforms(3))
    for verdict in verdicts.values():
        assert verdict.draw is not None
        if verdict.reason in ("drawn", "over_limit"):
            assert verdict.draw < 0.5
        else:
            assert verdict.draw >= 0.5
    assert made("unicorn", "dog", replace_probability=1.0).verdicts[0].reason == "lacking"
    reasons = [verdict.reason for verdict in made("dog", "dog", "dog", replace_probability=0.0).verdicts]
    assert sorted(reasons) == ["filled", "not_drawn", "not_drawn"]
    reasons = [verdict.reason for verdict in made("dog", "dog", replace_probability=1.0, max_replaced=1).verdicts]
    assert sorted(reasons) == ["drawn", "over_limit"]


def test_the_same_seed_chooses_and_draws_the_same():
    assert [chosen(list(range(8)), seed) for seed in range(3)] == [[0, 1, 2, 3, 4, 5, 6], [0, 2, 3], [0, 3, 5, 6]]
    assert draw(np.array([1.0, 11, 1, 11]), 3, uniforms(0)) == [1, 3, 2]
    runs = [mixed("dog", "kite", "dog", seed=seed) for seed in range(30)]
    assert runs == [mixed("dog", "kite", "dog", seed=seed) for seed in range(30)]
    assert len({tuple(run) for run in runs}) > 5


def test_each_choice_takes_the_next_number():
    """Chances of both mentions, which one is filled up, the patch by weight, whether patches serve alone."""
    numbers = iter([0.6, 0.9, 0.5, 11.9 / 12, 0.3])
    found = mix([mention("dog"), mention("kite", 9)], BANK.__getitem__, CutMixSettings(patches_only=0.4), numbers)
    assert [(verdict.reason, verdict.draw) for verdict in found.verdicts] == [("not_drawn", 0.6), ("filled", 0.9)]
    assert [(paste.row, paste.patch.patch_id) for paste in found.pasted] == [(4, "kite-0")]
    assert found.patches_only
    assert list(numbers) == []


def test_what_was_drawn_is_not_put_back():
    weights = np.array([1.0, 2, 1])
    assert draw(weights, 3, iter([0.3, 0.6, 0.0])) == [1, 2, 0]
    assert draw(weights, 1, iter([0.2499])) == [0]
    assert draw(weights, 1, iter([0.25]), np.cumsum(weights)) == [1]
    assert draw(weights, 1, iter([1 - 2.0**-53])) == [2]
    assert weights.tolist() == [1, 2, 1]


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_no_patch_is_drawn_twice_and_fewer_where_there_are_fewer(count):
    for seed in range(50):
        places = draw(np.array([1.0, 11, 1, 11]), count, uniforms(seed))
        assert len(places) == len(set(places)) == min(count, 4)


@pytest.mark.parametrize("count", [1, 2])
def test_the_first_place_is_drawn_by_weight(count):
    weights = np.array([4.0, 2, 1, 1])
    counts = Counter(draw(weights, count, uniforms(seed))[0] for seed in range(6000))
    assert [counts[place] / 6000 for place in range(4)] == pytest.approx((weights / 8).tolist(), abs=0.02)


def test_uniform_weighs_all_alike_score_by_the_score():
    found = patches("dog", [("kite",), (), ()], [0.9, 0.1, 0.0])
    assert patch_weights(found, "uniform", frozenset({"kite"})).tolist() == [1, 1, 1]
    assert patch_weights(found, "score", frozenset({"kite"})) == pytest.approx([0.9, 0.1, 0], abs=1e-5)
    assert patch_weights(found, "score", frozenset()).min() > 0


def test_context_prefers_images_that_hold_more_of_the_sentence():
    found = patches("dog", [(), ("kite",), ("car",), ("kite", "tree")])
    weights = patch_weights(found, "context", frozenset({"kite", "tree", "moon"}))
    assert weights.tolist() == [1, 1 + CONTEXT_WEIGHT, 1, 1 + 2 * CONTEXT_WEIGHT]
    assert patch_weights(found, "context", frozenset({"moon"})).tolist() == [1, 1, 1, 1]


def test_the_context_of_a_mention_is_the_other_concepts_of_the_sentence():
    def share(*concepts):
        runs = (dict(mixed(*concepts, seed=s, replace_probability=1.0, sampler="context")) for s in range(2000))
        counts = Counter(run[0] for run in runs)
        return (counts["dog-1"] + counts["dog-3"]) / 2000

    assert share("dog", "kite") == pytest.approx(22 / 24, abs=0.03)
    assert share("dog", "dog") == pytest.approx(0.5, abs=0.04)


def test_a_mention_without_patches_is_never_replaced():
    for seed in range(100):
        assert replaced("unicorn", "dog", "unicorn", seed=seed, min_replaced=3) == {1}


def test_nothing_to_replace_gives_nothing():
    assert mixed("unicorn", replace_probability=1.0) == []
    assert mixed(replace_probability=1.0) == []
    assert mixed("dog", replace_probability=0.0, min_replaced=0) == []


def test_patches_are_of_the_concept_of_their_mention_in_the_order_of_mentions():
    for seed in range(50):
        result = made("kite", "dog", "unicorn", "dog", seed=seed, replace_probability=1.0, patches_per_word=2)
        found = [(paste.patch.mention, paste.patch.concept) for paste in result.pasted]
        assert found == [(0, "kite"), (1, "dog"), (1, "dog"), (3, "dog"), (3, "dog")]
        rows = [paste.row for paste in result.pasted]
        assert rows[0] == 4
        assert rows[1] != rows[2]
        assert rows[3] != rows[4]
        assert [paste.patch.patch_id for paste in result.pasted[1:]] == [f"dog-{row}" for row in rows[1:]]


def test_a_plural_may_get_several_patches():
    dogs, dog = mention("dogs", concept="dog"), mention("dog")
    counts = Counter(index for index, _ in mixed(dogs, dog, replace_probability=1.0, patches_per_plural=3))
    assert counts == {0: 3, 1: 1}
    for plural, expected in ((None, 2), (1, 2), (3, 3)):
        asked = {"replace_probability": 1.0, "patches_per_word": 2, "patches_per_plural": plural}
        assert Counter(index for index, _ in mixed(dogs, dog, **asked)) == {0: expected, 1: 2}


def test_a_phrase_gives_way_as_a_whole_or_by_its_head_or_not_at_all():
    bear = mention("big teddy bear", 4, "teddy bear")
    whole = made(bear, "dog", replace_probability=1.0)
    assert whole.mentions[0] == bear
    head = made(bear, "dog", replace_probability=1.0, phrases="head")
    assert head.mentions[0] == Mention(14, 18, "teddy bear", "bear", "teddy bear")
    assert head.mentions[1] == mention("dog")
    assert [paste.patch.concept for paste in head.pasted] == ["teddy bear", "dog"]
    kept = made(bear, "dog", replace_probability=1.0, phrases="keep")
    assert kept.verdicts[0].reason == "phrase"
    assert [paste.patch.mention for paste in kept.pasted] == [1]


def test_a_phrase_that_stays_is_not_narrowed():
    bear = mention("teddy bear")
    assert made(bear, replace_probability=0.0, min_replaced=0, phrases="head").mentions == (bear,)


def test_all_patches_from_one_image_that_shows_as_much_as_possible():
    bank = {
        "dog": patches("dog", [()] * 4, images=["a", "b", "c", "c"]),
        "kite": patches("kite", [()] * 3, images=["c", "d", "b"], first=4),
        "car": patches("car", [()], images=["d"], first=7),
    }
    images: Counter[str] = Counter()
    for seed in range(400):
        result = made("dog", "kite", "car", seed=seed, bank=bank, replace_probability=1.0, one_image=True)
        of = {paste.patch.image_id for paste in result.pasted}
        assert len(of) == 1
        images.update(of)
        shown = {"b": {0, 1}, "c": {0, 1}, "d": {1, 2}}[of.pop()]
        assert {index for index, verdict in enumerate(result.verdicts) if verdict.replaced} == shown
        assert {paste.patch.mention for paste in result.pasted} == shown
        assert all(result.verdicts[index].reason == "other_image" for index in {0, 1, 2} - shown)
    assert set(images) == {"b", "c", "d"}
    apart = [{p.patch.image_id for p in made("dog", "kite", seed=s, bank=bank, replace_probability=1.0).pasted}
             for s in range(50)]  # fmt: skip
    assert any(len(of) == 2 for of in apart)


def test_one_image_gives_as_many_patches_as_it_has_and_follows_the_sampler():
    bank = {"dog": patches("dog", [()] * 3, [0.01, 0.9, 0.9], images=["a", "b", "b"])}
    found = [
        mixed("dog", seed=seed, bank=bank, one_image=True, sampler="score", patches_per_word=3) for seed in range(300)
    ]
    assert {tuple(sorted(id for _, id in run)) for run in found} == {("dog-0",), ("dog-1", "dog-2")}
    assert sum(len(run) == 1 for run in found) < 15


def test_the_share_of_samples_that_serve_a_patches_only_view():
    def share(of, **settings):
        return sum(made("dog", seed=seed, patches_only=of, **settings).patches_only for seed in range(1000)) / 1000

    assert share(1.0) == 1
    assert share(0.0) == 0
    assert share(0.3) == pytest.approx(0.3, abs=0.05)
    assert share(1.0, replace_probability=0.0, min_replaced=0) == 0


def test_the_share_changes_nothing_else():
    assert mixed("dog", "kite", patches_only=0.0) == mixed("dog", "kite", patches_only=1.0)
