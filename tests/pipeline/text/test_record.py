"""What an earlier run found in sentences is found again, and only new sentences are tagged."""

from collections.abc import Sequence
from typing import cast

import pyarrow.parquet as pq
from tests.pipeline.jobs.small_corpus import Corpus, run

from vlmixer.pipeline.text.readers.reader import SourceSentence
from vlmixer.pipeline.text.record import NOT_MEANT, EarlierSentences, tag_new
from vlmixer.pipeline.text.tagger import Tagged, Tagger

SENTENCES = ["Two dogs run.", "They train a dog.", "They train hard.", "A cat and a dog.", "A cat and a dog."]


class Counting:
    """A tagger that finds nothing, and remembers its texts."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        self.texts += texts
        return [Tagged((), ())] * len(texts)


def test_known_sentences_are_not_tagged_again(corpus: Corpus):
    corpus.captions.write_text("\n".join(SENTENCES) + "\n")
    out = corpus.folder / "out"
    config = corpus.write_config(vocabulary="coco")
    assert run(config, out, command="tag") == 0
    others = pq.read_table(out / "tagged" / NOT_MEANT).to_pylist()
    assert [(row["text"], [each["surface"] for each in row["not_meant"]]) for row in others] == [
        ("They train a dog.", ["train"]), ("They train hard.", ["train"]),
    ]  # fmt: skip
    earlier = EarlierSentences(str(out / "tagged"))
    starts = [sum(len(text) + 1 for text in SENTENCES[:number]) for number in range(len(SENTENCES))]
    asked = [
        SourceSentence(str(corpus.captions), start, -1, text) for start, text in zip(starts, SENTENCES, strict=True)
    ]
    changed = SourceSentence(str(corpus.captions), 0, -1, "Two cats run.")
    elsewhere = SourceSentence("other.txt", 0, -1, "Two dogs run.")
    tagger = Counting()
    found = tag_new([*asked, changed, elsewhere], cast(Tagger, tagger), earlier)
    surfaces = [
        ([each.surface for each in tagged.mentions], [each.surface for each in tagged.not_meant]) for _, tagged in found
    ]
    assert surfaces[:4] == [(["dogs"], []), (["dog"], ["train"]), ([], ["train"]), (["cat", "dog"], [])]
    # What was a duplicate was not tagged.
    assert tagger.texts == ["A cat and a dog.", "Two cats run.", "Two dogs run."]
