"""How the stage `mix` is cut into units."""

import pytest

from vlmixer.artifacts.manifest import Output
from vlmixer.pipeline.mix.units import SIZES, plan_buckets, plan_image_shards, plan_mixed_shards


@pytest.mark.parametrize(
    ("sentences", "samples_per_shard", "shards", "per_bucket", "buckets"),
    [
        (1, 5000, 1, 1, 1),
        (138_000, 5000, 28, 5, 6),
        (400_000_000, 5000, 80_000, 20, 4000),
        (1000, 1_000_000, 1, 1, 1),
        (100, 1, 100, 10, 10),
    ],
)
def test_buckets_are_bounded(sentences, samples_per_shard, shards, per_bucket, buckets):
    layout = SIZES.layout(sentences, 1, samples_per_shard, 0)
    assert (layout.shards, layout.shards_per_bucket, layout.buckets) == (shards, per_bucket, buckets)
    assert [shard for bucket in range(layout.buckets) for shard in layout.shards_of(bucket)] == list(range(shards))


def test_units_of_the_first_pass_are_bounded_and_cover_all_parts():
    parts = [Output(f"part-{number}", 32_768, 0, "") for number in range(100)]
    units = SIZES.plan_shuffles(parts, 2)
    assert max(len(unit.content) for unit in units) == 2
    assert [name for unit in units for name in unit.content] == [part.name for part in parts]


@pytest.mark.parametrize(
    ("parts", "target", "sizes"),
    [
        ([5, 0, 3], 4, [4, 4]),
        ([10], 4, [3, 3, 4]),
        ([1, 1], 100, [2]),
        ([], 4, []),
        ([0], 4, []),
        ([2] * 9, 5, [4, 5, 4, 5]),
    ],
)
def test_image_shards_are_planned(parts, target, sizes):
    units = plan_image_shards([(f"part-{number}", images) for number, images in enumerate(parts)], target)
    assert [sum(entry.count for entry in unit.content.ranges) for unit in units] == sizes
    taken = [(entry.part, entry.first + place) for unit in units for entry in unit.content.ranges
             for place in range(entry.count)]  # fmt: skip
    assert taken == [(f"part-{number}", place) for number, images in enumerate(parts) for place in range(images)]


@pytest.mark.parametrize("sentences", [1, 4_999, 138_000, 1_000_000])
@pytest.mark.parametrize("views", [1, 3])
def test_the_passes_are_those_that_are_planned(sentences, views):
    """Planning (pipeline/planning) counts units by `passes`, without planning them."""
    parts = [Output(f"part-{number}", rows, 0, "") for number, rows in enumerate(split(sentences, 32_768))]
    images = [(f"part-{number}", rows) for number, rows in enumerate(split(sentences // 2, 64))]
    layout = SIZES.layout(sentences, views, 5000, 0)
    shuffles = SIZES.plan_shuffles(parts, views)
    shards = plan_image_shards(images, 5000)
    found = SIZES.passes(layout, sentences * views, len(parts), sentences // 2, 5000)
    assert [load.units for each in found for load in each.loads] == [
        len(shuffles), len(plan_buckets(layout, len(shuffles))), len(plan_mixed_shards(layout)), len(shards), 1,
    ]  # fmt: skip


def split(total, most):
    """Sizes of at most `most` that add up to the total."""
    return [most] * (total // most) + [total % most] * (total % most > 0)
