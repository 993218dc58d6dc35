import pytest
from tokenizers import Tokenizer as Inner
from tokenizers import models

from vlmixer.model.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    """Ids are places: "a" 5, "dog" 6, "chases" 7, "kite" 8."""
    pieces = "[PAD] [UNK] [CLS] [SEP] [MASK] a dog chases kite".split()
    return Tokenizer(Inner(models.WordPiece({piece: row for row, piece in enumerate(pieces)})), "test")
