import itertools
import string

import numpy as np
import pytest

from vlmixer.model import plain_texts
from vlmixer.model import tokenizer as tokenizers

VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "dog",
    "##s",
    "kite",
    "A",
    "Dog",
    "2",
    "##2",
    "'",
    "s",
    "-",
]
TEXTS = [
    "A dog, two dogs.", "", "   ", "dog's  kite-kites", " 22 dogs22 2dog", "x" * 101 + " dog", "[MASK] a_dog", "dog",
    *(" ".join(pair) for pair in itertools.pairwise(string.punctuation)), "Dog A KITE",
]  # fmt: skip


@pytest.fixture(params=[True, False])
def tokenizer(request, tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(VOCABULARY))
    return tokenizers.load(str(path), lower_case=request.param)


def as_lists(pieces):
    assert [array.dtype for array in vars(pieces).values()] == [np.int64] * 3
    assert pieces.spans.shape == (len(pieces.ids), 2)
    return [array.tolist() for array in vars(pieces).values()]


def test_many_texts_have_the_pieces_that_each_has_alone(tokenizer):
    texts = [*TEXTS, "Ein Hünd 🐕", "dog\tkite", *TEXTS, "a\u2028dog", *TEXTS * 3]
    assert len(texts) > tokenizers.MANY
    together = tokenizer.encode(texts)
    assert [as_lists(one) for one in together] == [as_lists(tokenizer.encode([text])[0]) for text in texts]


def test_texts_without_any_word(tokenizer):
    texts = ["", "  "] * tokenizers.MANY
    assert [as_lists(one) for one in tokenizer.encode(texts)] == [[[], [], []]] * len(texts)


def test_only_berts_rule_is_followed(tokenizer):
    inner = tokenizer._inner
    assert plain_texts.divides_words(inner) in (True, False)
    inner.add_tokens(["hot dog"])
    assert plain_texts.divides_words(inner) is None
    other = type(inner)(inner.model)
    assert plain_texts.divides_words(other) is None
    other.normalizer = inner.normalizer
    assert plain_texts.divides_words(other) is None


def test_a_vocabulary_is_the_one_that_the_library_learns_text_by_text(monkeypatch):
    texts = [*TEXTS, "Ein Hünd 🐕", "z" * 101, *["a hot-dog stand, 2 dogs"] * 250]
    learned = tokenizers.learn(texts, 90).to_json()
    monkeypatch.setattr(tokenizers, "is_plain", lambda text: False)
    monkeypatch.setattr(tokenizers, "MANY", 1)
    assert tokenizers.learn(texts, 90).to_json() == learned
