"""The processes that train together, one per device, and what they exchange.

torchrun gives their number in the environment. Without it there is one process, and nothing is sent.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

# Its functions take the group that is connected now, none, as a default. DistributedDataParallel imports it later: a
# group that it found then would outlive destroy_process_group. Gloo would run threads while the interpreter ends, which
# aborts the process now and then ("terminate called without an active exception").
import torch.distributed.nn.functional
from torch import Tensor, distributed

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.model.transfer import sent


@dataclass(frozen=True)
class Ranks:
    """This process is number `rank` of `world`, and number `local` on its machine, counted from 0."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and messages."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum of the `values` of all ranks, element by element, without gradient."""
        values = values.detach().clone()
        if self.world > 1:
            distributed.all_reduce(values)
        return values

    def shares(self, counts: Sequence[int], device: torch.device) -> Tensor:
        """(k,) float32 on `device`: what to multiply this rank's means over `counts` items by.

        Then the mean over the ranks is the mean over all ranks' items, if they have different numbers of them, too.
        """
        if self.world == 1:
            return torch.ones(len(counts), device=device)
        mine = sent(counts, device)
        return self.world * mine / self.total(mine).clamp(min=1)

    def gathered(self, rows: Tensor) -> Tensor:
        """The rows of all ranks, (total number, …), rank by rank. Only this rank's own rows carry a gradient."""
        if self.world == 1:
            return rows
        sizes = torch.zeros(self.world, dtype=torch.int64, device=rows.device)
        sizes[self.rank] = len(rows)
        counts = self.total(sizes).tolist()
        sent = rows.new_zeros(max(counts), *rows.shape[1:])
        sent[: len(rows)] = rows.detach()
        received = [torch.empty_like(sent) for _ in counts]
        distributed.all_gather(received, sent)
        parts = [part[:count] for part, count in zip(received, counts, strict=True)]
        parts[self.rank] = rows
        return torch.cat(parts)

    def summed_gradient(self, loss: Tensor) -> Tensor:
        """`loss` with its gradient scaled so that DDP's mean over ranks becomes the sum over ranks."""
        return loss.detach() + self.world * (loss - loss.detach())


def from_environment() -> Ranks:
    """The ranks that torchrun set in the environment; a single process without it, or if WORLD_SIZE is empty or 1.

    Raises CallError if WORLD_SIZE is set, as some clusters do, but not what else torchrun sets.
    """
    names = ("WORLD_SIZE", "RANK", "LOCAL_RANK")
    values = {name: os.environ.get(name, "").strip() for name in names}
    if values["WORLD_SIZE"] in ("", "1"):
        return Ranks()
    if wrong := [name for name in names if not values[name].isdecimal()]:
        raise CallError(
            f"WORLD_SIZE is {values['WORLD_SIZE']!r} in the environment, but {', '.join(wrong)} is not a number. Start "
            "the processes with torchrun, or unset WORLD_SIZE to train with one process."
        )
    world, rank, local = (int(values[name]) for name in names)
    return Ranks(rank, world, local)


@contextmanager
def connected_ranks(cuda: bool) -> Iterator[Ranks]:
    """The processes that torchrun started, connected while the block runs.

    Raises UserError if a machine has more processes than CUDA devices.
    """
    ranks = from_environment()
    if ranks.world == 1:
        yield ranks
        return
    if cuda:
        if ranks.local >= torch.cuda.device_count():
            raise UserError(
                f"torchrun started more processes than the {torch.cuda.device_count()} CUDA devices here. "
                "Give --nproc-per-node that number, or set train.device to cpu."
            )
        torch.cuda.set_device(ranks.local)
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield ranks
    finally:
        distributed.destroy_process_group()
