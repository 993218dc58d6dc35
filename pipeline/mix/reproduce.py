"""Reproduces a single sample from its key, by the settings in the shards' manifest.

Mixed samples are made from tagged/ and bank/, image samples from regions/. The shards themselves are not read.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vlmixer.artifacts import files, manifest, schemas, settings
from vlmixer.artifacts.details import ShardsDetails
from vlmixer.artifacts.errors import CallError, UserError, one_line
from vlmixer.artifacts.manifest import Manifest
from vlmixer.artifacts.parquet import reading
from vlmixer.artifacts.samples import Mention, MixedSample, Sample
from vlmixer.artifacts.stages import DETECT, INDEX, MIX, TAG
from vlmixer.bank.building import feature_rows
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.mix.cutmix import Mix, Verdict, patches_wanted
from vlmixer.pipeline.mix.limits import patch_limits
from vlmixer.pipeline.mix.samples import (
    Sentence,
    finish,
    image_samples,
    known_patches,
    mix_sentence,
    shard_of,
    why_rejected,
)
from vlmixer.pipeline.mix.settings import CutMixSettings, MixSettings
from vlmixer.pipeline.mix.units import MIXED
from vlmixer.pipeline.text.readers.slices import source_id


@dataclass(frozen=True)
class MentionReason:
    """Why a mention was replaced or not, in words. `patches`: how many the bank has of its concept."""

    mention: Mention
    verdict: Verdict
    patches: int
    reason: str


@dataclass(frozen=True)
class ReproducedSample:
    """`shard`: the name of its shard, empty for an image sample. `source`: the file of its sentence or image, and the
    place there. `reasons`: one for each mention, none for an image sample."""

    sample: Sample
    shard: str
    source: str
    reasons: tuple[MentionReason, ...] = ()


def reproduce(out: str, key: str) -> ReproducedSample:
    """The sample `key` of the output folder `out`.

    Raises CallError if there is no such sample, with the reason if its sentence was rejected. Raises UserError if the
    shards were made from another bank or other regions.
    """
    shards = manifest.read(files.join(out, MIX.folder), MIX)
    for entry in shards.inputs:
        if manifest.read(files.join(out, entry.name)).content_hash != entry.sha256:
            raise UserError(
                f"{out}/shards: made from another {entry.name}/ than the present one. Run `vlmixer mix … --overwrite`."
            )
    sentence_id, dash, view = key.rpartition("-")
    if not dash:
        return _image_sample(out, key, shards)
    views = mix_settings(shards).views
    if not view.isascii() or not view.isdigit() or not int(view) < views:
        raise CallError(f"{key}: not the key of a sample. The shards have views 00 to {views - 1:02d}. {_SEE}")
    return _mixed_sample(out, Sentence.from_row(_tagged_row(out, sentence_id), int(view)), shards)


def mix_settings(shards: Manifest[ShardsDetails]) -> MixSettings:
    """The settings that the shards were made with. Raises CallError if they are damaged."""
    before = {"max_uses": None}  # shards from before this setting were mixed without a limit
    given = before | dict(shards.details.settings)
    return settings.build(MixSettings, given, where="settings in the manifest of the shards")


_SEE = "`vlmixer show OUT --json` prints keys, and the names of the shards' members begin with them."


def _mixed_sample(out: str, sentence: Sentence, shards: Manifest[ShardsDetails]) -> ReproducedSample:
    chosen, seed = mix_settings(shards), shards.details.seed
    bank = PatchBank.open(files.join(out, INDEX.folder))
    tagged = manifest.read(files.join(out, TAG.folder), TAG).details
    limits = patch_limits(tagged.mentions, bank.counts, chosen, chosen.views)
    mixed = mix_sentence(sentence, known_patches(bank), chosen, seed, limits)
    rejected = why_rejected(sentence, mixed, chosen)
    if rejected is not None:
        raise CallError(
            f"{sentence.key}: this sentence has no sample: {rejected.reason} ({', '.join(rejected.concepts)})."
        )
    sample = finish([(sentence, mixed)], bank, crops=chosen.crops)[0]
    count = sum(MIXED.includes(output.name) and output.name.endswith(".tar") for output in shards.outputs)
    shard = f"{MIXED.name(shard_of(sentence.key, count, seed))}.tar"
    source_id, place = sentence.sentence_id.split("-", 1)
    source = f"{tagged.sources.get(source_id, source_id)} at {place}"
    return ReproducedSample(sample, shard, source, explain(mixed, chosen, bank))


def explain(mixed: Mix, chosen: CutMixSettings, bank: PatchBank) -> tuple[MentionReason, ...]:
    """Why each mention was replaced or not."""
    found = []
    for index, (mention, verdict) in enumerate(zip(mixed.mentions, mixed.verdicts, strict=True)):
        patches = bank.counts.get(mention.concept, 0)
        drawn = [paste.patch for paste in mixed.pasted if paste.patch.mention == index]
        side = "below" if verdict.draw is not None and verdict.draw < chosen.replace_probability else "not below"
        chance = "" if verdict.draw is None else f"its draw {verdict.draw:.3f} is {side} {chosen.replace_probability:g}"
        reason = {
            "drawn": f"replaced: {chance}",
            "filled": f"replaced: {chance}, but at least {chosen.min_replaced} must be replaced",
            "not_drawn": f"kept: {chance}",
            "over_limit": f"kept: {chance}, but at most {chosen.max_replaced} may be replaced",
            "lacking": "kept: the bank has no patch of it",
            "rare": f"kept: the bank has fewer than {chosen.min_patches} patches of it (mix.min_patches)",
            "over_used": f"kept: too many mentions for the {patches:,} patches that the bank has (mix.max_uses)",
            "phrase": "kept: mix.phrases keeps phrases of several words",
            "other_image": f"kept: {chance}, but mix.one_image chose an image that does not show it",
        }[verdict.reason]
        if drawn:
            wanted = patches_wanted(mention, chosen)
            where = "its image's" if chosen.one_image else f"{patches:,}"
            reason += f"; {len(drawn)} of {where} patches, {wanted} wanted, sampler {chosen.sampler}"
        found.append(MentionReason(mention, verdict, patches, reason))
    return tuple(found)


def _tagged_row(out: str, sentence_id: str) -> dict[str, Any]:
    """The sentence's row. The parts hold the sentences in the order of the inputs and of the places in them, so a
    bisection reads only a few parts."""
    folder = files.join(out, TAG.folder)
    tagged = manifest.read(folder)
    places = {source_id(name): place for place, name in enumerate(dict.fromkeys(entry.name for entry in tagged.inputs))}

    def order(some_id: str) -> tuple[int, str]:
        return places.get(some_id.partition("-")[0], len(places)), some_id

    parts = [output.name for output in tagged.parts if output.rows]
    parts.sort(key=lambda name: (len(name), name))  # by number, however many digits it has
    number = bisect_right(parts, order(sentence_id), key=lambda name: order(_ids(folder, name)[0].as_py())) - 1
    if number >= 0:
        ids = _ids(folder, parts[number])
        row = pc.index(ids, sentence_id).as_py()
        if row >= 0:
            with reading(files.join(folder, parts[number]), schemas.TAGGED) as table:
                found: dict[str, Any] = table.read().slice(row, 1).to_pylist()[0]
            return found
    raise CallError(f"{sentence_id}: no such sentence in {folder}. {_SEE}")


def _ids(folder: str, part: str) -> pa.ChunkedArray:
    with reading(files.join(folder, part), schemas.TAGGED) as table:
        return table.read(["sentence_id"])["sentence_id"]


def _image_sample(out: str, key: str, shards: Manifest[ShardsDetails]) -> ReproducedSample:
    folder = files.join(out, DETECT.folder)
    for output in manifest.read(folder).parts:
        with reading(files.join(folder, output.name), schemas.regions_as_wide_as) as part:
            ids = part.read(["image_id"])["image_id"]
            first = pc.index(ids, key).as_py()
            if first >= 0:
                table = part.read().slice(first, pc.sum(pc.equal(ids, key)).as_py())
                features = feature_rows(table["feature"])
                rows = table.drop_columns(["feature"]).to_pylist()
                sample = next(image_samples(rows, features, crops=mix_settings(shards).crops))
                return ReproducedSample(sample, "", sample.source)
    raise CallError(f"{key}: no such image in {folder}. {_SEE}")


def to_text(found: ReproducedSample, *, why: bool) -> str:
    """The sample for a terminal: its sentence with the replaced words in brackets, its patches, and with `why` the
    reasons."""
    sample = found.sample
    lines = [f"{sample.key}{f', in {found.shard}' if found.shard else ''}", f"from {found.source}", ""]
    if isinstance(sample, MixedSample):
        at, text = 0, ""
        for index, mention in enumerate(sample.mentions):
            word = sample.text[mention.start : mention.end]
            text += sample.text[at : mention.start] + (f"[{word}]" if index in sample.replaced else word)
            at = mention.end
        lines += [text + sample.text[at:], ""]
    else:
        lines += [", ".join(sample.tags), ""]
    for patch in sample.patches:
        box = ", ".join(f"{value:.0f}" for value in patch.box)
        lines.append(f"{patch.concept}: patch {patch.patch_id}, score {patch.score:.2f}, box {box} of "
                     f"{patch.width} × {patch.height}")  # fmt: skip
    if why:
        lines += [
            "",
            *(f"{entry.mention.surface} ({entry.mention.concept}): {entry.reason}" for entry in found.reasons),
        ]
    return "\n".join(map(one_line, lines))
