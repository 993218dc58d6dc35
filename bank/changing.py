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
from vlmixer.artifacts.manifest import Counts, Input, Manifest, Output
from vlmixer.artifacts.rejects import RejectFile, RejectLog
from vlmixer.artifacts.samples import ImageSample, Sample
from vlmixer.artifacts.stages import INDEX
from vlmixer.bank import selection
from vlmixer.bank.building import LEFT_OUT, PATCHES, ConceptCounts, chosen_schema, feature_column, write_bank
from vlmixer.bank.matching import bank_images, similar_names
from vlmixer.bank.records import ConceptPatches
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
    unknown = tuple(sorted(name for name in meant if not meant[name]))
    similar = similar_names(bank, unknown)
    near = {name: similar.to(name) for name in unknown}
    with _left_out(out) as log:
        gone = _find_patches(bank, pa.array(sorted(wanted), pa.string()), log)
        if not gone and missing_ok:
            return Dropped((), {}, unknown, ambiguous, near)
        if not gone:
            listed = [f"{name} may mean {' or '.join(found)}" for name, found in ambiguous.items()]
            others = list(dict.fromkeys(other for name in unknown for other in near[name]))[:3]
            hint = f" {'; '.join(listed)}." if listed else f" Near: {', '.join(others)}." if others else ""
            raise CallError(
                f"{bank.folder}: has no patch of these {len(meant)} images, so there is nothing to drop.{hint}"
            )
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
        outputs = write_bank(out, bank.concepts, bank.feature_dim, counts, tables)
    _publish(out, [bank], outputs, log, bank.manifest.details)
    return Dropped(tuple(sorted(wanted)), numbers, unknown, ambiguous, near)


def _find_patches(bank: PatchBank, images: pa.Array, log: RejectLog) -> dict[str, np.ndarray]:
    """By concept the places of the patches of these images (ids), (n,) int64. They are added to the log."""
    found: dict[str, np.ndarray] = {}
    for concept in bank.concepts:
        patches = bank.patches(concept.name, keep=False)
        places = np.flatnonzero(pc.is_in(patches.columns["image_id"], value_set=images).to_numpy(zero_copy_only=False))
        _add(log, patches, places, "taken_down")
        if len(places):
            found[concept.name] = places
    return found


def affected_samples(samples: Iterable[Sample], images: AbstractSet[str]) -> Iterator[str]:
    """Keys of the samples that have a patch of one of these images (ids), or are one of them (ids or file names)."""
    for sample in samples:
        made_of = isinstance(sample, ImageSample) and sample.source in images
        if made_of or any(patch.image_id in images for patch in sample.patches):
            yield sample.key


def merge_banks(banks: Sequence[PatchBank], out: str, *, max_patches: int | None = None) -> Manifest[BankDetails]:
    """Write to `out` a bank of the patches of several banks, chosen with the selection settings of the first.

    A patch that is in several banks is used once; the others count as near-duplicates. In memory are one concept of
    all banks, and four bytes per patch. max_patches: maximum number per concept; None: the largest of the banks' own.
    Raises CallError if `out` is not empty or there are fewer than two banks, UserError if the banks differ in detector
    or vocabulary.
    """
    if len(banks) < 2:
        raise CallError("merging needs two banks or more.")
    _check_free(out, *banks)
    first = banks[0]
    for bank in banks[1:]:
        check_same_kind(first, bank)
    most = max_patches or max(bank.manifest.details.selection.max_patches_per_concept for bank in banks)
    settings = replace(first.manifest.details.selection, max_patches_per_concept=most)
    with _left_out(out) as log:
        chosen = [(concept, *_choose_among(banks, concept.name, settings, log)) for concept in first.concepts]
        tables = (_merged(banks, concept.name, rows) for concept, rows, _ in chosen)
        outputs = write_bank(out, first.concepts, first.feature_dim, [count for _, _, count in chosen], tables)
    return _publish(out, banks, outputs, log, replace(first.manifest.details, selection=settings))


