"""`vlmixer train`: train on the shards."""

import argparse
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from vlmixer.pipeline.commands.options import Subcommands, add_config, add_dry_run, common, print_checked

if TYPE_CHECKING:
    from vlmixer.pipeline.config import Config


def add(commands: Subcommands) -> None:
    """Add the subcommand."""
    train = commands.add_parser("train", parents=[common()], help="train on the shards")
    add_config(train, "folder of the training run (default: OUT/run)")
    train.add_argument("--resume", action="store_true", help="continue a training run that stopped")
    train.add_argument(
        "--init", metavar="PATH",
        help="start from BERT weights in Hugging Face's layout (.safetensors); the same as model.init",
    )  # fmt: skip
    add_dry_run(train)
    train.set_defaults(do=run, resume_hint="Add --resume to continue.")


def run(options: argparse.Namespace) -> int:
    """Train as the config says."""
    from vlmixer.artifacts import files
    from vlmixer.pipeline.config import is_for_training_alone, load_config
    from vlmixer.pipeline.preflight.call import TRAIN, Call
    from vlmixer.pipeline.preflight.preflight import check

    init = [] if options.init is None else [f"model.init={json.dumps(options.init)}"]
    assignments = [*options.set, *init]
    config = load_config(options.config, assignments)
    folder = options.out or files.join(config.out, "run")
    found = check(Call(config, (TRAIN,), run=folder))
    if options.dry_run:
        print_checked(found)
        return 0
    alone = is_for_training_alone(options.config, assignments)
    train_run(config, folder, resume=options.resume, alone=alone)
    return 0


def train_run(config: "Config", folder: str, *, resume: bool, alone: bool = False) -> None:
    """Train into `folder`, with all processors.

    alone: the config says nothing of the shards, so any vocabulary will do, and evaluation will need another config.
    """
    import torch

    from vlmixer.bank.concepts import load_vocabulary
    from vlmixer.model.config import Settings, TrainConfig
    from vlmixer.model.training import train

    torch.set_num_threads(os.cpu_count() or 1)
    settings = Settings(config.seed, config.out, None, config.model, config.train or TrainConfig())
    if alone:
        train(settings, out=folder, resume=resume)
        return
    settings = replace(settings, vocabulary=config.vocabulary)
    # Evaluation needs the detector and the vocabulary, of which the trainer itself knows nothing.
    hashed = load_vocabulary(config.vocabulary).hash
    train(settings, out=folder, resume=resume, vocabulary_hash=hashed, pipeline=config.to_yaml())
