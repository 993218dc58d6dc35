"""The manifest of a finished run, in the form of the stages' manifests: written last, checked before the run is used.

It lists what is used of a run: config, tokenizer, reference texts, network, pipeline.yaml if the command wrote it, and
what Hugging Face reads, see model.hub_files.
The log and TensorBoard's files hold times, checkpoints may be removed, and README.md is for people to complete; none of
these is listed. Each checkpoint has the
hashes of its own files, see model.checkpoint.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

from vlmixer.artifacts import contents, files, manifest
from vlmixer.artifacts.details import RunDetails
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Counts, Input, Manifest
from vlmixer.artifacts.stages import MIX, TRAIN, Details, StageType
from vlmixer.model.progress import say
from vlmixer.model.shards import ShardSet

CONFIG, TOKENIZER, MODEL = "config.yaml", "tokenizer.json", "model.safetensors"
OPTIMIZER, STATE = "optimizer.pt", "state.json"
REFERENCE = "reference.safetensors"
PIPELINE = "pipeline.yaml"
HUB_CONFIG, HUB_TOKENIZER = "config.json", "tokenizer_config.json"
LABELS, PHOTOS, REJECTS = "labels.json", "photos.json", "rejects.parquet"
LISTED = (HUB_CONFIG, CONFIG, LABELS, MODEL, PHOTOS, PIPELINE, REFERENCE, REJECTS, TOKENIZER, HUB_TOKENIZER)
"""The files of a finished run, in the order of their names. A run that no pipeline was given to lacks pipeline.yaml;
labels.json, photos.json and rejects.parquet are those of fine-tuned runs, which have no reference."""
OTHER_SHARDS = "other shards"
PACKAGES = ("vlmixer", "numpy", "torch", "tokenizers", "safetensors")


def is_finished(run: str) -> bool:
    """Whether the run has its manifest."""
    return os.path.isfile(files.join(run, manifest.NAME))


def is_sound(run: str, kind: StageType[Details] = TRAIN) -> bool:  # type: ignore[assignment]
    """Whether the run is finished. If files of it are damaged, says so: its end is to be done again.

    Raises UserError if that is no help, because its config or its tokenizer is damaged.
    """
    if not is_finished(run):
        return False
    damaged = changed(run, manifest.read(run, kind))
    if {CONFIG, TOKENIZER, LABELS} & set(damaged):
        check(run, kind)
    if damaged:
        say(f"{run}: {', '.join(damaged)} missing or changed; written again from the last checkpoint.")
    return not damaged


def begin(run: str) -> None:
    """Take the run off the record of its output folder and remove its manifest: it is about to change."""
    out = contents.out_of(run)
    if out is not None:
        contents.take_off(out, TRAIN.folder)
    files.remove(files.join(run, manifest.NAME))


def finish(run: str, settings: Mapping[str, Any], shards: ShardSet, steps: int, pipeline: str | None) -> None:
    """Write pipeline.yaml, if it is given, and the manifest; then record the run.

    settings: those that the network depends on. steps: number of updates. All other files of the run must be in place.
    """
    if pipeline is not None:
        files.publish_bytes(files.join(run, PIPELINE), pipeline.encode())
    inputs = [Input(_name_of(shards, run), shards.bytes, shards.content_hash)]
    publish(run, TRAIN, settings, inputs, details_of(shards, steps), {}, shards.content_hash)
    _record(run)


def details_of(shards: ShardSet, steps: int) -> RunDetails:
    """What the manifest says about a run of `steps` updates on these shards."""
    return RunDetails(
        steps=steps,
        samples=sum(shard.rows for shard in (*shards.mixed, *shards.images)),
        feature_dim=shards.feature_dim,
        vocabulary=shards.vocabulary,
        vocabulary_hash=shards.vocabulary_hash,
    )


def publish(
    run: str,
    kind: StageType[Details],
    settings: Mapping[str, Any],
    inputs: Sequence[Input],
    details: Details,
    counts: Mapping[str, Counts],
    data: str,
) -> None:
    """Write the manifest of a run, all other files of which are in place. data: hash of what it was trained on."""
    names = [name for name in LISTED if os.path.isfile(files.join(run, name))]
    made = Manifest(
        stage=kind.name,
        config_hash=manifest.digest(settings),
        plan_hash=manifest.digest([manifest.SCHEMA_VERSION, settings, [data]]),
        versions=manifest.versions(PACKAGES),
        inputs=list(inputs),
        outputs=[manifest.output_of(run, name, 1) for name in names],
        rejects=[],
        counts=dict(counts),
        details=details,
        settings=dict(settings),
    )
    manifest.publish(run, made)


def _name_of(shards: ShardSet, run: str) -> str:
    """How the manifest names the shards: as the folder next to the run, or as others, whose path stays out of it."""
    beside = files.join(files.parent(files.absolute(run)), MIX.folder)
    return MIX.folder if files.absolute(shards.folder) == beside else OTHER_SHARDS


def keep(run: str, pipeline: str | None) -> None:
    """Leave a sound run as it is, but for a pipeline.yaml of other content, and record it unless that was done."""
    before = manifest.read(run, TRAIN)
    path = files.join(run, PIPELINE)
    if pipeline is not None and not (os.path.isfile(path) and files.read_bytes(path) == pipeline.encode()):
        begin(run)
        files.publish_bytes(path, pipeline.encode())
        others = [output for output in before.outputs if output.name != PIPELINE]
        outputs = sorted([*others, manifest.output_of(run, PIPELINE, 1)], key=lambda output: output.name)
        manifest.publish(run, replace(before, outputs=outputs))
    _record(run)


def _record(run: str) -> None:
    """Put the finished run on the record of its output folder, if it is there by its name."""
    out = contents.out_of(run)
    if out is not None:
        contents.put(out, {TRAIN.folder: manifest.read(run, TRAIN).content_hash})


@overload
def check(run: str) -> Manifest[RunDetails]: ...
@overload
def check(run: str, kind: StageType[Details]) -> Manifest[Details]: ...
def check(run: str, kind: StageType[Any] = TRAIN) -> Manifest[Any]:
    """The manifest of a finished run, after a check of the size and the SHA-256 of each file that it lists.

    Raises UserError if the run is not finished, or a file is missing or was changed.
    """
    if not is_finished(run):
        raise UserError(
            f"{files.join(run, manifest.NAME)}: no such file; there is no finished run. "
            "Train first; give --resume if the run stopped."
        )
    found = manifest.read(run, kind)
    damaged = changed(run, found)
    if damaged:
        raise UserError(
            f"{files.join(run, damaged[0])}: missing, or not the file that the training wrote: its size or its SHA-256 "
            f"is not the one in {manifest.NAME}. Copy the run again, or train again."
        )
    return found


def changed(run: str, description: Manifest[Any]) -> list[str]:
    """The names of the listed files that are missing or were changed."""
    return [
        output.name
        for output in description.outputs
        if not os.path.isfile(path := files.join(run, output.name))
        or files.size(path) != output.bytes
        or files.sha256(path) != output.sha256
    ]


def is_step(name: str) -> bool:
    """Whether a folder of this name is a checkpoint. All else there belongs to the user and is never touched."""
    return re.fullmatch(r"step-\d{8}", name) is not None


def changed_in_checkpoint(folder: str, hashes: Mapping[str, str]) -> list[str]:
    """The names of a checkpoint's files whose SHA-256 is not that of `hashes`; none if there are no hashes."""
    return [
        name for name in (MODEL, OPTIMIZER) if hashes and files.sha256(files.join(folder, name)) != hashes.get(name, "")
    ]
