"""The shuffle of the views: which shard each view of a sentence belongs to, and its place there.

Both follow from hashes of the sample's key, so that the order of samples is random over the whole corpus and depends on
nothing else. Views travel through Arrow files of the work folder; only one of them is open at a time.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from vlmixer.artifacts import schemas
from vlmixer.artifacts.rng import stable_hash
from vlmixer.pipeline.mix.samples import sample_key, shard_of
from vlmixer.pipeline.mix.units import BUCKET, ShardLayout
from vlmixer.pipeline.units.batches import read_batch

VIEW = pa.field("view", pa.int32(), nullable=False)
SHARD = pa.field("shard", pa.int32(), nullable=False)
VIEWS = schemas.TAGGED.append(VIEW)
SPREAD = VIEWS.append(SHARD)


def spread_views(parts: Sequence[pa.Table], layout: ShardLayout) -> Iterator[pa.Table]:
    """All views of the rows of these parts of tagged/ (SPREAD), bucket by bucket."""
    drawn = [_draw_shards(part, layout) for part in parts]
    for bucket in range(layout.buckets):
        own = layout.shards_of(bucket)
        pieces = []
        for part, shards in zip(parts, drawn, strict=True):
            rows = np.flatnonzero((shards >= own.start) & (shards < own.stop))
            piece = part.take(pa.array(rows // layout.views))
            piece = piece.append_column(VIEW, pa.array(rows % layout.views, VIEW.type))
            pieces.append(piece.append_column(SHARD, pa.array(shards[rows], SHARD.type)))
        yield pa.concat_tables(pieces)


def _draw_shards(part: pa.Table, layout: ShardLayout) -> np.ndarray:
    """(rows · views,) int32: the shard of each view."""
    ids = part["sentence_id"].to_pylist()
    keys = (sample_key(sentence_id, view) for sentence_id in ids for view in range(layout.views))
    shards = (shard_of(key, layout.shards, layout.seed) for key in keys)
    return np.fromiter(shards, np.int32, len(ids) * layout.views)


def sort_bucket(spread: pa.Table, bucket: int, layout: ShardLayout) -> Iterator[pa.Table]:
    """All views of a bucket (SPREAD) as VIEWS, shard by shard, each in its order."""
    shards = spread[SHARD.name].to_numpy()
    views = spread.drop_columns([SHARD.name])
    for shard in layout.shards_of(bucket):
        own = views.take(pa.array(np.flatnonzero(shards == shard)))
        keys = map(sample_key, own["sentence_id"].to_pylist(), own["view"].to_pylist())
        places = [order_in_shard(key, layout.seed) for key in keys]
        yield own.take(pa.array(sorted(range(len(places)), key=places.__getitem__), pa.int64()))


def order_in_shard(key: str, seed: int) -> tuple[int, str]:
    """The sort key of a sample in its shard."""
    return stable_hash(seed, "place", key), key


def read_shard_views(folder: str, layout: ShardLayout, shard: int) -> pa.RecordBatch:
    """The views of a shard (VIEWS), in order. folder: where the buckets' files are."""
    bucket, place = divmod(shard, layout.shards_per_bucket)
    return read_batch(folder, BUCKET.name(bucket), place)
