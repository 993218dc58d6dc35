import pytest
from tests.model.runs import Killed, settings, stop_after
from tests.model.world import World, write_shards

from vlmixer.model import tokenizer as tokenizers
from vlmixer.model.training import train

VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] a dog chases two kite ##s hot air balloon".split()


@pytest.fixture
def tokenizer(tmp_path):
    """Ids are places in VOCABULARY: "a" 5, "dog" 6, "chases" 7, "two" 8, "kite" 9, "##s" 10, "hot" 11 …"""
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(VOCABULARY))
    return tokenizers.load(str(path))


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    world = World()
    samples = [world.mixed(number) for number in range(40)] + [world.image(number) for number in range(12)]
    return write_shards(str(tmp_path_factory.mktemp("train") / "shards"), samples, per_shard=16)


@pytest.fixture(scope="session")
def straight(shards, tmp_path_factory):
    """A run that was never stopped."""
    return train(settings(shards), out=str(tmp_path_factory.mktemp("train") / "run"))


@pytest.fixture
def stopped(shards, tmp_path, monkeypatch):
    """A run that stopped after step 6, with a checkpoint of step 4."""
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        with pytest.raises(Killed):
            train(settings(shards), out=str(tmp_path / "run"))
    return str(tmp_path / "run")
