"""Images that a take-down request means, and the survey without them, over a record that is read in pieces."""

import random
from pathlib import Path

import pytest

from vlmixer.pipeline.image.photos import Content, MetImage
from vlmixer.pipeline.image.readers.base import FILES, ImageRef, with_name_digest
from vlmixer.pipeline.image.record import join_units, write_unit
from vlmixer.pipeline.image.survey import SurveyPart, SurveyRows, read_part
from vlmixer.pipeline.replacing.finding import find_images
from vlmixer.pipeline.replacing.images import write_survey

FILES_BEFORE = {"survey-00000.parquet": 4096, "survey-00001.parquet": 3}
TARS = {"survey-00002.parquet": 50, "survey-00004.parquet": 7}


@pytest.fixture(scope="module")
def regions(tmp_path_factory) -> Path:
    """The record of image files in two parts of the survey and tars in two, in units of 100 in random order."""
    folder = tmp_path_factory.mktemp("record")
    met = []
    for part, rows in (FILES_BEFORE | TARS).items():
        reader = FILES if part in FILES_BEFORE else "tar"
        whole = SurveyRows(part, 0, rows, reader)
        for row in range(rows):
            ref = ImageRef(f"{part}-{row}.jpg") if reader == FILES else ImageRef(part, f"{row}.jpg", "tar", row)
            met.append(MetImage(with_name_digest(ref), whole, row, Content.of(ref.name.encode()), 1, 1))
    random.Random(1).shuffle(met)
    paths = []
    for number, start in enumerate(range(0, len(met), 100)):
        paths.append(str(folder / f"{number}.images"))
        write_unit(paths[-1], met[start : start + 100])
    join_units(str(folder / "regions"), paths, units_per_group=3)
    return folder / "regions"


def surveyed(regions: Path, work: Path, gone: list[str], at_once: int) -> tuple[list[SurveyPart], list[list[ImageRef]]]:
    work.mkdir()
    parts = write_survey(str(regions), str(work), find_images(str(regions), gone), at_once)
    assert sorted(path.name for path in work.iterdir()) == sorted(part.name for part in parts)
    return parts, [list(read_part(str(work / part.name))) for part in parts]


@pytest.mark.parametrize("at_once", [1, 60, 1 << 18])
def test_the_survey_has_the_images_that_stay_in_their_order(regions: Path, tmp_path: Path, at_once: int):
    gone = ["survey-00000.parquet-7.jpg", "49.jpg"]
    parts, refs = surveyed(regions, tmp_path / "work", gone, at_once)
    assert parts == [
        SurveyPart("survey-00000.parquet", 4096),
        SurveyPart("survey-00001.parquet", 2),
        SurveyPart("survey-00002.parquet", 49, reader="tar"),
        SurveyPart("survey-00004.parquet", 7, reader="tar"),
    ]
    names = [f"survey-00000.parquet-{row}.jpg" for row in range(4096) if row != 7]
    names += [f"survey-00001.parquet-{row}.jpg" for row in range(3)]
    assert [ref.source for part in refs[:2] for ref in part] == names
    assert [(ref.source, ref.key, ref.position) for part in refs[2:] for ref in part] == [
        (part, f"{row}.jpg", row)
        for part, rows in TARS.items()
        for row in range(rows)
        if (part, row) != (*TARS, 49)[::2]
    ]


@pytest.mark.parametrize("at_once", [1, 1 << 18])
def test_files_that_need_a_part_less_move_the_other_parts_up(regions: Path, tmp_path: Path, at_once: int):
    gone = [f"survey-00001.parquet-{row}.jpg" for row in range(3)]
    parts, _ = surveyed(regions, tmp_path / "work", gone, at_once)
    assert [(part.name, part.rows) for part in parts] == [
        ("survey-00000.parquet", 4096),
        ("survey-00001.parquet", 50),
        ("survey-00003.parquet", 7),
    ]


def test_names_are_found_in_all_row_groups_and_similar_ones_for_those_that_are_not(regions: Path):
    names = ["0.jpg", "/elsewhere/Survey-00000.parquet-4095.JPG", "survey-00001.parquet-1.jpgg", "survey-00004.parquet"]
    found = find_images(str(regions), names)
    assert len(found.ids) == 1 + 7
    assert found.ambiguous == {"0.jpg": ("survey-00002.parquet", "survey-00004.parquet")}
    assert found.missing["survey-00001.parquet-1.jpgg"][0] == "survey-00001.parquet-1.jpg"
    assert find_images(str(regions), names, most_compared=0).missing == {"survey-00001.parquet-1.jpgg": ()}
