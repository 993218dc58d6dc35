"""MixSentences: rejects, and the count of mentions that max_uses needs."""

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from tests.pipeline.beam.test_transforms import run
from tests.pipeline.jobs.small_corpus import Corpus

from vlmixer.artifacts.samples import Mention
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.beam import GroundedWord, MixSentences, TaggedSentence
from vlmixer.pipeline.beam.rows import plain_key
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


def test_rows_and_dicts_are_read_by_name_and_ids_become_plain(small_run: Corpus):
    word = {"lemma": "dog", "start": 2, "end": 5, "concept": "dog", "surface": "dog"}
    rows = [
        {"text": "a dog", "mentions": [word], "sentence_id": "a"},
        beam.Row(text="a dog", mentions=[beam.Row(**word)], sentence_id="b"),
        DOG._replace(sentence_id="c/é.jpg"),
    ]

    def build(pipeline: beam.Pipeline) -> None:
        mixed = pipeline | beam.Create(rows) | MixSentences(str(small_run.folder / "out" / "bank"))
        found = mixed | beam.Map(lambda sample: (sample.key, sample.mentions[0].surface))
        keys = ["a-00", "b-00", f"{plain_key('c/é.jpg')}-00"]
        assert_that(found, equal_to([(key, "dog") for key in keys]))

    run(build)


@pytest.mark.parametrize(
    ("element", "said"),
    [("a dog", "an element is 'a dog', expected a TaggedSentence, or a row or dict with its fields sentence_id, text,"),
     ({"sentence_id": "a", "text": "a dog", "mentions": ["dog"]}, "an element is 'dog', expected a GroundedWord"),
     ({"sentence_id": 1, "text": "a dog", "mentions": []}, "not both str"),
     (DOG._replace(text="a cat"), r"sentence a: text\[2:5\] is 'cat', its mention says 'dog'"),
     (DOG._replace(mentions=[DOG.mentions[0]._replace(end=50)], text="a dog!"), r"text\[2:50\] is 'dog!'")],
)  # fmt: skip
def test_what_is_no_tagged_sentence_is_an_error(small_run: Corpus, element: object, said: str):
    with pytest.raises(Exception, match=f"MixSentences: .*{said}"):
        run(lambda pipeline: pipeline | beam.Create([element]) | MixSentences(str(small_run.folder / "out" / "bank")))


def test_less_than_one_view_is_refused():
    with pytest.raises(ValueError, match="views is 0, expected at least 1"):
        MixSentences("bank", views=0)


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
