"""`vlmixer bank`: describe a patch bank, search it, serve it; bank_changes.py removes images and merges banks."""

import argparse
import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.pipeline.commands.bank_changes import add_drop, add_merge
from vlmixer.pipeline.commands.options import (
    Subcommands,
    add_json,
    add_page_or_json,
    add_trust,
    common,
    open_bank,
    positive,
    print_json,
    require_page_or_json,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy import ndarray
    from PIL.Image import Image

    from vlmixer.bank.records import Hit, PatchRecord
    from vlmixer.bank.store import PatchBank
    from vlmixer.pipeline.report.pictures import Pictures
    from vlmixer.pipeline.report.texts import Texts

LOG = logging.getLogger("vlmixer")


def add(commands: Subcommands) -> None:
    """Add the subcommands."""
    bank = commands.add_parser("bank", help="look into a patch bank").add_subparsers(required=True, metavar="WHAT")
    in_bank = common()
    in_bank.add_argument("bank", metavar="BANK", help="folder of the bank, such as OUT/bank")
    _add_stats(bank.add_parser("stats", parents=[in_bank], help="patches per concept, scores and sizes"))
    _add_query(bank.add_parser("query", parents=[in_bank], help="find patches"))
    _add_show(bank.add_parser("show", parents=[in_bank], help="contact sheet, one row per concept"))
    add_drop(bank.add_parser("drop", parents=[in_bank], help="take images out of a bank (a take-down request)"))
    add_merge(bank.add_parser("merge", parents=[common()], help="combine banks of one detector and vocabulary"))
    _add_serve(bank.add_parser("serve", parents=[in_bank], help="serve the bank's page with live search, and an API"))


def _add_stats(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tagged", metavar="DIR", help="folder of the tagged text (default: tagged/ next to the bank)")
    parser.add_argument("--quality", action="store_true", help="also measure how pure and how varied the concepts are")
    add_json(parser)
    parser.set_defaults(do=stats)


def stats(options: argparse.Namespace) -> int:
    """Print what the bank holds and, next to it, what the text mentions."""
    from vlmixer.artifacts import files, manifest, stages
    from vlmixer.bank.quality import bank_quality
    from vlmixer.bank.stats import bank_stats

    bank = open_bank(options.bank)
    tagged = options.tagged or files.beside(options.bank, "tagged")
    mentions = None
    if options.tagged or files.exists(files.join(tagged, manifest.NAME)):
        mentions = manifest.read(tagged, stages.TAG).details.mentions
    numbers = bank_stats(bank, mentions)
    quality = bank_quality(bank) if options.quality else None
    if options.json:
        print_json({**numbers.to_json(), **({} if quality is None else {"quality": quality.to_json()})})
    else:
        print(numbers.to_table())
        if quality is not None:
            print("", quality.to_table(), sep="\n")
    return 0


def _add_query(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--concept", metavar="NAME", help="only patches of this concept; its name or a synonym")
    parser.add_argument(
        "--like", metavar="IMAGE_OR_PATCH_ID", help="order by similarity to this patch, or to what an image file shows"
    )
    parser.add_argument(
        "--text",
        metavar="TEXT",
        help='order by similarity to a text, such as "a wet dog in snow" (banks of CLIP, SigLIP)',
    )
    _add_detector(parser, "with --like IMAGE and --text")
    parser.add_argument(
        "--context", default="", metavar='"grass, frisbee"', help="prefer patches whose images also show these"
    )
    parser.add_argument("-k", type=positive, default=16, metavar="N", help="number of patches (default: 16)")
    add_page_or_json(parser)
    parser.add_argument("--save", metavar="DIR", help="write the crops, and a patches.jsonl with their sources")
    parser.add_argument("--to-wds", metavar="DIR", help="write the crops as a small WebDataset")
    parser.add_argument(
        "--overwrite", action="store_true", help="with --save and --to-wds: replace what an earlier query wrote there"
    )
    parser.set_defaults(do=query)


def _add_detector(parser: argparse.ArgumentParser, when: str) -> None:
    parser.add_argument(
        "--config", metavar="CONFIG.yaml",
        help=f"{when}: the config that names the bank's detector (default: config.yaml next to the bank)",
    )  # fmt: skip
    add_trust(parser)


def query(options: argparse.Namespace) -> int:
    """Search the bank and print, save or draw the patches."""

    bank, like = open_bank(options.bank), options.like
    if options.text is not None:
        if like:
            raise CallError("--text and --like: expected one of them.")
        like = _text_vector(options)
    elif like and os.path.isfile(like):
        bank, like = _bank_and_picture(options)
    elif like and ("/" in like or "." in like):  # no patch id looks like this
        raise CallError(f"--like {like}: no such file. Give an image file, or the id of a patch of the bank.")
    context = [word.strip() for word in options.context.split(",") if word.strip()]
    hits = bank.search(options.concept, like=like, context=context, k=options.k)
    query = bank.patch(like) if isinstance(like, str) else None if options.text else like
    _write_hits(options, bank, hits, context, query)
    if options.json:
        print_json({"hits": [hit.to_json() for hit in hits]})
    elif not options.html and not options.save and not options.to_wds:
        for hit in hits:
            say(_hit_line(hit))
    return 0


def _write_hits(
    options: argparse.Namespace,
    bank: "PatchBank",
    hits: "Sequence[Hit]",
    context: list[str],
    query: "Image | PatchRecord | None",
) -> None:
    """The files that --save, --to-wds and --html ask for."""
    from vlmixer.bank.export import save_hits, write_webdataset
    from vlmixer.bank.records import PatchRecord
    from vlmixer.pipeline.report.bank import write_hits_page

    if options.save:
        save_hits(hits, options.save, overwrite=options.overwrite)
        LOG.info("%d crops: %s", len(hits), options.save)
    if options.to_wds:
        shards = write_webdataset(hits, options.to_wds, overwrite=options.overwrite)
        LOG.info("%d crops in %d shards: %s", len(hits), len(shards), options.to_wds)
    if options.html:
        asked = [options.concept or "any concept"]
        asked += [f"like {os.path.basename(options.like)}"] if options.like else []
        asked += [f"“{options.text}”"] if options.text else []
        asked += [f"with {word}" for word in context]
        source = query.source if isinstance(query, PatchRecord) else options.like or ""
        write_hits_page(options.html, bank, hits, title=", ".join(asked), query=query, query_source=source)
        LOG.info("%d patches: %s", len(hits), options.html)


def _hit_line(hit: "Hit") -> str:
    patch = hit.patch
    box = " ".join(f"{value:.0f}" for value in patch.box)
    return f"{patch.patch_id}  {patch.concept}  {patch.score:.2f}  {hit.similarity:.3f}  {patch.source} [{box}]"


def _text_vector(options: argparse.Namespace) -> "ndarray":
    """What --text is compared as."""
    from vlmixer.pipeline.image.embedding import text_embedder

    if not options.text.strip():
        raise CallError("--text: expected a text, found nothing.")
    return text_embedder(options.bank, options.config, trust_detector=options.trust_detector)(options.text)


def _bank_and_picture(options: argparse.Namespace) -> "tuple[PatchBank, Image]":
    """The bank, opened with its detector, and the picture that --like names."""
    from PIL import Image

    from vlmixer.artifacts import files
    from vlmixer.bank.store import PatchBank
    from vlmixer.pipeline.image.decoding import ImageRejected, decode
    from vlmixer.pipeline.image.embedding import embedder, own_config

    _, config = own_config(options.bank, options.config, trust_detector=options.trust_detector)
    limit = config.images.max_megapixels * 1e6
    try:
        picture = Image.fromarray(decode(files.read_bytes(options.like), max_pixels=limit))
    except ImageRejected as rejected:
        raise CallError(f"{options.like}: not usable as an image: {rejected}") from None
    embed = embedder(options.bank, options.config, trust_detector=options.trust_detector)
    return PatchBank.open(options.bank, embed=embed), picture


def _add_show(parser: argparse.ArgumentParser) -> None:
    add_page_or_json(parser)
    parser.set_defaults(do=show)


def show(options: argparse.Namespace) -> int:
    """Write the contact sheet, print the first patches of each concept as JSON, or both."""
    from vlmixer.pipeline.report.bank import write_bank_page

    require_page_or_json(options)
    bank = open_bank(options.bank)
    if options.json:
        print_json({"concepts": {entry.name: _patches_json(bank, entry.name) for entry in bank.concepts}})
    if options.html:
        write_bank_page(options.html, bank)
        LOG.info("%d patches: %s", len(bank), options.html)
    return 0


def _patches_json(bank: "PatchBank", concept: str, limit: int = 24) -> dict[str, Any]:
    patches = bank.patches(concept)
    return {"count": len(patches), "patches": [record.to_json() for record in patches[:limit]]}


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8765, help="port; 0 takes a free one (default: 8765)")
    parser.add_argument(
        "--max-k", type=positive, default=256, metavar="N", help="maximum patches per answer (default: 256)"
    )
    _add_detector(parser, "for searches with a picture")
    parser.set_defaults(do=serve)


def serve(options: argparse.Namespace) -> int:
    """Serve the bank until interrupted."""
    from vlmixer.pipeline.report import server

    bank = open_bank(options.bank)
    pictures = _pictures(options)
    texts = _texts(options, bank) if pictures else None
    server.serve(bank, options.host, options.port, max_k=options.max_k, pictures=pictures, texts=texts)
    return 0


def _texts(options: argparse.Namespace, bank: "PatchBank") -> "Texts | None":
    """What searches for texts need; None if no part of the bank's features can be compared with texts."""
    from vlmixer.pipeline.image.embedding import may_read_texts, text_embedder
    from vlmixer.pipeline.report.texts import Texts

    if not may_read_texts(bank):
        return None
    return Texts(lambda: text_embedder(options.bank, options.config, trust_detector=options.trust_detector))


def _pictures(options: argparse.Namespace) -> "Pictures | None":
    """What searches for pictures need; None, with a message, if nothing names the bank's detector.

    The detector itself is loaded for the first picture. Raises CallError for a --config that does not name it.
    """
    from vlmixer.pipeline.image.embedding import embedder, own_config
    from vlmixer.pipeline.report.pictures import PictureLimits, Pictures

    config, trusted = options.config, options.trust_detector
    try:
        _, settings = own_config(options.bank, config, trust_detector=trusted)
    except UserError as error:
        if config or trusted:
            raise
        LOG.info("no searches with pictures: %s", error)
        return None
    limits = PictureLimits()
    pixels = min(limits.pixels, settings.images.max_megapixels * 1e6)
    return Pictures(lambda: embedder(options.bank, config, trust_detector=trusted), replace(limits, pixels=pixels))
