"""The part of stage `detect` between the survey and the units if boxes come from files: finds the photos of the boxes.

It runs in the launching process, which reads the files; workers read what is written here.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vlmixer.artifacts import files
from vlmixer.artifacts.details import RegionsDetails
from vlmixer.artifacts.manifest import Counts, Output
from vlmixer.pipeline.config import Config
from vlmixer.pipeline.image.boxes.index import INDEX, match, write_index
from vlmixer.pipeline.image.boxes.reading import BoxFiles, read_boxes
from vlmixer.pipeline.image.detectors.loading import BOXES, DetectorSpec
from vlmixer.pipeline.image.readers.base import ImageRef
from vlmixer.pipeline.image.survey import SURVEY_UNITS, read_part
from vlmixer.pipeline.jobs.survey import part_name
from vlmixer.pipeline.units.stage import Stage

LOG = logging.getLogger("vlmixer")

KIND = "boxes"


@dataclass(frozen=True)
class FoundBoxes:
    """What the manifest says of boxes."""

    rejects: Sequence[Output] = ()
    counts: Mapping[str, Counts] = field(default_factory=dict)


NO_BOXES = FoundBoxes()


def find_boxes(config: Config, spec: DetectorSpec, stage: Stage[RegionsDetails], pieces: int) -> FoundBoxes:
    """Write the index of boxes, and the rejects. pieces: of the survey, which has ended.

    A resumed run does it again: it takes seconds, and nothing depends on when it is done. Raises UserError.
    """
    boxes = read_boxes(BoxFiles.of(spec.name.removeprefix(BOXES), spec.options), all_rejects=stage.list_all)
    # If all images may be bad, all may be without boxes.
    matched = match(
        boxes, _refs(stage, pieces), all_rejects=stage.list_all, may_be_empty=config.max_bad_fraction == 1
    )  # fmt: skip
    write_index(files.join(stage.work, INDEX), boxes, matched)
    with stage.reject_file(KIND) as log:
        for reject in matched.rejects:
            log.keep(reject)
    if matched.absent:
        LOG.info(
            "detect: %d of the %d photos that %s names are not among images.inputs",
            matched.absent, len(boxes.photos), boxes.paths[0],
        )  # fmt: skip
    return FoundBoxes(stage.listed(log), {KIND: matched.counts})


def _refs(stage: Stage[RegionsDetails], pieces: int) -> Iterator[ImageRef]:
    """All images of the survey."""
    for number in range(pieces):
        yield from read_part(files.join(stage.work, part_name(SURVEY_UNITS.name(number))))
