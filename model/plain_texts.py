"""Word pieces of many plain English texts in a fraction of the library's time: each different word is divided once.

BERT's rule divides a text at white space and around punctuation, and each word by itself. For printable ASCII both are
simple. Other texts, and other rules, are left to the library.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tokenizers

_WORD = re.compile("[A-Za-z0-9]+|[!-~]")
_PRINTABLE = re.compile("[ -~]*")
_LETTERS = np.array([chr(code).isalnum() and code < 128 for code in range(256)])


@dataclass(frozen=True)
class Flat:
    """The word pieces of n texts, one after the other: those of text i are at starts[i] to starts[i + 1].

    `ids`, `words`: (m,) int64; `spans`: (m, 2) int64, as in Pieces of model.tokenizer. `starts`: (n + 1,) int64.
    """

    ids: np.ndarray
    words: np.ndarray
    spans: np.ndarray
    starts: np.ndarray


def divides_words(inner: tokenizers.Tokenizer) -> bool | None:
    """Whether a tokenizer lower-cases texts before it divides them by BERT's rule; None if it does something else."""
    content: dict[str, Any] = json.loads(inner.to_str())
    normalizer = content["normalizer"] or {}
    if (
        normalizer.get("type") == "BertNormalizer"
        and content["pre_tokenizer"] == {"type": "BertPreTokenizer"}
        and content["model"]["type"] == "WordPiece"
        and not content["added_tokens"]
    ):
        return bool(normalizer["lowercase"])
    return None


def is_plain(text: str) -> bool:
    """Whether a text is printable ASCII."""
    return _PRINTABLE.fullmatch(text) is not None


def divided(text: str) -> list[str]:
    """The words of a plain text by BERT's rule, punctuation among them."""
    return _WORD.findall(text)


def encode(
    texts: Sequence[str], lower_case: bool, encode_words: Callable[[list[str]], list[tokenizers.Encoding]]
) -> Flat:
    """The pieces of plain texts, at least one. `encode_words`: what the library makes of single words."""
    joined = "\n".join(texts)
    joined = joined.lower() if lower_case else joined
    places: dict[str, int] = {}
    which = np.array([places.setdefault(word, len(places)) for word in divided(joined)], np.int64)
    encoded = encode_words(list(places))
    # The pieces of all different words, one after the other.
    ids = np.array([piece for word in encoded for piece in word.ids], np.int64)
    spans = np.array([span for word in encoded for span in word.offsets], np.int64).reshape(-1, 2)
    lengths = np.array([len(word.ids) for word in encoded], np.int64)
    # Where each word of the texts begins, in the joined text and in its own.
    characters = np.frombuffer(joined.encode("ascii"), np.uint8)
    letters = _LETTERS[characters]
    begins = (characters > ord(" ")) & ~(letters & np.concatenate([[False], letters[:-1]]))
    begin = np.flatnonzero(begins)
    of_text = np.cumsum([0, *(len(text) + 1 for text in texts)])
    text = np.searchsorted(of_text, begin, "right") - 1
    words = np.arange(len(begin)) - np.searchsorted(begin, of_text[:-1])[text]
    word, piece = runs((np.cumsum(lengths) - lengths)[which], lengths[which])
    return Flat(
        ids[piece],
        words[word],
        spans[piece] + (begin - of_text[text])[word][:, None],
        np.searchsorted(text[word], np.arange(len(texts) + 1)),
    )


def runs(starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For n runs of numbers, `lengths` each from `starts`, both (n,) int64: the run of each number, and the number."""
    run = np.repeat(np.arange(len(lengths)), lengths)
    return run, np.arange(len(run)) + (starts - np.cumsum(lengths) + lengths)[run]
