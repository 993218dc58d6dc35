"""The table of checks, and what each stage of the pipeline needs: inputs, models, results of earlier stages.

A check raises UserError for what is wrong. What it returns says in a few words what it found. To add one, write a
function and enter it in CHECKS. A new stage must have an entry there.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.files import FileStat
from vlmixer.artifacts.rejects import FirstRejects, is_bad, meaning
from vlmixer.artifacts.stages import DETECT, INDEX, MIX, TAG
from vlmixer.pipeline.image.detectors.loading import (
    BOXES,
    TSV,
    DetectorSpec,
    is_shipped,
    load_encoders,
    resolve_device,
)
from vlmixer.pipeline.image.readers.base import Unreadable
from vlmixer.pipeline.planning.run_estimate import format_bytes
from vlmixer.pipeline.preflight import training
from vlmixer.pipeline.preflight.call import TRAIN, Call
from vlmixer.pipeline.preflight.room import free_room, writable
from vlmixer.pipeline.text.readers.base import TextSlice
from vlmixer.pipeline.text.readers.reader import SentenceReader

TRIED = 8
"""Images, and sentences per file, that are read to see whether any can be used."""
TRIED_AGAIN = 100
"""Images that are read if the first ones cannot be used. A corpus of which most are bad is not one without an image."""
FILES_TRIED = 8

Check = Callable[[Call], str]


def vocabulary(call: Call) -> str:
    """The vocabulary."""
    return f"vocabulary {call.vocabulary.name}, {len(call.vocabulary.names):,} concepts"


def text_inputs(call: Call) -> str:
    """Text files exist, and sentences can be read from some of them."""
    found = call.texts
    log = FirstRejects(TAG.name)
    reader = SentenceReader(log, field=call.config.text.field)
    spread = found[:: -(-len(found) // FILES_TRIED)]
    if not any(_has_sentence(reader, entry) for entry in spread if entry.size):
        bad = [reject for reject in log.rejects if is_bad(reject.reason)]
        if bad and not call.is_finished(TAG.name):
            first = bad[0]
            raise CallError(
                f"text.inputs: no sentence could be read from the beginning of {len(spread)} of {len(found)} files. "
                f"{first.source}: {first.detail or meaning(first.reason)}"
            )
    return f"text: {len(found):,} files, {format_bytes(sum(entry.size for entry in found))}"


def _has_sentence(reader: SentenceReader, entry: FileStat) -> bool:
    try:
        return bool(reader.sample(TextSlice(entry.name, entry.size), TRIED)[0])
    except OSError as error:
        reader.log.add(entry.name, "", "unreadable_file", f"{type(error).__name__}: {error}")
        return False


def spacy_pipeline(call: Call) -> str:
    """The spaCy pipeline can be loaded, and running text can be split."""
    from vlmixer.pipeline.text.tagger import describe_model, load_spacy, resolve_model

    if call.config.text.split == "sentences" and importlib.util.find_spec("spacy") is None:
        raise ModuleNotFoundError("text.split: sentences", name="spacy")
    return f"tagger: {describe_model(load_spacy(resolve_model(call.config.text.spacy_model, warn=False)))}"


def image_inputs(call: Call) -> str:
    """Image files exist, and some of them can be decoded."""
    from vlmixer.pipeline.image.photos import ImageSource
    from vlmixer.pipeline.image.readers.corpus import files_in, sample

    corpus = call.images
    number, size = files_in(corpus.pieces)
    found = f"{number:,} files, {format_bytes(size)}"
    if call.config.images.detector.startswith(TSV):  # to list its lines is to read them all
        return f"region features: {found}"
    source = ImageSource(call.config.images.max_megapixels * 1e6)
    for number in (TRIED, TRIED_AGAIN):
        refs = sample(corpus, number, max_pieces=4).refs[:number]
        results = [result for _, result in source.photos([ref for ref in refs if "://" not in ref.source])]
        wrong = [result for result in results if isinstance(result, Unreadable)]
        if len(wrong) < len(refs) or len(refs) < TRIED or call.is_finished(DETECT.name):
            return f"images: {found}"
    why = wrong[0].detail or meaning(wrong[0].reason)
    raise CallError(f"images.inputs: none of {len(refs)} images tried can be used; the first is {refs[0].name}: {why}")


def image_device(call: Call) -> str:
    """The device for detection is there."""
    asked = call.config.images.device
    return f"device: {asked if call.remote else resolve_device(asked)}"


def detector(call: Call) -> str:
    """The detector can be imported and made with its weights and options, and knows concepts of the vocabulary."""
    from vlmixer.pipeline.image.detection import load_finder

    spec = call.detector
    if call.is_finished(DETECT.name) or call.remote or spec.name.startswith(TSV):
        return f"detector: {spec.name}"
    # On the CPU, so that this process takes no memory of an accelerator. A class of the user's own may know one only.
    ours = is_shipped(spec.name) or spec.name.startswith(BOXES)
    spec = replace(spec, device="cpu" if ours else resolve_device("auto"))
    known = ""
    try:
        if spec.name.startswith(BOXES):
            known, width = _boxes(spec, call)
        else:
            width = load_finder(spec, call.vocabulary).feature_dim
    except (UserError, ModuleNotFoundError):
        raise
    except Exception as error:  # A detector may be anyone's code.
        raise UserError(
            f"images.detector: {spec.name} cannot be made: {type(error).__name__}: {error}. Correct its code, or "
            "images.detector_options; --debug shows the traceback."
        ) from error
    asked = call.config.model.feature_dim
    if TRAIN in call.stages and asked not in (None, width):
        raise CallError(
            f"model.feature_dim: {asked}, but the features of {spec.name} are {width} wide. Remove the key to use "
            "that width, or name the other detector."
        )
    return f"detector: {spec.name}{known}, features of width {width}"


def _boxes(spec: DetectorSpec, call: Call) -> tuple[str, int]:
    """What is in the files of boxes, in words, and the width of the features."""
    from vlmixer.pipeline.image.boxes.reading import BoxFiles, read_boxes
    from vlmixer.pipeline.image.detection import map_labels

    named = BoxFiles.of(spec.name.removeprefix(BOXES), spec.options)
    boxes = read_boxes(named, all_rejects=call.config.rejects == "all")
    map_labels(spec, boxes.names, call.vocabulary)
    width = sum(encoder.width for encoder in load_encoders(spec))
    bad = boxes.rejected.counts().get("bad_box", 0)
    more = f" ({bad:,} cannot be used)" if bad else ""
    return f", {len(boxes.scores):,} boxes of {len(boxes.photos):,} photos{more}", width


def earlier_results(call: Call) -> str:
    """What a stage reads is there, if no earlier stage of the call writes it."""
    from vlmixer.pipeline.indexing import upstream as before_index
    from vlmixer.pipeline.mix import upstream as before_mix

    first = call.stages[0]
    if first == INDEX.name:
        before_index.read_upstream(call.config.out, call.vocabulary)
    if first == MIX.name:
        before_mix.read_upstream(call.config.out)
    return ""


EVERY: tuple[Check, ...] = (vocabulary, writable, free_room)
"""Checks of every call."""

CHECKS: Mapping[str, tuple[Check, ...]] = {
    TAG.name: (text_inputs, spacy_pipeline),
    DETECT.name: (image_inputs, image_device, detector),
    INDEX.name: (earlier_results,),
    MIX.name: (earlier_results,),
    TRAIN: (
        training.packages,
        training.device,
        training.shards,
        training.tokenizer,
        training.init,
        training.readers,
        training.former_run,
    ),
}
"""By stage, what is checked before the first stage of a call begins."""
