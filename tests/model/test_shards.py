import itertools
import weakref
from collections import Counter
from queue import Queue

import numpy as np
import pytest
from tests.model.world import FEATURE_DIM, World, write_shards

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError
from vlmixer.model.shards import Shard, Stream, _Used, drawn, open_shards, read_rows

SHARDS = [Shard(f"shard {number}", rows) for number, rows in enumerate((7, 10, 3, 5, 9))]
ROWS = 34


def names_in(shard, start=0, stop=None):
    return [f"{shard.path}, sample {row}" for row in range(shard.rows)[start:stop]]


def stream(
    seed=0, shards=SHARDS, read=names_in, in_memory=2, batch_size=4, reader=0, readers=1, length=len, weigh=None
):
    return Stream("test", shards, read, length, batch_size, in_memory, 32, seed, reader, readers, weigh)


def epochs(batches, count):
    """The batches of the first `count` epochs."""
    return list(itertools.takewhile(lambda item: item[0] < count, batches))


def all_names(shards):
    return Counter(name for shard in shards for name in names_in(shard))


# More readers than shards, also; one shard for all.
@pytest.mark.parametrize("shards", [SHARDS, SHARDS[:2], [Shard("one", 23)]])
@pytest.mark.parametrize("readers", [1, 2, 3, 7])
@pytest.mark.parametrize("in_memory", [1, 2, 99])
def test_readers_share_every_sample_of_an_epoch_once_and_take_as_many_steps(shards, readers, in_memory):
    found = [
        epochs(stream(shards=shards, in_memory=in_memory, batch_size=8, reader=n, readers=readers).batches(), 3)
        for n in range(readers)
    ]
    assert len({len(batches) for batches in found}) == 1
    for epoch in range(3):
        seen = Counter(name for batches in found for number, batch in batches if number == epoch for name in batch)
        assert seen == all_names(shards)
    sizes = {sum(len(batch) for _, batch in step) for step in zip(*found, strict=True)}
    assert max(sizes) <= 8 + readers  # an epoch's batches are equal but for the rounding of each reader's
    assert min(sizes) >= 1


def test_an_epoch_is_cut_into_equal_batches_none_too_large():
    batches = epochs(stream().batches(), 1)
    assert len(batches) == stream().steps == 9
    assert sorted(len(batch) for _, batch in batches) == [3, 3, *[4] * 7]


def test_the_order_follows_from_the_seed_and_differs_between_epochs():
    def order(seed, epoch):
        return [batch for number, batch in epochs(stream(seed).batches(), 2) if number == epoch]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


@pytest.mark.parametrize("reader", [0, 1])
def test_starting_late_is_the_same_as_skipping(reader):
    batches = epochs(stream(reader=reader, readers=2).batches(), 3)
    for start in range(len(batches) - 1):
        assert next(stream(reader=reader, readers=2).batches(start)) == batches[start]


def test_starting_late_reads_only_what_is_needed():
    read = []

    def reading(shard, start, stop):
        read.append(stop - start)
        return names_in(shard, start, stop)

    late = stream(in_memory=1, read=reading)
    next(late.batches(late.steps - 1))
    assert sum(read) < ROWS / 2


def test_while_a_group_of_shards_is_used_the_next_one_is_read_and_no_more():
    read: Queue[int] = Queue()

    def reading(shard, start, stop):
        read.put(stop - start)
        return names_in(shard, start, stop)

    reader = stream(in_memory=1, read=reading)
    sizes = [len(batch) for _, batch in epochs(stream(in_memory=1).batches(), 1)]
    two_groups = 2 * reader.steps // len(SHARDS)  # as many groups as shards
    batches = reader.batches()
    assert len(next(batches)[1]) == sizes[0]
    expected = sum(sizes[:two_groups])
    got = 0
    while got < expected:
        got += read.get(timeout=10)
    batches.close()
    assert got == expected
    assert read.empty()


def test_reading_stops_between_shards():
    """So that a training that ends does not wait for all that is read ahead."""
    used, read, first = _Used(), [], []
    next(stream(in_memory=2, read=lambda *part: first.append(part) or names_in(*part))._grouped(0, _Used()))

    def reading(shard, start, stop):
        read.append(shard)
        if len(read) == len(first) + 1:
            used.stop()
        return names_in(shard, start, stop)

    groups = stream(in_memory=2, read=reading)._grouped(0, used)
    assert len(next(groups)[1]) > 0
    assert next(groups, None) is None
    assert len(read) == len(first) + 1


class Held:
    """A sample that is in memory as long as somebody uses it."""

    def __len__(self):
        return 1


def test_a_shard_is_read_ahead_when_another_was_used():
    in_memory, rows = 10, 20
    alive: weakref.WeakSet[Held] = weakref.WeakSet()
    most = 0

    def read(shard, start, stop):
        samples = [Held() for _ in range(start, stop)]
        alive.update(samples)
        return samples

    reader = stream(shards=[Shard(str(n), rows) for n in range(30)], read=read, in_memory=in_memory, batch_size=5)
    batches = reader.batches()
    for _ in range(2 * reader.steps):
        next(batches)
        most = max(most, len(alive))
    batches.close()
    # The shards that are shuffled together, one that waits, one that is read, and a batch.
    assert in_memory * rows - 2 * 5 <= most <= (in_memory + 2) * rows + 2 * 5


