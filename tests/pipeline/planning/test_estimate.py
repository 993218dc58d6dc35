"""The arithmetic of plans, on round measured values."""

from dataclasses import replace
from typing import Any

import pytest

from vlmixer.model.config import TrainConfig
from vlmixer.pipeline.config import BankSettings, Config, MixSettings
from vlmixer.pipeline.image import survey
from vlmixer.pipeline.image.survey import DetectSizes
from vlmixer.pipeline.indexing.units import GATHER, IndexSizes
from vlmixer.pipeline.mix.units import BUCKET, IMAGES, MIXED, SHUFFLE, MixSizes
from vlmixer.pipeline.planning.estimate import CorpusSize, Measured, StageSizes, candidates_of, plan_stages
from vlmixer.pipeline.planning.linear import LinearCost, fit
from vlmixer.pipeline.planning.run_estimate import RunEstimate, duration, format_bytes
from vlmixer.pipeline.planning.stage_plan import PassPlan, StagePlan
from vlmixer.pipeline.text.units import DUPLICATES, FIND, PART, TagSizes
from vlmixer.pipeline.units.passes import finish_kind

CORPUS = CorpusSize(sentences=100_000, sentence_bytes=20_000_000, images=6_400, image_bytes=64_000_000)
SIZES = StageSizes(
    tag=TagSizes(find_bytes=8_000_000, bucket_bytes=512_000_000, rows_per_batch=1_000),
    detect=DetectSizes(images_per_unit=64, max_units=1_000_000),
    index=IndexSizes(regions_per_group=16_000),
    mix=MixSizes(views_per_shuffle=20_000, views_per_bucket=15_000),
)
CONFIG = Config(bank=BankSettings(max_patches_per_concept=1_000), mix=MixSettings(samples_per_shard=5_000))
MEASURED = Measured(
    seconds={
        FIND: 1e-4,
        DUPLICATES: 1e-6,
        PART: 1e-3,
        survey.SURVEY_UNITS: 1e-3,
        survey.SPREAD: 1e-5,
        finish_kind("tag"): 1e-6,
        finish_kind("index"): 1e-3,
        survey.DUPLICATES: 1e-4,
        survey.DETECT_UNITS: 0.05,
        GATHER: 3e-5,
        SHUFFLE: 1e-5,
        BUCKET: 2e-5,
        MIXED: 1e-3,
        IMAGES: 2e-3,
    },
    start=2.0,
    loads={PART: 3.0, survey.DETECT_UNITS: 5.0},
    warm_loads={PART: 0.5, survey.DETECT_UNITS: 1.0},
    launcher={"tag": LinearCost(1.0, 0.5), "index": LinearCost(0.0, 1e-2), "mix": LinearCost(2.0, 0.0)},
    memory={"tag": 500_000_000},
    candidates=0.8,
    tagged=0.5,
    with_regions=0.75,
    regions=2.5,
    concepts=(0.5, 0.1),
    kept=0.5,
    written=0.9,
    concept=LinearCost(0.1, 1e-4),
    choose=1e-6,
    tagged_bytes=100.0,
    region_bytes=2_000.0,
    bank_bytes=LinearCost(50_000.0, 1_000.0),
    mixed_bytes=4_000.0,
    image_sample_bytes=6_000.0,
    reject_bytes=10.0,
)


def about(value: float) -> Any:
    """Stands for a number; equals those nearby."""
    return pytest.approx(value)


def stages(corpus=CORPUS, measured=MEASURED, config=CONFIG, done=None):
    return {plan.stage: plan for plan in plan_stages(corpus, measured, config, done or {}, SIZES)}


def test_a_line_through_measured_points():
    assert fit([]) == LinearCost(0.0, 0.0)
    assert fit([(10, 3.0)]) == LinearCost(3.0, 0.0)
    assert fit([(0, 1.0), (10, 6.0)]) == LinearCost(1.0, 0.5)
    assert fit([(10, 4.0), (10, 6.0)]) == LinearCost(5.0, 0.0)
    assert fit([(0, 6.0), (10, 2.0)]) == LinearCost(4.0, 0.0), "what falls with the pieces is noise"
    steep = fit([(1, 1.0), (3, 5.0)])
    assert (steep.fixed, steep.each) == (0.0, pytest.approx(1.6)), "nothing takes less than no time"
    assert LinearCost(1.0, 0.5).at(4) == 3.0


