"""Pictures of patches, from the bank, as data URIs."""

import io

from PIL import Image

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.samples import Patch
from vlmixer.bank.records import PatchRecord
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.report.pages import data_uri

THUMBNAIL_QUALITY = 72


class EmbeddedCrops:
    """The crops of samples' patches, from a bank, as data URIs. Reads a concept's patch ids once. Without a bank there
    is no crop."""

    def __init__(self, bank: PatchBank | None) -> None:
        self._bank = bank
        self._records: dict[str, dict[str, PatchRecord]] = {}

    def __call__(self, patch: Patch) -> str | None:
        """The patch's crop as a data URI; None if the bank does not hold this patch."""
        record = self.record(patch)
        return None if self._bank is None or record is None else data_uri(self._bank.crop(record))

    def record(self, patch: Patch) -> PatchRecord | None:
        """The bank's record of the patch; None if the bank does not hold it."""
        if self._bank is None or not self._bank.counts.get(patch.concept):
            return None
        if patch.concept not in self._records:
            self._records[patch.concept] = {record.patch_id: record for record in self._bank.patches(patch.concept)}
        return self._records[patch.concept].get(patch.patch_id)


def crop_uri(bank: PatchBank, record: PatchRecord, longest: int | None) -> str:
    """The patch's crop as a data URI, reduced if a side is longer than `longest` pixels. None keeps its size.

    Raises UserError for a crop that is not a picture.
    """
    data = bank.crop(record)
    try:
        with Image.open(io.BytesIO(data)) as image:
            if longest is None or max(image.size) <= longest:
                return data_uri(data)
            small = image.convert("RGB")
            small.thumbnail((longest, longest), Image.Resampling.BICUBIC)
    except OSError as error:
        raise UserError(
            f"{bank.folder}: the crop of patch {record.patch_id} is not a picture ({error}). "
            "Run `vlmixer verify` on the folder, then rebuild the bank."
        ) from error
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=THUMBNAIL_QUALITY)
    return data_uri(buffer.getvalue(), "webp")
