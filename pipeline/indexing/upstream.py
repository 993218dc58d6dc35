"""The stage that `index` reads from, checked."""

from vlmixer.artifacts import files
from vlmixer.artifacts.details import RegionsDetails
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Manifest
from vlmixer.artifacts.stages import DETECT
from vlmixer.bank.concepts import Vocabulary
from vlmixer.pipeline.units.finishing import upstream


def read_upstream(out: str, vocabulary: Vocabulary) -> Manifest[RegionsDetails]:
    """The manifest of OUT/regions.

    Raises UserError if detect has not finished, ran with another vocabulary, or found nothing.
    """
    regions = upstream(DETECT, out)
    if regions.details.vocabulary_hash != vocabulary.hash:
        raise UserError(
            f"vocabulary: {vocabulary.name!r} is not the one that detect ran with ({regions.details.vocabulary!r}). "
            "Put that one back, or run `vlmixer detect … --overwrite` with the new one."
        )
    if not regions.written("images"):
        raise UserError(
            f"{files.join(out, DETECT.folder)}: no image has a region, so there is nothing to build a bank from. "
            "See OUT/rejects/detect-*.parquet; lower images.score_threshold or choose another detector."
        )
    return regions