def test_one_worker_loads_and_several_start_side_by_side():
    work = PassPlan("detect", units=10, seconds=100.0, start=7.0, load=5.0)
    assert (work.begin(1), work.work(1, 0.9)) == (5.0, 100.0)
    assert (work.begin(2), work.work(2, 0.8)) == (7.0, 62.5)
    assert (work.starts(1), work.starts(2), work.starts(100)) == (5.0, 14.0, 70.0)
    assert work.work(4, 1.0) == 30.0, "a unit is done by one worker: 3 rounds of 10 s"
    assert work.work(10, 1.0) == work.work(1000, 1.0) == 10.0
    single, none = PassPlan("read", 1, 100.0, 3.0, 5.0), PassPlan("none", 0, 0.0, 7.0, 5.0)
    assert (single.begin(8), single.work(8, 0.9)) == (5.0, 100.0)
    assert (none.begin(8), none.work(8, 0.9)) == (0.0, 0.0)


def test_time_left_of_a_stage_and_its_cost():
    plan = StagePlan("tag", (PassPlan("read", 4, 40.0, 2.0), PassPlan("tag", 10, 100.0, 7.0, 5.0)), 10.0, {}, 0, 0, 0)
    assert plan.units == 14
    assert plan.work == 150.0
    assert plan.time(1) == 10 + 40 + 100 + 5
    assert plan.time(2, efficiency=0.8) == 10 + 2 + 25 + 7 + 62.5
    assert plan.cost(2, price=3.6, efficiency=0.8) == pytest.approx(2 * 0.001 * 106.5)
    half = replace(plan, done=0.5)
    assert (half.work, half.time(1)) == (75.0, 80.0), "processes start again"
    assert replace(plan, done=1.0).time(8) == 0.0


@pytest.mark.parametrize("images", [0, 1, 6_400, 1_000_000])
def test_units_of_detection_are_those_that_the_stage_plans(images):
    sizes = DetectSizes(images_per_unit=64, max_units=1_000)
    units = survey._cut([survey.SurveyPart("survey-00000", images, one_unit=False)], sizes.images_of_unit(images))
    assert sizes.passes(images, 4_000)[-2].units == len(units) <= 1_000


def test_tagging():
    plan = stages()["tag"]
    assert plan.passes == (
        PassPlan("read", 3, about(10.0), 2.0),
        PassPlan("duplicates", 1, about(0.08)),
        PassPlan("tag", 40, about(80.0), 2.5, 3.0),
        PassPlan("finish", 1, about(0.08)),
    )
    assert plan.launcher == pytest.approx(1.0 + 45 * 0.5)
    packed = stages(replace(CORPUS, text_units=1))["tag"]
    assert packed.passes[0].units == 1, "what cannot be divided is read by one worker"
    assert plan.items == {"sentences": 100_000}
    assert (plan.input_bytes, plan.output_bytes, plan.memory) == (20_000_000, 50_000 * 100 + 50_000 * 10, 500_000_000)


def test_detection():
    plan = stages()["detect"]
    assert plan.passes == (
        PassPlan("survey", 2, about(6.4), 2.0),
        PassPlan("spread", 1, about(0.064)),
        PassPlan("duplicates", 1, about(0.64)),
        PassPlan("detect", 100, about(320.0), 3.0, 5.0),
        PassPlan("finish", 1, 0.0),
    )
    assert (plan.input_bytes, plan.output_bytes) == (64_000_000, 16_000 * 2_000 + 1_600 * 10)


def test_candidates_and_patches_of_a_concept_end_at_their_limits():
    assert candidates_of(16_000, (0.5, 0.1), 4_000) == [4_000, 1_600]
    plan = stages()["index"]
    # 1,000 of 4,000 candidates are kept, and half of 1,600, since the others are near-duplicates
    choosing = 0.1 + 0.4 + 0.1 + 0.16 + 1e-6 * (4_000 * 1_000 + 1_600 * 800)
    assert plan.passes == (
        PassPlan("gather", 1, about(16_000 * 3e-5), 2.0),
        PassPlan("choose", 2, about(choosing)),
        PassPlan("finish", 1, about(1.8)),
    )
    assert plan.launcher == pytest.approx(4 * 1e-2)
    assert plan.items == {"regions": 16_000}
    assert plan.output_bytes == 50_000 + 1_800 * 1_000 + (16_000 - 1_800) * 10
    larger = stages(corpus=CORPUS.scaled(100_000, 640_000))["index"]
    assert larger.passes[1].seconds == pytest.approx(0.1 + 0.4 + 0.1 + 0.4 + 1e-6 * (2 * 4_000 * 1_000))
    plain = stages(config=replace(CONFIG, bank=replace(CONFIG.bank, selection="score")))["index"]
    assert plain.passes[1].seconds == pytest.approx(2 * (0.1 + 1_000 * 1e-4)), "1,000 candidates each, none compared"


