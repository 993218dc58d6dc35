"""Word pieces: BERT's lower-case WordPiece, learned from the shards' texts or given by the user.

Text becomes pieces, each with its characters and its word. What is masked, replaced or dropped is left to model.views.
"""

import heapq
import io
import itertools
import os
import re
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from vlmixer.artifacts import files, json_files
from vlmixer.artifacts.errors import UserError
from vlmixer.model import plain_texts
from vlmixer.model.plain_texts import is_plain

MAX_UNUSED = 100
"""A vocabulary may leave ids unused, but not all but one of this many."""
MAX_WORDS = 80_000
"""Different words that a vocabulary is learned from. Each takes half a kilobyte."""
WORDS_PER_PIECE = 10
"""MAX_WORDS for a large vocabulary, by its number of pieces."""
LONGEST_WORD = 100
"""Characters of a word that is learned from: the library has no pieces for a longer one."""
MAX_BYTES = 1 << 24
"""Of a file. One of half a million pieces has ten megabytes, and three million take a minute."""
MAX_ADDED = 1 << 20
"""Characters of all added tokens. The library takes hundreds of bytes for each."""
MAX_WORD = 1000
"""Characters of a word that a tokenizer.json may look up: the time grows with the square."""
MANY = 100
"""Texts from which on it pays to divide each different word once."""
_HARMLESS = frozenset(
    "BertNormalizer Lowercase NFC NFD NFKC NFKD Nmt Strip StripAccents Sequence BertPreTokenizer ByteLevel Digits "
    "Metaspace Precompiled Punctuation UnicodeScripts Whitespace WhitespaceSplit".split()
)
_INSIDE_WORD = re.compile(r"(?<=\w) ([-'’]) (?=\w)")
_BEFORE_MARK = re.compile(r" ([.,;:!?])")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Pieces:
    """A text's word pieces, without [CLS] and [SEP].

    `ids`: (n,) int64. `words`: (n,) int64, the number, from 0, of the word that each piece belongs to. `spans`: (n, 2)
    int64, start and end of each piece in the characters of the text, end exclusive.
    """

    ids: np.ndarray
    words: np.ndarray
    spans: np.ndarray


class Tokenizer:
    """Text to word pieces; has the ids of the special pieces."""

    def __init__(self, inner: tokenizers.Tokenizer, name: str) -> None:
        """`name`: where `inner` comes from, for messages. Raises UserError if a special piece is missing."""
        vocabulary = inner.get_vocab()
        if missing := [piece for piece in SPECIAL if piece not in vocabulary]:
            raise UserError(
                f"{name}: the vocabulary lacks {', '.join(missing)}. Give a BERT vocabulary (vocab.txt or "
                "tokenizer.json), or remove model.tokenizer to learn one from the shards."
            )
        #: Number of rows of the word embedding: the highest id plus 1.
        self.size = max(vocabulary.values()) + 1
        if self.size > MAX_UNUSED * len(vocabulary):
            raise UserError(
                f"{name}: an id of {self.size - 1:,} among {len(vocabulary):,} pieces; each id takes a row of "
                "the network. The file is damaged: fetch it again, or train again."
            )
        inner.no_padding()
        inner.no_truncation()
        self._inner = inner
        self._lower_case = plain_texts.divides_words(inner)  # takes memory for each id
        special = [vocabulary[piece] for piece in SPECIAL]
        self.padding, self.unknown, self.begin, self.end, self.mask = special
        #: Ids that are not special: the random replacements of masked pieces.
        self.ordinary = np.setdiff1d(np.arange(self.size), special)

    def encode(self, texts: Sequence[str]) -> list[Pieces]:
        """The pieces of each text."""
        plain = [] if self._lower_case is None else [row for row, text in enumerate(texts) if is_plain(text)]
        found: dict[int, Pieces] = {}
        if self._lower_case is not None and len(plain) >= MANY:
            flat = plain_texts.encode([texts[row] for row in plain], self._lower_case, self._encoded)
            for row, (start, end) in zip(plain, itertools.pairwise(flat.starts.tolist()), strict=True):
                found[row] = Pieces(flat.ids[start:end], flat.words[start:end], flat.spans[start:end])
        others = [row for row in range(len(texts)) if row not in found]
        for row, encoding in zip(others, self._encoded([texts[row] for row in others]), strict=True):
            found[row] = Pieces(
                np.array(encoding.ids, np.int64),
                np.array(encoding.word_ids, np.int64),
                np.array(encoding.offsets, np.int64).reshape(-1, 2),
            )
        return [found[row] for row in range(len(texts))]

    def _encoded(self, texts: list[str]) -> list[tokenizers.Encoding]:
        return list(self._inner.encode_batch(texts, add_special_tokens=False))

    def decode(self, ids: Iterable[int]) -> str:
        """The pieces separated by spaces, with the special ones: for people."""
        return " ".join(self._inner.id_to_token(int(piece)) or "?" for piece in ids)

    def text(self, ids: Iterable[int]) -> str:
        """The pieces as plain text: words put together again, punctuation without spaces before it."""
        joined = " ".join(self._inner.id_to_token(int(piece)) or "" for piece in ids).replace(" ##", "")
        return _BEFORE_MARK.sub(r"\1", _INSIDE_WORD.sub(r"\1", joined)).strip()

    def to_json(self) -> str:
        """The content of a tokenizer.json; equal tokenizers give equal text."""
        return str(self._inner.to_str(pretty=True))


