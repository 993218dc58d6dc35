"""Dealing: every view comes to the shard and place that its key's hashes name, however the work is cut."""

import os
import resource
from itertools import groupby

import pyarrow as pa
import pytest

from vlmixer.artifacts import files, manifest, schemas
from vlmixer.artifacts.manifest import Output
from vlmixer.artifacts.stages import MIX
from vlmixer.pipeline.jobs import deal
from vlmixer.pipeline.jobs.deal import BucketWorker, DealWorker, Layout, order_in_shard, read_shard_views
from vlmixer.pipeline.mix.samples import sample_key, shard_of
from vlmixer.pipeline.units.stage import Stage

SEED = 3
SENTENCES = 400


def write_tagged(folder, parts):
    """SENTENCES tagged sentences in so many parts, of which one is empty."""
    mention = {"start": 2, "end": 5, "concept": "dog", "surface": "dog", "lemma": "dog"}
    rows = [{"sentence_id": f"s-{number:012d}", "text": f"a dog {number}", "mentions": [mention] * (number % 3)}
            for number in range(SENTENCES)]  # fmt: skip
    outputs = []
    for part in range(parts):
        own = [row for number, row in enumerate(rows) if number * (parts - 1) // SENTENCES == part]
        name = f"part-{part:05d}.parquet"
        with schemas.writing_parquet(files.join(str(folder), "tagged", name), schemas.TAGGED) as writer:
            writer.write_table(schemas.rows_to_table(own, schemas.TAGGED))
        outputs.append(manifest.describe(files.join(str(folder), "tagged"), name, len(own)))
    return outputs, {row["sentence_id"]: row for row in rows}


def do(stage, layout, parts):
    """Both passes; the views of all shards as rows."""
    deals = deal.plan_deals(parts, layout.views)
    for unit in deals:
        DealWorker(layout, stage).run(unit, None)
    for unit in deal.plan_buckets(layout, len(deals)):
        BucketWorker(layout, stage).run(unit, None)
    return [read_shard_views(stage, layout, shard).to_pylist() for shard in range(layout.shards)]


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("most", [100_000, 90])
def test_every_view_comes_to_its_shard_and_place(tmp_path, monkeypatch, views, most):
    monkeypatch.setattr(deal, "VIEWS_A_DEAL", most)
    monkeypatch.setattr(deal, "VIEWS_A_BUCKET", most)
    parts, rows = write_tagged(tmp_path, 9)
    layout = Layout.of(SENTENCES, views, 40, SEED)
    expected = sorted(
        ((sample_key(id, view), id, view) for id in rows for view in range(views)),
        key=lambda entry: (shard_of(entry[0], layout.shards, SEED), order_in_shard(entry[0], SEED)),
    )
    by_shard = {
        shard: [rows[id] | {"view": view} for _, id, view in entries]
        for shard, entries in groupby(expected, key=lambda entry: shard_of(entry[0], layout.shards, SEED))
    }
    found = do(Stage(MIX, str(tmp_path)), layout, parts)
    assert found == [by_shard[shard] for shard in range(10 * views)]


def test_a_shard_may_be_empty(tmp_path):
    parts, _ = write_tagged(tmp_path, 2)
    layout = Layout(1, SEED, 5000, 7)
    found = do(Stage(MIX, str(tmp_path)), layout, parts)
    assert sum(map(len, found)) == SENTENCES
    assert [] in found


def test_few_files_are_open_however_many_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(deal, "VIEWS_A_DEAL", 1)
    parts, _ = write_tagged(tmp_path, 120)
    layout = Layout.of(SENTENCES, 1, 2, SEED)
    assert len(deal.plan_deals(parts, 1)) == 120
    do(Stage(MIX, str(tmp_path)), layout, parts[:1] * 2)  # imports and the like
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as spare:
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare.fileno() + 8, limits[1]))
        try:
            found = do(Stage(MIX, str(tmp_path)), layout, parts)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert sum(map(len, found)) == SENTENCES


@pytest.mark.parametrize(
    ("sentences", "samples_per_shard", "shards", "a_bucket", "buckets"),
    [
        (1, 5000, 1, 1, 1),
        (138_000, 5000, 28, 5, 6),
        (400_000_000, 5000, 80_000, 20, 4000),
        (1000, 1_000_000, 1, 1, 1),
        (100, 1, 100, 10, 10),
    ],
)
def test_buckets_are_bounded(sentences, samples_per_shard, shards, a_bucket, buckets):
    layout = Layout.of(sentences, 1, samples_per_shard, 0)
    assert (layout.shards, layout.shards_a_bucket, layout.buckets) == (shards, a_bucket, buckets)
    assert [shard for bucket in range(layout.buckets) for shard in layout.shards_of(bucket)] == list(range(shards))


def test_deals_are_bounded_and_cover_all_parts():
    parts = [Output(f"part-{number}", 32_768, 0, "") for number in range(100)]
    units = deal.plan_deals(parts, 2)
    assert max(len(unit.content) for unit in units) == 2
    assert [name for unit in units for name in unit.content] == [part.name for part in parts]


def test_what_lies_in_the_files_has_the_schema_of_views(tmp_path):
    parts, _ = write_tagged(tmp_path, 3)
    stage, layout = Stage(MIX, str(tmp_path)), Layout.of(SENTENCES, 1, 40, SEED)
    do(stage, layout, parts)
    assert read_shard_views(stage, layout, 4).schema == deal.VIEWS
    with pa.ipc.open_file(tmp_path / "work" / "mix" / "bucket-00000.arrow") as reader:
        assert reader.num_record_batches == layout.shards_a_bucket
