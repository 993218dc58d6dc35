"""The shuffle: every view comes to the shard and place that the hashes of its key say, however the work is cut."""

import os
import resource
from itertools import groupby

import pyarrow as pa
import pytest

from vlmixer.artifacts import files, manifest, schemas
from vlmixer.artifacts.stages import MIX
from vlmixer.pipeline.jobs.shuffle import BucketWorker, ShuffleWorker
from vlmixer.pipeline.mix.samples import sample_key, shard_of
from vlmixer.pipeline.mix.shuffling import SPREAD, VIEWS, order_in_shard, read_shard_views, sort_bucket, spread_views
from vlmixer.pipeline.mix.units import SIZES, MixSizes, ShardLayout, plan_buckets
from vlmixer.pipeline.units.stage import Stage

SEED = 3
SENTENCES = 400


def write_tagged(folder, parts):
    """SENTENCES tagged sentences in this many parts. One part is empty."""
    mention = {"start": 2, "end": 5, "concept": "dog", "surface": "dog", "lemma": "dog"}
    rows: list[dict[str, object]]
    rows = [{"sentence_id": f"s-{number:012d}", "text": f"a dog {number}", "mentions": [mention] * (number % 3)}
            for number in range(SENTENCES)]  # fmt: skip
    outputs = []
    for part in range(parts):
        own = [row for number, row in enumerate(rows) if number * (parts - 1) // SENTENCES == part]
        name = f"part-{part:05d}.parquet"
        with schemas.writing_parquet(files.join(str(folder), "tagged", name), schemas.TAGGED) as writer:
            writer.write_table(schemas.rows_to_table(own, schemas.TAGGED))
        outputs.append(manifest.output_of(files.join(str(folder), "tagged"), name, len(own)))
    return outputs, {row["sentence_id"]: row for row in rows}


def do(stage, layout, parts, sizes=SIZES):
    """Both passes. Returns the views of all shards as rows."""
    shuffles = sizes.plan_shuffles(parts, layout.views)
    for unit in shuffles:
        ShuffleWorker(layout, stage).run(unit, None)
    for unit in plan_buckets(layout, len(shuffles)):
        BucketWorker(layout, stage).run(unit, None)
    return [read_shard_views(stage.work, layout, shard).to_pylist() for shard in range(layout.shards)]


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("most", [100_000, 90])
def test_every_view_comes_to_its_shard_and_place(tmp_path, views, most):
    sizes = MixSizes(views_per_shuffle=most, views_per_bucket=most)
    parts, rows = write_tagged(tmp_path, 9)
    layout = sizes.layout(SENTENCES, views, 40, SEED)
    expected = sorted(
        ((sample_key(id, view), id, view) for id in rows for view in range(views)),
        key=lambda entry: (shard_of(entry[0], layout.shards, SEED), order_in_shard(entry[0], SEED)),
    )
    by_shard = {
        shard: [rows[id] | {"view": view} for _, id, view in entries]
        for shard, entries in groupby(expected, key=lambda entry: shard_of(entry[0], layout.shards, SEED))
    }
    found = do(Stage(MIX, str(tmp_path)), layout, parts, sizes)
    assert found == [by_shard[shard] for shard in range(10 * views)]


def test_a_shard_may_be_empty(tmp_path):
    parts, _ = write_tagged(tmp_path, 2)
    layout = ShardLayout(1, SEED, 5000, 7)
    found = do(Stage(MIX, str(tmp_path)), layout, parts)
    assert sum(map(len, found)) == SENTENCES
    assert [] in found


def test_few_files_are_open_however_many_there_are(tmp_path):
    sizes = MixSizes(views_per_shuffle=1)
    parts, _ = write_tagged(tmp_path, 120)
    layout = sizes.layout(SENTENCES, 1, 2, SEED)
    assert len(sizes.plan_shuffles(parts, 1)) == 120
    do(Stage(MIX, str(tmp_path)), layout, parts[:1] * 2)  # does the imports
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/dev/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, limits[1]))
    try:
        found = do(Stage(MIX, str(tmp_path)), layout, parts, sizes)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert sum(map(len, found)) == SENTENCES


def test_the_files_have_the_schema_of_views(tmp_path):
    parts, _ = write_tagged(tmp_path, 3)
    stage, layout = Stage(MIX, str(tmp_path)), SIZES.layout(SENTENCES, 1, 40, SEED)
    do(stage, layout, parts)
    assert read_shard_views(stage.work, layout, 4).schema == VIEWS
    with pa.ipc.open_file(tmp_path / "work" / "mix" / "bucket-00000.arrow") as reader:
        assert reader.num_record_batches == layout.shards_per_bucket


def test_only_one_piece_of_a_unit_is_copied_at_a_time():
    layout = ShardLayout(1, SEED, 50, 5)
    mention = {"start": 2, "end": 5, "concept": "dog", "surface": "dog", "lemma": "dog"}
    rows: list[dict[str, object]]
    rows = [{"sentence_id": f"s-{number}", "text": "a dog" * 20, "mentions": [mention]} for number in range(5000)]
    part = schemas.rows_to_table(rows, schemas.TAGGED)
    spread = schemas.rows_to_table([row | {"view": 0, "shard": number % 5} for number, row in enumerate(rows)], SPREAD)
    for pieces in (spread_views([part], layout), sort_bucket(spread, 0, layout)):
        before, rows_seen, most = pa.total_allocated_bytes(), 0, 0
        for piece in pieces:
            rows_seen, most = rows_seen + len(piece), max(most, pa.total_allocated_bytes() - before)
        assert rows_seen == len(rows)
        assert most < part.nbytes * 0.75
