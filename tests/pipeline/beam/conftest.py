"""Local pipelines of one worker, and what a collection holds."""

from collections.abc import Iterator

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner


@pytest.fixture
def pipeline() -> Iterator[beam.Pipeline]:
    """A pipeline that runs at the end of the test."""
    with beam.Pipeline(runner=FnApiRunner()) as made:
        yield made
