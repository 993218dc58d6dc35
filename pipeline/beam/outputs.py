"""What the public transforms share: rejects beside the results."""

import copy
from collections.abc import Iterator
from typing import Self

import apache_beam as beam
from apache_beam.pvalue import DoOutputsTuple, TaggedOutput

from vlmixer.pipeline.beam.metrics import count
from vlmixer.pipeline.beam.rows import Rejected

MAIN, REJECTS = "results", "rejects"


class WithRejects(beam.PTransform):
    """A transform that cannot use every element. It gives its results; after `with_rejects`, also the rejects."""

    _both = False

    def with_rejects(self) -> Self:
        """The same transform, which gives a pair: the results, and a PCollection of `Rejected`."""
        other = copy.copy(self)
        other._both = True
        return other

    def given(
        self, outputs: DoOutputsTuple, kind: type, *earlier: beam.PCollection
    ) -> beam.PCollection | tuple[beam.PCollection, beam.PCollection]:
        """What `expand` returns. kind: type of the results. earlier: rejects of steps before the last one."""
        outputs[MAIN].element_type = kind
        return self.with_own(outputs[MAIN], *earlier, outputs[REJECTS])

    def with_own(
        self, results: beam.PCollection, *rejects: beam.PCollection
    ) -> beam.PCollection | tuple[beam.PCollection, beam.PCollection]:
        """As `given`, of results that have no rejects in their last step. rejects: of all steps."""
        for collection in rejects:
            collection.element_type = Rejected
        if not self._both:
            return results
        return results, rejects | "AllRejects" >> beam.Flatten()


def reject(step: str, key: str, reason: str, detail: str = "") -> Iterator[TaggedOutput]:
    """The element of the second output, and its counter."""
    count(step, reason)
    yield TaggedOutput(REJECTS, Rejected(key, reason, detail))
