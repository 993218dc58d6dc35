"""The training loop, which pre-training and fine-tuning share: steps, rates, log, checkpoints, one process or several.

It knows an objective, batches and settings, not what they are about. A run that is stopped anywhere and then resumed
has the losses of a run that was never stopped; on a CPU they agree bit for bit.
"""

import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vlmixer.artifacts import files, interrupts, memory
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.lock import locked
from vlmixer.artifacts.rng import stable_hash
from vlmixer.model import checkpoint
from vlmixer.model.progress import Progress
from vlmixer.model.ranks import Ranks, connected_ranks, from_environment
from vlmixer.model.state import State
from vlmixer.model.transfer import fetched, on_device, sent

Precision = Literal["auto", "float32", "bfloat16"]
GIVE_BACK_EVERY = 10
"""Steps after which freed memory goes back to the system. Batches differ in shape, so on a CPU the C library would keep
more and more of it: 0.7 GB after 30 steps of the default network."""
EARLIER: Precision = "auto"
"""What earlier versions recorded: bfloat16 on cuda, float32 on a CPU."""


class RateSettings(Protocol):
    """The settings of the learning rate, as in TrainConfig."""

    @property
    def steps(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup_steps(self) -> int: ...


class LoopSettings(RateSettings, Protocol):
    """The settings of the loop, as in TrainConfig."""

    @property
    def weight_decay(self) -> float: ...
    @property
    def clip_norm(self) -> float: ...
    @property
    def accumulate(self) -> int: ...
    @property
    def precision(self) -> Precision: ...
    @property
    def log_every(self) -> int: ...
    @property
    def checkpoint_every(self) -> int: ...
    @property
    def keep_checkpoints(self) -> int: ...


class LoopBatch(Protocol):
    """What one rank reads for one pass. `samples`: how many; `items`: word pieces and regions that the encoder sees."""

    @property
    def epoch(self) -> int: ...
    @property
    def samples(self) -> int: ...
    @property
    def items(self) -> int: ...
    def to(self, device: torch.device) -> Self: ...


class Objective(nn.Module):
    """What is trained: called with a batch, returns the losses `names`, (k,) float32, in a single forward pass.

    `network`: the part that checkpoints keep. `names`: of the losses, as they are logged. The mean of a loss over the
    ranks is the loss of all ranks' batches taken as one.
    """

    network: nn.Module
    names: tuple[str, ...]
    ranks: Ranks

    def total(self, losses: Tensor) -> Tensor:
        """The scalar to descend on, from `losses`, (k,): their sum."""
        return losses.sum()


@dataclass(frozen=True)
class RunOf:
    """What a run's checkpoints record: the `folder`, `seed` and resolved settings `content` of the run, and a hash of
    its data. `section`: of the config with the loop's settings, for messages."""

    folder: str
    seed: int
    content: Mapping[str, Any]
    data: str
    section: str = "train"


@contextmanager
def alone_in(run: str, device: torch.device, section: str = "train") -> Iterator[Ranks]:
    """The connected ranks, while no other process trains into `run`. Names what ends a process that reads ahead."""
    with connected_ranks(device.type == "cuda") as ranks, locked(run) if ranks.first else nullcontext():
        try:
            yield ranks
        except RuntimeError as error:
            # PyTorch raises this in the main thread, wherever it is, when a process that reads ahead ends.
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(
                f"{run}: a process that reads samples ended ({error}). If it was killed for lack of memory, set "
                f"{section}.workers or {section}.shards_in_memory lower. Continue with --resume."
            ) from None


def loop(
    of: RunOf,
    settings: LoopSettings,
    module: Objective,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[LoopBatch],
    former: State | None,
    device: torch.device,
    progress: Progress,
    stop: interrupts.Noted,
    lag: int | None = None,
    fetch: Callable[[Tensor], Callable[[], list[float]]] = fetched,
) -> None:
    """All steps after those of the `former` state, with log lines and checkpoints. `batches` begin with its next one.

    lag: number of further steps that the device is given before the numbers of one are read, with `fetch`, so that it
    need not wait for this process. None: 1 on cuda; 0 on a CPU, which has nothing to gain.

    Raises Interrupted, after a checkpoint, if any rank was asked to stop; UserError for a loss that is not finite.
    """
    ranks, names = module.ranks, module.names
    bfloat16 = settings.precision == "bfloat16" or (settings.precision == EARLIER and device.type == "cuda")
    losses_of: nn.Module = module
    if ranks.world > 1:
        # A batch may leave a part unused, as one without images does with the head for tags. PyTorch warns where it
        # looks for unused parameters and finds none, so there is always this one.
        module.register_parameter("never_used", nn.Parameter(torch.zeros((), device=device)))
        losses_of = DistributedDataParallel(module, find_unused_parameters=True)
    start = former.step if former else 0
    log = _Log(of, settings, names, progress, saved=start or None, since=list(former.since) if former else [])
    lag = int(device.type == "cuda") if lag is None else lag
    batches = on_device(batches, device)
    for step in range(start, settings.steps):
        rate = learning_rate(step, settings)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        losses = torch.zeros(len(names), device=device)
        samples = items = 0
        waited = 0.0
        for turn in range(settings.accumulate):
            began = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - began
            # Dropout, like the data, depends on nothing but the seed, the step and the rank.
            torch.manual_seed(torch_seed(of.seed, step * settings.accumulate + turn, ranks.rank))
            last = turn == settings.accumulate - 1
            with nullcontext() if last or ranks.world == 1 else losses_of.no_sync():  # type: ignore[operator]
                with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                    found = losses_of(batch)
                (module.total(found) / settings.accumulate).backward()
            losses += found.detach() / settings.accumulate
            samples, items, epoch = samples + batch.samples, items + batch.items, batch.epoch
        norm = torch.nn.utils.clip_grad_norm_(module.network.parameters(), settings.clip_norm)
        counted = sent([samples, items, stop.number], device)
        sums = ranks.total(torch.cat([losses / ranks.world, counted]))
        total = module.total(sums[: len(names)])
        optimizer.step()

        done = step + 1
        if device.type == "cpu" and done % GIVE_BACK_EVERY == 0:
            memory.give_back()
        log.add(_Step(done, epoch, rate, waited, fetch(torch.cat([total[None], norm[None], sums]))))
        due = done % settings.checkpoint_every == 0 or done == settings.steps
        # Alone, this process knows at once; with others, all of them must stop at the same step.
        stopped = log.read(0 if due else lag) or (ranks.world == 1 and stop.number > 0)
        if due or stopped:
            log.read()
            mean = sum(log.since) / len(log.since)
            log.since = [] if due else log.since
            state = State(done, epoch, mean, of.data, dict(of.content), since=log.since)
            if ranks.first:
                checkpoint.save_checkpoint(of.folder, module.network, optimizer, state, settings.keep_checkpoints)
            log.saved = done
        if stopped:
            ranks.total(losses)  # waits for the checkpoint: when one process ends, torchrun ends the others
            message = f"{of.folder}: checkpoint saved at step {done} of {settings.steps}."
            raise interrupts.Interrupted(message, stop.number or signal.SIGTERM)


@dataclass(frozen=True)
class _Step:
    """A step that was given to the device. `numbers`: waits for its total loss, gradient norm, losses, samples, items,
    and whether a rank was asked to stop."""

    done: int
    epoch: int
    rate: float
    waited: float
    numbers: Callable[[], list[float]]


class _Log:
    """What the steps have come to. `saved`: the last step with a checkpoint. `since`: losses of the steps after it."""

    def __init__(
        self,
        of: RunOf,
        settings: LoopSettings,
        names: tuple[str, ...],
        progress: Progress,
        saved: int | None,
        since: list[float],
    ) -> None:
        self._of, self._settings, self._names, self._progress = of, settings, names, progress
        self.saved, self.since = saved, since
        self._steps: deque[_Step] = deque()

    def add(self, step: _Step) -> None:
        """Another one, which is read later."""
        self._steps.append(step)

    def read(self, lag: int = 0) -> bool:
        """Read all steps but the last `lag`. Returns whether a rank was asked to stop by then.

        Raises UserError for a loss that is not finite.
        """
        stopped = False
        while len(self._steps) > lag:
            stopped = self._read(self._steps.popleft()) or stopped
        return stopped

    def _read(self, step: _Step) -> bool:
        total, norm, *sums, samples, items, stopped = step.numbers()
        values = {"loss": total} | dict(zip(self._names, sums, strict=True))
        # Before a checkpoint of the step: there is none of weights that are not sound.
        if not math.isfinite(norm) or not math.isfinite(total):
            raise UserError(_not_finite(self._of, self._names, step.done, values, norm, self.saved))
        self.since.append(total)
        self._progress.count(int(samples), int(items), step.waited)
        if step.done % self._settings.log_every == 0 or step.done == self._settings.steps:
            rates = {"learning_rate": step.rate, "gradient_norm": norm}
            self._progress.report(step.done, step.epoch, values | rates)
        return bool(stopped)


def learning_rate(step: int, settings: RateSettings) -> float:
    """The learning rate of update `step` (from 0): a linear rise over warmup_steps, then a linear fall towards 0."""
    warmup = min(settings.warmup_steps, settings.steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    return settings.learning_rate * (settings.steps - step) / max(settings.steps - warmup, 1)


def optimizer_of(network: nn.Module, settings: LoopSettings) -> torch.optim.AdamW:
    """AdamW. Biases and LayerNorms, the parameters that are vectors, do not decay."""
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def find_device(asked: Literal["auto", "cpu", "cuda"], section: str = "train") -> torch.device:
    """The device that the config's `section` asks for. Raises UserError if it is not there."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{section}.device: cuda, but PyTorch finds no CUDA device here. Set it to auto or cpu.")
    name = ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked
    return torch.device(name, from_environment().local) if name == "cuda" else torch.device(name)


def precision_of(asked: Precision, device: torch.device, recorded: Precision | None) -> Precision:
    """The precision of a run, which its config records: for `auto` the `recorded` one of a run that is resumed, else
    what is fast on the device. On a CPU, bfloat16 is fast only if it has instructions for it."""
    if asked != "auto":
        return asked
    if recorded is not None:
        return recorded
    return "bfloat16" if device.type == "cuda" or has_bfloat16() else "float32"


def has_bfloat16() -> bool:
    """Whether this processor multiplies matrices in bfloat16."""
    # PyTorch has no public name for this; a version without these functions computes in float32.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)


def require_local(run: str, what: str = "training") -> None:
    """Raises CallError if `run` is behind a URL."""
    if files.is_url(run):
        raise CallError(f"{run}: {what} writes to a local folder only. Give one with --out, and copy it afterwards.")


def torch_seed(seed: int, *key: str | int) -> int:
    """The seed of PyTorch's random numbers for one thing."""
    return stable_hash(seed, "torch", *key, bits=56)


def _not_finite(
    of: RunOf, names: tuple[str, ...], step: int, values: Mapping[str, float], norm: float, saved: int | None
) -> str:
    listed = ", ".join(f"{name} {values[name]:g}" for name in names)
    good = f"{checkpoint.folder_of(of.folder, saved)} (step {saved})" if saved else "none yet"
    return (
        f"step {step}: the loss is not finite ({listed}, gradient norm {norm:g}). Last good checkpoint: {good}. Look "
        f"for features that are not finite, or start a new run with a lower {of.section}.learning_rate."
    )
