"""`vlmixer eval TASK`: score a fine-tuned run on a task's official files."""

import argparse
import logging
from typing import Any

from vlmixer.model.tasks import TASKS
from vlmixer.pipeline.commands.options import add_json, common, positive, print_json

RETRIEVAL = "retrieval"
SPLITS = ("validation", "train")
LOG = logging.getLogger("vlmixer")


def add(evaluate: "argparse._SubParsersAction[Any]") -> None:
    """Add a subcommand of `vlmixer eval` for each task but retrieval, which is one of pre-trained runs, too."""
    for name in TASKS:
        if name == RETRIEVAL:
            continue
        parser = evaluate.add_parser(name, parents=[common()], help=f"score a run that was fine-tuned for {name}")
        parser.add_argument("--run", required=True, metavar="RUN", help="folder of the fine-tuned run")
        parser.add_argument("--split", choices=SPLITS, default=SPLITS[0], help="files that the run's config names")
        add_files(parser)
        parser.add_argument("--html", metavar="FILE", help="write a page: photos, what mattered in them, the answers")
        parser.add_argument("-n", type=positive, default=48, metavar="N", help="examples on the page (default: 48)")
        add_json(parser)
        parser.set_defaults(do=run, task=name)


def add_files(parser: "argparse._ActionsContainer") -> None:
    """What is scored."""
    parser.add_argument("files", nargs="*", metavar="FILE", help="the official files (default: those of --split)")
    parser.add_argument("--against", metavar="RUN2", help="another run, for a paired comparison")
    parser.add_argument("--regions", metavar="DIR", help="regions/ of these photos (default: the config's)")
    parser.add_argument("--tags", metavar="FILE", help="tags of these photos (default: the config's)")
    parser.add_argument("--max-bad-fraction", type=float, metavar="SHARE", help="more unusable examples stop the work")
    parser.add_argument("--result", metavar="FILE", help="write the official result file")


def is_finetuned(folder: str) -> bool:
    """Whether RUN is the folder of a finished fine-tuning."""
    from vlmixer.artifacts import files, manifest
    from vlmixer.artifacts.stages import FINETUNE

    return files.has_file(files.join(folder, manifest.NAME)) and manifest.read(folder).stage == FINETUNE.name


def run(options: argparse.Namespace) -> int:
    """Score, and print the table."""
    import os

    import torch

    from vlmixer.artifacts import files
    from vlmixer.model.tasks.evaluation import Scored, evaluate_run

    torch.set_num_threads(os.cpu_count() or 1)

    def scored(folder: str) -> Scored:
        return evaluate_run(
            folder, options.task, options.files, options.split, options.regions, options.tags, options.max_bad_fraction
        )

    found = scored(options.run)
    other = scored(options.against) if options.against else None
    if options.result:
        files.publish_bytes(options.result, found.evaluation.result)
        LOG.info("result file: %s", options.result)
    if options.html:
        from vlmixer.pipeline.report.answers import write_answers_page

        write_answers_page(options.html, found, options.n)
        LOG.info("page: %s", options.html)
    if options.json:
        print_json(found.to_json(other))
    else:
        print(found.to_table(other))
    for reason, number in found.counts.rejected.items():
        LOG.warning("not used: %d %s", number, reason)
    return 0
