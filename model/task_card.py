"""The model card of a fine-tuned run: README.md in its folder, for Hugging Face's site and for people to complete."""

from collections.abc import Mapping
from typing import Any

import yaml

from vlmixer.artifacts import files
from vlmixer.artifacts.dataset_cards import CARD, LICENCE_OPEN
from vlmixer.artifacts.manifest import Counts
from vlmixer.model.hub_files import last_losses, table
from vlmixer.model.tasks.base import Setup, Task
from vlmixer.model.tasks.config import NONE

_PIPELINES = {"vqa": "visual-question-answering", "gqa": "visual-question-answering", "captioning": "image-to-text"}
"""What the Hub calls tasks. Others have no name there."""

_CARD = """\
# {title}

Fine-tuned by vlmixer. A single-stream Transformer reads word pieces, tags and regions; a head on top is the task's own.

| | |
|---|---|
{facts}

Losses of the last step:

| | |
|---|---|
{losses}

Scores have not been measured here. `vlmixer eval {task} --run run` measures them on your files; write them down here.

## Load

Put the path of this folder in place of `run`:

```python
from vlmixer.model.finetuning import load_finetuned

tuned = load_finetuned("run")
print(tuned.task.title, sum(weights.numel() for weights in tuned.network.parameters()))
```

## Licence

The licences of the annotations and photos, of the network that it started from, and of the detector's weights may bind
this network, too.
{licence}
"""


def write_task_card(run: str, task: Task[Any], setup: Setup[Any], seed: int, examples: Counts, steps: int) -> None:
    """Write README.md. examples: read, and learned from. steps: updates."""
    files.publish_bytes(files.join(run, CARD), _card(run, task, setup, seed, examples, steps))


def _card(run: str, task: Task[Any], setup: Setup[Any], seed: int, examples: Counts, steps: int) -> bytes:
    asked, model = setup.settings, setup.model
    start = "a run of vlmixer (`task.init`): its licence holds here, too"
    if asked.init is None:
        start = "random" if model.init is None else "weights of a BERT (`model.init`): its licence holds here, too"
    facts: Mapping[str, str] = {
        "data": f"{examples.written:,} of {examples.read:,} examples; their files, with hashes, are in `manifest.json`",
        "control": "each photo was replaced by another (`task.shuffled_photos`)" if asked.shuffled_photos else "",
        "answers": f"{len(setup.labels['answers']):,}, in `labels.json`" if "answers" in setup.labels else "",
        "photos": "no regions" if asked.regions == NONE else f"regions with features {setup.feature_dim} wide",
        "tags": asked.tags if asked.tags in (NONE, "detector") else "from a file",
        "network": f"{model.layers} layers, {model.hidden_size} wide, {model.heads} heads; up to "
        f"{model.max_text_tokens} word pieces and {asked.max_regions or model.max_regions} regions",
        "start": start,
        "training": f"{steps:,} steps of {asked.batch_size} examples, learning rate {asked.learning_rate:g}, "
        f"seed {seed}",
    }
    pipeline = {"pipeline_tag": _PIPELINES[task.name]} if task.name in _PIPELINES else {}
    head = {"library_name": "vlmixer", **pipeline, "tags": ["vlmixer", "vlmixer-run", task.name]}
    text = _CARD.format(
        title=task.title[:1].upper() + task.title[1:],
        task=task.name,
        facts=table({name: value for name, value in facts.items() if value}),
        losses=table({name.replace("_", " "): f"{value:.4f}" for name, value in last_losses(run, steps).items()}),
        licence=LICENCE_OPEN,
    )
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n{text}".encode()
