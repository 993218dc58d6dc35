"""How the stage `mix` is cut into units: the shuffle of the views in two passes, then one unit per shard.

Parts of tagged/ are shuffled in groups: each group spreads its views over buckets of consecutive shards. Then each
bucket sorts its views into its shards. So there are never as many record batches as parts × shards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt

import numpy as np

from vlmixer.artifacts.manifest import Output
from vlmixer.pipeline.units.passes import StagePass, UnitKind, UnitLoad, count_units, finish_pass
from vlmixer.pipeline.units.unit import Unit

SHUFFLE = UnitKind("mix", "shuffle")
BUCKET = UnitKind("mix", "bucket")
MIXED = UnitKind("mix", "mixed", digits=6)
IMAGES = UnitKind("mix", "images", digits=6)


@dataclass(frozen=True)
class ShardLayout:
    """views: per sentence. shards: mixed ones. shards_per_bucket: consecutive shards that are sorted together."""

    views: int
    seed: int
    shards: int
    shards_per_bucket: int

    @property
    def buckets(self) -> int:
        """The number of buckets."""
        return count_units(self.shards, self.shards_per_bucket)

    def shards_of(self, bucket: int) -> range:
        """The shards of a bucket."""
        first = bucket * self.shards_per_bucket
        return range(first, min(first + self.shards_per_bucket, self.shards))


@dataclass(frozen=True)
class MixedShard:
    """Content of a unit that writes a mixed shard: its number."""

    number: int


@dataclass(frozen=True)
class SampleRange:
    """Images `first` to `first + count - 1` of a part of regions/."""

    part: str
    first: int
    count: int


@dataclass(frozen=True)
class ImageShard:
    """Content of a unit that writes a shard of image samples."""

    ranges: tuple[SampleRange, ...]


@dataclass(frozen=True)
class MixSizes:
    """Sizes of the units of the shuffle."""

    views_per_shuffle: int = 100_000
    """Views that a unit of the first pass spreads over the buckets: 30 MB of captions."""
    views_per_bucket: int = 100_000
    """The maximum for a bucket, unless one shard has more."""

    def layout(self, sentences: int, views: int, samples_per_shard: int, seed: int) -> ShardLayout:
        """About as many buckets as shards in each bucket."""
        shards = count_units(sentences * views, samples_per_shard)
        per_bucket = max(min(isqrt(shards), self.views_per_bucket // samples_per_shard), 1)
        return ShardLayout(views, seed, shards, per_bucket)

    def shuffles(self, views: float, parts: int) -> int:
        """Units of the first pass."""
        return min(count_units(views, self.views_per_shuffle), parts)

    def plan_shuffles(self, parts: Sequence[Output], views: int) -> list[Unit[tuple[str, ...]]]:
        """Units of the first pass. Contents: names of consecutive parts, the same number in each or one more."""
        names = [part.name for part in parts]
        count = self.shuffles(sum(part.rows for part in parts) * views, len(names))
        bounds = [len(names) * number // count for number in range(count + 1)]
        return [Unit(SHUFFLE.name(number), tuple(names[a:b])) for number, (a, b) in enumerate(pairwise(bounds))]

    def passes(
        self, layout: ShardLayout, views: float, parts: int, images: float, samples_per_shard: int
    ) -> tuple[StagePass, ...]:
        """The passes for this many views, parts of tagged/, and image samples."""
        image_shards = count_units(images, samples_per_shard)
        return (
            StagePass("shuffle", (UnitLoad(SHUFFLE, self.shuffles(views, parts), views),)),
            StagePass("sort", (UnitLoad(BUCKET, layout.buckets, views),), new_job=False),
            StagePass(
                "mix",
                (UnitLoad(MIXED, layout.shards, views), UnitLoad(IMAGES, image_shards, images)),
                new_job=False,
            ),
            finish_pass("mix", views + images),
        )


SIZES = MixSizes()


def plan_buckets(layout: ShardLayout, shuffles: int) -> list[Unit[tuple[int, int]]]:
    """Units of the second pass. Contents are (bucket, number of units of the first pass)."""
    return [Unit(BUCKET.name(bucket), (bucket, shuffles)) for bucket in range(layout.buckets)]


def plan_mixed_shards(layout: ShardLayout) -> list[Unit[MixedShard]]:
    """One unit per mixed shard."""
    return [Unit(MIXED.name(number), MixedShard(number)) for number in range(layout.shards)]


def plan_image_shards(parts: Sequence[tuple[str, int]], samples_per_shard: int) -> list[Unit[ImageShard]]:
    """One unit per shard of image samples. parts: (name, number of images) each.

    Shards take consecutive images, at most `samples_per_shard`, the same number in each shard or one more.
    """
    ends = np.cumsum([images for _, images in parts], dtype=np.int64)
    total = sum(images for _, images in parts)
    shards = count_units(total, samples_per_shard)
    bounds = [total * number // max(shards, 1) for number in range(shards + 1)]
    units = []
    for number, (begin, end) in enumerate(pairwise(bounds)):
        ranges = []
        place = int(np.searchsorted(ends, begin, "right"))
        while begin < end:
            name, images = parts[place]
            stop = min(int(ends[place]), end)
            if begin < stop:
                ranges.append(SampleRange(name, begin - int(ends[place]) + images, stop - begin))
            begin, place = stop, place + 1
        units.append(Unit(IMAGES.name(number), ImageShard(tuple(ranges))))
    return units
