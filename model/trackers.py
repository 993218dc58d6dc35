"""Where the numbers of log.jsonl go besides: TensorBoard's files, Weights & Biases.

To add a tracker, write a class with the methods of `Tracker`, and a setting that opens it in `open_trackers`.
"""

import os
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.extras import install_command

TENSORBOARD, WANDB_ID = "tensorboard", "wandb-id"


class Tracker(Protocol):
    """Takes the numbers of some steps, in order. A resumed run repeats those after its checkpoint."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take the values of a step, by name."""
        ...

    def close(self) -> None:
        """Send or write what is left."""
        ...


class TensorBoard:
    """TensorBoard's files, in a folder of the run."""

    def __init__(self, run: str, start: int) -> None:
        """start: the step after which the run goes on. TensorBoard then drops what was logged after it."""
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(files.join(run, TENSORBOARD), purge_step=start + 1 if start else None)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See Tracker."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See Tracker."""
        self._writer.close()


class WeightsAndBiases:
    """A run of a project at Weights & Biases. WANDB_MODE=offline keeps it on this machine.

    Only the numbers and the settings are sent: no code, no console, no git state, nothing about the machine. Of steps
    that a resumed run repeats, W&B keeps the first numbers.
    """

    def __init__(self, run: str, start: int, project: str, settings: Mapping[str, Any]) -> None:
        """settings: of the training, shown there. The run's id there is kept in RUN/wandb-id, for resuming."""
        import wandb

        path = files.join(run, WANDB_ID)
        if start == 0 or not os.path.isfile(path):
            files.publish_bytes(path, uuid.uuid4().hex.encode())
        quiet = wandb.Settings(
            console="off", disable_code=True, disable_git=True, save_code=False, silent=True, x_disable_meta=True,
            x_disable_stats=True,
        )  # fmt: skip
        self._run = wandb.init(
            project=project, id=files.read_bytes(path).decode(), resume="allow", config=dict(settings), settings=quiet
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See Tracker."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """See Tracker."""
        self._run.finish()


def open_trackers(
    run: str, start: int, *, tensorboard: bool, wandb: str | None, settings: Mapping[str, Any], section: str = "train"
) -> list[Tracker]:
    """The trackers that are asked for. wandb: a project. section: of the config that asks, for messages.

    Raises UserError if the packages of one are missing.
    """
    found: list[Tracker] = []
    try:
        if tensorboard:
            found.append(TensorBoard(run, start))
        if wandb is not None:
            found.append(WeightsAndBiases(run, start, wandb, settings))
    except ModuleNotFoundError as error:
        name = "wandb" if error.name == "wandb" else "tensorboard"
        raise UserError(
            f"{section}.{name}: needs {error.name}. Run `{install_command(name)}`, or remove the key; log.jsonl has "
            "the same numbers."
        ) from None
    return found
