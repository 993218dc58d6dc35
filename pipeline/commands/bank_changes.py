"""`vlmixer bank drop` and `vlmixer bank merge`."""

import argparse
import logging
from typing import TYPE_CHECKING

from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.commands.options import (
    add_json,
    open_bank,
    positive,
    print_json,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vlmixer.bank.changing import Dropped

LOG = logging.getLogger("vlmixer")


def add_drop(parser: argparse.ArgumentParser) -> None:
    """Add what `bank drop` takes."""
    parser.add_argument("--images", required=True, metavar="FILE", help="image ids or file names, one per line")
    parser.add_argument("--out", required=True, metavar="BANK2", help="folder of the new bank")
    parser.add_argument("--shards", metavar="DIR", help="also list the samples in these shards that hold such patches")
    add_json(parser)
    parser.set_defaults(do=drop)


def drop(options: argparse.Namespace) -> int:
    """Write a bank without the images, and print what else holds parts of them. Returns 1 if not all were found."""
    from vlmixer.artifacts import files
    from vlmixer.artifacts.image_names import ImageNames, is_ambiguous
    from vlmixer.artifacts.samples import read_shard
    from vlmixer.bank.changing import affected_samples, drop_images
    from vlmixer.bank.matching import sample_images
    from vlmixer.pipeline.mix.reader_indexes import own_tars

    names = image_names(options.images)
    tars = []
    if options.shards:
        tars = own_tars(options.shards)
        if not tars:
            raise CallError(
                f"{options.shards}: holds no shards of vlmixer (*.tar). Give the folder that `vlmixer mix` wrote."
            )
    shards = {name: files.join(options.shards, name) for name in tars}
    # Samples may also hold regions of an image that never came into the bank.
    sampled = ImageNames(image for path in shards.values() for image in sample_images(read_shard(path)))
    in_shards = {name: found for name in names if (found := sampled.find(name)) and not is_ambiguous(found)}
    dropped = drop_images(open_bank(options.bank), names, options.out, missing_ok=bool(in_shards))
    images = {*dropped.images, *(image.image_id for found in in_shards.values() for image in found)}
    affected = {name: list(affected_samples(read_shard(path), images)) for name, path in shards.items()}
    affected = {name: keys for name, keys in affected.items() if keys}
    missing = [name for name in dropped.unknown if name not in in_shards]
    if options.json:
        print_json({**vars(dropped), "unknown": missing, "samples": affected if options.shards else None})
    else:
        _print_dropped(dropped, missing, options.out)
        if options.shards:
            keys = sum(map(len, affected.values()))
            say(f"{keys} samples in {len(affected)} shards hold patches or regions of these images:")
            for name, listed in affected.items():
                for key in listed:
                    say(f"{name}  {key}")
    LOG.info("The photos, regions/ and shards/ are unchanged. Remove the photos from images.inputs and run again.")
    return 1 if missing or dropped.ambiguous else 0


def image_names(path: str) -> list[str]:
    """The lines of a file that lists images. Raises CallError if it cannot be read."""
    from vlmixer.artifacts import files

    try:
        lines = files.read_bytes(path).decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CallError(f"{path}: expected a UTF-8 text file with one name per line ({error}).") from None
    return [line.strip() for line in lines if line.strip()]


def _print_dropped(dropped: "Dropped", missing: "Sequence[str]", out: str) -> None:
    if dropped.images:
        patches = sum(dropped.patches.values())
        say(f"{patches} patches of {len(dropped.images)} images removed. The bank without them: {out}")
        say("by concept: " + ", ".join(f"{name} {count}" for name, count in dropped.patches.items()))
    else:
        say("The bank has no patch of these images. No new bank was written.")
    for name in missing:
        near = f" (near: {', '.join(dropped.near[name])})" if dropped.near[name] else ""
        say(f"not found: {name}{near}")
    for name, sources in dropped.ambiguous.items():
        say(f"not removed, because it may mean several images: {name} ({', '.join(sources)})")


def add_merge(parser: argparse.ArgumentParser) -> None:
    """Add what `bank merge` takes."""
    parser.add_argument("banks", metavar="BANK", nargs="+")
    parser.add_argument("--out", required=True, metavar="BANK2", help="folder of the new bank")
    parser.add_argument(
        "--max-patches", type=positive, metavar="N", help="patches per concept (default: the largest of the banks')"
    )
    parser.set_defaults(do=merge)


def merge(options: argparse.Namespace) -> int:
    """Write a bank of several banks' patches."""
    from vlmixer.bank.changing import merge_banks
    from vlmixer.pipeline.jobs.chain import counts_line

    banks = [open_bank(folder) for folder in options.banks]
    merged = merge_banks(banks, options.out, max_patches=options.max_patches)
    LOG.info("%s: %s", options.out, counts_line(merged))
    return 0
