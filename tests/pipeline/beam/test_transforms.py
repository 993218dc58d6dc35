"""The public transforms in a pipeline of one's own: they give what the command's stages give, in any pipeline."""

import io
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
import pytest
from apache_beam.io import fileio
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from PIL import Image
from tests.pipeline.jobs.small_corpus import Corpus
from tests.pipeline.jobs.small_corpus import run as run_command

from vlmixer.artifacts.samples import Sample, read_shard
from vlmixer.bank.store import PatchBank
from vlmixer.model.shards import open_shards
from vlmixer.pipeline.beam import (
    BuildPatchBank,
    DetectRegions,
    GroundedWord,
    MakeImageSamples,
    MixSentences,
    TaggedSentence,
    TagSentences,
    Text,
    WriteShards,
)
from vlmixer.pipeline.config import BankSettings, ImageSettings
from vlmixer.pipeline.verification.verify import verify

FEATURES = "feature"
WORDS = "{0.folder}/words.txt"
"""The vocabulary of a small corpus."""


def run(build: Callable[[beam.Pipeline], Any], **options: Any) -> dict[str, int]:
    """Run a local pipeline to its end; returns its counters of vlmixer."""
    pipeline = beam.Pipeline(runner=FnApiRunner(), **options)
    build(pipeline)
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query()["counters"]
    return {each.key.metric.name: each.committed for each in counters if each.key.metric.namespace == "vlmixer"}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of all parts of tagged/ or regions/."""
    return [row for part in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]


def all_samples(folder: Path, pattern: str) -> list[Sample]:
    """The samples of all shards with such a name."""
    return [sample for path in sorted(folder.glob(pattern)) for sample in read_shard(str(path))]


def plain(sample: Sample) -> tuple[Any, ...]:
    """A sample as something that can be compared."""
    return tuple(value.tolist() if isinstance(value, np.ndarray) else value for value in vars(sample).values())


def test_sentences_are_tagged_and_the_others_are_rejects(tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("dog, puppy\nhot dog\n")
    texts = ["A puppy eats. ", Text("b.1", "two dogs"), ("c", "the sea"), ("d", " "), ("e", "x" * 30), ("f", "a dog\0")]

    def build(pipeline: beam.Pipeline) -> None:
        tag = TagSentences(str(words), "rules", max_characters=20).with_rejects()
        tagged, rejects = pipeline | beam.Create(texts) | tag
        expected = [
            TaggedSentence("4c4f6b6a8a3ee7f3", "A puppy eats.", [GroundedWord(2, 7, "dog", "puppy", "puppy")]),
            TaggedSentence("0", "two dogs", [GroundedWord(4, 8, "dog", "dogs", "dog")]),
        ]
        assert_that(
            tagged | beam.Map(lambda row: (row.text, row.mentions)),
            equal_to([(row.text, row.mentions) for row in expected]),
            label="tagged",
        )
        too_long = ("e", "too_long", "30 characters, at most 20")
        others = [("c", "no_mention", ""), ("d", "empty_line", ""), too_long, ("f", "nul_byte", "")]
        assert_that(rejects | beam.Map(tuple), equal_to(others), label="rejects")

    counters = run(build)
    assert {name: number for name, number in counters.items() if name.startswith("tag/")} == {
        "tag/tagged": 2, "tag/no_mention": 1, "tag/empty_line": 1, "tag/too_long": 1, "tag/nul_byte": 1,
    }  # fmt: skip


def test_results_are_rows_for_what_beam_does_by_field():
    def build(pipeline: beam.Pipeline) -> None:
        texts = [("a", "a dog"), ("b", "two dogs and a cat"), ("c", "the sea"), ("d", "")]
        tagged, rejects = pipeline | beam.Create(texts) | TagSentences("coco", "rules").with_rejects()
        chosen = tagged | beam.Select("sentence_id", words=lambda row: len(row.mentions)) | "tuples" >> beam.Map(tuple)
        assert_that(chosen, equal_to([("a", 1), ("b", 2)]), label="chosen")
        by_reason = beam.GroupBy("reason").aggregate_field("key", beam.combiners.CountCombineFn(), "number")
        counted = rejects | by_reason | "pairs" >> beam.Map(tuple)
        assert_that(counted, equal_to([("no_mention", 1), ("empty_line", 1)]), label="counted")

    run(build)


def test_plain_texts_have_a_key_of_their_content_and_keys_with_dots_are_replaced(tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("dog\n")

    def keys(*texts: Any) -> Callable[[Any], None]:
        def check(rows: list[str]) -> None:
            assert len(set(rows)) == len(texts)
            assert all(len(row) == 16 and "." not in row for row in rows)

        return check

    def build(pipeline: beam.Pipeline) -> None:
        texts = ["a dog", "one dog", ("a.b", "a dog"), ("a/b", "a dog")]
        tagged = pipeline | beam.Create(texts) | TagSentences(str(words), "rules")
        assert_that(tagged | beam.Map(lambda row: row.sentence_id), keys(*texts))

    run(build)


def test_rows_are_read_by_name_and_an_absent_text_is_a_reject():
    def build(pipeline: beam.Pipeline) -> None:
        rows = [beam.Row(text="a dog", lang="en", key="a"), beam.Row(text=None, lang="en", key="b")]
        pairs = pipeline | "pairs" >> beam.Create([("c", None), ("d", "a cat"), {"text": "a bird", "key": "e"}])
        tagged, rejects = (
            (pipeline | "rows" >> beam.Create(rows), pairs)
            | beam.Flatten()
            | TagSentences("coco", "rules").with_rejects()
        )
        found = tagged | beam.Map(lambda row: (row.sentence_id, row.text))
        assert_that(found, equal_to([("a", "a dog"), ("d", "a cat"), ("e", "a bird")]), label="tagged")
        lost = [("b", "missing_field", ""), ("c", "missing_field", "")]
        assert_that(rejects | beam.Map(tuple), equal_to(lost), label="rejects")

    run(build)


@pytest.mark.parametrize(
    "element",
    [(17, "a dog"), ("a", b"a dog"), {"id": "a", "text": "a dog"}, ("a", "b", "c"), None, beam.Row(id="a", text="b")],
)
def test_an_element_that_is_no_text_is_shown_with_what_was_expected(element: object):
    with pytest.raises(Exception, match=r"TagSentences: an element is .*, expected a str, \(key, text\), or a row or"):
        run(lambda pipeline: pipeline | beam.Create([element]) | TagSentences("coco", "rules"))


def test_sentences_as_the_stage_tags_them(small_run: Corpus):
    expected = rows_of(small_run.folder / "out" / "tagged")

    def build(pipeline: beam.Pipeline) -> None:
        texts = [(row["sentence_id"], row["text"]) for row in expected]
        tagged = pipeline | beam.Create(texts) | TagSentences(WORDS.format(small_run), "rules")
        as_rows = tagged | beam.Map(
            lambda row: {**row._asdict(), "mentions": [word._asdict() for word in row.mentions]}
        )
        assert_that(as_rows, equal_to(expected))

    run(build)


@pytest.mark.parametrize("spread", [True, False])
def test_texts_are_spread_over_the_workers_before_they_are_tagged(small_run: Corpus, spread: bool):
    pipeline = beam.Pipeline()
    _ = pipeline | beam.Create(["a dog"]) | TagSentences(WORDS.format(small_run), "rules", spread=spread)
    steps = pipeline.to_runner_api().components.transforms.values()
    spreads = [step.unique_name for step in steps if step.spec.urn == "beam:transform:reshuffle:v1"]
    assert [name.startswith("TagSentences/") for name in spreads].count(True) == spread


def detect(corpus: Corpus, *, shared: bool = False) -> DetectRegions:
    """As the small corpus's config says. shared: by one model for all processes of a machine."""
    return DetectRegions(
        "quadrants:Quadrants",
        WORDS.format(corpus),
        ImageSettings(max_megapixels=0.1),  # files of more than two megabytes are too large
        import_paths=[str(corpus.folder)],
        one_model_per_machine=shared,
    )


