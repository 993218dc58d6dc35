import itertools
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.model.runs import SMALL, losses, settings
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from vlmixer.artifacts.interrupts import Noted
from vlmixer.model import tokenizer as tokenizers
from vlmixer.model.data import Loader
from vlmixer.model.loop import RunOf, loop, optimizer_of
from vlmixer.model.network import Network
from vlmixer.model.progress import Progress
from vlmixer.model.ranks import Ranks
from vlmixer.model.shards import open_shards
from vlmixer.model.training import Losses, train
from vlmixer.model.transfer import changed, fetched, moved, on_device, sent

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Part:
    rows: torch.Tensor
    name: str = "part"


@dataclass(frozen=True)
class Whole:
    parts: dict[str, torch.Tensor]
    part: Part
    nothing: Part | None = None
    count: int = 3

    def to(self, device):
        return moved(self, device)


def whole():
    return Whole({"a": torch.ones(2)}, Part(torch.zeros(3)))


def test_all_tensors_are_changed_and_nothing_else():
    found = changed(whole(), lambda tensor: tensor + 1)
    assert (found.parts["a"].tolist(), found.part.rows.tolist()) == ([2, 2], [1, 1, 1])
    assert (found.part.name, found.nothing, found.count) == ("part", None, 3)


def test_batches_come_in_their_order():
    given = [whole(), whole()]
    assert [id(batch.part.rows) for batch in on_device(given, CPU)] == [id(batch.part.rows) for batch in given]


def test_numbers_come_back_as_they_were_sent():
    assert fetched(sent([1, 0.5], CPU))() == [1.0, 0.5]


class Asked(Exception):
    pass


@pytest.mark.parametrize(("accumulate", "lag"), [(1, 0), (1, 1), (2, 1)])
def test_no_step_waits_for_what_the_device_computes(shards, tmp_path, accumulate, lag):
    """Tensors of this mode have no values: what needs one, `item` or a mask as an index, raises."""
    chosen = settings(shards, accumulate=accumulate, precision="bfloat16")
    folder = open_shards(shards)
    tokenizer = tokenizers.learn(folder.texts(), SMALL.vocabulary_size)
    real = list(itertools.islice(Loader(folder, tokenizer, SMALL, chosen.train, 1).batches(0), 6))
    given = []

    def fetch(numbers):
        given.append(numbers)

        def wait():
            raise Asked

        return wait

    with FakeTensorMode() as mode, Progress(str(tmp_path), 6, 0, quiet=True) as progress:
        module = Losses(Network(SMALL, tokenizer.size, folder.feature_dim), chosen.train, Ranks())
        optimizer = optimizer_of(module.network, chosen.train)
        batches = (changed(batch, mode.from_tensor) for batch in real)
        of = RunOf(str(tmp_path), 1, {}, "-")
        with pytest.raises(Asked):
            loop(of, chosen.train, module, optimizer, batches, None, CPU, progress, Noted(), lag, fetch)
        with pytest.raises(DataDependentOutputException):
            given[0].tolist()
    assert len(given) == lag + 1


def test_numbers_that_are_read_later_are_the_same(shards, straight, tmp_path, monkeypatch):
    monkeypatch.setattr("vlmixer.model.training.loop", partial(loop, lag=1))
    run = train(settings(shards), out=str(tmp_path / "run"))
    assert losses(run) == losses(straight)
    for name in ("model.safetensors", "checkpoints/step-00000012/state.json"):
        assert Path(run, name).read_bytes() == Path(straight, name).read_bytes()
