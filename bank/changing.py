"""Banks made from banks: images dropped from one, several merged. The regions they came from are not needed."""

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.details import BankDetails, BankSelection, DetectorIdentity, to_json
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.image_names import ImageNames, is_ambiguous
from vlmixer.artifacts.manifest import Counts, Input, Manifest
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.samples import ImageSample, Sample
from vlmixer.artifacts.stages import INDEX
from vlmixer.bank import selection
from vlmixer.bank.building import LEFT_OUT, ConceptCounts, chosen_schema, feature_column, write_bank
from vlmixer.bank.matching import bank_images, similar_names
from vlmixer.bank.store import PatchBank

PACKAGES = ("vlmixer", "numpy", "pyarrow", "faiss-cpu")


@dataclass(frozen=True)
class Dropped:
    """What was dropped from a bank: the number of patches by concept, and the ids of the images that had patches.

    unknown: names without patches in the bank. near: similar names in the bank, by unknown name. ambiguous: names that
    may mean images of several files, with these files; nothing was dropped for them.
    """

    images: tuple[str, ...]
    patches: dict[str, int]
    unknown: tuple[str, ...]
    ambiguous: dict[str, tuple[str, ...]] = field(default_factory=dict)
    near: dict[str, tuple[str, ...]] = field(default_factory=dict)


def drop_images(bank: PatchBank, names: Sequence[str], out: str, *, missing_ok: bool = False) -> Dropped:
    """Write to `out` the bank without the patches of some images. All other patches stay, in the same order.

    names: image ids or file names (artifacts.image_names says how they may be written). No other patch replaces a
    dropped one: that would need the regions. Raises CallError if `out` is not empty or is inside the bank, and if the
    bank has no patch of these images; with `missing_ok` no bank is written then.
    """
    _check_free(out, bank)
    known = ImageNames(bank_images(bank, names))
    meant = {name: known.find(name) for name in names}
    ambiguous = {
        name: tuple(sorted({image.source for image in found})) for name, found in meant.items() if is_ambiguous(found)
    }
    wanted = {image.image_id for name, found in meant.items() if name not in ambiguous for image in found}
    ids = pa.array(sorted(wanted), pa.string())
    gone: dict[str, np.ndarray] = {}
    log = RejectLog("index")
    for concept in bank.concepts:
        patches = bank.patches(concept.name, keep=False)
        places = np.flatnonzero(pc.is_in(patches.columns["image_id"], value_set=ids).to_numpy(zero_copy_only=False))
        for record in (patches[int(place)] for place in places):
            log.add(record.source, record.patch_id, "taken_down")
        if len(places):
            gone[concept.name] = places
    unknown = tuple(sorted(name for name in meant if not meant[name]))
    similar = similar_names(bank, unknown)
    near = {name: similar.to(name) for name in unknown}
    if not gone and missing_ok:
        return Dropped((), {}, unknown, ambiguous, near)
    if not gone:
        listed = [f"{name} may mean {' or '.join(found)}" for name, found in ambiguous.items()]
        others = list(dict.fromkeys(other for name in unknown for other in near[name]))[:3]
        hint = f" {'; '.join(listed)}." if listed else f" Near: {', '.join(others)}." if others else ""
        raise CallError(f"{bank.folder}: has no patch of these {len(meant)} images, so there is nothing to drop.{hint}")
    none = np.zeros(0, np.int64)
    numbers = {name: len(places) for name, places in gone.items()}
    counts = [
        ConceptCounts(
            bank.counts[concept.name] - numbers.get(concept.name, 0),
            bank.candidates[concept.name],
            bank.near_duplicates[concept.name],
        )
        for concept in bank.concepts
    ]
    tables = (
        _chosen(bank, name, np.delete(np.arange(bank.counts[name]), gone.get(name, none)))
        for name in (concept.name for concept in bank.concepts)
    )
    _publish(out, [bank], counts, tables, log, bank.manifest.details)
    return Dropped(tuple(sorted(wanted)), numbers, unknown, ambiguous, near)


def affected_samples(samples: Iterable[Sample], images: AbstractSet[str]) -> Iterator[str]:
    """Keys of the samples that have a patch of one of these images (ids), or are one of them (ids or file names)."""
    for sample in samples:
        made_of = isinstance(sample, ImageSample) and sample.source in images
        if made_of or any(patch.image_id in images for patch in sample.patches):
            yield sample.key


def merge_banks(banks: Sequence[PatchBank], out: str, *, max_patches: int | None = None) -> Manifest[BankDetails]:
    """Write to `out` a bank of the patches of several banks, chosen with the selection settings of the first.

    A patch that is in several banks is used once; the others count as near-duplicates. max_patches: maximum number per
    concept; None: the largest of the banks' own. Raises CallError if `out` is not empty or there are fewer than two
    banks, UserError if the banks differ in detector or vocabulary.
    """
    if len(banks) < 2:
        raise CallError("merging needs two banks or more.")
    _check_free(out, *banks)
    first = banks[0]
    for bank in banks[1:]:
        check_same_kind(first, bank)
    most = max_patches or max(bank.manifest.details.selection.max_patches_per_concept for bank in banks)
    settings = replace(first.manifest.details.selection, max_patches_per_concept=most)
    log = RejectLog("index")
    kept: list[list[np.ndarray]] = []
    counts = []
    for concept in first.concepts:
        rows, count = _choose_among(banks, concept.name, settings, log)
        kept.append(rows)
        counts.append(count)

    def tables() -> Iterator[pa.Table]:
        for concept, rows in zip(first.concepts, kept, strict=True):
            parts = [_chosen(bank, concept.name, own[:, 1]) for bank, own in zip(banks, rows, strict=True)]
            order = np.concatenate([own[:, 0] for own in rows])
            yield pa.concat_tables(parts).take(pa.array(np.argsort(order)))

    return _publish(out, banks, counts, tables(), log, replace(first.manifest.details, selection=settings))