@pytest.mark.parametrize("source", ["paths", "files", "bytes", "shared model"])
def test_regions_as_the_stage_finds_them(small_run: Corpus, source):
    expected = rows_of(small_run.folder / "out" / "regions")
    paths = sorted({row["source"] for row in expected})
    rows = [
        (row["image_id"], row["patch_id"], row["box"], row["concept"], row["score"], row[FEATURES], row["crop"])
        for row in expected
    ]

    def build(pipeline: beam.Pipeline) -> None:
        begin = pipeline | beam.Create(paths)
        if source == "files":
            begin = begin | fileio.MatchAll() | fileio.ReadMatches()
        if source == "bytes":
            begin = begin | beam.Map(lambda path: (path, Path(path).read_bytes()))
        images = begin | detect(small_run, shared=source == "shared model")
        as_rows = images | beam.FlatMap(
            lambda image: [
                (image.image_id, region.patch_id, list(region.box), region.concept, region.score,
                 np.frombuffer(region.feature, "<f2").tolist(), region.crop)
                for region in image.regions
            ]
        )  # fmt: skip
        assert_that(as_rows, equal_to(rows))

    assert run(build)["detect/images"] == len(paths)


def test_images_that_cannot_be_used_are_rejects_and_cost_no_other_image(small_run: Corpus):
    def jpeg(shade: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(np.full((32, 32, 3), shade, np.uint8)).save(file, "JPEG")
        return file.getvalue()

    good = (small_run.photos / "0001.jpg").read_bytes()
    images = [("good", good), ("white", jpeg(255)), ("dark", jpeg(5)), ("broken", good[:200]), ("text", b"hello"),
              ("empty", b""), ("too large", bytes(2_000_000))]  # fmt: skip

    def build(pipeline: beam.Pipeline) -> None:
        found, rejects = pipeline | beam.Create(images) | detect(small_run).with_rejects()
        assert_that(found | beam.Map(lambda image: image.source), equal_to(["good"]), label="found")
        reasons = {"white": "failed_in_detector", "dark": "no_region", "broken": "truncated_image",
                   "text": "not_an_image", "empty": "empty_file", "too large": "too_large_file"}  # fmt: skip
        assert_that(rejects | beam.Map(lambda row: (row.key, row.reason)), equal_to(list(reasons.items())), label="not")

    assert run(build)["detect/failed_in_detector"] == 1


def test_a_bank_as_the_stage_builds_it(corpus: Corpus):
    # By random numbers, because among equal scores the stage goes by the order of its files.
    settings = BankSettings(max_patches_per_concept=40, selection="random")
    config, out = corpus.write_config(bank=asdict(settings)), corpus.folder / "out"
    assert all(run_command(config, out, command=stage) == 0 for stage in ("detect", "index"))
    expected = PatchBank.open(str(out / "bank"))

    def build(pipeline: beam.Pipeline) -> None:
        paths = pipeline | beam.Create(sorted({row["source"] for row in rows_of(out / "regions")}))
        bank = BuildPatchBank(str(corpus.folder / "bank"), WORDS.format(corpus), settings, seed=3)
        written, rejects = paths | detect(corpus) | bank.with_rejects()
        names = ["concepts.parquet", "crops.bin", "features.npy", "index.faiss", "manifest.json", "patches.parquet"]
        assert_that(written | beam.Map(lambda row: row.name), equal_to(names), label="written")
        left = {"over_limit": sum(expected.candidates.values()) - len(expected)}
        counted = rejects | beam.Map(lambda row: row.reason) | beam.combiners.Count.PerElement()
        assert_that(counted, equal_to(list(left.items())), label="rejects")

    run(build)
    for name in ("crops.bin", "features.npy", "index.faiss", "concepts.parquet", "patches.parquet"):
        assert (corpus.folder / "bank" / name).read_bytes() == (out / "bank" / name).read_bytes(), name
    assert not (corpus.folder / "bank" / ".concepts").exists()
    assert verify(str(corpus.folder / "bank")).problems == []


def test_samples_as_the_stage_makes_them(small_run: Corpus, tmp_path):
    out = small_run.folder / "out"
    words = WORDS.format(small_run)
    paths = sorted({row["source"] for row in rows_of(out / "regions")})
    texts = [(row["sentence_id"], row["text"]) for row in rows_of(out / "tagged")]

    def make_shards(pipeline: beam.Pipeline) -> None:
        tagged = pipeline | "Texts" >> beam.Create(texts) | TagSentences(words, "rules")
        mixed = tagged | MixSentences(str(out / "bank"), views=2, seed=3)
        images = pipeline | "Paths" >> beam.Create(paths) | detect(small_run) | MakeImageSamples()
        _ = (mixed, images) | beam.Flatten() | WriteShards(str(tmp_path / "shards"), 60, seed=3, vocabulary=words)

    run(make_shards)
    for pattern in ("mixed-*.tar", "images-*.tar"):
        made, expected = (all_samples(folder, pattern) for folder in (tmp_path / "shards", out / "shards"))
        assert sorted(map(plain, made)) == sorted(map(plain, expected))
    shards = open_shards(str(tmp_path / "shards"))
    assert sum(shard.rows for shard in shards.mixed) == len(all_samples(out / "shards", "mixed-*.tar"))
    assert shards.feature_dim == 6
    assert verify(str(tmp_path / "shards")).problems == []
