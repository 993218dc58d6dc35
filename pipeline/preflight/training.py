"""What training needs, which a run comes to only after all stages: packages, device, tokenizer, weights, run folder."""

import importlib.util
from contextlib import suppress
from dataclasses import replace

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.extras import install_command
from vlmixer.artifacts.stages import MIX, TRAIN
from vlmixer.model.config import Settings, TrainConfig
from vlmixer.pipeline.preflight.call import Call

MODULES = ("torch", "safetensors", "tokenizers")


def packages(call: Call) -> str:
    """The packages that training imports."""
    for name in MODULES:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(name, name=name)
    train = _train(call)
    asked = {"tensorboard": train.tensorboard, "wandb": train.wandb is not None, "mlflow": train.mlflow is not None}
    for key, module in (("tensorboard", "tensorboardX"), ("wandb", "wandb"), ("mlflow", "mlflow")):
        if asked[key] and importlib.util.find_spec(module) is None:
            raise CallError(f"train.{key}: needs {module}. Run `{install_command(key)}`, or remove the key.")
    return ""


def device(call: Call) -> str:
    """The device for training is there."""
    from vlmixer.model.loop import find_device

    return f"training on: {find_device(_train(call).device).type}"


def shards(call: Call) -> str:
    """The shards are there, unless the call itself writes them."""
    from vlmixer.model.shards import open_shards

    given = _train(call).shards
    if given is None and len(call.stages) > 1:
        return ""
    found = open_shards(given or files.join(call.config.out, MIX.folder))
    rows = sum(shard.rows for shard in found.mixed)
    return f"shards: {rows:,} mixed samples, features of width {found.feature_dim}"


def tokenizer(call: Call) -> str:
    """The tokenizer that the config names can be read."""
    return f"tokenizer: {_pieces(call):,} word pieces" if call.config.model.tokenizer else ""


def init(call: Call) -> str:
    """The weights to start from are there and have the config's shapes."""
    from vlmixer.model.bert import check_bert

    model = call.config.model
    if model.init is None:
        return ""
    pieces = None
    if model.tokenizer is not None:
        with suppress(UserError):  # the tokenizer has a check of its own
            pieces = _pieces(call)
    check_bert(model.init, model, pieces)
    return f"training starts from: {model.init}"


def readers(call: Call) -> str:
    """The readers can be divided among the processes."""
    from vlmixer.model.ranks import from_environment
    from vlmixer.model.readers import readers_of

    readers_of(_train(call), from_environment().world)
    return ""


def former_run(call: Call) -> str:
    """A training run that is there already can be continued with this config."""
    from vlmixer.model import checkpoint
    from vlmixer.model.loop import find_device, precision_of
    from vlmixer.model.ranks import from_environment
    from vlmixer.model.readers import readers_of

    run = call.run or files.join(call.config.out, TRAIN.folder)
    if files.is_url(run):
        raise CallError(
            f"{run}: training writes checkpoints, which needs a local folder. Leave training out of the run "
            "(--set train=null), then call `vlmixer train CONFIG.yaml --set train.shards=URL/shards --out FOLDER`."
        )
    state = None if call.overwrite else checkpoint.last_state(run)
    if state is None:
        return ""
    train = _train(call)
    precision = precision_of(train.precision, find_device(train.device), state.config["train"].get("precision"))
    train = replace(train, readers=readers_of(train, from_environment().world), precision=precision)
    settings = Settings(call.config.seed, model=call.config.model, train=train)
    if settings.model.feature_dim is None:
        settings = checkpoint.with_feature_dim(settings, state.config["model"]["feature_dim"], run)
    checkpoint.check_continuation(run, state, settings, state.shards)
    return f"training continues after step {state.step} of {train.steps}"


def _pieces(call: Call) -> int:
    """The size of the vocabulary of word pieces that the config names."""
    from vlmixer.model import tokenizer as tokenizers

    assert call.config.model.tokenizer is not None
    try:
        return tokenizers.load(call.config.model.tokenizer, call.config.model.lower_case).size
    except UserError as error:
        raise UserError(f"model.tokenizer: {error}") from None


def _train(call: Call) -> TrainConfig:
    return call.config.train or TrainConfig()
