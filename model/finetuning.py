"""Fine-tuning: from a pre-trained run and a task's official files to a network that answers. The loop is model.loop's.

RUN/config.yaml          the task's name and the resolved settings
RUN/tokenizer.json       the word pieces of the run it started from
RUN/labels.json          what was learned from the training files besides weights, such as the answers
RUN/photos.json          the names of the photos that it was trained on, as its annotation files give them
RUN/rejects.parquet      examples that were not used, each with a reason
RUN/README.md            a model card
RUN/log.jsonl, checkpoints/, model.safetensors, manifest.json   as of a training run
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from vlmixer.artifacts import files, interrupts, json_files, manifest, settings
from vlmixer.artifacts.details import FineTunedDetails, RunDetails
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.manifest import Counts, Input
from vlmixer.artifacts.rejects import CappedRejects, RejectLog
from vlmixer.artifacts.stages import FINETUNE
from vlmixer.model import checkpoint, finished
from vlmixer.model import tokenizer as tokenizers
from vlmixer.model.bert import load_bert
from vlmixer.model.config import ModelConfig
from vlmixer.model.finished import CONFIG, LABELS, MODEL, PHOTOS, REJECTS, TOKENIZER
from vlmixer.model.loop import RunOf, alone_in, find_device, loop, optimizer_of, precision_of, require_local, torch_seed
from vlmixer.model.network import Network
from vlmixer.model.progress import Progress, say
from vlmixer.model.ranks import Ranks
from vlmixer.model.readers import readers_of
from vlmixer.model.state import TASK_FREE, lasting
from vlmixer.model.task_card import write_task_card
from vlmixer.model.tasks import TASKS, find_task
from vlmixer.model.tasks.base import Setup, Task, TaskNetwork
from vlmixer.model.tasks.config import NONE, TaskConfig, TaskSettings
from vlmixer.model.tasks.data import Encoding, ExampleSet, TaskLoader, check_bad, with_photos
from vlmixer.model.tasks.files import expand
from vlmixer.model.tasks.photos import Photos
from vlmixer.model.tokenizer import Tokenizer
from vlmixer.model.trackers import Tracker, open_trackers

LOG = logging.getLogger("vlmixer")


@dataclass(frozen=True)
class FineTuned:
    """A finished fine-tuning: everything that is needed to answer."""

    run: str
    task: Task[Any]
    setup: Setup[Any]
    network: TaskNetwork
    seed: int


@dataclass(frozen=True)
class _Start:
    """What a fine-tuning begins with. `inputs`: what was read, by name, with hashes."""

    setup: Setup[Any]
    examples: ExampleSet
    photos: Photos
    log: RejectLog
    inputs: tuple[Input, ...]

    @property
    def data_hash(self) -> str:
        return manifest.digest([each.sha256 for each in self.inputs])


def finetune(task: Task[Any], config: TaskSettings[Any], out: str | None = None, resume: bool = False) -> str:
    """Fine-tune for `task` and write the folder `out` (default: OUT/TASK). Returns it.

    resume: continue a stopped run; a finished run is left as it is. Raises CallError or UserError for what the user can
    correct.
    """
    run = out or files.join(config.out, task.name)
    require_local(run, "fine-tuning")
    device = find_device(config.task.device, "task")
    start = _start(task, config)
    with alone_in(run, device, "task") as ranks:
        _finetune(run, task, config.seed, start, resume, ranks, device)
    return run


def prepare(task: Task[Any], config: TaskSettings[Any]) -> str:
    """Read everything that fine-tuning needs, write nothing, and say what was found. Raises as `finetune` does."""
    start = _start(task, config)
    find_device(config.task.device, "task")
    answers = f", {len(start.setup.labels['answers']):,} answers" if "answers" in start.setup.labels else ""
    return f"fine-tuning for {task.title}: {len(start.examples):,} examples{answers}"


def _finetune(
    run: str, task: Task[Any], seed: int, start: _Start, resume: bool, ranks: Ranks, device: torch.device
) -> None:
    former = checkpoint.load_checkpoint(run)
    if former is None and finished.is_finished(run):
        raise CallError(f"{run}: holds a finished run without checkpoints. Give another --out.")
    setup, encoding = start.setup, Encoding(task, start.setup, start.photos)
    readers = readers_of(setup.settings, ranks.world, "task")
    recorded = former.state.config["task"].get("precision") if former else None
    precision = precision_of(setup.settings.precision, device, recorded)
    setup = replace(setup, settings=replace(setup.settings, readers=readers, precision=precision))
    loader = TaskLoader(replace(encoding, setup=setup), start.examples, seed, ranks.rank, ranks.world)
    steps = setup.settings.steps or max(setup.settings.epochs * loader.steps // setup.settings.accumulate, 1)
    setup = replace(setup, settings=replace(setup.settings, steps=steps))
    content = {"finetune": task.name, "seed": seed, "model": asdict(setup.model), "task": asdict(setup.settings)}
    if former is not None:
        if not resume:
            raise CallError(
                f"{run}: already holds a run (step {former.state.step} of {former.state.config['task'].get('steps')}). "
                "Continue it with --resume, or give another --out."
            )
        checkpoint.check_content(
            run, former.state, content, start.data_hash, TASK_FREE, "annotation files, photos or init"
        )
        if finished.is_sound(run, FINETUNE):
            say(f"{run} is finished ({former.state.step} steps); nothing to do.")
            return
    network = start_network(task, setup, seed)
    network.to(device).train()
    optimizer = optimizer_of(network, setup.settings)
    if former is not None:
        checkpoint.restore(run, former, network, optimizer)
    if ranks.first:
        finished.begin(run)
        if former is None:
            checkpoint.save_content(run, content, setup.tokenizer)
            files.publish_bytes(files.join(run, LABELS), manifest.canonical(dict(setup.labels), indent=1))
        names = sorted({name for example in start.examples.examples for name in example.images})
        files.publish_bytes(files.join(run, PHOTOS), manifest.canonical(names))
        start.log.publish(files.join(run, REJECTS))
        checkpoint.sweep(run)
    state = former.state if former else None
    first = (state.step if state else 0) * setup.settings.accumulate
    of = RunOf(run, seed, content, start.data_hash, "task")
    begun, asked = state.step if state else 0, setup.settings
    trackers: Sequence[Tracker] = ()
    if ranks.first:
        trackers = open_trackers(
            run,
            begun,
            tensorboard=asked.tensorboard,
            wandb=asked.wandb,
            mlflow=asked.mlflow,
            settings=content,
            section="task",
        )
    with Progress(run, steps, begun, trackers=trackers, quiet=not ranks.first) as progress, interrupts.noted() as stop:
        module = task.objective(setup, network, ranks)
        loop(of, setup.settings, module, optimizer, loader.batches(first), state, device, progress, stop)
    if ranks.first:
        files.publish_bytes(files.join(run, MODEL), checkpoint.safetensors_of(network))
        write_task_card(run, task, setup, seed, start.examples.counts, steps)
        _finish(run, task, content, start, steps)


def _finish(run: str, task: Task[Any], content: Mapping[str, Any], start: _Start, steps: int) -> None:
    details = FineTunedDetails(
        task=task.name, steps=steps, examples=len(start.examples), feature_dim=start.setup.feature_dim
    )
    finished.publish(
        run, FINETUNE, lasting(content), start.inputs, details, {"examples": start.examples.counts}, start.data_hash
    )


def _start(task: Task[Any], config: TaskSettings[Any]) -> _Start:
    """Read the examples, find their photos, and say what the network and its word pieces are."""
    asked = replace(config.task, regions=config.task.regions or files.join(config.out, "regions"))
    if not asked.train:
        raise CallError(f"task.train: empty. Name the official files of {task.title} to train on.")
    photos = open_photos(config)
    log = CappedRejects("finetune")
    examples, read = task.read(asked.train, asked, log, training=True)
    labels = task.labels(examples, asked)
    known = []
    for example in examples:
        if task.learnable(example, labels):
            known.append(example)
        else:
            log.add(task.name, example.key, "unknown_answer", ", ".join(dict.fromkeys(example.answers)))
    found = with_photos(task, known, photos, log, read, config.seed if asked.shuffled_photos else None)
    check_bad(found.counts, log, asked.max_bad_fraction, "task.train")
    if not found.counts.add_up():
        raise RuntimeError(f"{task.name}: examples do not add up: {found.counts}")
    say(_described(found.counts))
    inputs = [Input("photos", 0, photos.content_hash), Input("labels", 0, manifest.digest(dict(labels)))]
    for path in expand(asked.train, "task.train"):
        inputs.append(Input(path.rpartition("/")[2], files.size(path), files.sha256(path)))
    if asked.init is not None:
        model, tokenizer, digest = _from_run(asked.init, config)
        _warn_of_vocabulary(asked.init, photos)
        inputs.append(Input("init", 0, digest))
    else:
        model = config.model_config
        tokenizer = _tokenizer(task, model, found, photos, labels)
        if model.init is not None:
            inputs.append(Input("init", files.size(model.init), files.sha256(model.init)))
    model = _with_feature_dim(model, photos, asked)
    if asked.dropout is not None:
        model = replace(model, dropout=asked.dropout)
    return _Start(Setup(asked, model, tokenizer, labels), found, photos, log, tuple(inputs))


def open_photos(config: TaskSettings[Any]) -> Photos:
    """The photos that the settings name. Raises CallError if there are none."""
    regions = config.task.regions or files.join(config.out, "regions")
    if regions != NONE and not files.exists(files.join(regions, manifest.NAME)):
        raise CallError(
            f"task.regions: {regions} has no {manifest.NAME}. Run `vlmixer detect` on the photos first, name the "
            "folder it wrote, or set task.regions to none."
        )
    return Photos(regions, config.task.tags)


def trained_photos(run: str) -> list[str]:
    """The names of the photos that a finished fine-tuning learned from, as its annotation files gave them.

    Empty for a run of an earlier version, which did not keep them.
    """
    path = files.join(run, PHOTOS)
    return json_files.read(path, list[str], advice="Fine-tune again.") if files.exists(path) else []


def start_network(task: Task[Any], setup: Setup[Any], seed: int) -> TaskNetwork:
    """The network before the first step: pre-trained where the settings say so, else initial values."""
    torch.manual_seed(torch_seed(seed, "weights"))
    network = Network(setup.model, setup.tokenizer.size, setup.feature_dim)
    if setup.settings.init is not None:
        trained, _, _, _ = load_start(setup.settings.init)
        network.load_state_dict(trained.state_dict())
    elif setup.model.init is not None:
        load_bert(network, setup.model.init, setup.model)
    whole = TaskNetwork(network, task.head(setup, network))
    task.begin(setup, whole)
    return whole


def load_start(run: str) -> tuple[Network, Tokenizer, ModelConfig, str]:
    """The network of a finished run, pre-trained or fine-tuned, without its head; its word pieces and configuration,
    and the hash of its manifest. Raises UserError as `load_run` does."""
    if finished.is_finished(run) and manifest.read(run).stage == FINETUNE.name:
        tuned = load_finetuned(run)
        return tuned.network.network, tuned.setup.tokenizer, tuned.setup.model, manifest.read(run).content_hash
    network, tokenizer, trained = checkpoint.load_run(run)
    return network, tokenizer, trained.model, finished.check(run).content_hash


def load_finetuned(run: str) -> FineTuned:
    """The finished fine-tuning in `run`, in evaluation mode, on the CPU.

    Raises UserError if it is not finished, or a file is not the one that was written.
    """
    name = finished.check(run, FINETUNE).details.task
    if name not in TASKS:
        raise UserError(f"{run}: was fine-tuned for {name[:40]!r}, which is none of {', '.join(TASKS)}.")
    task = find_task(name)
    where = files.join(run, CONFIG)
    content = settings.load_yaml(where)
    seed = content.get("seed", 0)
    if type(seed) is not int:
        raise UserError(f"{where}: seed: expected a whole number. Copy the run again, or fine-tune again.")
    asked: TaskConfig = settings.build(task.config, content.get("task", {}), where=where)
    model = settings.build(ModelConfig, content.get("model", {}), where=where)
    labels = json_files.read(files.join(run, LABELS), dict[str, Any], advice="Fine-tune again.")
    if not task.are_labels(labels):
        raise UserError(
            f"{files.join(run, LABELS)}: not what {task.name} learns. Copy the run again, or fine-tune again."
        )
    tokenizer = tokenizers.load(files.join(run, TOKENIZER))
    setup = Setup(asked, model, tokenizer, labels)

    def build() -> TaskNetwork:
        network = Network(model, tokenizer.size, setup.feature_dim)
        return TaskNetwork(network, task.head(setup, network))

    network = checkpoint.with_weights(run, build, model, tokenizer, prefix="network.")
    return FineTuned(run, task, setup, network.eval(), seed)


def _from_run(run: str, config: TaskSettings[Any]) -> tuple[ModelConfig, Tokenizer, str]:
    """The network's configuration and the word pieces of a run to start from, and the hash of its manifest."""
    _, tokenizer, trained, content_hash = load_start(run)
    for key, value in config.model.items():
        own = getattr(trained, key, None)
        if key not in ("init", "tokenizer", "feature_dim", "dropout") and hasattr(trained, key) and value != own:
            raise CallError(
                f"model.{key}: {value}, but the network of task.init {run} has {own}. Leave `model` out: it is that of "
                "the run."
            )
    model = replace(trained, init=None, tokenizer=None, dropout=trained.dropout_rate)
    return model, tokenizer, content_hash


