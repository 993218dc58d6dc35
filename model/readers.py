"""Readers share the samples of a folder; worker processes of each rank prepare their parts ahead of the training.

What a part is, and how the parts of a step become a batch, is left to the loaders that derive from PartLoader.
"""

import gc
import itertools
import multiprocessing
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vlmixer.artifacts.ahead import ahead
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.interrupts import held, leave_to_parent
from vlmixer.artifacts.processes import end_when

PartOf = TypeVar("PartOf")
BatchOf = TypeVar("BatchOf")


class ReaderSettings(Protocol):
    """The settings of the readers, as in TrainConfig."""

    @property
    def readers(self) -> int | None: ...
    @property
    def workers(self) -> int: ...


def readers_of(settings: ReaderSettings, world: int, section: str = "train") -> int:
    """The number of readers of `world` ranks. Raises UserError if they cannot be divided among ranks and workers."""
    processes = world * max(settings.workers, 1)
    readers = settings.readers or processes
    if readers % processes:
        raise UserError(
            f"{section}.readers: {readers} cannot be shared evenly among {world} ranks with "
            f"{max(settings.workers, 1)} workers each. Give a multiple of {processes}, or fewer {section}.workers."
        )
    return readers


class PartLoader(ABC, Generic[PartOf, BatchOf]):
    """The batches of one rank, which has some of the readers; each reader contributes a part to every step."""

    def __init__(self, own: Sequence[int], workers: int) -> None:
        """own: the rank's readers. workers: processes that read ahead; 0: this process reads."""
        self._own, self._workers = own, workers

    @abstractmethod
    def parts(self, start: int, readers: Sequence[int]) -> Iterator[PartOf]:
        """The parts of these readers, step by step, from step `start` on."""

    @abstractmethod
    def assemble(self, parts: Sequence[PartOf]) -> BatchOf:
        """The batch of a step."""

    def batches(self, start: int) -> Iterator[BatchOf]:
        """The batches of step `start` (from 0) and of all later steps."""
        if not self._workers:
            return self._assembled(self.parts(start, self._own))
        _want_shared_memory()
        parts = DataLoader(
            _Parts(self, start),
            batch_size=None,
            num_workers=self._workers,
            prefetch_factor=4,
            worker_init_fn=_begin_worker,
            multiprocessing_context=_start_method(),
        )
        with held():  # else Ctrl-C in a process that is not ready for it would be a traceback
            started = iter(parts)
        return ahead(self._assembled(started), 1)

    def _assembled(self, parts: Iterator[PartOf | UserError]) -> Iterator[BatchOf]:
        while True:
            found: list[PartOf] = []
            for part in itertools.islice(parts, len(self._own)):
                if isinstance(part, UserError):
                    raise part
                found.append(part)
            yield self.assemble(found)

    def worker_parts(self, start: int, worker: int, workers: int) -> Iterator[PartOf | UserError]:
        """The parts of a worker process. A UserError is yielded: raised, DataLoader would wrap it in another error."""
        # Readers are dealt out so that taking the workers in turn gives the parts in the order of the readers.
        try:
            yield from self.parts(start, self._own[worker::workers])
        except UserError as error:
            yield error


def _start_method() -> str | None:
    """How worker processes start; None: PyTorch's default, a fork on Linux."""
    # After a local Beam job the threads of gRPC still run here: now and then a fork of such a process aborts.
    return "spawn" if "grpc" in sys.modules else None


def _begin_worker(_: int) -> None:
    # What was imported before is not searched for garbage again and again, a third of the work of reading.
    gc.freeze()
    leave_to_parent()
    parent = multiprocessing.parent_process()
    assert parent is not None
    end_when(lambda: not parent.is_alive())


def _want_shared_memory() -> None:
    """Raises UserError if worker processes cannot share memory: a DataLoader that fails to start never ends."""
    try:
        multiprocessing.Lock()
    except OSError as error:
        raise UserError(
            f"workers: worker processes need shared memory, and /dev/shm cannot be used ({error.strerror}). Mount it "
            "(`docker run --shm-size=1g`), or set `workers: 0` in this section to read in the training process."
        ) from error


class _Parts(IterableDataset[Any]):
    """The parts of a loader, as a dataset for PyTorch's DataLoader."""

    def __init__(self, loader: PartLoader[Any, Any], start: int) -> None:
        self._loader, self._start = loader, start

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        assert worker is not None
        return self._loader.worker_parts(self._start, worker.id, worker.num_workers)
