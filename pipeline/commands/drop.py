"""`vlmixer drop`: take images and sentences out of a result (a take-down request)."""

import argparse
import hashlib
import logging
from typing import TYPE_CHECKING, Any

from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.commands.bank_changes import image_names as read_names
from vlmixer.pipeline.commands.options import Subcommands, add_json, add_workers, common, print_json, say

if TYPE_CHECKING:
    from vlmixer.pipeline.replacing.finding import FoundImages, FoundSentences

LOG = logging.getLogger("vlmixer")


def add(commands: Subcommands) -> None:
    """Add the subcommand."""
    drop = commands.add_parser(
        "drop", parents=[common()], help="take images and sentences out of a result (a take-down request)",
        epilog="docs/take-down.md says what is removed, what the new result equals, and what cannot be removed.",
    )  # fmt: skip
    drop.add_argument("out", metavar="OUT", help="an output folder")
    drop.add_argument("--images", metavar="FILE", help="image ids or file names, one per line")
    drop.add_argument(
        "--texts", metavar="FILE", help="sentence ids, SHA-256 hashes of sentences, or sentences, one per line"
    )
    add_workers(drop)
    add_json(drop)
    drop.set_defaults(do=run, resume_hint="Rerun the same command to resume.")


def run(options: argparse.Namespace) -> int:
    """Take the images and sentences out. Returns 1 if not all were found."""
    from vlmixer.artifacts import files
    from vlmixer.artifacts.lock import locked

    if not options.images and not options.texts:
        raise CallError("nothing to drop. Give --images FILE, --texts FILE, or both.")
    if not files.exists(files.join(options.out, "config.yaml")):
        raise CallError(f"{options.out}: no result here. Give the output folder of `vlmixer run`.")
    images = read_names(options.images) if options.images else []
    texts = read_names(options.texts) if options.texts else []
    with locked(files.join(options.out, "logs")):
        return _run_locked(options, images, texts)


def _run_locked(options: argparse.Namespace, images: list[str], texts: list[str]) -> int:
    from vlmixer.artifacts import files, stages
    from vlmixer.pipeline.config import load_config
    from vlmixer.pipeline.jobs.drop import check_record, drop
    from vlmixer.pipeline.jobs.engine import Engine
    from vlmixer.pipeline.jobs.worker_server import worker_server
    from vlmixer.pipeline.replacing import leftovers, next_result
    from vlmixer.pipeline.replacing.finding import find_images, find_sentences
    from vlmixer.pipeline.report.run import renew_run_report

    out = options.out
    request = hashlib.sha256("\n".join([*images, "", *texts]).encode()).hexdigest()
    report = next_result.finish(out)
    if report is None or report.get("request") != request:
        if images:
            check_record(out)
        found = find_images(files.join(out, stages.DETECT.folder), images)
        sentences = find_sentences(files.join(out, stages.TAG.folder), texts)
        report = {"request": request, **_counts(found, sentences, out)}
        if found.ids or sentences.ids:
            config = load_config(files.join(out, "config.yaml"), out=out)
            with worker_server(options.workers) as server:
                drop(config, found, sentences, Engine(options.workers, server=server), report)
    if report["changed"]:
        renew_run_report(out)
    named = [*images, *texts]
    leftovers.clear_logs(out, named)
    report = {key: value for key, value in report.items() if key != "request"}
    report["also_in"] = leftovers.other_files(out, named) if report["changed"] else []
    report["trained"] = next_result.trained_before(out) if report["changed"] else []
    if options.json:
        print_json(report)
    else:
        _print(report, out)
    return 1 if report["missing"] or report["ambiguous"] else 0


def _counts(images: "FoundImages", sentences: "FoundSentences", out: str) -> dict[str, Any]:
    """What was found and what was not, without the names of what was."""
    from vlmixer.artifacts import dropped

    before = dropped.read(out)
    missing: dict[str, list[str]] = {name: list(near) for name, near in images.missing.items()}
    missing |= {name: [] for name in sentences.missing}
    again = [name for name in missing if before.knows(name)]
    return {
        "images": len(images.ids) - images.copies,
        "copies": images.copies,
        "sentences": len(sentences.ids),
        "dropped_before": len(again),
        "missing": {name: near for name, near in missing.items() if name not in again},
        "ambiguous": {name: list(sources) for name, sources in images.ambiguous.items()},
        "changed": [],
    }


def _print(report: dict[str, Any], out: str) -> None:
    if report["changed"]:
        copies = f", and {report['copies']} exact copies of them" if report["copies"] else ""
        folders = ", ".join(f"{folder}/" for folder in report["changed"])
        say(f"dropped {report['images']} images{copies}, {report['sentences']} sentences from {out}: {folders}")
        say("The inputs themselves are unchanged. If they are still there, later runs pass over them.")
    else:
        say(f"nothing to drop. {out} is unchanged.")
    if report["dropped_before"]:
        say(f"dropped before: {report['dropped_before']}")
    for name, near in report["missing"].items():
        say(f"not found: {name}" + (f" (near: {', '.join(near)})" if near else ""))
    for name, sources in report["ambiguous"].items():
        say(f"not dropped, because it may mean several images: {name} ({', '.join(sources)})")
    for name in report["trained"]:
        say(f"{out}/{name}: a network that was trained with them. It cannot forget: remove it and train again.")
    for name in report["also_in"]:
        say(f"also named in {out}/{name}, which no stage wrote. Remove it or write it again.")
