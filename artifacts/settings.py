"""From a YAML config to frozen dataclasses, with `--set` overrides. Errors of unknown keys name the nearest key."""

import dataclasses
import difflib
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError

from vlmixer.artifacts import files, yaml_files
from vlmixer.artifacts.errors import CallError

Settings = TypeVar("Settings")

MAX_BYTES = 1 << 20
"""Of a config file."""


def load_yaml(path: str) -> dict[str, Any]:
    """The mapping in a YAML file. Raises CallError if the file is missing, not valid YAML, or not a mapping."""
    try:
        content = yaml_files.parse(files.read_start(path, MAX_BYTES + 1).decode(), max_characters=MAX_BYTES)
    except FileNotFoundError:
        raise CallError(f"{path}: no such config file.") from None
    except IsADirectoryError:
        raise CallError(f"{path}: is a folder, expected a YAML config file.") from None
    except OSError as error:
        raise CallError(f"{path}: cannot be read ({error.strerror or error}), expected a YAML config file.") from None
    except ValueError as error:
        raise CallError(f"{path}: not valid YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise CallError(f"{path}: expected a mapping of keys to values, found {type(content).__name__}.")
    return content


def override(content: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """`content` with each `key.path=value` applied. Values are YAML."""
    result = {**content}
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals or not path:
            raise CallError(f"--set {assignment}: expected key.path=value, such as --set mix.views=2.")
        *parents, last = path.split(".")
        place = result
        for parent in parents:
            inner = place.get(parent)
            if inner is not None and not isinstance(inner, Mapping):
                raise CallError(f"--set {assignment}: {parent!r} holds a value, not further keys.")
            place[parent] = place = {**(inner or {})}
        try:
            place[last] = yaml_files.parse(value)
        except ValueError as error:
            raise CallError(f"--set {assignment}: the value is not valid YAML: {error}") from None
    return result


def build(cls: type[Settings], content: Mapping[str, Any], *, where: str) -> Settings:
    """An instance of the (nested) dataclass `cls` from plain data, with types checked.

    Raises CallError that names the key, what was found and what was expected.
    """
    try:
        return TypeAdapter(cls).validate_python(dict(content))
    except ValidationError as error:
        lines = [_explain(cls, dict(problem)) for problem in error.errors()]
        first, *others = lines
        raise CallError(f"{where}: {first}", *(f"  {line}" for line in others)) from None


def _explain(cls: type, problem: dict[str, Any]) -> str:
    location = [str(part) for part in problem["loc"]]
    if problem["type"] == "unexpected_keyword_argument":
        key, known = ".".join(location), _keys(cls, location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}."
        return f"unknown key {key!r}; {hint}"
    # Pydantic also names the type that it tried.
    key = ".".join(
        part for at, part in enumerate(location) if not at or part.isdecimal() or part in _keys(cls, location[:at])
    )
    if problem["type"] == "missing":
        return f"{key!r} is missing; it has no default."
    return f"{key}: {problem['msg']}; found {reprlib.repr(problem['input'])}."


def _keys(cls: type, path: list[str]) -> list[str]:
    """Names of the fields at `path` below the dataclass."""
    for name in path:
        kinds = {field.name: (field.type, *get_args(field.type)) for field in dataclasses.fields(cls)}.get(name, ())
        inner = [kind for kind in kinds if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
        if not inner:
            return []
        cls = inner[0]
    return [field.name for field in dataclasses.fields(cls)]