def _bert(model: models.WordPiece, lower_case: bool = True) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(model)
    inner.normalizer = normalizers.BertNormalizer(lowercase=lower_case)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return inner


def learn(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """A vocabulary of at most `vocabulary_size` pieces for `texts`; the same texts give the same vocabulary.

    Of more than MAX_WORDS different words, the rarest are left out. Raises UserError if the texts have no words.
    """
    learner = _bert(models.WordPiece(unk_token="[UNK]"))

    def words() -> Iterator[str]:
        for text in texts:
            if is_plain(text):
                found = plain_texts.divided(text.lower())
            else:
                normal = learner.normalizer.normalize_str(text)
                found = [word for word, _ in learner.pre_tokenizer.pre_tokenize_str(normal)]
            yield from (word for word in found if len(word) <= LONGEST_WORD)

    counts, letters_found = counted(words(), max(MAX_WORDS, WORDS_PER_PIECE * vocabulary_size))
    if not counts:
        raise UserError("The shards' texts have no words to learn a vocabulary from. Check the input of mix.")
    # The library breaks ties by ids, and numbers letters in the order of a hash map, which differs from process to
    # process. Passing all letters as special tokens fixes their ids, and thereby the result.
    letters = sorted(letters_found)
    alphabet = [*letters, *(f"##{letter}" for letter in letters)]
    learner.train_from_iterator(
        (line for word in sorted(counts) for line in _repeated(word, counts[word])),
        trainers.WordPieceTrainer(
            vocab_size=max(vocabulary_size, len(SPECIAL) + len(alphabet)),
            special_tokens=[*SPECIAL, *alphabet],
            show_progress=False,
        ),
    )
    return Tokenizer(_bert_of(learner.get_vocab()), "learned vocabulary")


def _repeated(word: str, count: int) -> Iterator[str]:
    """The word as often as it occurs, in lines of many, because the library takes its time for each line."""
    for first in range(0, count, MANY):
        yield " ".join([word] * min(count - first, MANY))


def counted(words: Iterable[str], most: int) -> tuple[dict[str, int], set[str]]:
    """How often each of the `most` frequent words occurs, and the letters of all words.

    Never more than `2 * most` words are held: then the rarer half is forgotten, and counted from 0 if it occurs again.
    """
    counts: dict[str, int] = {}
    letters: set[str] = set()
    for word in words:
        counts[word] = counts.get(word, 0) + 1
        if len(counts) > 2 * most:
            counts = _forgotten(counts, most, letters)
    return _forgotten(counts, most, letters), letters


def _forgotten(counts: dict[str, int], most: int, letters: set[str]) -> dict[str, int]:
    letters.update("".join(counts))
    return dict(heapq.nsmallest(most, counts.items(), lambda item: (-item[1], item[0])))


def _bert_of(vocabulary: dict[str, int], lower_case: bool = True) -> tokenizers.Tokenizer:
    # The special pieces are not registered with the library, so that "[MASK]" in a sentence is plain text.
    return _bert(models.WordPiece(vocabulary, unk_token="[UNK]"), lower_case)


def load(path: str, lower_case: bool | None = None) -> Tokenizer:
    """The tokenizer in a vocab.txt (one piece per line) or a tokenizer.json.

    lower_case: whether texts are lower-cased for a vocab.txt. None: as `do_lower_case` in tokenizer_config.json says,
    next to it; without that file, unless the vocabulary is cased. A tokenizer.json has its own rule.

    Raises UserError if the file is missing, unreadable, or not a BERT vocabulary.
    """
    try:
        data = files.read_start(path, MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UserError(f"more than {MAX_BYTES:,} bytes, which no vocabulary has. Give another model.tokenizer.")
        content = data.decode("utf-8-sig")
        if os.path.basename(path).endswith(".json"):
            _require_harmless(json_files.parse(content.encode()))
            inner = tokenizers.Tokenizer.from_str(content)
        else:
            vocabulary = _pieces(content)
            if lower_case is None:
                lower_case = _config_lower_case(path)
            inner = _bert_of(vocabulary, not _is_cased(vocabulary) if lower_case is None else lower_case)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a vocab.txt or a tokenizer.json.") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    # The library has no error class of its own: it raises bare exceptions for what it cannot parse.
    except Exception as error:
        raise UserError(f"{path}: not readable as a tokenizer.json or vocab.txt ({error}).") from None
    return Tokenizer(inner, path)


def _require_harmless(content: Any) -> None:
    """Raises UserError if a tokenizer.json would make a text far longer, or search it with a pattern of its own.

    A small file could do so often enough to fill the memory, or make the library end the process.
    """
    content = content if isinstance(content, dict) else {}
    waiting = [content.get("normalizer"), content.get("pre_tokenizer")]
    while waiting:
        part = waiting.pop()
        if part is None:
            continue
        kind = part.get("type") if isinstance(part, dict) else part
        inner = part.get("normalizers", part.get("pretokenizers")) if kind == "Sequence" else []
        if not isinstance(kind, str) or kind not in _HARMLESS or not isinstance(inner, list):
            raise UserError(
                f"a tokenizer.json with the part {reprlib.repr(kind)}, which can make texts longer or take for ever. "
                f"Expected {', '.join(sorted(_HARMLESS))}. Give a vocab.txt, or remove model.tokenizer to learn one."
            )
        waiting += inner
    added = content.get("added_tokens")
    tokens = [token for token in added if isinstance(token, dict)] if isinstance(added, list) else []
    characters = sum(len(str(token.get("content"))) for token in tokens)
    if characters > MAX_ADDED:
        raise UserError(
            f"a tokenizer.json with added tokens of {characters:,} characters, which fill the memory. Expected at most "
            f"{MAX_ADDED:,}."
        )
    model = content.get("model")
    model = model if isinstance(model, dict) else {}
    prefix, longest = model.get("continuing_subword_prefix"), model.get("max_input_chars_per_word")
    if (isinstance(prefix, str) and len(prefix) > 16) or (isinstance(longest, int) and longest > MAX_WORD):
        raise UserError(
            f"a tokenizer.json with words of up to {longest} characters and a prefix of {len(prefix or '')}, which "
            f"takes long. Expected at most {MAX_WORD} and 16."
        )


def unknown_share(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """The share of [UNK] among the word pieces of the texts; 0 if there are none."""
    ids = np.concatenate([pieces.ids for pieces in tokenizer.encode(texts)] or [np.zeros(0, np.int64)])
    return float(np.mean(ids == tokenizer.unknown)) if len(ids) else 0.0


def _config_lower_case(path: str) -> bool | None:
    """`do_lower_case` of the tokenizer_config.json next to a vocabulary, None if it does not say."""
    config = files.join(files.parent(path), "tokenizer_config.json")
    if not files.has_file(config):
        return None
    content = json_files.read(config, dict[str, Any], advice="Set model.lower_case, or remove the file.")
    value = content.get("do_lower_case")
    return value if isinstance(value, bool) else None


def _is_cased(vocabulary: Iterable[str]) -> bool:
    """Whether more than a few words of a vocabulary have capital letters, which lower-cased text never has."""
    words = [piece for piece in vocabulary if piece[:1].isalpha()]
    return sum(piece != piece.lower() for piece in words) > 0.05 * len(words)


def _pieces(content: str) -> dict[str, int]:
    """The ids of the pieces in a vocab.txt. Only line feeds and carriage returns end a line: str.splitlines would also
    split at U+0085 and U+2028, which are pieces of multilingual vocabularies."""
    return {line.strip(" \t\n"): row for row, line in enumerate(io.StringIO(content, newline=None))}
