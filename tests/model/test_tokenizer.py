import json
import re
import subprocess
import sys

import numpy as np
import pytest

from vlmixer.artifacts.errors import UserError
from vlmixer.model import tokenizer as tokenizers

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "kite", "##s", "hot", "air", "e", "cafe"]


@pytest.fixture
def vocabulary_file(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(VOCABULARY) + "\n")
    return str(path)


def test_pieces_know_their_word_and_characters(vocabulary_file):
    (pieces,) = tokenizers.load(vocabulary_file).encode(["A dog, kites"])
    assert pieces.ids.tolist() == [5, 6, 1, 7, 8]
    assert pieces.words.tolist() == [0, 1, 2, 3, 3]
    assert pieces.spans.tolist() == [[0, 1], [2, 5], [5, 6], [7, 11], [11, 12]]


def test_spans_count_the_characters_of_the_original_text_where_accents_are_stripped(vocabulary_file):
    (pieces,) = tokenizers.load(vocabulary_file).encode(["Café dog"])
    assert (pieces.ids.tolist(), pieces.spans.tolist()) == ([12, 6], [[0, 4], [5, 8]])


def test_an_empty_text_has_no_pieces(vocabulary_file):
    (pieces,) = tokenizers.load(vocabulary_file).encode([""])
    assert pieces.ids.shape == (0,)
    assert pieces.spans.shape == (0, 2)


def test_only_the_most_frequent_words_are_held():
    words = ["rare", "dog", "dog", "kite", "kite", "zebra", "dog", "emu"]
    counts, letters = tokenizers.counted(iter(words), 2)
    assert counts == {"dog": 3, "kite": 2}
    assert letters == set("".join(words))
    many = (f"{number}" for number in range(1000))
    assert tokenizers.counted(many, 3)[0] == {"0": 1, "1": 1, "10": 1}


def test_a_word_that_can_have_no_pieces_is_not_learned_from():
    tokenizer = tokenizers.learn(["a dog", "z" * 101], 100)
    assert tokenizer.to_json() == tokenizers.learn(["a dog"], 100).to_json()


def test_a_special_piece_written_in_a_sentence_is_plain_text(vocabulary_file):
    tokenizer = tokenizers.load(vocabulary_file)
    (pieces,) = tokenizer.encode(["a [MASK] dog"])
    assert tokenizer.mask not in pieces.ids


def test_random_replacements_are_never_special_pieces(vocabulary_file):
    assert tokenizers.load(vocabulary_file).ordinary.tolist() == list(range(5, len(VOCABULARY)))


def test_saved_and_loaded_it_is_the_same(vocabulary_file, tmp_path):
    tokenizer = tokenizers.load(vocabulary_file)
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_json())
    again = tokenizers.load(str(path))
    assert again.to_json() == tokenizer.to_json()
    assert np.array_equal(again.encode(["hot air kites"])[0].ids, tokenizer.encode(["hot air kites"])[0].ids)


def bert_with(tmp_path, vocabulary_file, **parts):
    content = json.loads(tokenizers.load(vocabulary_file).to_json())
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**content, **parts, "model": {**content["model"], **parts.get("model", {})}}))
    return str(path)


REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 50}
SPLIT = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"normalizer": REPLACE}, "the part 'Replace'"),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, *[REPLACE] * 8]}}, "the part 'Replace'"),
        ({"normalizer": {"type": "Prepend", "prepend": "a" * 1000}}, "the part 'Prepend'"),
        ({"pre_tokenizer": SPLIT}, "the part 'Split'"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [SPLIT]}}, "the part 'Split'"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": {"a": 3}}}, "the part 'Sequence'"),
        ({"pre_tokenizer": {"type": {"a": 1}}}, "the part {'a': 1}"),
        ({"pre_tokenizer": [SPLIT]}, "the part "),
        ({"model": {"max_input_chars_per_word": 10**9}}, "words of up to 1000000000 characters"),
        ({"model": {"continuing_subword_prefix": "#" * 10**6}}, "a prefix of 1000000"),
        ({"added_tokens": [{"id": 6, "content": "a" * 600_000}] * 2}, "added tokens of 1,200,000 characters"),
    ],
)
def test_a_tokenizer_that_makes_texts_longer_or_searches_them_is_refused(tmp_path, vocabulary_file, parts, said):
    with pytest.raises(UserError, match=re.escape(said)):
        tokenizers.load(bert_with(tmp_path, vocabulary_file, **parts))


def test_an_id_of_billions_is_one_message(tmp_path, vocabulary_file, monkeypatch):
    ids = {piece: row for row, piece in enumerate(tokenizers.SPECIAL)} | {"dog": 4_000_000_000}
    path = bert_with(tmp_path, vocabulary_file, model={"vocab": ids})
    monkeypatch.setattr(tokenizers.plain_texts, "divides_words", lambda _: pytest.fail("takes memory for each id"))
    with pytest.raises(UserError, match=r"an id of 4,000,000,000 among 6 pieces"):
        tokenizers.load(path)