def _choose_among(
    banks: Sequence[PatchBank], concept: str, settings: BankSelection, log: RejectLog
) -> tuple[list[np.ndarray], ConceptCounts]:
    """For each bank the kept patches, (n, 2) int64: place in the merged concept, place in the bank's own."""
    places: list[tuple[float, int, int]] = []
    features = []
    seen: set[str] = set()
    doubles = 0
    for number, bank in enumerate(banks):
        patches = bank.patches(concept)
        features.append(bank.features(np.arange(patches.first, patches.first + len(patches))))
        ranks = selection.ranks(settings.selection, patches.scores, patches.patch_ids, settings.seed)
        for place, patch_id in enumerate(patches.patch_ids):
            if patch_id in seen:
                doubles += 1
                log.add(patches[place].source, patch_id, "near_duplicate", "in several banks")
            else:
                seen.add(patch_id)
                places.append((float(ranks[place]), number, place))
    places.sort()
    starts = np.cumsum([0, *(len(rows) for rows in features)])
    vectors = np.concatenate(features)[[starts[number] + place for _, number, place in places]]
    chosen = selection.choose(
        settings.selection, vectors, settings.max_patches_per_concept, settings.duplicate_similarity
    )
    for reason, rows in (("near_duplicate", chosen.duplicates), ("over_limit", chosen.over_limit)):
        for row in rows:
            _, number, place = places[row]
            record = banks[number].patches(concept)[place]
            log.add(record.source, record.patch_id, reason)
    kept: list[list[tuple[int, int]]] = [[] for _ in banks]
    for at, row in enumerate(chosen.kept):
        _, number, place = places[row]
        kept[number].append((at, place))
    count = ConceptCounts(
        len(chosen.kept),
        sum(bank.candidates[concept] for bank in banks),
        sum(bank.near_duplicates[concept] for bank in banks) + len(chosen.duplicates) + doubles,
    )
    return [np.array(own, np.int64).reshape(-1, 2) for own in kept], count


def check_same_kind(first: PatchBank, second: PatchBank) -> None:
    """Raises UserError unless features and concepts have the same meaning in both banks."""
    one, other = first.manifest.details, second.manifest.details
    differing: tuple[str, object, object] | None = None
    if _comparable(one) != _comparable(other):
        differing = "detector", to_json(other.detector), to_json(one.detector)
    elif one.vocabulary_hash != other.vocabulary_hash:
        differing = "vocabulary", other.vocabulary, one.vocabulary
    if differing is not None:
        what, here, there = differing
        raise UserError(
            f"{second.folder}: built with another {what} than {first.folder} ({here}; there {there}). Banks must have "
            "the same detector (name, weights, options) and the same vocabulary; build one of them again."
        )


def _comparable(details: BankDetails) -> tuple[DetectorIdentity, int]:
    """What features depend on. The device does not count."""
    return replace(details.detector, device="any"), details.feature_dim


def _check_free(out: str, *banks: PatchBank) -> None:
    for bank in banks:
        if files.join(files.absolute(out), "").startswith(files.join(files.absolute(bank.folder), "")):
            raise CallError(f"{out}: is in the bank {bank.folder}. Give a folder outside it for the new bank.")
    if files.list_files(out):
        raise CallError(f"{out}: is not empty. Give a new folder for the bank.")


def _chosen(bank: PatchBank, concept: str, places: np.ndarray) -> pa.Table:
    """Patches of a concept, by their places in it, as `write_bank` takes them."""
    patches = bank.patches(concept, keep=False)
    table = patches.table.take(pa.array(places))
    table = table.append_column("feature", feature_column(bank.features(patches.first + places)))
    table = table.append_column("crop", patches.crops(places))
    schema = chosen_schema(bank.feature_dim)
    return table.select(schema.names).cast(schema)


def _publish(
    out: str,
    banks: Sequence[PatchBank],
    counts: Sequence[ConceptCounts],
    tables: Iterable[pa.Table],
    log: RejectLog,
    details: BankDetails,
) -> Manifest[BankDetails]:
    """Write the bank, the list of what was left out, and last the manifest."""
    first = banks[0]
    outputs = write_bank(out, first.concepts, first.feature_dim, counts, tables)
    left_out = log.publish(files.join(out, LEFT_OUT))
    if left_out:
        outputs.append(manifest.output_of(out, LEFT_OUT, left_out))
    settings = {"made of": [bank.manifest.content_hash for bank in banks], "rejected": log.counts()}
    read = sum(len(bank) for bank in banks)
    made = Manifest(
        stage=INDEX.name,
        config_hash=manifest.digest(settings),
        plan_hash=manifest.digest(settings),
        versions=manifest.versions(PACKAGES),
        inputs=[
            Input(f"bank {number}", sum(output.bytes for output in bank.manifest.outputs), bank.manifest.content_hash)
            for number, bank in enumerate(banks)
        ],
        outputs=sorted(outputs, key=lambda output: output.name),
        rejects=[],
        counts={"regions": Counts(read, sum(count.patches for count in counts), log.counts())},
        details=details,
    )
    manifest.publish(out, made)
    return made
