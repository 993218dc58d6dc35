"""How the stage `index` is cut into units."""

import pytest

from vlmixer.artifacts.manifest import Output
from vlmixer.pipeline.indexing.units import SIZES


def test_groups_hold_all_parts_in_order():
    parts = [Output(f"part-{number}", rows, 0, "") for number, rows in enumerate([5, 0, 7, 9, 1, 30, 2])]
    groups = SIZES.plan_groups(parts)
    assert [name for group in groups for name in group.parts] == [f"part-{number}" for number in (0, 2, 3, 4, 5, 6)]
    assert len(groups) == 1
    many = [Output(f"part-{number}", 20_000, 0, "") for number in range(2000)]
    groups = SIZES.plan_groups(many)
    assert len(groups) <= SIZES.max_groups
    assert [name for group in groups for name in group.parts] == [part.name for part in many]
    assert [group.first for group in groups] == [int(group.parts[0].removeprefix("part-")) for group in groups]


def test_concepts_share_units_only_if_there_are_many():
    assert [unit.content for unit in SIZES.plan_concepts([3, 5, 9])] == [(3,), (5,), (9,)]
    units = SIZES.plan_concepts(range(1600))
    assert len(units) <= SIZES.max_concept_units
    assert sorted(number for unit in units for number in unit.content) == list(range(1600))


@pytest.mark.parametrize(("regions", "concepts"), [(0, 0), (10, 3), (50_000, 80), (20_000_000, 1600)])
def test_the_passes_are_about_those_that_are_planned(regions, concepts):
    """Planning (pipeline/planning) counts units by `passes`. Parts of a large corpus have about 100 regions."""
    sizes = [100] * (regions // 100) + [regions % 100] * (regions % 100 > 0)
    groups = SIZES.plan_groups([Output(f"part-{number}", rows, 0, "") for number, rows in enumerate(sizes)])
    gather, choose, finish = SIZES.passes(regions, concepts, 1000 * concepts)
    assert gather.units == pytest.approx(len(groups), rel=0.03)
    assert choose.units == len(SIZES.plan_concepts(range(concepts)))
    assert finish.units == 1
