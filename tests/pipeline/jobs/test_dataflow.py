"""The jobs that Dataflow would get: what holds for all of their graphs, and what docs/dataflow.md says of them."""

import pickle
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import fsspec
import pytest
from apache_beam.options.pipeline_options import SetupOptions
from tests.pipeline.jobs.dataflow_graphs import (
    COMBINE,
    DATAFLOW,
    GROUP,
    IMAGE,
    IMPULSE,
    RESHUFFLE,
    DryEngine,
    Job,
    Step,
    all_steps,
    hints,
    submit,
)
from tests.pipeline.jobs.small_corpus import make_corpus

from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.stages import DETECT, TAG
from vlmixer.bank.concepts import load_vocabulary
from vlmixer.pipeline.config import ImageSettings, load_config
from vlmixer.pipeline.image.detectors.loading import DetectorSpec, detector_spec
from vlmixer.pipeline.image.survey import SurveyRows
from vlmixer.pipeline.jobs import dataflow
from vlmixer.pipeline.jobs.chain import run_stages
from vlmixer.pipeline.jobs.dataflow import job_name
from vlmixer.pipeline.jobs.detect import DetectRegions, machine_hints
from vlmixer.pipeline.jobs.do_units import ListUnits
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.text.units import Candidates
from vlmixer.pipeline.units.listing import Listed, each_unit, publish_units, read_units, with_content
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit

DOCS = Path(__file__).parents[3] / "docs" / "dataflow.md"
MAX_BYTES = 400_000
"""Of a graph. Dataflow takes 10 MB. Most of it is the vocabulary and the forms of its words."""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory) -> Iterator[dict[str, Job]]:
    """All jobs of a run whose inputs and outputs are behind URLs, by label."""
    corpus = make_corpus(tmp_path_factory.mktemp("dataflow"))
    memory = fsspec.filesystem("memory")
    memory.put(str(corpus.photos), "/dataflow/photos", recursive=True)
    memory.put_file(str(corpus.captions), "/dataflow/captions.txt")
    config = corpus.write_config(
        vocabulary="lvis",
        text={"inputs": ["memory://dataflow/captions.txt"]},
        images={"inputs": ["memory://dataflow/photos/*"], "worker_ram": "16GB"},
    )
    engine = DryEngine()
    resolved = load_config(str(config), (), "memory://dataflow/out")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(corpus.folder))  # as in the image, where the detector's module is installed
            run_stages(
                resolved, ("tag", "detect", "index", "mix"), engine, overwrite=False, import_paths=("/some/folder",)
            )
        yield {job.label: job for job in engine.jobs}
    finally:
        memory.rm("/dataflow", recursive=True)


def documented() -> dict[str, str]:
    """The table of the docs: by the job's label, the machines that it asks for."""
    rows = re.findall(r"^\| `([a-z: ]+)` \| .*? \| (.*?) \|$", DOCS.read_text(), re.MULTILINE)
    return dict(rows)


def test_the_jobs_are_as_documented(jobs):
    assert list(jobs) == list(documented())


def test_a_job_begins_with_its_list_of_units(jobs):
    for job in jobs.values():
        begins = [step.label for step in all_steps(job) if step.kind == IMPULSE]
        # Combiners have another, for the case that there is nothing to combine.
        assert [label for label in begins if not label.endswith("/DoOnce/Impulse")] == ["ListUnits/Begin"]


def test_every_unit_goes_through_one_reshuffle(jobs):
    """Without it the runner could fuse the listing with the work, and one worker would do everything."""
    for job in jobs.values():
        steps = all_steps(job)
        reshuffles = [step for step in steps if step.kind == RESHUFFLE]
        spread = {collection: step.label for step in reshuffles for collection in step.outputs}
        work = [step for step in steps if step.label.endswith("/DoUnit")]
        assert work
        for step in work:
            assert [spread[each] for each in step.inputs] == [step.label.replace("/DoUnit", "/SpreadUnits")]
        readers = [step for step in steps if step.inputs & set(spread) and step.kind != ""]
        assert {step.label for step in readers if not step.label.endswith("/DoUnit")} == set()
        assert len({step.label for step in readers}) == len(reshuffles)


