"""Candidates between the passes: the same marks, however few hashes are held at a time."""

import random

import pytest

from vlmixer.pipeline.text.candidates import CandidateFiles
from vlmixer.pipeline.text.readers.reader import SourceSentence
from vlmixer.pipeline.text.units import DUPLICATES, FIND, Bucket, Candidates

BUCKETS = 3
ROWS_PER_BATCH = 7


@pytest.mark.parametrize(("hashes_held", "at_once"), [(1000, 1000), (10, 1000), (1000, 10), (10, 1)])
def test_candidates_that_repeat_an_earlier_one_are_marked(tmp_path, hashes_held, at_once):
    chance = random.Random(5)
    texts = [[f"text {chance.randrange(120)}" for _ in range(size)] for size in (90, 0, 61)]
    store = CandidateFiles(str(tmp_path))
    for number, unit in enumerate(texts):
        sentences = [SourceSentence("a.txt", place, -1, text) for place, text in enumerate(unit)]
        written = store.write(FIND.name(number), sentences, BUCKETS, ROWS_PER_BATCH, hashes_held)
        assert written == len(unit)
    for bucket in range(BUCKETS):
        store.mark_duplicates(DUPLICATES.name(bucket), Bucket(bucket, len(texts)), BUCKETS, at_once)

    known: set[str] = set()
    for number, unit in enumerate(texts):
        batches = -(-len(unit) // ROWS_PER_BATCH)
        expected = []
        for text in unit:
            expected.append((text, text in known))
            known.add(text)
        read: list[tuple[str, bool]] = []
        for first in range(0, batches, 4):  # some batches at a time, as the units of the third pass do
            content = Candidates(number, first, min(first + 4, batches))
            for sentences, marks in store.read(content, BUCKETS, ROWS_PER_BATCH):
                read += zip([sentence.text for sentence in sentences], marks, strict=True)
        assert read == expected
