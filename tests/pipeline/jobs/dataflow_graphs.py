"""The job graphs that Dataflow would get, made without credentials; the work itself is done here."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.portability.api import beam_runner_api_pb2

from vlmixer.pipeline.jobs.do_units import ListUnits
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.units.listing import publish_units
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit

IMAGE = "gcr.io/some-project/vlmixer:1"
DATAFLOW = (
    "--runner=DataflowRunner", "--project=some-project", "--region=europe-west4", "--temp_location=gs://some-bucket/tmp",
    f"--sdk_container_image={IMAGE}", "--sdk_location=container", "--dry_run=True",
    "--experiments=disable_logging_submission_environment",  # or pip would list what is installed for each job
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A job as the runner would submit it. proto: the portable graph."""

    label: str
    name: str
    options: dict[str, Any]
    proto: beam_runner_api_pb2.Pipeline


def submit(engine: Engine, label: str, build: Callable[[beam.Pipeline], object]) -> Job:
    """What the engine's runner makes of the pipeline, up to the point where it would call the service."""
    pipeline = beam.Pipeline(**engine._how(1, label, None))
    build(pipeline)
    job = pipeline.run().job
    return Job(label, job.proto.name, pipeline._options.get_all_options(drop_default=True), job.proto_pipeline)


@dataclass(frozen=True)
class DryEngine(Engine):
    """Makes the jobs for Dataflow, keeps them in `jobs`, and does their work here."""

    beam_args: tuple[str, ...] = DATAFLOW
    jobs: list[Job] = field(default_factory=list)

    def run(
        self,
        stage: Stage,
        units: Sequence[Unit],
        content: Any,
        build: Callable[[beam.PCollection], object],
        *,
        label: str,
        processes: int | None = None,
        among: Collection[str] | None = None,
    ) -> None:
        listed = ListUnits(stage, publish_units(stage, units), content)
        self.jobs.append(submit(self, label, lambda pipeline: build(pipeline | "ListUnits" >> listed)))
        Engine(1).run(stage, units, content, build, label=label)


def hints(job: Job) -> dict[str, dict[str, str]]:
    """For each step with resource hints, these by their short name."""
    environments = job.proto.components.environments
    found = {}
    for transform in job.proto.components.transforms.values():
        asked = environments[transform.environment_id].resource_hints if transform.environment_id else {}
        if asked and not transform.subtransforms:
            found[transform.unique_name] = {
                urn.rpartition("resources:")[2]: bytes(value).decode() for urn, value in asked.items()
            }
    return found


@dataclass(frozen=True)
class Step:
    """A step of a graph: its label, its kind as Beam names it, the labels of the composites around it, and inputs and
    outputs (ids of collections)."""

    label: str
    kind: str
    around: tuple[str, ...]
    inputs: frozenset[str]
    outputs: frozenset[str]


RESHUFFLE = "beam:transform:reshuffle:v1"
GROUP = "beam:transform:group_by_key:v1"
COMBINE = ("beam:transform:combine_per_key:v1", "beam:transform:combine_globally:v1")
IMPULSE = "beam:transform:impulse:v1"


def all_steps(job: Job) -> list[Step]:
    """All steps, composites included."""
    transforms = job.proto.components.transforms

    def walk(key: str, around: tuple[str, ...]) -> Iterator[Step]:
        transform = transforms[key]
        label = transform.unique_name
        yield Step(
            label,
            transform.spec.urn,
            around,
            frozenset(transform.inputs.values()),
            frozenset(transform.outputs.values()),
        )
        for inner in transform.subtransforms:
            yield from walk(inner, (*around, label))

    return [step for root in job.proto.root_transform_ids for step in walk(root, ())]
