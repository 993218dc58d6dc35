"""The first half of stage `mix`: every view of a sentence comes to its shard, and there to its place.

A shuffle through files in OUT/work/mix, in two passes, so that there are never as many batches as parts × shards: parts
of tagged/ are dealt out to buckets of consecutive shards (deal-*.arrow, a record batch a bucket), then each
bucket is sorted into its shards (bucket-*.arrow, a record batch a shard). One file at a time is open.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vlmixer.artifacts import files, schemas
from vlmixer.artifacts.details import ShardsDetails
from vlmixer.artifacts.manifest import Output
from vlmixer.artifacts.rng import stable_hash
from vlmixer.artifacts.schemas import damage_named
from vlmixer.artifacts.stages import TAG
from vlmixer.pipeline.mix.samples import sample_key, shard_of
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult

VIEWS_A_DEAL = 100_000
"""Views that are dealt out together, 30 MB of captions."""
VIEWS_A_BUCKET = 100_000

VIEW = pa.field("view", pa.int32(), nullable=False)
SHARD = pa.field("shard", pa.int32(), nullable=False)
VIEWS = schemas.TAGGED.append(VIEW)
DEALT = VIEWS.append(SHARD)


@dataclass(frozen=True)
class Layout:
    """How many views every sentence has, the mixed shards, and how many of them are a bucket."""

    views: int
    seed: int
    shards: int
    shards_a_bucket: int

    @classmethod
    def of(cls, sentences: int, views: int, samples_per_shard: int, seed: int) -> "Layout":
        """About as many buckets as shards in each, but no bucket larger than VIEWS_A_BUCKET."""
        shards = -(-sentences * views // samples_per_shard)
        return cls(views, seed, shards, max(min(isqrt(shards), VIEWS_A_BUCKET // samples_per_shard), 1))

    @property
    def buckets(self) -> int:
        """The number of buckets."""
        return -(-self.shards // self.shards_a_bucket)

    def shards_of(self, bucket: int) -> range:
        """The shards of a bucket."""
        return range(bucket * self.shards_a_bucket, min((bucket + 1) * self.shards_a_bucket, self.shards))


def plan_deals(parts: Sequence[Output], views: int) -> list[Unit[tuple[str, ...]]]:
    """Units of consecutive parts, as many in each, one more or less; contents are the parts' names."""
    names = [part.name for part in parts]
    deals = min(-(-sum(part.rows for part in parts) * views // VIEWS_A_DEAL), len(names))
    bounds = [len(names) * number // deals for number in range(deals + 1)]
    return [Unit(deal_name(number), tuple(names[begin:end])) for number, (begin, end) in enumerate(pairwise(bounds))]


def plan_buckets(layout: Layout, deals: int) -> list[Unit[tuple[int, int]]]:
    """A unit a bucket; contents are (bucket, number of deals)."""
    return [Unit(bucket_name(bucket), (bucket, deals)) for bucket in range(layout.buckets)]


def deal_name(number: int) -> str:
    """Name of a unit of the first pass."""
    return f"deal-{number:05d}"


def bucket_name(number: int) -> str:
    """Name of a unit of the second pass."""
    return f"bucket-{number:05d}"


@dataclass(frozen=True)
class DealWorker:
    """Deals the views of parts of tagged/ out to the buckets."""

    layout: Layout
    stage: Stage[ShardsDetails]

    def load(self) -> None:
        return None

    def run(self, unit: Unit[tuple[str, ...]], resource: None) -> UnitResult[None]:
        layout = self.layout
        table = pa.concat_tables([self._read(name) for name in unit.content])
        shards = np.array(
            [
                shard_of(sample_key(sentence_id, view), layout.shards, layout.seed)
                for sentence_id in table["sentence_id"].to_pylist()
                for view in range(layout.views)
            ],
            np.int64,
        )
        order = np.argsort(shards, kind="stable")
        dealt = (
            table.take(order // layout.views)
            .append_column(VIEW, pa.array(order % layout.views, VIEW.type))
            .append_column(SHARD, pa.array(shards[order], SHARD.type))
        )
        firsts = [layout.shards_of(bucket).start for bucket in range(layout.buckets)]
        _write(self.stage, unit.name, dealt, [*np.searchsorted(shards[order], firsts).tolist(), len(order)])
        return UnitResult(None)

    def _read(self, part: str) -> pa.Table:
        with damage_named(files.join(self.stage.out, TAG.folder, part)) as file:
            return pq.read_table(file, schema=schemas.TAGGED, use_threads=False)


@dataclass(frozen=True)
class BucketWorker:
    """Sorts what was dealt to a bucket into its shards, and there by a hash."""

    layout: Layout
    stage: Stage[ShardsDetails]

    def load(self) -> None:
        return None

    def run(self, unit: Unit[tuple[int, int]], resource: None) -> UnitResult[None]:
        bucket, deals = unit.content
        dealt = pa.Table.from_batches([read_batch(self.stage, deal_name(deal), bucket) for deal in range(deals)])
        ids, views, shards = (dealt[name].to_pylist() for name in ("sentence_id", "view", "shard"))
        places = [order_in_shard(sample_key(*view), self.layout.seed) for view in zip(ids, views, strict=True)]
        order = sorted(range(len(ids)), key=lambda row: (shards[row], places[row]))
        own = self.layout.shards_of(bucket)
        bounds = np.searchsorted(sorted(shards), [*own, own.stop])
        _write(
            self.stage, unit.name, dealt.drop_columns([SHARD.name]).take(pa.array(order, pa.int64())), bounds.tolist()
        )
        return UnitResult(None)


def order_in_shard(key: str, seed: int) -> tuple[int, str]:
    """What the samples of a shard are ordered by."""
    return stable_hash(seed, "place", key), key


def read_shard_views(stage: Stage[ShardsDetails], layout: Layout, shard: int) -> pa.RecordBatch:
    """The views of a shard (VIEWS), in its order."""
    bucket, place = divmod(shard, layout.shards_a_bucket)
    return read_batch(stage, bucket_name(bucket), place)


def read_batch(stage: Stage[ShardsDetails], name: str, number: int) -> pa.RecordBatch:
    """A record batch of a unit's file."""
    with files.open_read(files.join(stage.work, f"{name}.arrow")) as file, pa.ipc.open_file(file) as reader:
        return reader.get_batch(number)


def _write(stage: Stage[ShardsDetails], name: str, table: pa.Table, bounds: Sequence[int]) -> None:
    """Write the table as a record batch for each two neighbouring bounds; exactly one, also where it is empty."""
    with (
        files.publishing(files.join(stage.work, f"{name}.arrow")) as file,
        pa.ipc.new_file(file, table.schema) as writer,
    ):
        for begin, end in pairwise(bounds):
            piece = table.slice(begin, end - begin).combine_chunks()
            columns = [column.combine_chunks() for column in piece.columns]
            writer.write_batch(pa.record_batch(columns, schema=table.schema))
