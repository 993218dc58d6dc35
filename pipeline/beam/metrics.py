"""Counters and distributions that the pages of Dataflow and Flink show. For looking on: engines may count repeated work
twice, so manifests are made from the results of units and not from these."""

from apache_beam.metrics import Metrics

NAMESPACE = "vlmixer"


def count(step: str, name: str, number: int = 1) -> None:
    """Add to the counter `STEP/NAME`."""
    Metrics.counter(NAMESPACE, f"{step}/{name}").inc(number)


def measure(step: str, name: str, value: int) -> None:
    """Add a value to the distribution `STEP/NAME`."""
    Metrics.distribution(NAMESPACE, f"{step}/{name}").update(value)
