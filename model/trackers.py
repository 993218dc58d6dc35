"""Where the numbers of log.jsonl go besides: TensorBoard's files, Weights & Biases, MLflow.

To add a tracker, write a class with the methods of `Tracker`, and a setting that opens it in `open_trackers`.
"""

import logging
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError, one_line
from vlmixer.artifacts.extras import install_command

LOG = logging.getLogger("vlmixer")
TENSORBOARD, WANDB_ID, MLFLOW_ID = "tensorboard", "wandb-id", "mlflow-id"
MLFLOW_PARAMS = 100
"""Settings that MLflow takes in one request."""


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
        """settings: of the training, shown there. The run's id there is kept in RUN/wandb-id, for resuming.

        Raises UserError if the project cannot be used.
        """
        import wandb

        path = files.join(run, WANDB_ID)
        if start == 0 or not os.path.isfile(path):
            files.publish_bytes(path, uuid.uuid4().hex.encode())
        quiet = wandb.Settings(
            console="off", disable_code=True, disable_git=True, save_code=False, silent=True, x_disable_meta=True,
            x_disable_stats=True,
        )  # fmt: skip
        known = files.read_bytes(path).decode(errors="replace")
        try:
            self._run = wandb.init(project=project, id=known, resume="allow", config=dict(settings), settings=quiet)
        except wandb.Error as error:  # a name that is none, or a service that refuses
            said = " ".join(str(error).split())[:300]
            raise UserError(
                f"wandb: project {project[:100]!r} cannot be used ({said}). Correct the key, or remove it; log.jsonl "
                "has the same numbers."
            ) from None

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See Tracker."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """See Tracker."""
        self._run.finish()


class MLflow:
    """A run of an experiment on the server that MLFLOW_TRACKING_URI names.

    Only the numbers and the settings are sent: no code, no git state, nothing about the machine. Of steps that a
    resumed run repeats, MLflow keeps both numbers.
    """

    def __init__(self, run: str, start: int, experiment: str, settings: Mapping[str, Any]) -> None:
        """settings: of the training, shown there. The run's id there is kept in RUN/mlflow-id, for resuming.

        Raises UserError if the server cannot be used.
        """
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when it is imported
        import mlflow
        from mlflow.entities import Param

        self._lost = False
        self._failure = mlflow.MlflowException
        path = files.join(run, MLFLOW_ID)
        try:
            self._client = mlflow.MlflowClient()
            if start == 0 or not os.path.isfile(path):
                found = self._client.get_experiment_by_name(experiment)
                place = found.experiment_id if found else self._client.create_experiment(experiment)
                self._id: str = self._client.create_run(
                    place, run_name=os.path.basename(os.path.abspath(run))
                ).info.run_id
                params = [Param(name, str(value)) for name, value in _flat(settings)]
                for first in range(0, len(params), MLFLOW_PARAMS):
                    self._client.log_batch(self._id, params=params[first : first + MLFLOW_PARAMS])
                files.publish_bytes(path, self._id.encode())
            else:
                self._id = files.read_bytes(path).decode()
                self._client.update_run(self._id, status="RUNNING")
        except mlflow.MlflowException as error:
            raise UserError(
                f"MLflow at {mlflow.get_tracking_uri()}: {one_line(str(error))[:300]}. Set MLFLOW_TRACKING_URI to a "
                "server that takes runs, or remove the key `mlflow`; log.jsonl has the same numbers."
            ) from None

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See Tracker. When the server fails, training goes on without it."""
        if self._lost:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        try:
            self._client.log_batch(self._id, [Metric(name, value, now, step) for name, value in values.items()])
        except self._failure as error:
            self._lost = True
            LOG.warning("MLflow: %s. From step %d on, the numbers are in log.jsonl alone.", one_line(str(error)), step)

    def close(self) -> None:
        """See Tracker."""
        if not self._lost:
            with suppress(self._failure):
                self._client.set_terminated(self._id)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values; names of nested settings are joined by dots."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def open_trackers(
    run: str,
    start: int,
    *,
    tensorboard: bool,
    wandb: str | None,
    mlflow: str | None,
    settings: Mapping[str, Any],
    section: str = "train",
) -> list[Tracker]:
    """The trackers that are asked for. wandb: a project. mlflow: an experiment. section: of the config that asks, for
    messages.

    Raises UserError if the packages of one are missing, or if MLflow's server cannot be used.
    """
    found: list[Tracker] = []
    try:
        if tensorboard:
            found.append(TensorBoard(run, start))
        if wandb is not None:
            found.append(WeightsAndBiases(run, start, wandb, settings))
        if mlflow is not None:
            found.append(MLflow(run, start, mlflow, settings))
    except ModuleNotFoundError as error:
        name = error.name if error.name in ("wandb", "mlflow") else "tensorboard"
        raise UserError(
            f"{section}.{name}: needs {error.name}. Run `{install_command(name)}`, or remove the key; log.jsonl has "
            "the same numbers."
        ) from None
    return found
