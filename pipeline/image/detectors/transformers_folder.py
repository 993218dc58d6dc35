"""Models of the transformers library in a folder or in the Hugging Face Hub's cache: where they are, what identifies
them, and how they are read.

Nothing is downloaded, and nothing in a folder runs: weights are safetensors, and settings are refused that would make
the library fetch code, weights or settings from elsewhere.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.extras import install_command

WEIGHTS, SHARDS = "model.safetensors", "model.safetensors.index.json"
SETTINGS = (
    "config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model",
)  # fmt: skip
"""The files that change a model's results, besides its weights."""
MAX_SETTINGS_BYTES = 64_000_000
MAX_CONFIG_BYTES = 4_000_000
"""Of a config.json, of which the library makes many copies. 20,000 classes take one million."""
MAX_LAYERS = 1000
"""Of a network, so that a hostile config does not fill the memory before its weights are compared with it."""
MAX_SIDE = 4096
"""Pixels, to which a model's settings may have images resized."""
MAX_RATIO = 4
"""Numbers of a network per byte of its weights. A model without its text part, in float16, has up to one."""
ELSEWHERE = ("backbone", "attn_implementation", "_attn_implementation", "experts_implementation")
"""Keys of a config that may name something on the Hub."""


def find_folder(name: str, key: str, revision: str | None = None) -> str:
    """The folder of a model: `name` itself, or that of the Hub's model NAME in the local cache.

    key: the setting that names it, for messages. revision: branch, tag or commit of a model of the Hub.
    Raises CallError.
    """
    if os.path.isdir(name):
        return name
    if files.is_url(name) or name.startswith(("/", ".", "~")) or name.count("/") > 1 or not name:
        raise CallError(f"{key}: no such folder on this machine: {name!r}. Give a folder with config.json and weights.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        at = f" --revision {revision}" if revision else ""
        raise CallError(
            f"{key}: {name!r} is neither a folder nor in the Hugging Face Hub's cache on this machine. Nothing is "
            f"downloaded during a run; if the Hub has it, run `hf download {name}{at}` first."
        ) from None


def shown_name(name: str) -> str:
    """The name of a model for manifests, which have no paths: a folder's own name, or the Hub's name."""
    return Path(name).resolve().name if os.path.isdir(name) else name


def check_no_weights(name: str, weights: str | None) -> None:
    """Raises CallError if weights are given, which a model in a folder has itself."""
    if weights is not None:
        raise CallError(f"images.weights: transformers:{name} has its weights in its folder. Leave the key out.")


def weight_files(folder: str, key: str) -> list[str]:
    """The safetensors files of the folder. Raises UserError if it has none or lacks some."""
    if os.path.isfile(os.path.join(folder, WEIGHTS)):
        return [WEIGHTS]
    index = os.path.join(folder, SHARDS)
    if not os.path.isfile(index):
        others = sorted(path.name for path in Path(folder).glob("*.bin"))
        has = f" It has {', '.join(others)}, which may hold code; convert it to safetensors." if others else ""
        raise UserError(f"{key}: {folder} has no {WEIGHTS} and no {SHARDS}.{has}")
    names = read_json(index, key).get("weight_map")
    found = sorted({str(name) for name in names.values()}) if isinstance(names, Mapping) else []
    absent = [
        name for name in found if os.path.basename(name) != name or not os.path.isfile(os.path.join(folder, name))
    ]
    if absent or not found:
        raise UserError(f"{key}: {index} names {', '.join(absent[:3]) or 'no files'}, not found in the folder.")
    return found


def weights_hash(folder: str, key: str) -> str:
    """What identifies the weights: the hash of their file, or of the hashes of all of their files."""
    return _joint_hash(folder, weight_files(folder, key))


def settings_hash(folder: str) -> str:
    """What identifies everything else that changes results: the network's shape, classes, preprocessing, tokenizer."""
    return _joint_hash(folder, [name for name in SETTINGS if os.path.isfile(os.path.join(folder, name))])


def _joint_hash(folder: str, names: list[str]) -> str:
    hashes = [files.sha256(os.path.join(folder, name)) for name in names]
    if len(hashes) == 1:
        return f"sha256:{hashes[0]}"
    lines = "".join(f"{name}\0{digest}\n" for name, digest in zip(names, hashes, strict=True))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def read_config(folder: str, key: str) -> Any:
    """The folder's config as an object of transformers. Raises UserError."""
    import_library(key)
    from transformers import AutoConfig

    found = read_json(os.path.join(folder, "config.json"), key, MAX_CONFIG_BYTES)
    _check_harmless(found, folder, key)
    with reading(folder, key), quiet():
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_network(auto: Any, folder: str, config: Any, key: str, *, may_lack: str | None = None) -> Any:
    """The network of one of transformers' Auto classes, float32, for inference, all weights from the folder.

    may_lack: the attribute of a part that is removed if the folder has no weights for it.

    Raises UserError if weights are missing, do not fit, or if a package is missing.
    """
    import torch

    weight_files(folder, key)
    if os.path.isfile(os.path.join(folder, "adapter_config.json")):
        raise UserError(f"{key}: {folder} has an adapter. Merge it into its model, and give the folder of the result.")
    _check_size(auto, folder, config, key)
    with reading(folder, key), quiet():
        network, info = auto.from_pretrained(
            folder, config=config, local_files_only=True, use_safetensors=True, trust_remote_code=False,
            dtype=torch.float32, output_loading_info=True,
        )  # fmt: skip
    missing = sorted(str(name) for name in [*info["missing_keys"], *info.get("mismatched_keys", ())])
    if may_lack and missing and all(name.startswith(f"{may_lack}.") for name in missing):
        setattr(network, may_lack, None)
        missing = []
    if missing:
        raise UserError(
            f"{key}: the weights in {folder} lack {len(missing)} parameters of {type(network).__name__}, such as "
            f"{', '.join(missing[:3])}. Give a model with all of its weights."
        )
    return network.eval()


def _check_size(auto: Any, folder: str, config: Any, key: str) -> None:
    """Raises UserError if a config describes a network of many more numbers than the weights have: the library takes
    memory for all of them, and then compares."""
    import torch

    with reading(folder, key), quiet(), torch.device("meta"):
        numbers = sum(value.numel() for value in auto.from_config(config).parameters())
    size = sum(os.path.getsize(os.path.join(folder, name)) for name in weight_files(folder, key))
    if numbers > MAX_RATIO * size:
        raise UserError(
            f"{key}: {folder}/config.json describes a network of {numbers:,} numbers, its weights have {size:,} bytes. "
            "Give a model with all of its weights."
        )


def load_processor(auto: Any, folder: str, key: str, **changes: Any) -> Any:
    """The folder's processor, of AutoImageProcessor or AutoProcessor. changes: other settings. Raises UserError."""
    names = ("preprocessor_config.json", "processor_config.json")
    found = [name for name in names if os.path.isfile(os.path.join(folder, name))]
    if not found:
        raise UserError(f"{key}: {folder} has no {names[0]}, which says how images are resized. Add the model's own.")
    with reading(folder, key), quiet():
        processor = auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **changes)
        sizes = dict(getattr(getattr(processor, "image_processor", processor), "size", None) or {})
    for name, value in sizes.items():
        if isinstance(value, int) and value > MAX_SIDE:
            raise UserError(f"{key}: {folder}/{found[0]}: {name} is {value}, expected at most {MAX_SIDE} pixels.")
    return processor


