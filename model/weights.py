"""Files of weights as people have them. Reads tensors only, runs nothing that a file holds, and unwraps what training
frameworks wrap around a network's parameters where only one reading is possible.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError
from vlmixer.model.torch_files import check_size

LOG = logging.getLogger("vlmixer")

INNER_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Parts of parameter names that torch.compile, FSDP and activation checkpointing insert."""

MAX_DEPTH = 3
MANY_NUMBERS = 1 << 24
"""A tensor with more must have them in the file."""
MAX_PARTS = 16
"""Of a prefix. To look for each of many in a long name takes long."""
_PLAIN_CLASS = re.compile(r"(?:\w+\.)+_*[A-Z]\w*")
_DICT_CLASS = re.compile(r".*Dict|.*CfgNode")
_WHERE_MADE = (
    "Save the tensors alone, where the model was made:",
    "    from safetensors.torch import save_file",
    "    state = {name: value.contiguous() for name, value in model.state_dict().items()}",
    '    save_file(state, "weights.safetensors")',
)


@dataclass(frozen=True)
class Weights:
    """A way to read a file: its tensors below the key `place` ("" for the top), and the `prefix` that the network's
    parameters have there."""

    place: str
    prefix: str
    tensors: dict[str, Tensor]

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix`, without it."""
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}

    def describe(self) -> str:
        """The place, for people."""
        place = f"key {self.place!r}" if self.place else "the top"
        return f"{place}, prefix {self.prefix!r}" if self.prefix else place


def read_weights(path: str, key: str, names: Collection[str]) -> dict[str, Tensor]:
    """The parameters in the file by the network's `names`, unwrapped; see find_weights.

    Parameters that the network lacks are kept, unless they are outside of the wrapper that is taken.
    """
    found = find_weights(path, key, names)
    return found.below(found.prefix)


def find_weights(
    path: str,
    key: str,
    names: Collection[str],
    usual: Collection[str] = ("",),
    rename: Callable[[str], str] = lambda name: name,
) -> Weights:
    """Where the parameters are in a .safetensors file, or in a file of torch.save that holds plain data only.

    key: the setting that names the file, for messages. names: the network's parameters, by which wrappers are known: a
    state dict below `model`, `state_dict`, `ema` and others, prefixes such as `module.`. usual: prefixes that need no
    word; of others, one line says what was unwrapped. rename: the current name of a parameter in the file.

    Raises UserError if the file cannot be read, or if several readings fit and differ.
    """
    content = _load(path, key)
    states = {
        place: {rename(INNER_WRAPPERS.sub("", name)): value for name, value in state.items()}
        for place, state in _states(content)
    }
    if not states:
        raise UserError(
            f"{key}: {path} is not readable as weights: it holds no state dict. Expected a .safetensors file, or a "
            "file of torch.save with tensors by name."
        )
    for name, value in ((name, value) for state in states.values() for name, value in state.items()):
        if value.numel() > MANY_NUMBERS and not _is_whole(value):
            raise UserError(f"{key}: {path}: the tensor {name[:100]} has fewer numbers than its shape says.")
    readings = [reading for place, state in states.items() for reading in _readings(place, state, set(names))]
    if not readings:  # Another network's. The caller says what is missing.
        return Weights("", "", max(states.values(), key=len))
    first, *others = readings
    own = first.below(first.prefix)
    if differing := [other for other in others if not _same(own, other.below(other.prefix), names)]:
        found = "; ".join(reading.describe() for reading in [first, *differing])
        raise UserError(
            f"{key}: {path} has the weights more than once ({found}). Save those to use by themselves, for example:",
            "    import torch",
            f'    state = torch.load("{path}", map_location="cpu", weights_only=True)',
            f'    torch.save({_taken(first)}, "{_converted(path)}")',
        )
    inner = {match[0] for name in _names(content, first.place) if (match := INNER_WRAPPERS.search(name))}
    if first.place or first.prefix not in usual or inner:
        left = sum(map(len, states.values())) - len(own)
        LOG.info(
            "%s: %s: unwrapped %d tensors from %s%s%s",
            key, path, len(own), first.describe(), "".join(f", without {part!r}" for part in sorted(inner)),
            f"; left out {left} others" if left and not others else "",
        )  # fmt: skip
    return first


def _load(path: str, key: str) -> Any:
    """The content of the file. Raises UserError that says what to do."""
    try:
        with files.open_read(path) as file:
            head = file.read(64)
            file.seek(0)
            if head.startswith(b"version https://git-lfs"):
                raise UserError(f"{key}: {path} is a Git LFS pointer and not the file itself. Run `git lfs pull`.")
            if path.endswith(".safetensors") or head[8:9] == b"{":
                return safetensors.torch.load(file.read())
            check_size(file)
            return torch.load(file, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except IsADirectoryError:
        raise UserError(f"{key}: {path} is a folder. Name the file of weights in it.") from None
    except Exception as error:  # torch and safetensors raise anything on bytes of another kind.
        first, *lines = _advice(path, error)
        raise UserError(f"{key}: {path} is not readable as weights: {first}", *lines) from None


def _advice(path: str, error: Exception) -> Sequence[str]:
    """What to do about a file that torch refused, by line."""
    text = str(error)
    if "TorchScript" in text:
        return (
            "it is a TorchScript program. If you trust its author, copy its tensors:",
            "    import torch",
            f'    state = torch.jit.load("{path}", map_location="cpu").state_dict()',
            f'    torch.save(dict(state), "{_converted(path)}")',
        )
    if "Unsupported global" not in text and "Unsupported class" not in text and "Unsupported operand" not in text:
        return (
            f"{shorten(repr(error), 200)}. Expected a .safetensors file, or a file of torch.save with tensors by name.",
        )
    names = _foreign(path) or sorted(set(re.findall(r"GLOBAL ([\w.]+)", text)))
    if not names or not all(map(_PLAIN_CLASS.fullmatch, names)) or any(name.startswith("torch.") for name in names):
        listed = f" ({shorten(', '.join(names), 150)})" if names else ""
        first, *lines = _WHERE_MADE
        return f"it holds more than tensors{listed}, and reading that could run any code. {first}", *lines
    stand_ins = ", ".join(
        f'({"OrderedDict" if _DICT_CLASS.fullmatch(name) else "Namespace"}, "{name}")' for name in names
    )
    return (
        f"it holds more than tensors: {shorten(', '.join(names), 150)}. Copy the tensors with these lines, which put "
        "empty stand-ins in place of those objects and run nothing of theirs:",
        "    import torch; from argparse import Namespace; from collections import OrderedDict",
        f"    torch.serialization.add_safe_globals([{stand_ins}])",
        f'    state = torch.load("{path}", map_location="cpu", weights_only=True); '
        'torch.save(next(state[key] for key in ("state_dict", "model_state_dict", "model") if key in state), '
        f'"{_converted(path)}")',
    )


def _foreign(path: str) -> list[str]:
    """The classes and functions that the file names and torch does not allow. Looks at names only; [] if unknown."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # for files of old formats, or behind URLs
        return []


def _converted(path: str) -> str:
    return f"{path.rpartition('/')[2].rpartition('.')[0] or 'weights'}-tensors.pth"


def _taken(reading: Weights) -> str:
    place = "".join(f'["{part}"]' for part in reading.place.split(" > ") if part)
    if not reading.prefix:
        return f"state{place}"
    return (
        f'{{name.removeprefix("{reading.prefix}"): value for name, value in state{place}.items() '
        f'if name.startswith("{reading.prefix}")}}'
    )


def _names(content: Any, place: str) -> Iterator[str]:
    """The names in the dict at `place`, as the file has them."""
    return (name for found, state in _states(content) if found == place for name in state)


def _states(
    content: Any, place: str = "", depth: int = 0, seen: set[int] | None = None
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(place, tensors by name) of each dict with tensors by name. A dict that is in several places is in the first of
    them: in a small file, one may be in billions."""
    seen = set() if seen is None else seen
    if not isinstance(content, Mapping) or depth > MAX_DEPTH or id(content) in seen:
        return
    seen.add(id(content))
    inner = [found for name, value in content.items() if isinstance(name, str)
             for found in _states(value, f"{place} > {name}" if place else name, depth + 1, seen)]  # fmt: skip
    own = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if own:
        yield place, own
    yield from inner


def _readings(place: str, state: dict[str, Tensor], names: set[str]) -> Iterator[Weights]:
    """The prefixes under which the state has at least half of the network's parameters."""
    found: Counter[str] = Counter()
    for name in state:
        at = 0
        for _ in range(MAX_PARTS):
            if name[at:] in names:
                found[name[:at]] += 1
            at = name.find(".", at) + 1
            if not at:
                break
    for prefix, count in found.items():
        if 2 * count >= len(names):
            yield Weights(place, prefix, state)


def _is_whole(value: Tensor) -> bool:
    """Whether the file has each number of the tensor, which may repeat a few of them without end."""
    return value.layout == torch.strided and value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor], names: Collection[str]) -> bool:
    """Whether both have the same values for the network's parameters."""
    return all(
        (name in one) == (name in other) and (name not in one or torch.equal(one[name], other[name])) for name in names
    )


def wrong_classes(state: Mapping[str, Tensor], own: Mapping[str, Tensor], classes: int) -> int | None:
    """The number of classes of the weights, if it is what differs from the network's own parameters; else None.

    classes: the network's number. Looks at the sizes of classification heads, which are a multiple of it.
    """
    for name, value in own.items():
        given = state.get(name)
        is_head = "cls_score" in name or "cls_logits" in name or "classification_head" in name
        if given is None or not is_head or not value.ndim or given.shape[1:] != value.shape[1:]:
            continue
        count, rest = divmod(given.shape[0] * classes, value.shape[0])
        if count != classes and not rest:
            return int(count)
    return None
