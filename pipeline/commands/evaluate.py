"""`vlmixer eval`: measure a training run."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.commands import evaluate_task
from vlmixer.pipeline.commands.options import (
    Subcommands,
    add_json,
    add_set,
    add_trust,
    common,
    positive,
    print_json,
)
from vlmixer.pipeline.image.detectors.places import import_paths

if TYPE_CHECKING:
    from vlmixer.pipeline.config import Config
    from vlmixer.pipeline.evaluation.retrieval import DetectedImages

LOG = logging.getLogger("vlmixer")
NAMED = 20
"""Images that are named one by one."""


def add(commands: Subcommands) -> None:
    """Add the subcommands."""
    evaluate = commands.add_parser("eval", help="measure a training run").add_subparsers(required=True, metavar="WHAT")
    retrieval = evaluate.add_parser(
        evaluate_task.RETRIEVAL, parents=[common()], help="retrieval on true pairs, of a training run or fine-tuned"
    )
    _add_run(retrieval)
    retrieval.add_argument(
        "--images",
        metavar="LIST",
        help='lines of {"image": PATH, "captions": [TEXT, …]}, COCO\'s captions_*.json, Karpathy\'s dataset_*.json, or '
        "a table of images and captions",
    )
    _add_list(retrieval)
    retrieval.add_argument("--html", metavar="FILE", help="write a page: captions found for photos, words on regions")
    retrieval.add_argument("-n", type=positive, default=24, metavar="N", help="photos on the page (default: 24)")
    add_json(retrieval)
    evaluate_task.add_files(retrieval.add_argument_group("of a fine-tuned run only"))
    retrieval.set_defaults(do=run_retrieval, task=evaluate_task.RETRIEVAL)
    foils = evaluate.add_parser("foils", parents=[common()], help="captions against captions that do not fit the image")
    _add_run(foils)
    foils.add_argument(
        "--images",
        required=True,
        metavar="FOILS.jsonl",
        help='lines of {"image": PATH, "caption": TEXT, "foils": [TEXT, …]} and, as you like, "kind": TEXT',
    )
    foils.add_argument(
        "--swaps",
        action="store_true",
        help="--images is a list as for retrieval: make foils by swapping a concept's word for another concept's name",
    )
    _add_list(foils)
    add_json(foils)
    foils.set_defaults(do=run_foils)
    evaluate_task.add(evaluate)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, metavar="RUN", help="folder of the training run")
    parser.add_argument(
        "--config", metavar="CONFIG.yaml", help="config with detector and vocabulary (default: the one saved in RUN)"
    )
    add_trust(parser)
    add_set(parser)


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--photos", metavar="DIR", help="folder of the images (default: the list's folder, or images/ in it)"
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="the split to read, where records have one (default: test, for Karpathy's files)",
    )


def _config(options: argparse.Namespace) -> "tuple[Config, tuple[str, ...]]":
    """The config that --config names or RUN has, and where its detector is imported from."""
    from vlmixer.artifacts import files
    from vlmixer.pipeline.config import load_config
    from vlmixer.pipeline.trust import require_harmless

    saved = files.join(options.run, "pipeline.yaml")
    if options.config is None and not files.exists(saved):
        raise CallError(f"{saved}: no such file, so detector and vocabulary are unknown. Give --config CONFIG.yaml.")
    path = options.config or saved
    config = load_config(path, options.set)
    if options.config is None and not options.trust_detector:
        require_harmless(config, path)
    return config, tuple(import_paths(path))


def run_retrieval(options: argparse.Namespace) -> int:
    """Measure retrieval both ways and print the table of scores."""
    from vlmixer.pipeline.evaluation.pairs import read_pairs
    from vlmixer.pipeline.evaluation.retrieval import evaluate_retrieval

    if evaluate_task.is_finetuned(options.run):
        return _run_finetuned(options)
    if options.images is None or options.files or options.against:
        raise CallError(
            f"{options.run}: is a training run and not fine-tuned. Name the pairs with --images, and leave out FILE "
            "and --against."
        )
    config, places = _config(options)
    pairs = read_pairs(options.images, options.split, options.photos)
    LOG.info("%s: %s", options.images, pairs.counts.describe())
    result = evaluate_retrieval(options.run, pairs, config, places, options.html, options.n)
    if options.html:
        LOG.info("page: %s", options.html)
    _keep_scores(options.run, result.report.to_json())
    if options.json:
        print_json(result.to_json())
    else:
        print(result.report.to_table())
    _warn(result.images, pairs.captions)
    if result.trained_on:
        LOG.warning(
            "%d of %d images are among those that the run was trained on, so the scores may be too high. Take them out "
            "of the list: %s%s",
            len(result.trained_on),
            len(result.images.found),
            ", ".join(result.trained_on[:NAMED]),
            ", …" if len(result.trained_on) > NAMED else "",
        )
    return 0


def _run_finetuned(options: argparse.Namespace) -> int:
    """Score a run that was fine-tuned for retrieval."""
    if options.images or options.photos or options.config:
        raise CallError(
            f"{options.run}: is a fine-tuned run. Name its official files as FILE, without --images, --photos and "
            "--config."
        )
    options.split = options.split or evaluate_task.SPLITS[0]
    if options.split not in evaluate_task.SPLITS:
        raise CallError(f"--split: {options.split}; of a fine-tuned run {' or '.join(evaluate_task.SPLITS)}.")
    return evaluate_task.run(options)


def _keep_scores(run: str, scores: Mapping[str, Any]) -> None:
    """Put the scores on the page about the whole run, if RUN is the training of a finished OUT."""
    from vlmixer.artifacts import files, manifest, stages
    from vlmixer.artifacts.errors import WriteError
    from vlmixer.pipeline.report.run import write_run_report
    from vlmixer.pipeline.report.stages import FOLDER, SCORES

    out, name = files.parent(run), run.rstrip("/").rpartition("/")[2]
    finished = all(files.exists(files.join(out, stage.folder, manifest.NAME)) for stage in stages.STAGES)
    if name != stages.TRAIN.folder or not finished:
        return
    try:
        files.publish_bytes(files.join(out, FOLDER, SCORES), manifest.canonical(dict(scores), indent=1))
        LOG.info("scores also in: %s", write_run_report(out))
    except WriteError:
        LOG.info("%s: cannot be written, so its report stays as it is", out)


def run_foils(options: argparse.Namespace) -> int:
    """Measure how often captions score above their foils and print the table of scores."""
    from vlmixer.pipeline.evaluation.foils import FoilList, evaluate_foils, read_foils, swapped
    from vlmixer.pipeline.evaluation.pairs import read_pairs

    config, places = _config(options)
    if options.swaps:
        pairs = read_pairs(options.images, options.split, options.photos)
        LOG.info("%s: %s", options.images, pairs.counts.describe())
        listed = FoilList(swapped(pairs.captions, config))
    else:
        listed = read_foils(options.images, options.photos)
    LOG.info("%s: %s", options.images, listed.describe())
    report, images = evaluate_foils(options.run, listed.cases, config, places)
    if options.json:
        print_json({**report.to_json(), "blank": listed.blank, "skipped": images.skipped})
    else:
        print(report.to_table())
    _warn(images, {})
    return 0


def _warn(images: "DetectedImages", captions: Mapping[str, Sequence[str]]) -> None:
    """Name the images that were not used, and those that look alike to the byte. captions: those of each image."""
    lost = sum(len(captions.get(path, ())) for path in images.skipped)
    if images.skipped:
        LOG.warning("%d images were not used%s:", len(images.skipped), f", with {lost} captions" if lost else "")
    for path, reason in list(images.skipped.items())[:NAMED]:
        LOG.warning("not used: %s: %s", path, reason)
    if len(images.skipped) > NAMED:
        LOG.warning("… and %d more; --json lists them all", len(images.skipped) - NAMED)
    if images.same_bytes and captions:
        LOG.warning(
            "%d pictures are in the list under several names, with the same bytes. Only one name counts as right for a "
            "caption, so the scores are too low. Give each picture one name.",
            len(images.same_bytes),
        )
    for group in images.same_bytes[:NAMED] if captions else ():
        LOG.warning("the same picture: %s", ", ".join(group))