def _choose_among(
    banks: Sequence[PatchBank], concept: str, settings: BankSelection, log: RejectLog
) -> tuple[np.ndarray, ConceptCounts]:
    """The patches that are kept, in order of choice, (n,) int32: their places among those of all banks."""
    of_banks = [bank.patches(concept, keep=False) for bank in banks]
    places: list[tuple[float, int, int]] = []
    features = []
    seen: set[str] = set()
    doubles = 0
    for number, (bank, patches) in enumerate(zip(banks, of_banks, strict=True)):
        features.append(bank.features(np.arange(patches.first, patches.first + len(patches))))
        ranks = selection.ranks(settings.selection, patches.scores, patches.patch_ids, settings.seed)
        again = []
        for place, patch_id in enumerate(patches.patch_ids):
            if patch_id in seen:
                again.append(place)
            else:
                seen.add(patch_id)
                places.append((float(ranks[place]), number, place))
        _add(log, patches, again, "near_duplicate", "in several banks")
        doubles += len(again)
    places.sort()
    starts = _starts(banks, concept)
    rows = np.array([starts[number] + place for _, number, place in places], np.int32)
    chosen = selection.choose(
        settings.selection,
        np.concatenate(features)[rows],
        settings.max_patches_per_concept,
        settings.duplicate_similarity,
    )
    for reason, left in (("near_duplicate", chosen.duplicates), ("over_limit", chosen.over_limit)):
        for _, number, place in (places[row] for row in left):
            _add(log, of_banks[number], [place], reason)
    count = ConceptCounts(
        len(chosen.kept),
        sum(bank.candidates[concept] for bank in banks),
        sum(bank.near_duplicates[concept] for bank in banks) + len(chosen.duplicates) + doubles,
    )
    return rows[chosen.kept], count


def _starts(banks: Sequence[PatchBank], concept: str) -> np.ndarray:
    """The place of each bank's first patch of a concept among those of all banks."""
    return np.cumsum([0, *(bank.counts[concept] for bank in banks[:-1])])


def _merged(banks: Sequence[PatchBank], concept: str, rows: np.ndarray) -> pa.Table:
    """Patches of a concept, by their places among those of all banks, as `write_bank` takes them."""
    starts = _starts(banks, concept)
    owners = np.searchsorted(starts, rows, "right") - 1
    own = [np.flatnonzero(owners == number) for number in range(len(banks))]
    parts = [_chosen(bank, concept, rows[at] - start) for bank, at, start in zip(banks, own, starts, strict=True)]
    return pa.concat_tables(parts).take(pa.array(np.argsort(np.concatenate(own))))


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


def _left_out(out: str) -> RejectFile:
    """The list of the patches that the new bank lacks."""
    return RejectFile(INDEX.name, files.join(out, LEFT_OUT))


def _add(
    log: RejectLog, patches: ConceptPatches, places: Sequence[int] | np.ndarray, reason: str, detail: str = ""
) -> None:
    sources, ids = patches.columns["source"], patches.columns["patch_id"]
    for place in places:
        log.add(sources[place].as_py(), ids[place].as_py(), reason, detail)


def _publish(
    out: str, banks: Sequence[PatchBank], outputs: Sequence[Output], log: RejectFile, details: BankDetails
) -> Manifest[BankDetails]:
    """Write the manifest, last. outputs: the bank's files. log: what was left out, already written."""
    written = next(output.rows for output in outputs if output.name == PATCHES)
    lists = [manifest.output_of(out, LEFT_OUT, log.rows)] if log.rows else []
    settings = {"made of": [bank.manifest.content_hash for bank in banks], "rejected": log.counts()}
    made = Manifest(
        stage=INDEX.name,
        config_hash=manifest.digest(settings),
        plan_hash=manifest.digest(settings),
        versions=manifest.versions(PACKAGES),
        inputs=[
            Input(f"bank {number}", sum(output.bytes for output in bank.manifest.outputs), bank.manifest.content_hash)
            for number, bank in enumerate(banks)
        ],
        outputs=sorted([*outputs, *lists], key=lambda output: output.name),
        rejects=[],
        counts={"regions": Counts(sum(len(bank) for bank in banks), written, log.counts())},
        details=details,
    )
    manifest.publish(out, made)
    return made
