"""Tagged sentences as rows of tagged/."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from vlmixer.artifacts import schemas
from vlmixer.pipeline.text.readers.reader import SourceSentence
from vlmixer.pipeline.text.tagger import Tagged


def tagged_table(rows: Sequence[tuple[SourceSentence, Tagged]]) -> pa.Table:
    """A table of tagged/, one row per sentence."""
    mentions = [mention for _, found in rows for mention in found.mentions]
    offsets = np.cumsum([0, *(len(found.mentions) for _, found in rows)])
    values = pa.StructArray.from_arrays(
        [pa.array([getattr(mention, field.name) for mention in mentions], field.type) for field in schemas.MENTION],
        fields=list(schemas.MENTION),
    )
    columns = [
        pa.array([sentence.sentence_id for sentence, _ in rows]),
        pa.array([sentence.text for sentence, _ in rows]),
        pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values).cast(schemas.TAGGED.field("mentions").type),
    ]
    return pa.table(columns, schema=schemas.TAGGED)
