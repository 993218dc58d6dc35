"""The shuffle of the views: which shard each view of a sentence belongs to, and its place there.

Both follow from hashes of the sample's key, so that the order of samples is random over the whole corpus and depends on
nothing else. Views travel through Arrow files of the work folder; only one of them is open at a time.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from vlmixer.artifacts import files, schemas
from vlmixer.artifacts.rng import stable_hash
from vlmixer.pipeline.mix.samples import sample_key, shard_of
from vlmixer.pipeline.mix.units import BUCKET, ShardLayout

VIEW = pa.field("view", pa.int32(), nullable=False)
SHARD = pa.field("shard", pa.int32(), nullable=False)
VIEWS = schemas.TAGGED.append(VIEW)
SPREAD = VIEWS.append(SHARD)


def spread_views(tagged: pa.Table, layout: ShardLayout) -> tuple[pa.Table, list[int]]:
    """All views of these rows of tagged/ (SPREAD), by shard, and the bounds of the buckets in them."""
    shards = np.array(
        [
            shard_of(sample_key(sentence_id, view), layout.shards, layout.seed)
            for sentence_id in tagged["sentence_id"].to_pylist()
            for view in range(layout.views)
        ],
        np.int64,
    )
    order = np.argsort(shards, kind="stable")
    spread = (
        tagged.take(order // layout.views)
        .append_column(VIEW, pa.array(order % layout.views, VIEW.type))
        .append_column(SHARD, pa.array(shards[order], SHARD.type))
    )
    firsts = [layout.shards_of(bucket).start for bucket in range(layout.buckets)]
    return spread, [*np.searchsorted(shards[order], firsts).tolist(), len(order)]


def sort_bucket(spread: pa.Table, bucket: int, layout: ShardLayout) -> tuple[pa.Table, list[int]]:
    """All views of a bucket (SPREAD) as VIEWS, by shard and place there, and the bounds of the shards in them."""
    ids, views, shards = (spread[name].to_pylist() for name in ("sentence_id", "view", "shard"))
    places = [order_in_shard(sample_key(*view), layout.seed) for view in zip(ids, views, strict=True)]
    order = sorted(range(len(ids)), key=lambda row: (shards[row], places[row]))
    own = layout.shards_of(bucket)
    bounds = np.searchsorted(sorted(shards), [*own, own.stop])
    return spread.drop_columns([SHARD.name]).take(pa.array(order, pa.int64())), bounds.tolist()


def order_in_shard(key: str, seed: int) -> tuple[int, str]:
    """The sort key of a sample in its shard."""
    return stable_hash(seed, "place", key), key


def read_shard_views(folder: str, layout: ShardLayout, shard: int) -> pa.RecordBatch:
    """The views of a shard (VIEWS), in order. folder: where the buckets' files are."""
    bucket, place = divmod(shard, layout.shards_per_bucket)
    return read_batch(folder, BUCKET.name(bucket), place)


def read_batch(folder: str, unit: str, number: int) -> pa.RecordBatch:
    """A record batch of a unit's file."""
    with files.open_read(files.join(folder, f"{unit}.arrow")) as file, pa.ipc.open_file(file) as reader:
        return reader.get_batch(number)


def write_batches(folder: str, unit: str, table: pa.Table, bounds: Sequence[int]) -> None:
    """Write a unit's file: one record batch for the rows between two neighbouring bounds, even if there are none."""
    with files.publishing(files.join(folder, f"{unit}.arrow")) as file, pa.ipc.new_file(file, table.schema) as writer:
        for begin, end in pairwise(bounds):
            piece = table.slice(begin, end - begin).combine_chunks()
            columns = [column.combine_chunks() for column in piece.columns]
            writer.write_batch(pa.record_batch(columns, schema=table.schema))
