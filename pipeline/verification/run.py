"""Checks the folder of a run: the checkpoints against their own hashes. What else the run needs is in its manifest."""

from vlmixer.artifacts import files
from vlmixer.artifacts.dataset_cards import CARD
from vlmixer.artifacts.details import RunDetails
from vlmixer.model import finished
from vlmixer.pipeline.verification.checks import StageFolder

BESIDE = ("checkpoints/", "tensorboard/", "log.jsonl", "lock", "wandb-id", "mlflow-id", CARD)
"""What a run's folder has besides the files of its manifest."""


def check(stage: StageFolder[RunDetails]) -> None:
    """Read every checkpoint."""
    names = {name.partition("/")[0] for name in files.list_files(files.join(stage.folder, "checkpoints"))}
    for name in sorted(filter(finished.is_step, names)):
        folder = files.join(stage.folder, "checkpoints", name)
        with stage.report.reading(folder):
            hashes = finished.read_state(folder).get("files", {})
            for changed in finished.changed_in_checkpoint(folder, hashes):
                stage.report.add(files.join(folder, changed), "its bytes changed: its SHA-256 is not in state.json")
        stage.report.rows["checkpoints"] += 1
