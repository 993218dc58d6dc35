"""What interrupted attempts leave in an output folder is removed, when nothing can need it any more."""

from collections.abc import Sequence

import apache_beam as beam
from apache_beam.typehints.decorators import no_annotations

from vlmixer.artifacts import files, manifest
from vlmixer.pipeline.beam.rows import WrittenFile


class RemoveLeftovers(beam.PTransform):
    """PCollection[WrittenFile] of a folder → the same, after its temporary files were removed, and some work folders.

    Engines repeat a step that fails, also one whose work was done. So this is a step of its own, behind a shuffle: the
    steps before it are complete.
    """

    def __init__(self, out: str, work: Sequence[str] = ()) -> None:
        """out: the folder. work: names of folders in it that are no longer needed."""
        super().__init__()
        self._out, self._work = out, work

    def expand(self, written: beam.PCollection) -> beam.PCollection:
        return (
            written
            | "AfterWriting" >> beam.Reshuffle()
            | "RemoveLeftovers" >> beam.Map(_remove, self._out, self._work).with_output_types(WrittenFile)
        )


@no_annotations
def _remove(written: WrittenFile, out: str, work: Sequence[str]) -> WrittenFile:
    if written.name == manifest.NAME:  # one of them is enough
        for name in work:
            files.remove(files.join(out, name))
        files.sweep_temporaries(out)
    return written
