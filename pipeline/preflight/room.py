"""The output folder: whether it can be written, and whether the disk has room for what the stages will write."""

import errno
import logging
import os
import shutil
from pathlib import Path

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.errors import CallError, UserError, WriteError
from vlmixer.pipeline.image.detectors.loading import TSV
from vlmixer.pipeline.image.readers.corpus import sample
from vlmixer.pipeline.planning.estimate import CorpusSize, Measured, plan_stages
from vlmixer.pipeline.planning.linear import LinearCost
from vlmixer.pipeline.planning.run_estimate import format_bytes
from vlmixer.pipeline.preflight.call import Call
from vlmixer.pipeline.text.readers.formats import can_split

LOG = logging.getLogger("vlmixer")

TYPICAL = Measured(
    tagged=0.8,
    tagged_bytes=60,
    regions=8,
    region_bytes=6_000,
    concepts=(1 / 80,) * 80,
    kept=0.8,
    bank_bytes=LinearCost(0, 8_000),
    mixed_bytes=5_000,
    image_sample_bytes=20_000,
    reject_bytes=20,
)
"""What captions and photos usually give with a detector of 1,024 features. `vlmixer plan` measures instead."""
SENTENCE_BYTES = 65
PACKED = 3
"""How many times as large packed text and Parquet are when unpacked."""
REFUSED_BELOW = 0.2
"""A call is refused if the disk has less than this share of what it will write by the rough estimate."""


def writable(call: Call) -> str:
    """The output folder can be made and written."""
    out = call.run or call.config.out
    if files.is_url(out):
        files.exists(out)  # raises for missing drivers, credentials and buckets
        return f"out: {out}"
    place = _existing(out)
    if not place.is_dir():
        raise WriteError.of(out, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if not os.access(place, os.W_OK | os.X_OK):
        raise WriteError.of(out, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    return f"out: {out}"


def free_room(call: Call) -> str:
    """The disk has room for what the stages will write."""
    if files.is_url(call.config.out):
        return ""
    try:
        needed = _needed(call)
    except UserError:  # the inputs have checks of their own
        return ""
    if not needed:
        return ""
    return judge_room(call.config.out, needed, free_bytes(call.config.out))


def judge_room(out: str, needed: int, free: int) -> str:
    """What is needed and free, in bytes, in words. Warns if it may not be enough. Raises CallError if it cannot be."""
    line = f"about {format_bytes(needed)} to be written (a rough estimate), {format_bytes(free)} free"
    if free < needed * REFUSED_BELOW:
        raise CallError(f"out: {out}: {line}. Make room there, or give another --out.")
    if free < needed:
        LOG.warning("out: %s: %s. The disk may become full; `vlmixer plan` estimates better.", out, line)
    return f"disk: {line}"


def free_bytes(out: str) -> int:
    """Free bytes on the disk of a local folder, which need not exist yet."""
    return shutil.disk_usage(_existing(out)).free


def _needed(call: Call) -> int:
    """Bytes that the stages of the call will write, by what corpora usually give. Raises UserError."""
    sentences = text_bytes = images = image_bytes = 0
    named = set(call.stages)
    if "tag" in named:
        text_bytes = sum(entry.size * (1 if can_split(entry.name) else PACKED) for entry in call.texts)
        sentences = text_bytes // SENTENCE_BYTES
    elif "mix" in named and call.config.text.inputs:
        sentences = _read_by(call, "tagged", "sentences")
    if "detect" in named:
        image_bytes = sum(entry.size for entry in call.images.inputs)
        # The regions of features are smaller than the text they are read from.
        features = call.config.images.detector.startswith(TSV)
        images = image_bytes // 100_000 if features else sample(call.images, 64, max_pieces=4).images
    elif named & {"index", "mix"}:  # a million photos are not listed again
        images = _read_by(call, "regions", "images")
    corpus = CorpusSize(sentences, text_bytes, images, image_bytes)
    plans = plan_stages(corpus, TYPICAL, call.config, {})
    return sum(plan.output_bytes for plan in plans if plan.stage in named and not _is_done(call, plan.stage))


def _read_by(call: Call, folder: str, what: str) -> int:
    """How many records the stage before read. Raises UserError if it is not finished."""
    counts = manifest.read(files.join(call.config.out, folder)).counts
    return counts[what].read if what in counts else 0


def _is_done(call: Call, stage: str) -> bool:
    return stage == "train" or call.is_finished(stage)


def _existing(path: str) -> Path:
    """The path, or the nearest folder above it that exists."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    return place
