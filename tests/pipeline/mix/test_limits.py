"""What `mix.max_uses` and `mix.min_patches` allow."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from tests.pipeline.mix.test_cutmix import BANK, PLAIN, mention

from vlmixer.artifacts.rng import uniforms
from vlmixer.pipeline.mix.cutmix import Mix, Verdict, capped, mix
from vlmixer.pipeline.mix.limits import Limit, patch_limits
from vlmixer.pipeline.mix.samples import Sentence, why_rejected
from vlmixer.pipeline.mix.settings import CutMixSettings

PATCHES = {"pizza": 1, "giraffe": 2, "dog": 100, "unicorn": 0}


@pytest.mark.parametrize(
    ("mentions", "settings", "expected"),
    [
        ({"pizza": 100, "giraffe": 200, "dog": 10_000}, {"max_uses": "auto"}, {}),
        ({"pizza": 435}, {"max_uses": "auto"}, {"pizza": Limit(100 / 435, 1.0)}),
        ({"giraffe": 250, "unicorn": 9}, {"max_uses": "auto"}, {"giraffe": Limit(1.0, 0.8)}),
        ({"giraffe": 469}, {"max_uses": "auto"}, {"giraffe": Limit(400 / 469, 0.5)}),
        ({"dog": 10_000_000}, {}, {}),
        ({"pizza": 10_000_000}, {"max_uses": None}, {}),
        ({"dog": 1000}, {"max_uses": 5}, {"dog": Limit(0.5, 0.01)}),
        ({"dog": 400}, {"max_uses": 5}, {"dog": Limit(1.0, 0.0125)}),
        ({"dog": 400}, {"max_uses": 5, "patches_per_word": 2}, {"dog": Limit(0.625, 0.01)}),
        ({"dog": 400}, {"max_uses": 5, "patches_per_plural": 2}, {"dog": Limit(0.625, 0.01)}),
        ({"pizza": 10}, {"max_uses": 5, "patches_per_word": 4}, {"pizza": Limit(0.5, 1.0)}),
    ],
)
def test_limits_follow_from_mentions_and_patches(mentions, settings, expected):
    assert patch_limits(mentions, PATCHES, replace(CutMixSettings(patches_per_plural=None), **settings)) == expected


def test_views_count_as_mentions():
    assert patch_limits({"pizza": 50}, PATCHES, CutMixSettings(max_uses="auto"), views=4) == {"pizza": Limit(0.5, 1.0)}


@pytest.mark.parametrize(
    ("weights", "most", "expected"),
    [
        ([1, 1, 2], 0.5, [1, 1, 2]),
        ([1, 1, 6], 0.5, [1, 1, 2]),
        ([11, 1, 1, 11], 0.4, [4, 1, 1, 4]),
        ([11, 1, 1, 1], 0.25, [1, 1, 1, 1]),
        ([11, 1], 0.1, [1, 1]),
        ([3], 1.0, [1]),
    ],
)
def test_the_highest_weights_are_lowered_to_their_part_of_the_sum(weights, most, expected):
    assert capped(np.array(weights, float), most) == pytest.approx(np.array(expected, float))


def test_no_patch_is_pasted_much_more_often_than_allowed():
    """By `context` the second and fourth dog would take 10 of 11 draws."""
    given = [mention("dog"), mention("kite", 10)]
    settings = replace(PLAIN, sampler="context", replace_probability=1.0, max_uses=500)
    counts = Counter[str]()
    limits = patch_limits({"dog": 4000, "kite": 4000}, {"dog": 4, "kite": 1}, settings)
    kept = Counter[str]()
    for seed in range(4000):
        found = mix(given, BANK.__getitem__, settings, uniforms(seed), limits)
        counts.update(paste.patch.patch_id for paste in found.pasted)
        kept.update(one.concept for one, verdict in zip(given, found.verdicts, strict=True) if not verdict.replaced)
        assert {verdict.reason for verdict in found.verdicts} <= {"drawn", "over_used"}
    assert set(counts) == {"dog-0", "dog-1", "dog-2", "dog-3", "kite-0"}
    assert all(abs(number - 500) < 100 for number in counts.values())
    assert abs(kept["dog"] - 2000) < 150
    assert abs(kept["kite"] - 3500) < 150


def test_a_concept_with_fewer_patches_than_the_minimum_is_not_used():
    given = [mention("dog"), mention("kite", 10), mention("unicorn", 20)]
    settings = replace(PLAIN, replace_probability=1.0, min_patches=2)
    found = mix(given, BANK.__getitem__, settings, uniforms(0))
    assert [verdict.reason for verdict in found.verdicts] == ["drawn", "rare", "lacking"]
    assert {paste.patch.concept for paste in found.pasted} == {"dog"}


@pytest.mark.parametrize(
    ("reasons", "settings", "expected"),
    [
        (("rare", "rare"), {}, "rare_concept"),
        (("rare", "lacking"), {}, "rare_concept"),
        (("over_used", "lacking"), {}, "rare_concept"),
        (("over_used", "phrase"), {}, "rare_concept"),
        (("over_used", "lacking"), {"min_replaced": 0}, None),
        (("over_used", "rare"), {"lacking": "reject"}, "lacking_patch"),
        (("lacking", "lacking"), {}, "no_patch"),
    ],
)
def test_sentences_of_rare_concepts_alone_have_no_sample(reasons, settings, expected):
    mentions = (mention("dog"), mention("kite", 4))
    mixed = Mix(mentions, tuple(map(Verdict, reasons)), (), True)
    rejected = why_rejected(
        Sentence("s", "dog kite", mentions), mixed, replace(CutMixSettings(patches_per_plural=None), **settings)
    )
    assert (rejected and rejected.reason) == expected
