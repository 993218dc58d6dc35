"""`vlmixer eval`: measure a training run."""

import argparse
import logging

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

LOG = logging.getLogger("vlmixer")


def add(commands: Subcommands) -> None:
    """Add the subcommands."""
    evaluate = commands.add_parser("eval", help="measure a training run").add_subparsers(required=True, metavar="WHAT")
    retrieval = evaluate.add_parser("retrieval", parents=[common()], help="zero-shot retrieval on true pairs")
    retrieval.add_argument("--run", required=True, metavar="RUN", help="folder of the training run")
    retrieval.add_argument(
        "--images", required=True, metavar="CAPTIONS.jsonl", help='lines of {"image": PATH, "captions": [TEXT, …]}'
    )
    retrieval.add_argument(
        "--config", metavar="CONFIG.yaml", help="config with detector and vocabulary (default: the one saved in RUN)"
    )
    add_trust(retrieval)
    add_set(retrieval)
    retrieval.add_argument("--html", metavar="FILE", help="write a page: captions found for photos, words on regions")
    retrieval.add_argument("-n", type=positive, default=24, metavar="N", help="photos on the page (default: 24)")
    add_json(retrieval)
    retrieval.set_defaults(do=run_retrieval)


def run_retrieval(options: argparse.Namespace) -> int:
    """Measure retrieval both ways and print the table of scores."""
    from vlmixer.artifacts import files
    from vlmixer.pipeline.config import load_config
    from vlmixer.pipeline.evaluation.retrieval import evaluate_retrieval
    from vlmixer.pipeline.trust import require_harmless

    saved = files.join(options.run, "pipeline.yaml")
    if options.config is None and not files.exists(saved):
        raise CallError(f"{saved}: no such file, so detector and vocabulary are unknown. Give --config CONFIG.yaml.")
    path = options.config or saved
    config = load_config(path, options.set)
    if options.config is None and not options.trust_detector:
        require_harmless(config, path)
    report, skipped = evaluate_retrieval(
        options.run, options.images, config, import_paths(path), options.html, options.n
    )
    if options.html:
        LOG.info("page: %s", options.html)
    if options.json:
        print_json({**report.to_json(), "skipped": skipped})
    else:
        print(report.to_table())
        for image, reason in skipped.items():
            LOG.info("not used: %s: %s", image, reason)
    return 0
