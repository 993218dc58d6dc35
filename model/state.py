"""How far a run is, and the settings that it depends on: a checkpoint's state.json. Needs no torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from vlmixer.artifacts import details, files, json_files, manifest
from vlmixer.model.config import Settings
from vlmixer.model.finished import STATE
from vlmixer.model.tasks.config import DATA

FREE = frozenset({
    "device", "shards", "log_every", "checkpoint_every", "keep_checkpoints", "tensorboard", "wandb", "mlflow",
    "workers", "compile",
})  # fmt: skip
"""Settings that may change when a run is resumed: they do not change what is learned."""
TASK_FREE = FREE | DATA
"""Those of fine-tuning. Of files, their content must stay the same."""
LARGEST = 3.5e38
"""More than any loss, which is of float32."""
_CONTENT_HASH = "content_hash"


@dataclass(frozen=True)
class State:
    """How far a checkpoint is: `step` updates done, in `epoch`. `config`: the seed, model and train sections.

    `loss`: mean over the steps since the previous checkpoint; the best checkpoint has the lowest. `shards`: content
    hash of the shards' manifest. `since`: if this one was saved because of an interrupt, the losses since the last
    regular one; the next regular one needs them for its mean. Nothing else is needed: the samples and random numbers
    of later steps depend on the seed and the step alone. `files`: SHA-256 of the checkpoint's other files and of the
    run's tokenizer.json; empty in checkpoints of earlier versions.
    """

    step: int
    epoch: int
    loss: float
    shards: str
    config: dict[str, Any]
    since: list[float] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)


def resolved(config: Settings) -> dict[str, Any]:
    """The content of a run's config.yaml: everything but the path of the output."""
    return {"seed": config.seed, "model": asdict(config.model), "train": asdict(config.train)}


def lasting(content: Mapping[str, Any]) -> dict[str, Any]:
    """Of the content of a run's config.yaml, what the finished network depends on: what may not change when the run is
    resumed."""
    section, free = ("task", TASK_FREE) if "task" in content else ("train", FREE)
    return {**content, section: {key: value for key, value in content[section].items() if key not in free}}


def packed_state(content: Mapping[str, Any]) -> bytes:
    """The bytes of a checkpoint's state.json, with a hash of its content."""
    return manifest.canonical({**content, _CONTENT_HASH: manifest.digest(dict(content))}, indent=1)


def read_state(folder: str) -> State:
    """A checkpoint's state.json. Raises OSError, ValueError, UserError if it is damaged, or of no run."""
    content: dict[str, Any] = json_files.read(files.join(folder, STATE), dict[str, Any], advice="")
    # Checkpoints of earlier versions have no hash.
    if content.pop(_CONTENT_HASH, None) not in (None, manifest.digest(content)):
        raise ValueError(f"{STATE} was changed")
    state = details.from_json(State, content)
    if not 0 <= state.step == int(folder[-8:]) or state.epoch < 0:
        raise ValueError(f"{STATE} says step {state.step} of epoch {state.epoch}")
    if len(state.since) > state.step or max(map(abs, (state.loss, *state.since))) > LARGEST:
        raise ValueError(f"{STATE} has losses of more steps than there were, or too large ones")
    parts: list[Any] = [state.config.get("model"), state.config.get("task", state.config.get("train"))]
    known = "seed" in state.config and all(isinstance(part, dict) for part in parts)
    if not known or type(parts[0].get("feature_dim")) is not int or type(parts[1].get("precision", "")) is not str:
        raise ValueError(f"{STATE} lacks the settings of the run")
    return state
