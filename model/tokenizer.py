"""Word pieces: BERT's lower-case WordPiece, learned from the shards' texts or given by the user.

What is masked, replaced or dropped is decided elsewhere (model.views); here text becomes pieces, and every
piece knows the characters and the word that it comes from.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Pieces:
    """A text's word pieces, without [CLS] and [SEP].

    `ids`: (n,) int64. `words`: (n,) int64, the number of the word that each piece belongs to, from 0.
    `spans`: (n, 2) int64, characters of the text, end exclusive.
    """

    ids: np.ndarray
    words: np.ndarray
    spans: np.ndarray


class Tokenizer:
    """Text to word pieces, with the ids of the special pieces at hand."""

    def __init__(self, inner: tokenizers.Tokenizer, name: str) -> None:
        """`name` says in messages where `inner` comes from. Raises UserError if it lacks a special piece."""
        vocabulary = inner.get_vocab()
        if missing := [piece for piece in SPECIAL if piece not in vocabulary]:
            raise UserError(
                f"{name}: the vocabulary lacks {', '.join(missing)}. Give a BERT vocabulary (vocab.txt or "
                "tokenizer.json), or leave model.tokenizer out to learn one from the shards."
            )
        inner.no_padding()
        inner.no_truncation()
        self._inner = inner
        #: One more than the highest id: rows of the word embedding.
        self.size = max(vocabulary.values()) + 1
        special = [vocabulary[piece] for piece in SPECIAL]
        _, self.unknown, self.begin, self.end, self.mask = special
        #: Ids that are not special: what a masked word may be replaced by at random.
        self.ordinary = np.setdiff1d(np.arange(self.size), special)

    def encode(self, texts: Sequence[str]) -> list[Pieces]:
        """Pieces of each text."""
        return [
            Pieces(
                np.array(encoding.ids, np.int64),
                np.array(encoding.word_ids, np.int64),
                np.array(encoding.offsets, np.int64).reshape(-1, 2),
            )
            for encoding in self._inner.encode_batch(list(texts), add_special_tokens=False)
        ]

    def decode(self, ids: Iterable[int]) -> str:
        """The pieces with spaces between them, special ones included: for looking at."""
        return " ".join(self._inner.id_to_token(int(piece)) or "?" for piece in ids)

    def to_json(self) -> str:
        """The content of a tokenizer.json, the same for the same tokenizer."""
        return str(self._inner.to_str(pretty=True))


def _bert(model: models.WordPiece) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(model)
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return inner


def learn(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """A vocabulary of at most `vocabulary_size` pieces for `texts`; the same texts give the same vocabulary.

    Raises UserError if the texts hold no word.
    """
    learner = _bert(models.WordPiece(unk_token="[UNK]"))
    counts: dict[str, int] = {}
    for text in texts:
        for word, _ in learner.pre_tokenizer.pre_tokenize_str(learner.normalizer.normalize_str(text)):
            counts[word] = counts.get(word, 0) + 1
    if not counts:
        raise UserError("The shards' texts hold no word to learn a vocabulary from. Check what was mixed.")
    # The library breaks ties by ids, and numbers the letters inside words in the order of a hash map that
    # differs from process to process. Naming all letters beforehand fixes their numbers, and so the result.
    letters = sorted(set("".join(counts)))
    alphabet = [*letters, *(f"##{letter}" for letter in letters)]
    learner.train_from_iterator(
        (word for word in sorted(counts) for _ in range(counts[word])),
        trainers.WordPieceTrainer(
            vocab_size=max(vocabulary_size, len(SPECIAL) + len(alphabet)),
            special_tokens=[*SPECIAL, *alphabet],
            show_progress=False,
        ),
    )
    return _of_vocabulary(learner.get_vocab(), "learned vocabulary")


def _of_vocabulary(vocabulary: dict[str, int], name: str) -> Tokenizer:
    # The special pieces are not registered with the library: "[MASK]" in somebody's sentence is plain text.
    return Tokenizer(_bert(models.WordPiece(vocabulary, unk_token="[UNK]")), name)


def load(path: str) -> Tokenizer:
    """The tokenizer in a vocab.txt (one piece a line) or a tokenizer.json.

    Raises UserError if it is missing, unreadable, or no BERT vocabulary.
    """
    try:
        content = files.read_bytes(path).decode()
        if os.path.basename(path).endswith(".json"):
            inner = tokenizers.Tokenizer.from_str(content)
        else:
            pieces = content.splitlines()
            return _of_vocabulary({piece.strip(): row for row, piece in enumerate(pieces)}, path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a vocab.txt or a tokenizer.json.") from None
    # The library has no error class of its own: it raises bare exceptions for whatever it cannot parse.
    except Exception as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not readable as a tokenizer.json or vocab.txt ({error}).") from None
    return Tokenizer(inner, path)