def import_library(key: str) -> None:
    """Check that transformers is there. Raises UserError."""
    try:
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"{key}: needs {error.name}. Run `{install_command('transformers')}`.") from None


@contextmanager
def reading(folder: str, key: str) -> Iterator[None]:
    """Turns what transformers raises about a folder into a UserError. It raises anything, for other people's files."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        package = "timm" if "timm" in str(error) else getattr(error, "name", None) or "a package"
        raise UserError(
            f"{key}: {folder} needs {package}, which is not installed. Run `{install_command('transformers')}`."
        ) from error
    except Exception as error:
        raise UserError(
            f"{key}: transformers cannot read {folder}: {type(error).__name__}: {shorten(str(error), 300)}. Expected "
            "the files that save_pretrained writes, of an architecture that the installed version knows."
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and reports."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def read_json(path: str, key: str, most: int = MAX_SETTINGS_BYTES) -> dict[str, Any]:
    """The object in a JSON file of a model, of at most so many bytes. Raises UserError."""
    try:
        if os.path.getsize(path) > most:
            raise ValueError(f"larger than {most:,} bytes")
        found = json.loads(Path(path).read_bytes())
        if not isinstance(found, dict):
            raise ValueError("expected an object")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{key}: {path} is not readable: {shorten(str(error), 200)}. Expected the model's own."
        ) from None
    return found


def _check_harmless(config: Mapping[str, Any], folder: str, key: str) -> None:
    """Raises UserError if a config makes the library fetch something from elsewhere, or build without end."""
    if config.get("quantization_config"):
        raise UserError(f"{key}: {folder} has quantized weights. Give the model in float32 or float16.")
    for name, value in config.items():
        if name in ELSEWHERE and isinstance(value, str) and ("/" in value or ":" in value):
            raise UserError(
                f"{key}: {folder}/config.json names something elsewhere ({name}: {value!r}), and nothing is fetched. "
                "Give a model that is complete in its folder."
            )
        if "layers" in name and isinstance(value, int) and value > MAX_LAYERS:
            raise UserError(f"{key}: {folder}/config.json: {name} is {value}, expected at most {MAX_LAYERS}.")
        if isinstance(value, Mapping):
            _check_harmless(value, folder, key)
