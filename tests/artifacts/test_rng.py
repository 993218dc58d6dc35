"""These values are on disk in everybody's results: a change of them is a change of the format."""

from itertools import islice

import numpy as np

from vlmixer.artifacts.rng import generator, stable_hash, stable_id, uniforms


def test_hashes_are_the_same_everywhere():
    assert stable_hash("a") == 16860193610431497119
    assert stable_hash(0, "mix", "s-1", 2) == 4292457145766618913
    assert stable_hash("a", bits=128) == 103172601995510111193799272991446746292
    assert stable_id("image", "photos/a.jpg") == "c1411d64749d9bc3"
    assert stable_id("sentences", "a.txt", digits=12) == "21a9bf4a4b3c"
    assert stable_id("image", "é🙂") == "b9cd1410918f6228"


def test_generators_give_the_same_numbers_everywhere():
    rng = generator(0, "mix", "s-1", 2)
    assert rng.integers(0, 1000, 5).tolist() == [347, 457, 201, 825, 614]
    assert float(rng.random()) == 0.35527107994841156


def test_uniform_numbers_are_the_same_everywhere():
    found = list(islice(uniforms(0, "mix", "s-1", 2), 10))
    assert found[:2] + found[8:] == [0.2742867787646618, 0.05059453469091568, 0.44629883984676855, 0.7126501930144198]
    assert found != list(islice(uniforms(1, "mix", "s-1", 2), 10))


def test_uniform_numbers_are_even_and_do_not_follow_each_other():
    found = np.array([list(islice(uniforms(0, number), 20)) for number in range(2000)])
    assert found.min() >= 0
    assert found.max() < 1
    assert np.abs(np.histogram(found, 10, (0, 1))[0] / found.size - 0.1).max() < 0.006
    assert np.abs(np.corrcoef(found.T) - np.eye(20)).max() < 0.1


def test_keys_are_told_apart_by_type_number_and_place():
    keys = [(1,), ("1",), (1.0,), (True,), ((1,),), (1, 1), (11,), ("a", "b"), ("ab",), ("b", "a"), ("a\x1fb",), ()]
    keys += [("a'", "b"), ("a", "'b"), (None,), ("None",)]
    assert len({stable_hash(*key) for key in keys}) == len(keys)


def test_an_id_has_as_many_digits_as_asked_for():
    for digits in (4, 12, 16, 32):
        found = {stable_id("x", number, digits=digits) for number in range(300)}
        assert {len(name) for name in found} == {digits}
        assert all(set(name) <= set("0123456789abcdef") for name in found)


def test_hashes_of_neighbouring_keys_are_spread_evenly():
    shards = np.bincount([stable_hash(0, "shard", f"s-{number}") % 10 for number in range(10_000)])
    assert shards.min() > 850
    assert shards.max() < 1150
