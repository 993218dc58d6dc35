"""`vlmixer eval`: measure a training run."""

import argparse
import logging
from typing import TYPE_CHECKING

from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.commands.options import (
    Subcommands,
    add_json,
    add_set,
    add_trust,
    common,
    import_paths,
    positive,
    print_json,
)

if TYPE_CHECKING:
    from vlmixer.model.foils import FoilReport
    from vlmixer.model.scoring import RetrievalReport
    from vlmixer.pipeline.config import Config

LOG = logging.getLogger("vlmixer")


def add(commands: Subcommands) -> None:
    """Add the subcommands."""
    evaluate = commands.add_parser("eval", help="measure a training run").add_subparsers(required=True, metavar="WHAT")
    retrieval = evaluate.add_parser("retrieval", parents=[common()], help="zero-shot retrieval on true pairs")
    _add_run(retrieval)
    retrieval.add_argument(
        "--images", required=True, metavar="CAPTIONS.jsonl", help='lines of {"image": PATH, "captions": [TEXT, …]}'
    )
    retrieval.add_argument("--html", metavar="FILE", help="write a page: captions found for photos, words on regions")
    retrieval.add_argument("-n", type=positive, default=24, metavar="N", help="photos on the page (default: 24)")
    add_json(retrieval)
    retrieval.set_defaults(do=run_retrieval)
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
    add_json(foils)
    foils.set_defaults(do=run_foils)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, metavar="RUN", help="folder of the training run")
    parser.add_argument(
        "--config", metavar="CONFIG.yaml", help="config with detector and vocabulary (default: the one saved in RUN)"
    )
    add_trust(parser)
    add_set(parser)


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
    from vlmixer.pipeline.evaluation.retrieval import evaluate_retrieval

    config, places = _config(options)
    report, skipped = evaluate_retrieval(options.run, options.images, config, places, options.html, options.n)
    if options.html:
        LOG.info("page: %s", options.html)
    _print(options, report, skipped)
    return 0


def run_foils(options: argparse.Namespace) -> int:
    """Measure how often captions score above their foils and print the table of scores."""
    from vlmixer.pipeline.evaluation.foils import evaluate_foils

    config, places = _config(options)
    report, skipped = evaluate_foils(options.run, options.images, config, places, options.swaps)
    _print(options, report, skipped)
    return 0


def _print(options: argparse.Namespace, report: "RetrievalReport | FoilReport", skipped: dict[str, str]) -> None:
    if options.json:
        print_json({**report.to_json(), "skipped": skipped})
        return
    print(report.to_table())
    for image, reason in skipped.items():
        LOG.info("not used: %s: %s", image, reason)