def test_nothing_else_is_shuffled(jobs):
    """Pixels, features and sentences travel through files. Names of units go through shuffles."""
    for job in jobs.values():
        steps = all_steps(job)
        allowed = {step.label for step in steps if step.kind == RESHUFFLE or step.kind in COMBINE}
        groups = [step for step in steps if step.kind == GROUP]
        assert groups
        assert [step.label for step in groups if not set(step.around) & allowed] == []


def test_a_stage_waits_for_its_passes_inside_the_job(jobs):
    """Each pass after the first begins with what the one before left: a combiner or a side input is between them."""
    passes = {label: [step.label for step in all_steps(job) if step.label.endswith("/DoUnit")] for label, job in
              jobs.items()}  # fmt: skip
    assert {label: len(found) for label, found in passes.items() if len(found) > 1} == {
        "tag: read": 2, "tag": 2, "detect: survey": 3, "detect": 2, "index": 5, "mix": 4,
    }  # fmt: skip
    for label in ("tag: read", "tag", "detect: survey", "detect", "index", "mix"):
        steps = all_steps(jobs[label])
        made_by = {collection: step for step in steps for collection in step.outputs}
        for name in passes[label][1:]:
            assert earlier_work(next(step for step in steps if step.label == name), made_by) - {name}


def earlier_work(step: Step, made_by: dict[str, Step]) -> set[str]:
    """The steps that do units on which a step depends, itself included."""
    found = {step.label} if step.label.endswith("/DoUnit") else set()
    for collection in step.inputs:
        found |= earlier_work(made_by[collection], made_by)
    return found


def test_only_the_detectors_step_asks_for_machines(jobs):
    asked = {label: hints(job) for label, job in jobs.items() if hints(job)}
    assert asked == {"detect": {"DetectRegions/DetectUnits/DoUnit": {"min_ram_bytes:v1": "16000000000"}}}
    assert [label for label, text in documented().items() if text != "–"] == ["detect"]


def applied(transform: beam.PTransform, pipeline: Any) -> Any:
    """What the transform makes of the pipeline."""
    return pipeline | transform


def detect_job(**settings: Any) -> Job:
    """The job of the stage detect alone."""
    images = ImageSettings(inputs=("memory://none/*",), detector="demo", **settings)
    spec = detector_spec(images, ("/some/folder",), remote=True)
    stage = Stage(DETECT, "memory://none/out")
    regions = DetectRegions(images, spec, load_vocabulary("coco"), stage.out, machine_hints(images))
    return submit(
        DryEngine(), "detect", lambda p: p | ListUnits(stage, "units.jsonl", tuple[SurveyRows, ...]) | regions
    )


def test_an_accelerator_is_asked_for_if_the_device_is_cuda():
    step = "DetectRegions/DetectUnits/DoUnit"
    default = "type:nvidia-l4;count:1;install-nvidia-driver"
    assert hints(detect_job(device="cuda")) == {step: {"accelerator:v1": default}}
    other = "type:nvidia-tesla-t4;count:2;install-nvidia-driver:5xx"
    job = detect_job(device="cuda", worker_accelerator=other, worker_ram="30GiB")
    assert hints(job) == {step: {"accelerator:v1": other, "min_ram_bytes:v1": str(30 << 30)}}
    assert hints(detect_job(device="cuda", worker_accelerator=None)) == {}
    assert hints(detect_job(device="cpu")) == {}
    assert hints(detect_job(device="auto")) == {}


def test_devices_are_those_of_the_workers():
    images = ImageSettings(detector="demo")
    assert detector_spec(images, ("/some/folder",), remote=True) == DetectorSpec("demo", None, "cpu", 0.3)
    assert detector_spec(ImageSettings(detector="demo", device="cuda"), (), remote=True).device == "cuda"


@pytest.mark.parametrize(
    "setting", ["worker_accelerator=l4", "worker_accelerator=type:nvidia-l4", "worker_ram=16", "worker_ram=much"]
)
def test_wrong_machines_are_reported_with_the_key(tmp_path, setting):
    path = tmp_path / "c.yaml"
    path.write_text("seed: 0\n")
    with pytest.raises(CallError, match=f"images.{setting.partition('=')[0]}"):
        load_config(str(path), [f"images.{setting}"])


