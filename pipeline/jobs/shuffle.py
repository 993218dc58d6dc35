"""Workers of the shuffle, the first two passes of stage `mix`. Its logic is in pipeline/mix/shuffling.py."""

from dataclasses import dataclass

import pyarrow as pa

from vlmixer.artifacts import files, schemas
from vlmixer.artifacts.details import ShardsDetails
from vlmixer.artifacts.parquet import reading
from vlmixer.artifacts.stages import TAG
from vlmixer.pipeline.mix.shuffling import SPREAD, VIEWS, sort_bucket, spread_views
from vlmixer.pipeline.mix.units import SHUFFLE, ShardLayout
from vlmixer.pipeline.units.batches import read_batch, write_batches
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult


@dataclass(frozen=True)
class ShuffleWorker:
    """Spreads the views of parts of tagged/ (names, the unit's content) over the buckets."""

    layout: ShardLayout
    stage: Stage[ShardsDetails]

    def load(self) -> None:
        return None

    def run(self, unit: Unit[tuple[str, ...]], resource: None) -> UnitResult[None]:
        parts = [self._read(name) for name in unit.content]
        write_batches(self.stage.work, unit.name, SPREAD, spread_views(parts, self.layout))
        return UnitResult(None)

    def _read(self, part: str) -> pa.Table:
        with reading(files.join(self.stage.out, TAG.folder, part), schemas.TAGGED) as table:
            return table.read()


@dataclass(frozen=True)
class BucketWorker:
    """Sorts a bucket into its shards. Unit content: (bucket, number of units of the first pass)."""

    layout: ShardLayout
    stage: Stage[ShardsDetails]

    def load(self) -> None:
        return None

    def run(self, unit: Unit[tuple[int, int]], resource: None) -> UnitResult[None]:
        bucket, shuffles = unit.content
        batches = [read_batch(self.stage.work, SHUFFLE.name(number), bucket) for number in range(shuffles)]
        spread = pa.Table.from_batches(batches).combine_chunks()
        del batches  # half of the memory
        write_batches(self.stage.work, unit.name, VIEWS, sort_bucket(spread, bucket, self.layout))
        return UnitResult(None)
