"""The image samples of a shard, read from regions/."""

from collections.abc import Iterator
from dataclasses import dataclass

from vlmixer.artifacts import files
from vlmixer.artifacts.parquet import reading
from vlmixer.artifacts.samples import ImageSample
from vlmixer.artifacts.schemas import regions_as_wide_as
from vlmixer.bank.building import feature_rows
from vlmixer.pipeline.mix.samples import image_samples
from vlmixer.pipeline.mix.shuffling import order_in_shard
from vlmixer.pipeline.mix.units import ImageShard, SampleRange

GROUPS_AT_ONCE = 32
"""Row groups of regions/, of up to 8 images each, whose image samples are shuffled together."""
COLUMNS = ("image_id", "patch_id", "box", "concept", "score", "feature", "width", "height", "source")


@dataclass(frozen=True)
class RowGroup:
    """A row group of a part of regions/, and which of its images belong to the shard."""

    part: str
    number: int
    images: frozenset[str]


def read_image_samples(shard: ImageShard, folder: str, seed: int, *, crops: bool) -> Iterator[ImageSample]:
    """The samples of a shard. folder: regions/.

    Row groups come in the order of a hash, and the images of 32 row groups are shuffled together.
    """
    groups = [group for entry in shard.ranges for group in _row_groups(entry, folder)]
    groups.sort(key=lambda group: order_in_shard(f"{group.part}-{group.number}", seed))
    for start in range(0, len(groups), GROUPS_AT_ONCE):
        together = groups[start : start + GROUPS_AT_ONCE]
        samples = [sample for group in together for sample in _read(group, folder, crops=crops)]
        yield from sorted(samples, key=lambda sample: order_in_shard(sample.key, seed))


def _row_groups(entry: SampleRange, folder: str) -> Iterator[RowGroup]:
    """The row groups that contain the range's images."""
    first = 0
    with reading(files.join(folder, entry.part), regions_as_wide_as) as table:
        for number in range(len(table.row_groups)):
            ids = dict.fromkeys(table.read_row_group(number, ["image_id"])["image_id"].to_pylist())
            wanted = list(ids)[max(entry.first - first, 0) : max(entry.first + entry.count - first, 0)]
            first += len(ids)
            if wanted:
                yield RowGroup(entry.part, number, frozenset(wanted))


def _read(group: RowGroup, folder: str, *, crops: bool) -> Iterator[ImageSample]:
    columns = [*COLUMNS, "crop"] if crops else list(COLUMNS)
    with reading(files.join(folder, group.part), regions_as_wide_as) as part:
        table = part.read_row_group(group.number, columns)
    features = feature_rows(table["feature"])
    for sample in image_samples(table.drop_columns(["feature"]).to_pylist(), features, crops=crops):
        if sample.image_id in group.images:
            yield sample
