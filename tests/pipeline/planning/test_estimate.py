"""The arithmetic of plans, with measured values that are easy to reckon with."""

from dataclasses import replace

import pytest

from vlmixer.pipeline.planning.estimate import (
    Corpus,
    Line,
    Measured,
    Pass,
    Report,
    Shape,
    StagePlan,
    candidates_of,
    count_parts,
    duration,
    fit,
    plan_stages,
    size,
)

CORPUS = Corpus(sentences=100_000, sentence_bytes=20_000_000, images=6_400, image_bytes=64_000_000)
SHAPE = Shape(
    find_bytes=8_000_000,
    bucket_bytes=512_000_000,
    part_rows=1_000,
    parts_wanted=32,
    most_batches=32,
    images_a_unit=64,
    most_images_units=1_000_000,
    survey_images=4_000,
    regions_a_group=16_000,
    most_groups=512,
    most_concept_units=256,
    max_patches=1_000,
    candidate_limit=4_000,
    diverse=True,
    views=1,
    image_samples=True,
    samples_per_shard=5_000,
    views_a_deal=20_000,
    views_a_bucket=15_000,
)
MEASURED = Measured(
    find=1e-4,
    candidates=0.8,
    duplicates=1e-6,
    tag=1e-3,
    tagged=0.5,
    survey=1e-3,
    detect=0.05,
    with_regions=0.75,
    regions=2.5,
    places=1e-5,
    gather=2e-5,
    concept=Line(0.1, 1e-4),
    choose=1e-6,
    kept=0.5,
    concepts=(0.5, 0.1),
    deal=1e-5,
    bucket=2e-5,
    mixed=1e-3,
    image_sample=2e-3,
    written=0.9,
    starts={"any": 2.0, "tag": 5.0, "detect": 7.0},
    loads={"tag": 3.0, "detect": 5.0},
    launcher={"tag": Line(1.0, 0.5), "index": Line(0.0, 1e-3), "mix": Line(2.0, 0.0)},
    memory={"tag": 500_000_000},
    tagged_bytes=100.0,
    region_bytes=2_000.0,
    bank_bytes=Line(50_000.0, 1_000.0),
    mixed_bytes=4_000.0,
    image_sample_bytes=6_000.0,
    reject_bytes=10.0,
)


def stages(corpus=CORPUS, measured=MEASURED, shape=SHAPE, done=None):
    return {plan.stage: plan for plan in plan_stages(corpus, measured, shape, done or {})}


def test_a_line_through_measured_points():
    assert fit([]) == Line(0.0, 0.0)
    assert fit([(10, 3.0)]) == Line(3.0, 0.0)
    assert fit([(0, 1.0), (10, 6.0)]) == Line(1.0, 0.5)
    assert fit([(10, 4.0), (10, 6.0)]) == Line(5.0, 0.0)
    assert fit([(0, 6.0), (10, 2.0)]) == Line(4.0, 0.0), "what falls with the pieces is noise"
    steep = fit([(1, 1.0), (3, 5.0)])
    assert (steep.fixed, steep.each) == (0.0, pytest.approx(1.6)), "nothing takes less than no time"
    assert Line(1.0, 0.5).at(4) == 3.0


def test_one_worker_loads_and_several_start_side_by_side():
    work = Pass("detect", units=10, seconds=100.0, start=7.0, load=5.0)
    assert (work.begin(1), work.work(1, 0.9)) == (5.0, 100.0)
    assert (work.begin(2), work.work(2, 0.8)) == (7.0, 62.5)
    assert work.work(4, 1.0) == 30.0, "a unit is done by one worker: 3 rounds of 10 s"
    assert work.work(10, 1.0) == work.work(1000, 1.0) == 10.0
    assert (Pass("read", 1, 100.0, 7.0, 5.0).begin(8), Pass("read", 1, 100.0, 7.0, 5.0).work(8, 0.9)) == (5.0, 100.0)
    assert (Pass("none", 0, 0.0, 7.0, 5.0).begin(8), Pass("none", 0, 0.0).work(8, 0.9)) == (0.0, 0.0)


def test_time_left_of_a_stage_and_its_cost():
    plan = StagePlan("tag", (Pass("read", 4, 40.0, 2.0), Pass("tag", 10, 100.0, 7.0, 5.0)), 10.0, {}, 0, 0, 0)
    assert plan.units == 14
    assert plan.work == 150.0
    assert plan.time(1) == 10 + 40 + 100 + 5
    assert plan.time(2, efficiency=0.8) == 10 + 2 + 25 + 7 + 62.5
    assert plan.cost(2, price=3.6, efficiency=0.8) == pytest.approx(2 * 0.001 * 106.5)
    half = replace(plan, done=0.5)
    assert (half.work, half.time(1)) == (75.0, 80.0), "processes start again"
    assert replace(plan, done=1.0).time(8) == 0.0


def test_units_of_tagging_are_those_of_the_stage():
    from vlmixer.pipeline.jobs import tag

    shape = replace(SHAPE, part_rows=tag.SIZES.rows_per_batch, parts_wanted=tag.SIZES.parts_wanted, most_batches=32)
    for candidates in (0, 1, 1_000, 40_000, 1_000_000, 3_000_000):
        assert count_parts(candidates, 1, shape) == len(tag.SIZES.part_units([candidates]))
    spread = [30_000] * 20
    assert abs(count_parts(sum(spread), 20, shape) - len(tag.SIZES.part_units(spread))) <= 20