def test_shards_that_stay_in_memory_are_read_once():
    read = []
    epochs(stream(in_memory=5, read=lambda *part: read.append(part[0].path) or names_in(*part)).batches(), 3)
    assert sorted(read) == [shard.path for shard in SHARDS]


def test_like_lengths_stand_together_also_across_readers():
    texts = ["x" * length for length in np.random.default_rng(0).permutation(80)]

    def read(shard, start, stop):
        return texts[start:stop]

    found = [
        epochs(stream(shards=[Shard("one", 80)], read=read, reader=number, readers=2, batch_size=8).batches(), 1)
        for number in range(2)
    ]
    for batches in found:
        assert all(max(map(len, batch)) - min(map(len, batch)) <= 20 for _, batch in batches)
    means = np.array([[np.mean([len(text) for text in batch]) for _, batch in batches] for batches in found])
    assert np.corrcoef(means)[0, 1] > 0.9


@pytest.mark.parametrize(
    ("weights", "offset", "expected"),
    [
        ([1, 1, 1, 1], 0.0, [0, 1, 2, 3]),
        ([1, 1, 1, 1], 0.99, [0, 1, 2, 3]),
        ([3, 1, 0, 0], 0.5, [0, 0, 0, 1]),
        ([0.5, 0.5, 3, 0], 0.1, [0, 2, 2, 2]),
        ([0.5, 0.5, 3, 0], 0.6, [1, 2, 2, 2]),
    ],
)
def test_rows_are_drawn_as_often_as_their_share_rounded_up_or_down(weights, offset, expected):
    assert drawn(np.array(weights, float), offset).tolist() == expected


@pytest.mark.parametrize("readers", [1, 2])
def test_weights_say_how_often_a_sample_comes_in_an_epoch_and_change_nothing_else(readers):
    def weigh(names):
        return np.array([3.0 if name.startswith("a") else 1.0 for name in names])

    shards = [Shard("a", 10), Shard("b", 30)]
    for number in range(readers):
        plain, weighted = (
            epochs(stream(shards=shards, in_memory=9, reader=number, readers=readers, weigh=how).batches(), 2)
            for how in (None, weigh)
        )
        assert [(epoch, len(batch)) for epoch, batch in weighted] == [(epoch, len(batch)) for epoch, batch in plain]
        for epoch in range(2):
            names = [name for found, batch in weighted if found == epoch for name in batch]
            once = [name for found, batch in plain if found == epoch for name in batch]
            weights = weigh(once) * len(once) / weigh(once).sum()
            assert set(names) <= set(once)
            for name, share in zip(once, weights, strict=True):
                assert int(share) <= names.count(name) <= int(share) + 1
        late = stream(shards=shards, in_memory=9, reader=number, readers=readers, weigh=weigh)
        assert next(late.batches(5)) == weighted[5]


def test_fewer_samples_than_readers_are_refused():
    with pytest.raises(UserError, match="test: 34 samples in batches of 4 cannot be shared among 5 readers"):
        stream(readers=5)


@pytest.fixture
def folder(tmp_path):
    return write_shards(str(tmp_path / "shards"), [World().mixed(number) for number in range(6)])


def test_rows_of_a_shard(folder):
    (shard,) = open_shards(folder).mixed
    assert [sample.key for sample in read_rows(shard, 2, 4)] == ["m000002", "m000003"]
    assert len(read_rows(shard, 0, 6)) == 6


@pytest.mark.parametrize(("rows", "found"), [(7, "6"), (5, "more")])
def test_a_shard_with_other_than_its_manifests_samples_is_named(folder, rows, found):
    (shard,) = open_shards(folder).mixed
    with pytest.raises(UserError, match=f"mixed-000000.tar: holds {found} samples, the manifest says {rows}"):
        read_rows(Shard(shard.path, rows), 3, rows)


def test_damage_is_named_by_the_reader_that_meets_it(folder):
    (shard,) = open_shards(folder).mixed
    content = files.read_bytes(shard.path)
    files.publish_bytes(shard.path, content[: len(content) // 2])
    assert len(read_rows(shard, 0, 2)) == 2
    with pytest.raises(UserError, match=r"mixed-000000.tar: damaged"):
        read_rows(shard, 2, 6)


def test_remote_shards_are_read_like_local_ones(folder):
    remote = "memory://bucket/shards"
    for name in files.list_files(folder):
        files.publish_bytes(f"{remote}/{name}", files.read_bytes(f"{folder}/{name}"))
    local, far = open_shards(folder), open_shards(remote)
    assert far.mixed[0].path == f"{remote}/mixed-000000.tar"
    assert (far.feature_dim, far.content_hash, far.vocabulary) == (FEATURE_DIM, local.content_hash, "toy")
    pairs = zip(read_rows(far.mixed[0], 1, 5), read_rows(local.mixed[0], 1, 5), strict=True)
    assert all(one.key == other.key and np.array_equal(one.features, other.features) for one, other in pairs)
