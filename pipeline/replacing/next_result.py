"""A result that replaces that of OUT. It is made in OUT/work/next, an output folder of its own, then moved.

Until then OUT has the old result, whole and valid. Moving is one rename per folder. If it is interrupted, the next
command that changes OUT moves the rest. OUT/contents.json lists the new folders once all are there.
"""

import os
from collections.abc import Mapping
from itertools import count
from typing import Any

from vlmixer.artifacts import contents, dropped, files, json_files, manifest
from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.rng import stable_id
from vlmixer.artifacts.stages import DETECT, FOLDERS, MIX, NAMES, TAG, TRAIN, StageType
from vlmixer.pipeline.report import stages as reports
from vlmixer.pipeline.units import inputs
from vlmixer.pipeline.units.stage import Stage

READY = "ready.json"
PURPOSE = "purpose.json"
MOVED = (*FOLDERS, "rejects", dropped.NAME)
"""What is moved, in this order: no file of the new result comes before one that it was made from."""
TRAINED_BEFORE = "run-before"
"""What OUT/run is renamed to: its network was trained on other shards than those that are there now."""
_ADVICE = "Remove the folder OUT/work/next and rerun the command."


def folder_of(out: str) -> str:
    """The folder in which the next result of `out` is made."""
    return files.join(out, "work", "next")


def begin(out: str, purpose: Mapping[str, Any]) -> str:
    """The folder for the next result of `out`. What an interrupted command with the same purpose made is still there,
    if `out` has not changed since.

    Raises CallError if `out` is a URL.
    """
    if files.is_url(out):
        raise CallError(f"{out}: a result behind a URL cannot be replaced. Copy it to a local folder first.")
    present = {folder: _content_hash(out, folder) for folder in FOLDERS}
    made, wanted = folder_of(out), manifest.canonical({**purpose, "replaces": present})
    path = files.join(made, PURPOSE)
    if not files.has_file(path) or files.read_bytes(path) != wanted:
        files.remove(made)
        files.publish_bytes(path, wanted)
    return made


def take_stage(out: str, stage: StageType[Any]) -> None:
    """Let the next result have a stage of the present one, with its rejects. The files are linked, not copied."""
    made = folder_of(out)
    present = manifest.read(files.join(out, stage.folder))
    names = [files.join(stage.folder, output.name) for output in present.outputs]
    names += [files.join("rejects", output.name) for output in present.rejects]
    # The manifest last: with it the stage counts as finished.
    for name in [*names, files.join(stage.folder, manifest.NAME)]:
        files.link(files.join(out, name), files.join(made, name))


def publish(out: str, report: Mapping[str, Any] | None = None) -> None:
    """Replace the result of `out` by the next one, which is complete. report: what `finish` is to give."""
    made = folder_of(out)
    before, after = (_content_hash(folder, MIX.folder) for folder in (out, made))
    ready = {"report": dict(report or {}), "other_shards": before != after}
    files.publish_bytes(files.join(made, READY), manifest.canonical(ready))
    finish(out)


def finish(out: str) -> dict[str, Any] | None:
    """Move a next result that is complete. Returns the report that it was published with; None if there is none."""
    made = folder_of(out)
    if files.is_url(out) or not files.has_file(files.join(made, READY)):
        return None
    ready = json_files.read(files.join(made, READY), advice=_ADVICE)
    report: dict[str, Any] = ready["report"]
    for folder in FOLDERS:
        contents.take_off(out, folder)
    with files.writing(made):
        os.makedirs(files.join(made, "old"), exist_ok=True)
        for name in MOVED:
            source, target = files.join(made, name), files.join(out, name)
            if os.path.exists(source):
                if os.path.exists(target):
                    os.rename(target, files.join(made, "old", name))
                os.rename(source, target)
        files.remove(reports.StageReport(out, reports.RUN).page)  # it shows the old result
        for name in files.list_files(files.join(made, reports.FOLDER)):  # others are as they were
            os.makedirs(files.join(out, reports.FOLDER), exist_ok=True)
            os.replace(files.join(made, reports.FOLDER, name), files.join(out, reports.FOLDER, name))
        trained = files.join(out, TRAIN.folder)
        if ready["other_shards"] and os.path.exists(trained):
            contents.take_off(out, TRAIN.folder)
            os.rename(trained, _free(files.join(out, TRAINED_BEFORE)))
            files.remove(files.join(out, reports.FOLDER, reports.SCORES))
    contents.publish_config(out, files.read_bytes(files.join(made, contents.CONFIG)).decode())
    hashes = {folder: _content_hash(out, folder) for folder in FOLDERS}
    contents.put(out, {folder: found for folder, found in hashes.items() if found is not None})
    _move_inputs(out, made)
    for stage in NAMES:  # of the old result
        files.remove(files.join(out, "work", stage))
    files.remove(files.join(made, READY))
    files.remove(made)
    return report


def trained_before(out: str) -> list[str]:
    """The folders of networks that were trained on earlier shards of `out`."""
    return sorted(name for name in os.listdir(out) if name.startswith(TRAINED_BEFORE))


def _move_inputs(out: str, made: str) -> None:
    """Take over what the new stages know of their input files, without the images that were dropped."""
    for stage in (TAG, DETECT):
        source, target = inputs.path(Stage(stage, made)), inputs.path(Stage(stage, out))
        if os.path.exists(source):
            os.replace(source, target)
    marks = dropped.read(out)
    inputs.leave_out(Stage(DETECT, out), lambda name: marks.has_image(stable_id("image", name)))


def _free(path: str) -> str:
    """The path, or with a number if there is something."""
    numbered = (f"{path}-{number}" for number in count(2))
    return path if not os.path.exists(path) else next(name for name in numbered if not os.path.exists(name))


def _content_hash(out: str, folder: str) -> str | None:
    """The content hash of a finished stage's folder, None if there is none."""
    path = files.join(out, folder)
    return manifest.read(path).content_hash if files.has_file(files.join(path, manifest.NAME)) else None