def test_tagging():
    plan = stages()["tag"]
    assert plan.passes == (
        Pass("read", 3, pytest.approx(10.0), 2.0),
        Pass("duplicates", 1, pytest.approx(0.08), 2.0),
        Pass("tag", 40, pytest.approx(80.0), 5.0, 3.0),
    )
    assert plan.launcher == pytest.approx(1.0 + 44 * 0.5)
    packed = stages(replace(CORPUS, text_units=1))["tag"]
    assert packed.passes[0].units == 1, "what cannot be divided is read by one worker"
    assert plan.items == {"sentences": 100_000}
    assert (plan.input_bytes, plan.output_bytes, plan.memory) == (20_000_000, 50_000 * 100 + 50_000 * 10, 500_000_000)


def test_detection():
    plan = stages()["detect"]
    assert plan.passes == (
        Pass("survey", 2, pytest.approx(6.4), 2.0),
        Pass("detect", 100, pytest.approx(320.0), 7.0, 5.0),
    )
    assert (plan.input_bytes, plan.output_bytes) == (64_000_000, 16_000 * 2_000 + 1_600 * 10)


def test_candidates_and_patches_of_a_concept_end_at_their_limits():
    assert candidates_of(16_000, (0.5, 0.1), 4_000) == [4_000, 1_600]
    plan = stages()["index"]
    # 4,000 candidates of which 1,000 are kept, and 1,600 of which half are no near-duplicates
    choosing = 0.1 + 0.4 + 0.1 + 0.16 + 1e-6 * (4_000 * 1_000 + 1_600 * 800)
    assert plan.passes == (
        Pass("gather", 1, pytest.approx(16_000 * 3e-5), 2.0),
        Pass("choose", 2, pytest.approx(choosing)),
    )
    assert plan.launcher == pytest.approx(1.8)
    assert plan.items == {"regions": 16_000}
    assert plan.output_bytes == 50_000 + 1_800 * 1_000 + (16_000 - 1_800) * 10
    larger = stages(corpus=CORPUS.scaled(100_000, 640_000))["index"]
    assert larger.passes[1].seconds == pytest.approx(0.1 + 0.4 + 0.1 + 0.4 + 1e-6 * (2 * 4_000 * 1_000))
    plain = stages(shape=replace(SHAPE, diverse=False))["index"]
    assert plain.passes[1].seconds == pytest.approx(0.1 + 0.4 + 0.1 + 0.16)


def test_mixing():
    plan = stages()["mix"]
    assert plan.passes == (
        Pass("deal", 3, pytest.approx(0.5), 2.0),
        Pass("sort", 4, pytest.approx(1.0)),
        Pass("mix", 11, pytest.approx(50.0 + 4_800 * 0.002)),
    )
    assert plan.items == {"views": 50_000, "image samples": 4_800}
    assert plan.input_bytes == 50_000 * 100 + 50_000 + 1_800 * 1_000 + 16_000 * 2_000
    assert plan.output_bytes == 45_000 * 4_000 + 4_800 * 6_000 + 5_000 * 10
    twice = stages(shape=replace(SHAPE, views=2, image_samples=False))["mix"]
    assert (twice.items, twice.passes[2].units) == ({"views": 100_000, "image samples": 0}, 20)


def test_units_of_mixing_are_those_of_the_stage():
    from vlmixer.pipeline.mix.units import DEFAULT_UNITS

    shape = replace(SHAPE, views_a_deal=DEFAULT_UNITS.views_per_shuffle, views_a_bucket=DEFAULT_UNITS.views_per_bucket)
    for sentences in (1_000, 100_000, 10_000_000, 1_000_000_000):
        plan = stages(CORPUS.scaled(sentences, 10), shape=shape)["mix"]
        layout = DEFAULT_UNITS.layout(round(sentences * MEASURED.tagged), 1, shape.samples_per_shard, 0)
        assert plan.passes[1].units == layout.buckets


def test_training_does_not_depend_on_the_corpus():
    measured = replace(MEASURED, train_step=0.5, train_start=3.0)
    for corpus in (CORPUS, CORPUS.scaled(10, 10)):
        plan = stages(corpus, measured, replace(SHAPE, train_steps=100))["train"]
        assert plan.time(1) == plan.time(16) == 53.0
    assert "train" not in stages()


def test_corpora_of_another_size():
    assert CORPUS.scaled(200_000, 3_200) == Corpus(200_000, 40_000_000, 3_200, 32_000_000, exact=False)


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
    assert [size(amount) for amount in (0, 999, 1_500, 64_700_000, 235e9, 1.5e12, 2.5e15)] == [
        "0 bytes", "999 bytes", "1.5 kB", "64.7 MB", "235 GB", "1.5 TB", "2,500 TB",
    ]  # fmt: skip


def test_a_report_says_what_is_done_and_what_it_costs():
    plans = plan_stages(CORPUS, MEASURED, SHAPE, {"tag": 1.0, "detect": 0.25})
    report = Report(CORPUS, plans, (1, 4), cores=4, price=2.0, efficiency=0.9, assumptions=("as here",))
    lines = report.to_table().splitlines()
    assert lines[0].split() == "stage units what goes in on disk memory 1 worker 4 workers".split()
    assert lines[1].split()[-2:] == ["done", "done"]
    assert lines[2].split()[:4] == ["detect", "(25%", "done)", "102"]
    assert lines[5].startswith("all ")
    assert lines[6].startswith("cost, at 2 a worker hour")
    assert lines[-1] == "- as here"
    data = report.to_json()
    assert data["seconds"]["1"] == pytest.approx(sum(plan.time(1) for plan in plans))
    assert data["cost"]["4"] == pytest.approx(4 * 2.0 * data["seconds"]["4"] / 3600)
    assert [stage["done"] for stage in data["stages"]] == [1.0, 0.25, 0.0, 0.0]
    assert replace(report, price=None).to_json()["cost"] is None
    assert "cost" not in replace(report, price=None).to_table()
