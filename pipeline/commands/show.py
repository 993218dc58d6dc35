"""`vlmixer show`: look at mixed samples, or reproduce one of them."""

import argparse
import logging

from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.commands.options import (
    Subcommands,
    add_page_or_json,
    common,
    positive,
    print_json,
    require_page_or_json,
)

LOG = logging.getLogger("vlmixer")


def add(commands: Subcommands) -> None:
    """Add the subcommand."""
    show = commands.add_parser("show", parents=[common()], help="look at mixed samples")
    show.add_argument("folder", metavar="SHARDS_OR_OUT", help="an output folder, or a folder of shards")
    add_page_or_json(show)
    show.add_argument("-n", type=positive, default=24, metavar="N", help="number of samples (default: 24)")
    show.add_argument("--concept", metavar="NAME", help="only samples with a patch of this concept")
    show.add_argument("--key", help="reproduce the sample with this key from text and bank, and show it")
    show.add_argument("--why", action="store_true", help="with --key: say why each mention was replaced or kept")
    show.set_defaults(do=run)


def run(options: argparse.Namespace) -> int:
    """Show the samples as a page, as JSON or both."""
    from vlmixer.artifacts import files, manifest
    from vlmixer.artifacts.samples import sample_record
    from vlmixer.bank.store import PatchBank
    from vlmixer.pipeline.report.samples import choose_samples, write_samples_page

    if options.key:
        return _reproduce(options)
    if options.why:
        raise CallError("--why explains one sample. Give its --key, too.")
    require_page_or_json(options)
    inner = files.join(options.folder, "shards")
    shards = inner if files.exists(files.join(inner, manifest.NAME)) else options.folder
    if not files.exists(files.join(shards, manifest.NAME)):
        raise CallError(
            f"{options.folder}: nothing to show. Expected an output folder that has shards/, or a folder of shards."
        )
    manifest.read(shards)  # raises for another schema version
    folder = files.beside(shards, "bank")
    bank = PatchBank.open(folder) if files.exists(files.join(folder, manifest.NAME)) else None
    # The bank knows synonyms, and near names of unknown words.
    concept = bank.concept_named(options.concept).name if bank and options.concept else options.concept
    samples = choose_samples(shards, options.n, concept)
    if options.json:
        print_json({"samples": [sample_record(sample) for sample in samples]})
    if options.html:
        count = write_samples_page(options.html, samples, bank, title=f"Samples of {options.folder}")
        LOG.info("%d samples: %s", count, options.html)
    return 0


def _reproduce(options: argparse.Namespace) -> int:
    from vlmixer.artifacts import files
    from vlmixer.artifacts.samples import sample_record
    from vlmixer.bank.store import PatchBank
    from vlmixer.pipeline.mix.reproduce import reproduce, to_text
    from vlmixer.pipeline.report.samples import write_samples_page

    out = options.folder.rstrip("/").removesuffix("/shards") if options.folder.endswith("shards") else options.folder
    found = reproduce(out, options.key)
    reasons = [f"{why.mention.surface}: {why.reason}" for why in found.reasons] if options.why else []
    if options.json:
        print_json({**sample_record(found.sample), "shard": found.shard, "from": found.source, "why": reasons})
    else:
        print(to_text(found, why=options.why))
    if options.html:
        bank = PatchBank.open(files.join(out, "bank"))
        write_samples_page(options.html, [found.sample], bank, title=f"Sample {options.key}", why=reasons)
        LOG.info("page: %s", options.html)
    return 0