def test_mixing():
    plan = stages()["mix"]
    assert plan.passes == (
        PassPlan("shuffle", 3, about(0.5), 2.0),
        PassPlan("sort", 4, about(1.0)),
        PassPlan("mix", 11, about(50.0 + 4_800 * 0.002)),
        PassPlan("finish", 1, 0.0),
    )
    assert plan.items == {"views": 50_000, "image samples": 4_800}
    assert plan.input_bytes == 50_000 * 100 + 50_000 + 1_800 * 1_000 + 16_000 * 2_000
    assert plan.output_bytes == 45_000 * 4_000 + 4_800 * 6_000 + 5_000 * 10
    twice = stages(config=replace(CONFIG, mix=replace(CONFIG.mix, views=2, image_samples=False)))["mix"]
    assert (twice.items, twice.passes[2].units) == ({"views": 100_000, "image samples": 0}, 20)


def test_training_does_not_depend_on_the_corpus():
    measured = replace(MEASURED, train_step=0.5, train_start=3.0)
    for corpus in (CORPUS, CORPUS.scaled(10, 10)):
        plan = stages(corpus, measured, replace(CONFIG, train=TrainConfig(steps=100)))["train"]
        assert plan.time(1) == plan.time(16) == 53.0
    assert "train" not in stages()


def test_corpora_of_another_size():
    assert CORPUS.scaled(200_000, 3_200) == CorpusSize(200_000, 40_000_000, 3_200, 32_000_000, exact=False)


def test_ten_times_the_corpus_takes_ten_times_the_work():
    small, large = stages(), stages(CORPUS.scaled(1_000_000, 64_000))
    for stage in ("tag", "detect"):
        grown = sum(work.seconds for work in large[stage].passes) / sum(work.seconds for work in small[stage].passes)
        assert grown == pytest.approx(10)
        assert large[stage].output_bytes == 10 * small[stage].output_bytes
    assert large["tag"].input_bytes == 200_000_000


def test_numbers_for_people():
    assert [duration(seconds) for seconds in (0.26, 59.7, 599, 600, 5_400, 360_000)] == [
        "0.3 s", "60 s", "599 s", "0:10 h", "1:30 h", "100:00 h",
    ]  # fmt: skip
    assert [format_bytes(amount) for amount in (0, 999, 1_500, 64_700_000, 235e9, 1.5e12, 2.5e15)] == [
        "0 bytes", "999 bytes", "1.5 kB", "64.7 MB", "235 GB", "1.5 TB", "2,500 TB",
    ]  # fmt: skip


def test_a_report_says_what_is_done_and_what_it_costs():
    plans = plan_stages(CORPUS, MEASURED, CONFIG, {"tag": 1.0, "detect": 0.25}, SIZES)
    report = RunEstimate(CORPUS, plans, (1, 4), cores=4, price=2.0, efficiency=0.9, assumptions=("as here",))
    lines = report.to_table().splitlines()
    assert lines[0].split() == "stage units what goes in on disk memory 1 worker 4 workers".split()
    assert lines[1].split()[-2:] == ["done", "done"]
    assert lines[2].split()[:4] == ["detect", "(25%", "done)", "105"]
    assert lines[5].startswith("all ")
    assert lines[6].startswith("cost, at 2 per worker and hour")
    share = (4 * 1e-2 + 2.0) / sum(plan.work for plan in plans)  # of index and mix; tag is done
    said = f"- the launching process needs 2.0 s for its own part, {100 * share:.2g}% of all work"
    assert lines[-2:] == [said, "- as here"]
    data = report.to_json()
    assert data["seconds"]["1"] == pytest.approx(sum(plan.time(1) for plan in plans))
    assert data["cost"]["4"] == pytest.approx(4 * 2.0 * data["seconds"]["4"] / 3600)
    assert [stage["done"] for stage in data["stages"]] == [1.0, 0.25, 0.0, 0.0]
    assert replace(report, price=None).to_json()["cost"] is None
    assert "cost" not in replace(report, price=None).to_table()
