from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from artifacts.rng import generator
from artifacts.samples import Mention
from artifacts.schemas import PATCHES, PROVENANCE
from bank.store import ConceptPatches
from pipeline.mix.cutmix import CONTEXT_WEIGHT, choose_mentions, draw_patches, mix

NAMES = ["dog", "kite", "car", "unicorn", "tree"]


def patches(concept, contexts, scores=None):
    scores = scores or [0.5] * len(contexts)
    rows = [
        {"patch_id": f"{concept}-{row}", "image_id": f"i{row}", "concept_id": 0, "score": scores[row],
         "box": [0.0, 0.0, 1.0, 1.0], "width": 9, "height": 9, **dict.fromkeys(PROVENANCE, ""), "source": "a.jpg",
         "context": [NAMES.index(name) for name in context], "crop_start": 0, "crop_bytes": 0}
        for row, context in enumerate(contexts)
    ]  # fmt: skip
    return ConceptPatches(concept, 0, pa.Table.from_pylist(rows, schema=PATCHES), NAMES)


def mention(concept, start=0):
    return Mention(start, start + len(concept), concept, concept, concept)


BANK = {
    "dog": patches("dog", [(), ("kite",), (), ("kite", "car")]),
    "kite": patches("kite", [("dog",)]),
    "unicorn": patches("unicorn", []),
}


def mixed(*concepts, seed=0, **options):
    settings = {"replace_probability": 0.5, "patches_per_word": 1, "sampler": "uniform", "min_replaced": 1} | options
    pasted = mix([mention(concept) for concept in concepts], BANK.__getitem__, rng=generator(seed), **settings)
    return [(paste.mention, paste.patch.patch_id) for paste in pasted]


def rng(seed=0):
    return generator(seed, "test")


@pytest.mark.parametrize("seed", range(20))
def test_probability_one_replaces_all_and_zero_the_least_that_is_asked_for(seed):
    assert choose_mentions([0, 2, 5], 1.0, 0, rng(seed)) == [0, 2, 5]
    assert choose_mentions([0, 2, 5], 0.0, 0, rng(seed)) == []
    assert len(choose_mentions([0, 2, 5], 0.0, 2, rng(seed))) == 2
    assert choose_mentions([0, 2, 5], 0.0, 9, rng(seed)) == [0, 2, 5]
    assert choose_mentions([], 1.0, 1, rng(seed)) == []


def test_at_least_min_replaced_ascending_and_none_twice():
    for seed in range(200):
        chosen = choose_mentions([1, 3, 4, 8], 0.3, 2, rng(seed))
        assert len(chosen) >= 2
        assert chosen == sorted(set(chosen))
        assert set(chosen) <= {1, 3, 4, 8}


def test_each_mention_is_replaced_with_the_probability():
    counts = Counter(index for seed in range(4000) for index in choose_mentions([0, 1, 2], 0.3, 0, rng(seed)))
    assert all(abs(counts[index] / 4000 - 0.3) < 0.03 for index in range(3))


def test_what_is_missing_is_drawn_evenly():
    counts = Counter(index for seed in range(3000) for index in choose_mentions([0, 1, 2], 0.0, 1, rng(seed)))
    assert all(abs(counts[index] / 3000 - 1 / 3) < 0.03 for index in range(3))


def test_the_same_seed_chooses_the_same():
    chosen = [choose_mentions(list(range(8)), 0.5, 1, rng(seed)) for seed in range(3)]
    assert chosen == [[1, 2, 5, 7], [6], [0, 1, 4, 5, 6, 7]]
    drawn = [record.row for record in draw_patches(BANK["dog"], 3, "context", frozenset({"kite"}), rng())]
    assert drawn == [3, 1, 2]


@pytest.mark.parametrize("sampler", ["uniform", "score", "context"])
def test_no_patch_is_drawn_twice_and_fewer_where_there_are_fewer(sampler):
    for seed in range(50):
        for count in (1, 3, 4, 9):
            rows = [record.row for record in draw_patches(BANK["dog"], count, sampler, frozenset({"kite"}), rng(seed))]
            assert len(rows) == len(set(rows)) == min(count, 4)
    assert len(draw_patches(BANK["kite"], 5, sampler, frozenset(), rng())) == 1


def shares(found, sampler, others=frozenset(), draws=6000):
    counts = Counter(draw_patches(found, 1, sampler, others, rng(seed))[0].row for seed in range(draws))
    return [counts[row] / draws for row in range(len(found))]


def test_uniform_draws_all_alike():
    found = patches("dog", [("kite",), (), (), ()], [0.9, 0.1, 0.5, 0.0])
    assert shares(found, "uniform", frozenset({"kite"})) == pytest.approx([0.25] * 4, abs=0.02)


def test_score_draws_by_the_score():
    found = patches("dog", [(), (), (), ()], [0.4, 0.2, 0.2, 0.0])
    assert shares(found, "score") == pytest.approx([0.5, 0.25, 0.25, 0], abs=0.02)


def test_scores_of_zero_can_be_drawn_too():
    assert shares(patches("dog", [(), ()], [0.0, 0.0]), "score", draws=2000) == pytest.approx([0.5, 0.5], abs=0.04)


def test_context_prefers_images_that_hold_more_of_the_sentence():
    found = patches("dog", [(), ("kite",), ("car",), ("kite", "tree")])
    weights = np.array([1, 1 + CONTEXT_WEIGHT, 1, 1 + 2 * CONTEXT_WEIGHT])
    expected = (weights / weights.sum()).tolist()
    assert shares(found, "context", frozenset({"kite", "tree", "sun"})) == pytest.approx(expected, abs=0.02)


def test_context_without_any_is_uniform():
    assert shares(BANK["dog"], "context", frozenset({"moon"})) == pytest.approx([0.25] * 4, abs=0.02)


def test_a_mention_without_patches_is_never_replaced():
    for seed in range(100):
        assert {index for index, _ in mixed("unicorn", "dog", "unicorn", seed=seed, min_replaced=3)} == {1}


def test_nothing_to_replace_gives_nothing():
    assert mixed("unicorn", replace_probability=1.0) == []
    assert mixed(replace_probability=1.0) == []
    assert mixed("dog", replace_probability=0.0, min_replaced=0) == []


def test_patches_are_of_the_concept_of_their_mention_in_the_order_of_mentions():
    for seed in range(50):
        found = mixed("kite", "dog", "unicorn", "dog", seed=seed, replace_probability=1.0, patches_per_word=2)
        assert [index for index, _ in found] == [0, 1, 1, 3, 3]
        assert [name.split("-")[0] for _, name in found] == ["kite", "dog", "dog", "dog", "dog"]
        assert found[1] != found[2]
        assert found[3] != found[4]


def test_the_context_of_a_mention_is_the_other_concepts_of_the_sentence():
    with_kite = Counter(dict(mixed("dog", "kite", seed=seed, replace_probability=1.0, sampler="context"))[0]
                        for seed in range(2000))  # fmt: skip
    assert (with_kite["dog-1"] + with_kite["dog-3"]) / 2000 == pytest.approx(22 / 24, abs=0.03)
    alone = Counter(dict(mixed("dog", "dog", seed=seed, replace_probability=1.0, sampler="context"))[0]
                    for seed in range(2000))  # fmt: skip
    assert alone["dog-1"] / 2000 == pytest.approx(0.25, abs=0.04)


def test_the_same_seed_mixes_the_same():
    runs = [mixed("dog", "kite", "dog", seed=seed) for seed in range(30)]
    assert runs == [mixed("dog", "kite", "dog", seed=seed) for seed in range(30)]
    assert len({tuple(run) for run in runs}) > 5
