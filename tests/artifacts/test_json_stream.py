"""Lists of JSON are read as `json` would read them, however their characters come; what is broken is never accepted."""

import io
import json
import random
from typing import IO, cast

import pytest

from vlmixer.artifacts.json_stream import BLOCK_CHARACTERS, BrokenJson, json_entries, json_records

TEXTS = ["x", 'é🐕"\\\n', "", "  ", "[", '{"a": 1}', "2.5"]
NUMBERS = [0, -1, 12345, -2.5, 1e300, -1e-7]


def value(chance, depth=0):
    kind = chance.random()
    if kind < 0.4 or depth > 4:
        return chance.choice([None, True, False, *NUMBERS, *TEXTS])
    if kind < 0.7:
        return [value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {
        chance.choice(["a", "annotations", "é", "{["]): value(chance, depth + 1) for _ in range(chance.randrange(4))
    }


def document(chance):
    """A document and its records."""
    records = [value(chance) for _ in range(chance.randrange(5))]
    if chance.random() < 0.5:
        return records, records
    before = {chance.choice("abc"): value(chance) for _ in range(3)}
    after = {chance.choice("def"): value(chance) for _ in range(2)}
    return {**before, "annotations": records, **after}, records


def written(chance, content):
    return json.dumps(content, ensure_ascii=chance.random() < 0.5, indent=chance.choice([None, 1])).encode()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 16])
def test_records_are_those_that_json_reads(size):
    chance = random.Random(size)
    for _ in range(300):
        content, records = document(chance)
        data = written(chance, content)
        assert list(json_records(io.BytesIO(data), "annotations", size)) == records, data


@pytest.mark.parametrize("size", [1, 3, 1 << 16])
def test_what_json_would_not_read_is_broken_and_what_it_would_is_not(size):
    chance = random.Random(size)
    outcomes = set()
    for _ in range(1000):
        records = [value(chance) for _ in range(chance.randrange(5))]
        data = bytearray(written(chance, records))
        data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            expected = json.loads(bytes(data).decode("utf-8-sig", "surrogateescape"))
        except (ValueError, RecursionError):
            expected = None
        try:
            found = list(json_records(io.BytesIO(bytes(data)), "annotations", size))
        except BrokenJson:
            found = None
        assert found == (expected if isinstance(expected, list) else None), bytes(data)
        outcomes.add(found is None)
    assert outcomes == {True, False}


def test_a_list_is_read_while_it_comes():
    class Endless(io.RawIOBase):
        taken = 0

        def read(self, size=-1):
            self.taken += size
            return (b'["one"' + b',"two"' * size)[:size] if self.taken == size else (b',"two"' * size)[:size]

    file = Endless()
    records = json_records(cast(IO[bytes], file), "annotations")
    assert [next(records) for _ in range(3)] == ["one", "two", "two"]
    assert file.taken <= 2 * BLOCK_CHARACTERS


def test_numbers_of_any_length_are_numbers():
    data = b"[" + b"9" * 100_000 + b", 1e999999, -1E-999999, 7]"
    assert [type(record) for record in json_records(io.BytesIO(data), "annotations")] == [float] * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1, {}]", [("", 1), ("", {})]),
        ('{"info": {"a": [1]}, "questions": [{"id": 1}, 2], "none": []}',
         [("info", {"a": [1]}), ("questions", {"id": 1}), ("questions", 2)]),
        ('{"q1": {"imageId": "5"}, "q2": {}}', [("q1", {"imageId": "5"}), ("q2", {})]),
    ],
)  # fmt: skip
def test_the_entries_of_a_file_have_the_names_of_their_values(text, expected):
    assert list(json_entries(io.BytesIO(text.encode()), block=3)) == expected


@pytest.mark.parametrize("text", ["", "3", "[1", '{"a": [1}', '{"a": 1} x'])
def test_entries_of_a_broken_file_are_refused(text):
    with pytest.raises(BrokenJson):
        list(json_entries(io.BytesIO(text.encode())))