def test_nothing_of_this_machine_is_in_a_job(jobs, tmp_path_factory):
    for job in jobs.values():
        graph = job.proto.SerializeToString()
        assert b"pickled_main_session" not in graph
        assert str(tmp_path_factory.getbasetemp()).encode() not in graph
        assert str(Path(__file__).parents[3]).encode() not in graph
        for environment in job.proto.components.environments.values():
            assert environment.urn == "beam:env:docker:v1"
            assert IMAGE.encode() in environment.payload
            assert list(environment.dependencies) == []
        assert len(graph) < MAX_BYTES
        assert re.fullmatch("[a-z][-a-z0-9]{0,62}", job.name)
    assert len({job.name for job in jobs.values()}) == len(jobs)


def test_the_size_of_a_graph_does_not_depend_on_the_number_of_units(monkeypatch):
    stage = Stage(DETECT, "memory://many/out")
    sizes = []
    for count in (10, 200_000):
        units = [
            Unit(f"part-{number:06d}", (SurveyRows(f"survey-{number:05d}.parquet", 0, 64),)) for number in range(count)
        ]
        name = publish_units(stage, units)
        listed = ListUnits(stage, name, tuple[SurveyRows, ...])
        sizes.append(submit(DryEngine(), "detect", partial(applied, listed)).proto.ByteSize())
        assert len(list(read_units(stage, name, tuple[SurveyRows, ...]))) == count
    assert max(sizes) < 20_000
    assert max(sizes) - min(sizes) < 100  # the list's name is packed with the rest
    fsspec.filesystem("memory").rm("/many", recursive=True)


def test_units_are_read_back_as_they_were(tmp_path):
    stage = Stage(TAG, str(tmp_path))
    runs = (SurveyRows("photo é.parquet", 0, 5), SurveyRows("b.parquet", 7, 9))
    for content, units in (
        (tuple[SurveyRows, ...], [Unit("a", runs), Unit("b", ())]),
        (Candidates, [Unit("a", Candidates(1, 2, 3))]),
        (tuple[int, int], [Unit("a", (1, 2))]),
    ):
        assert list(read_units(stage, publish_units(stage, units), content)) == units
    assert publish_units(stage, units) == publish_units(stage, units)


def test_a_long_content_stays_in_the_list_until_its_unit_is_done(tmp_path):
    stage = Stage(DETECT, str(tmp_path))
    kind = tuple[SurveyRows, ...]
    units = [Unit("short", ()), Unit("long", tuple(SurveyRows(f"é{n}.parquet", 0, n) for n in range(500)))]
    short, long = each_unit(stage, publish_units(stage, units), kind)
    assert short == units[0]
    assert isinstance(long.content, Listed)
    assert len(pickle.dumps(long)) < 500
    assert [with_content(stage, unit) for unit in (short, long)] == units


def test_job_names_are_what_dataflow_takes():
    assert re.fullmatch("my-run-detect-survey-[0-9a-f]{8}", job_name("My_run", "detect: survey"))
    assert job_name("vlmixer", "tag") != job_name("vlmixer", "tag")


@pytest.mark.parametrize(
    ("key", "setting"),
    [
        ("out", ""), ("text.inputs", "text.inputs=[captions.txt]"), ("images.inputs", "images.inputs=[photos/*]"),
        ("images.weights", "images.weights=w.safetensors"), ("images.detector", "images.detector=tsv:f.tsv"),
    ],
)  # fmt: skip
def test_files_of_this_machine_are_refused(tmp_path, key, setting):
    path = tmp_path / "c.yaml"
    path.write_text("text: {inputs: ['gs://b/a.txt']}\nimages: {inputs: ['gs://b/*.jpg'], detector: demo}\n")
    out = "out" if key == "out" else "gs://b/out"
    config = load_config(str(path), [setting] if setting else [], out)
    with pytest.raises(CallError, match=rf"^{re.escape(key)}: .* is on this machine"):
        run_stages(config, ("tag", "detect"), Engine(1, DATAFLOW), overwrite=False, import_paths=())


def test_the_templates_job_holds_the_command_and_nothing_else(tmp_path):
    config = tmp_path / "my.yaml"
    config.write_text("seed: 0\n")
    command, options = dataflow.plan([f"--config={config}", "--out=gs://bucket/out", *DATAFLOW])
    assert options.view_as(SetupOptions).save_main_session is False
    pipeline = beam.Pipeline(options=options)
    pipeline | beam.Create([command]) | "RunVlmixer" >> beam.FlatMap(dataflow.run_command)
    job = pipeline.run().job
    assert job.proto_pipeline.ByteSize() < 20_000
    assert b"pickled_main_session" not in job.proto_pipeline.SerializeToString()
