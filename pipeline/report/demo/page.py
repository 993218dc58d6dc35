"""All that the demo's page shows: `gather` reads an OUT folder and its drawn world, `write_report` draws the page.

It is a run's page with what is known of a drawn world: how many mentions and regions are right.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from vlmixer.artifacts import files
from vlmixer.pipeline.report.demo.detection import DetectionScore, measure_detection
from vlmixer.pipeline.report.demo.tagging import TaggingPart, gather_tagging
from vlmixer.pipeline.report.retrieval import Retrieval, conclusion
from vlmixer.pipeline.report.run import RunReport, draw, gather_run


@dataclass(frozen=True)
class DemoReport(RunReport):
    """All that the demo's page shows."""

    retrieval: Retrieval
    seed: int
    tagging: TaggingPart
    detection: DetectionScore
    conclusion: str


def write_report(path: str, report: DemoReport) -> None:
    """Write the page at `path`."""
    draw(path, report, "demo.html")


def gather(out: str, world_folder: str, scores: Mapping[str, Any], seed: int) -> DemoReport:
    """Read what the page shows.

    out: a finished demo's folder (tagged/, regions/, bank/, shards/, rejects/, run/). world_folder: the world it was
    made from, written with `seed`. scores: what RetrievalReport.to_json gives. Raises UserError for folders that are
    not finished or damaged, ValueError if the world is that of another seed.
    """
    tagging = gather_tagging(files.join(out, "tagged"), world_folder, seed)
    report = gather_run(out, scores, concepts=None)
    assert report.retrieval is not None
    common = {field.name: getattr(report, field.name) for field in fields(RunReport)}
    return DemoReport(
        **{**common, "sentences": tagging.sentences},
        seed=seed,
        tagging=tagging,
        detection=measure_detection(files.join(out, "regions"), world_folder),
        conclusion=conclusion(report.retrieval),
    )
