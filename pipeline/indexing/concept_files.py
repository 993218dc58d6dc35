"""Files of the work folder with one record batch per concept, so that a concept can be read by itself."""

import json
from collections.abc import Iterable, Sequence

import pyarrow as pa

from vlmixer.artifacts import files


def write_concepts(path: str, schema: pa.Schema, concepts: Sequence[int], tables: Iterable[pa.Table]) -> None:
    """Write one table for each of the concepts (ids), in order, each as one record batch of an Arrow file."""
    schema = schema.with_metadata({"concepts": json.dumps(list(concepts))})
    with files.publishing(path) as file, pa.ipc.new_file(file, schema) as writer:
        for table in tables:
            columns = [column.combine_chunks() for column in table.columns]
            writer.write_batch(pa.record_batch(columns, schema=schema))


class ConceptFiles:
    """Opened files of `write_concepts`. Local ones are memory-mapped."""

    def __init__(self, paths: Iterable[str], schema: pa.Schema) -> None:
        self._schema = schema
        self._places: dict[int, list[tuple[pa.ipc.RecordBatchFileReader, int]]] = {}
        for path in paths:
            reader = pa.ipc.open_file(files.open_read(path) if files.is_url(path) else pa.memory_map(path))
            for place, number in enumerate(json.loads(reader.schema.metadata[b"concepts"])):
                self._places.setdefault(number, []).append((reader, place))

    def table(self, number: int) -> pa.Table:
        """All rows of a concept (id), in the order of the files."""
        batches = [reader.get_batch(place) for reader, place in self._places.get(number, [])]
        return pa.Table.from_batches([batch.replace_schema_metadata(None) for batch in batches], schema=self._schema)
