"""Plans a run: takes a sample, measures it, and estimates the rest. `vlmixer plan` prints the result."""

from collections.abc import Mapping, Sequence

from vlmixer.artifacts import files, manifest, stages
from vlmixer.pipeline.config import Config
from vlmixer.pipeline.planning.estimate import TRAIN, plan_stages
from vlmixer.pipeline.planning.probe import probe
from vlmixer.pipeline.planning.run_estimate import RunEstimate, format_bytes
from vlmixer.pipeline.planning.sampling import take_sample
from vlmixer.pipeline.planning.stage_plan import EFFICIENCY, StagePlan
from vlmixer.pipeline.units.machine import processors
from vlmixer.pipeline.units.stage import Stage

ASSUMPTIONS = (
    "every worker has its own processor, as fast as this machine's, and the memory in the table; files are read and "
    "written as fast as here",
    f"each of several workers does {EFFICIENCY:.0%} of what a single one does; the launcher's part is not shared",
    "the corpus is like the sample: as many mentions, regions and concepts per input; duplicates across the "
    "corpus, which are rare in a sample, count as new",
)

HELD_PER_FILE = 180
"""Bytes, at most, in the launching process for an image that is a file of its own (docs/performance-history.md)."""
MUCH_MEMORY = 1e9


def plan_run(
    config: Config,
    *,
    scale: float | None = None,
    sentences: int | None = None,
    images: int | None = None,
    workers: Sequence[int] = (),
    price: float | None = None,
    seconds: float = 5.0,
    import_paths: Sequence[str] = (),
    fresh: bool = False,
) -> RunEstimate:
    """What `vlmixer run` will take here, or with corpora of another size. Raises CallError, UserError.

    seconds: about how long tagging and detecting the sample may take, each. fresh: what OUT has is not looked at.
    """
    sample = take_sample(config)
    measured, notes = probe(config, sample, seconds, import_paths)
    corpus = sample.corpus
    done: Mapping[str, float] = {}
    if scale or sentences or images:
        times = scale or 1.0
        corpus = corpus.scaled(sentences or round(corpus.sentences * times), images or round(corpus.images * times))
        notes.append("sizes are the ones that were given; the output folder was not looked at")
    elif not fresh:
        done = done_before(config.out, plan_stages(corpus, measured, config, {}))
    held = HELD_PER_FILE * sample.files * corpus.images
    if held > MUCH_MEMORY:
        notes.append(
            f"the launching process needs {format_bytes(held)} more for the names of so many image files: put "
            "them into tars or Parquet"
        )
    cores = processors()
    return RunEstimate(
        corpus,
        plan_stages(corpus, measured, config, done),
        sorted({1, cores, *workers}),
        cores,
        price,
        EFFICIENCY,
        (*notes, *sample.notes, *ASSUMPTIONS),
    )


def done_before(out: str, plans: Sequence[StagePlan]) -> dict[str, float]:
    """By the name of the stage, the share of its units that is done in OUT already."""
    units = {plan.stage: plan.units for plan in plans}
    found = {stage.name: _done(Stage(stage, out), units[stage.name]) for stage in stages.STAGES if stage.name in units}
    if TRAIN in units:
        found[TRAIN] = float(files.exists(files.join(out, stages.TRAIN.folder, "model.safetensors")))
    return found


def _done(stage: Stage[stages.AnyDetails], units: int) -> float:
    if files.exists(files.join(stage.folder, manifest.NAME)):
        manifest.read(stage.folder)
        return 1.0
    names = [name for name in files.list_files(stage.work) if name.endswith(".json") and name != "plan.json"]
    return min(len(names) / max(units, 1), 0.99)