def test_a_file_larger_than_any_vocabulary_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizers, "MAX_BYTES", 9)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    with pytest.raises(UserError, match=r"vocab.txt: more than 9 bytes, which no vocabulary has"):
        tokenizers.load(str(tmp_path / "vocab.txt"))


def test_a_tokenizer_of_usual_parts_is_read(tmp_path, vocabulary_file):
    steps = [{"type": "NFC"}, {"type": "Strip", "strip_left": True, "strip_right": True}]
    path = bert_with(tmp_path, vocabulary_file, normalizer={"type": "Sequence", "normalizers": steps},
                     pre_tokenizer={"type": "WhitespaceSplit"})  # fmt: skip
    assert tokenizers.load(path).encode(["a   dog"])[0].ids.tolist() == [5, 6]


LEARN = """
import itertools
from vlmixer.model.tokenizer import learn
texts = ["".join(letters) for letters in itertools.product("abcd", "efgh", "ijkl", "mnop")]
print(learn(texts, 120).to_json())
"""


def test_the_same_texts_give_the_same_vocabulary_in_every_process():
    learned = {
        subprocess.run([sys.executable, "-c", LEARN], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    }
    assert len(learned) == 1


def test_a_learned_vocabulary_knows_the_frequent_words_whole():
    tokenizer = tokenizers.learn(["a dog chases a kite"] * 5 + ["zebra"], 45)
    (pieces,) = tokenizer.encode(["dog kite zebra gnu?"])
    assert tokenizer.size <= 45
    assert [int((pieces.words == word).sum()) for word in (0, 1)] == [1, 1]
    assert (pieces.words == 2).sum() > 1
    assert tokenizer.unknown in pieces.ids


def test_texts_without_a_word_are_an_error():
    with pytest.raises(UserError, match="no word"):
        tokenizers.learn(["", "  "], 100)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\ndog\n", r"lacks \[MASK\]"),
        ("tokenizer.json", "{}", "not readable"),
        ("tokenizer.json", "\udcff", "not readable"),
    ],
)
def test_a_file_that_is_no_bert_vocabulary_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=message) as caught:
        tokenizers.load(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_only_line_ends_separate_the_pieces_of_a_vocabulary(tmp_path, end, start):
    """U+0085, U+2028 and others are pieces of multilingual vocabularies, and no lines of their own."""
    path = tmp_path / "vocab.txt"
    odd = ["\x85", "\u2028", "\x0b", "\x1c", "\xa0", "\u3000"]
    path.write_bytes((start + end.join([*VOCABULARY[:5], *odd, *VOCABULARY[5:]]) + end).encode())
    tokenizer = tokenizers.load(str(path))
    assert tokenizer.size == len(VOCABULARY) + len(odd)
    assert tokenizer.encode(["a dog"])[0].ids.tolist() == [11, 12]
    assert tokenizer.decode([0, 10, 11]) == "[PAD] \u3000 a"


CASED = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "Paris", "É", "##s"]


@pytest.mark.parametrize(
    ("vocabulary", "config", "lower_case", "expected"),
    [
        (VOCABULARY, None, None, True),
        (VOCABULARY, '{"do_lower_case": false}', None, False),
        (VOCABULARY, '{"do_lower_case": false}', True, True),
        (VOCABULARY, "{}", None, True),
        (CASED, None, None, False),
        (CASED, '{"do_lower_case": true}', None, True),
        (CASED, None, True, True),
    ],
)
def test_texts_are_lower_cased_as_the_vocabulary_needs(tmp_path, vocabulary, config, lower_case, expected):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(vocabulary))
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(config)
    tokenizer = tokenizers.load(str(path), lower_case)
    (pieces,) = tokenizer.encode(["A Dog É"])
    upper = [vocabulary.index(piece) if piece in vocabulary else tokenizer.unknown for piece in ("A", "Dog", "É")]
    lower = [vocabulary.index(piece) if piece in vocabulary else tokenizer.unknown for piece in ("a", "dog", "e")]
    assert pieces.ids.tolist() == (lower if expected else upper)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json())
    assert tokenizers.load(str(tmp_path / "tokenizer.json")).encode(["A Dog É"])[0].ids.tolist() == pieces.ids.tolist()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        tokenizers.load(str(tmp_path / "vocab.txt"))


def test_the_share_of_unknown_pieces(tokenizer):
    assert tokenizers.unknown_share(tokenizer, ["a dog", "two zebras"]) == 0.25
    assert tokenizers.unknown_share(tokenizer, []) == 0
