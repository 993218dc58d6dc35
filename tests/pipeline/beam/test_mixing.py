"""MixSentences: rejects, and the count of mentions that max_uses needs."""

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from tests.pipeline.beam.test_transforms import run
from tests.pipeline.jobs.small_corpus import Corpus

from vlmixer.artifacts.samples import Mention
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.beam import GroundedWord, MixSentences, TaggedSentence
from vlmixer.pipeline.mix.samples import Sentence, mix_sentences
from vlmixer.pipeline.mix.settings import CutMixSettings

DOG = TaggedSentence("a", "a dog", [GroundedWord(2, 5, "dog", "dog", "dog")])
HORSE = TaggedSentence("b", "a horse", [GroundedWord(2, 7, "horse", "horse", "horse")])


def test_sentences_without_a_patch_are_rejects(small_run: Corpus):
    def build(pipeline: beam.Pipeline) -> None:
        bank = str(small_run.folder / "out" / "bank")
        mixed, rejects = pipeline | beam.Create([DOG, HORSE]) | MixSentences(bank, views=2).with_rejects()
        assert_that(mixed | beam.Map(lambda sample: sample.key), equal_to(["a-00", "a-01"]), label="mixed")
        expected = [("b-00", "no_patch", "horse"), ("b-01", "no_patch", "horse")]
        assert_that(rejects | beam.Map(tuple), equal_to(expected), label="rejects")

    counters = run(build)
    assert (counters["mix/mixed"], counters["mix/no_patch"]) == (2, 2)


def test_max_uses_counts_the_mentions_of_all_sentences(small_run: Corpus):
    sentences = [DOG._replace(sentence_id=f"s{number}") for number in range(400)]
    folder = str(small_run.folder / "out" / "bank")
    settings = CutMixSettings(max_uses=1)
    known = [Sentence(row.sentence_id, row.text, tuple(Mention(*word) for word in row.mentions)) for row in sentences]
    samples = mix_sentences(known, PatchBank.open(folder), settings, 0, mentions={"dog": 400})
    assert 15 <= len(samples) <= 70  # 40 dogs, one use each

    def build(pipeline: beam.Pipeline) -> None:
        mixed = pipeline | beam.Create(sentences) | MixSentences(folder, settings)
        assert_that(mixed | beam.Map(lambda sample: sample.key), equal_to([sample.key for sample in samples]))

    run(build)


def test_what_cannot_be_counted_in_an_unbounded_collection_must_be_given(small_run: Corpus):
    bank = str(small_run.folder / "out" / "bank")

    def build(pipeline: beam.Pipeline) -> None:
        sentences = pipeline | beam.Create([DOG])
        sentences.is_bounded = False
        with pytest.raises(ValueError, match=r"Give mentions="):
            _ = sentences | "refused" >> MixSentences(bank, CutMixSettings(max_uses="auto"))
        for name, transform in (
            ("no limit", MixSentences(bank)),
            ("given", MixSentences(bank, CutMixSettings(max_uses="auto"), mentions={"dog": 10})),
        ):
            keys = sentences | name >> transform | f"keys: {name}" >> beam.Map(lambda sample: sample.key)
            assert_that(keys, equal_to(["a-00"]), label=name)

    run(build)