def _warn_of_vocabulary(run: str, photos: Photos) -> None:
    """Say that a network meets tags of another vocabulary than it was pre-trained with."""
    details, found = manifest.read(run).details, photos.vocabulary
    if found is None or not isinstance(details, RunDetails) or found[1] == details.vocabulary_hash:
        return
    LOG.warning(
        "task.regions: the regions have concepts of %s, but %s was trained with %s. Set `vocabulary` to that of the "
        "training, and detect again.",
        found[0],
        run,
        details.vocabulary,
    )


def _with_feature_dim(model: ModelConfig, photos: Photos, asked: TaskConfig) -> ModelConfig:
    """`model` with the width of the photos' features, which must be that of a pre-trained network."""
    width = photos.feature_dim
    if width is not None and model.feature_dim not in (None, width):
        raise UserError(
            f"task.regions: features are {width} wide, but those of {asked.init or 'model.feature_dim'} are "
            f"{model.feature_dim}. Use the regions of the detector that the network was trained with."
        )
    return replace(model, feature_dim=width or model.feature_dim or 1)


def _tokenizer(
    task: Task[Any], model: ModelConfig, examples: ExampleSet, photos: Photos, labels: Mapping[str, Any]
) -> Tokenizer:
    if model.tokenizer is not None:
        return tokenizers.load(model.tokenizer, model.lower_case)
    return tokenizers.learn([*task.texts(examples.examples, labels), *sorted(photos.all_tags())], model.vocabulary_size)


def _described(counts: Counts) -> str:
    listed = ", ".join(f"{number:,} {reason}" for reason, number in counts.rejected.items())
    unused = f", {counts.read - counts.written:,} not used ({listed})" if counts.rejected else ""
    return f"train: {counts.written:,} of {counts.read:,} examples{unused}"
