from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.model.world import World, write_shards

from vlmixer.artifacts.samples import ImageSample, MixedSample
from vlmixer.model.scoring import Estimate, RetrievalReport, RetrievalScore
from vlmixer.model.shards import open_shards
from vlmixer.pipeline.evaluation.ablation import VARIANTS, shuffle_labels, table


@pytest.fixture
def folders(tmp_path):
    world = World()
    samples = [world.mixed(number) for number in range(40)] + [world.image(number) for number in range(5)]
    source = write_shards(str(tmp_path / "shards"), samples, per_shard=16)
    shuffle_labels(source, str(tmp_path / "shuffled"))
    return source, str(tmp_path / "shuffled")


def test_a_gallery_with_shuffled_labels_has_the_same_patches_each_with_one_label(folders):
    before, after = (list(open_shards(folder).samples()) for folder in folders)
    labels = defaultdict(set)
    patches: tuple[list[Any], list[Any]] = ([], [])
    moved = 0
    for old, new in zip(before, after, strict=True):
        assert old.key == new.key
        if isinstance(old, ImageSample):
            assert np.array_equal(old.features, new.features)
            continue
        assert isinstance(new, MixedSample)
        assert (old.text, old.mentions, old.replaced) == (new.text, new.mentions, new.replaced)
        assert [(p.mention, p.concept) for p in old.patches] == [(p.mention, p.concept) for p in new.patches]
        for sample, found in zip((old, new), patches, strict=True):
            found += [(p.patch_id, row.tobytes()) for p, row in zip(sample.patches, sample.features, strict=True)]
        for patch in new.patches:
            labels[patch.patch_id].add(patch.concept)
        moved += sum(one.patch_id != other.patch_id for one, other in zip(old.patches, new.patches, strict=True))
    assert sorted(patches[0]) == sorted(patches[1])
    assert all(len(found) == 1 for found in labels.values())
    assert moved > 0.8 * len(patches[0])


def test_with_shuffled_labels_each_mention_keeps_its_first_patch(tmp_path):
    """How many patches a plural has would still be right."""
    world = World()
    samples = [world.mixed(number) for number in range(20)]
    sizes = [1 + number % 3 for number in range(20)]
    several = [
        replace(
            sample,
            patches=tuple(patch for patch in sample.patches for _ in range(size)),
            features=np.repeat(sample.features, size, axis=0),
        )
        for sample, size in zip(samples, sizes, strict=True)
    ]
    source = write_shards(str(tmp_path / "shards"), several, per_shard=9)
    shuffle_labels(source, str(tmp_path / "shuffled"))
    for old, new in zip(samples, open_shards(str(tmp_path / "shuffled")).mixed_samples(), strict=True):
        assert [patch.mention for patch in new.patches] == [patch.mention for patch in old.patches]
        assert len(new.features) == len(new.patches)


def score(method, value):
    estimate = Estimate(value, value - 4, value + 4)
    ahead = Estimate(value - 20, value - 22, value - 19)
    ranks = Estimate(7.0, 6.0, 8.0), Estimate(2.5, 2.0, 3.0)
    return RetrievalScore(method, "text to image", dict.fromkeys((1, 5, 10), estimate), *ranks, ahead)


def test_the_table_has_means_over_seeds_and_each_seed():
    methods = ("regions", "tags", "regions + tags", "regions + tags + overlap", "tag overlap", "chance")
    reports = [RetrievalReport(9, 45, tuple(score(method, value) for method in methods)) for value in (20.0, 30.0)]
    lines = table({"c": reports}, [score("perfect tags", 50.0)], "Told.").splitlines()
    assert lines[0] == "9 photos, 45 captions, text to image. Told."
    assert lines[4:7] == [
        "| chance | 20.0 | 20.0 | 20.0 | 4.0 | 20.0 | +0.0 (-2.0 to +1.0) | 7 |",
        "| tag overlap | 20.0 | 20.0 | 20.0 | 4.0 | 20.0 | +0.0 (-2.0 to +1.0) | 7 |",
        "| perfect tags | 50.0 | 50.0 | 50.0 | 4.0 | 50.0 | +30.0 (+28.0 to +31.0) | 7 |",
    ]
    row = "25.0 | 25.0 | 25.0 | 4.0 | 20.0, 30.0 | +5.0 (+3.0 to +6.0) | 7 |"
    assert lines[7] == f"| {VARIANTS['c'].title}: regions | {row}"
    assert len(lines) == 11
