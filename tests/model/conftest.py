import pytest

from vlmixer.model import tokenizer as tokenizers

VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] a dog chases two kite ##s hot air balloon".split()


@pytest.fixture
def tokenizer(tmp_path):
    """Ids are places in VOCABULARY: "a" 5, "dog" 6, "chases" 7, "two" 8, "kite" 9, "##s" 10, "hot" 11 …"""
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(VOCABULARY))
    return tokenizers.load(str(path))
