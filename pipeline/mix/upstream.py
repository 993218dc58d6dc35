"""The stages that `mix` reads from, checked against each other."""

from dataclasses import dataclass

from vlmixer.artifacts import files
from vlmixer.artifacts.details import AnyDetails, BankDetails, RegionsDetails, TaggedDetails
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Manifest
from vlmixer.artifacts.stages import DETECT, INDEX, TAG
from vlmixer.pipeline.units.finishing import upstream


@dataclass(frozen=True)
class Upstream:
    """The manifests of the stages before `mix`."""

    tagged: Manifest[TaggedDetails]
    regions: Manifest[RegionsDetails]
    bank: Manifest[BankDetails]

    @property
    def by_folder(self) -> dict[str, Manifest[AnyDetails]]:
        """The manifests by the names of their folders."""
        return {TAG.folder: self.tagged, DETECT.folder: self.regions, INDEX.folder: self.bank}


def read_upstream(out: str) -> Upstream:
    """The manifests in the output folder `out`.

    Raises UserError if a stage has not finished, if the vocabularies differ, if no sentence was tagged, or if a
    manifest does not say how many images each part has.
    """
    found = Upstream(upstream(TAG, out), upstream(DETECT, out), upstream(INDEX, out))
    tagged, bank = found.tagged.details, found.bank.details
    if tagged.vocabulary_hash != bank.vocabulary_hash:
        raise UserError(
            f"{out}: the sentences were tagged with vocabulary {tagged.vocabulary!r}, but the bank was built with "
            f"{bank.vocabulary!r}. Run the older of the two stages again with --overwrite."
        )
    if not found.tagged.written("sentences"):
        raise UserError(
            f"{files.join(out, TAG.folder)}: no sentence mentions a concept of the vocabulary, so there is nothing to "
            "mix. See OUT/rejects/tag-*.parquet; choose another vocabulary or other texts."
        )
    if len(found.regions.details.images_by_part) != len(found.regions.parts):
        raise UserError(
            f"{files.join(out, DETECT.folder)}: its manifest is damaged (images_by_part is not for each part). Run "
            "`vlmixer verify` on the output folder, then detect with --overwrite."
        )
    return found
