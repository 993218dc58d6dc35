"""Vocabularies: the concepts that words and detector labels meet in. Ids are line numbers and never change."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any

import yaml

from artifacts import files
from artifacts.errors import CallError
from artifacts.manifest import digest

BUILT_IN = ("coco",)


@dataclass(frozen=True)
class Concept:
    """One concept: its id (0 …), its name, and further words for it, all singular and in lower case."""

    id: int
    name: str
    synonyms: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The name and the synonyms."""
        return (self.name, *self.synonyms)


@dataclass(frozen=True)
class Vocabulary:
    """An ordered set of concepts. `name` is for people; `hash` tells vocabularies apart."""

    name: str
    concepts: tuple[Concept, ...]

    @cached_property
    def hash(self) -> str:
        """SHA-256 over all names and synonyms in order."""
        return digest([concept.words for concept in self.concepts])

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """Concept id by name."""
        return {concept.name: concept.id for concept in self.concepts}

    @property
    def names(self) -> list[str]:
        """Names in id order."""
        return [concept.name for concept in self.concepts]

    def map_labels(self, labels: Sequence[str]) -> list[int | None]:
        """The concept id for each detector label, None where the vocabulary has no such concept.

        A label matches a name or a synonym, whatever its spacing ("pottedplant"), hyphens, underscores or case;
        of a label with alternatives ("stop sign,stopsign") the first that matches counts.
        """
        known: dict[str, int] = {}
        for pick in (lambda concept: (concept.name,), lambda concept: concept.synonyms):
            for concept in self.concepts:
                for word in pick(concept):
                    known.setdefault(_compact(word), concept.id)
        return [
            next((known[_compact(part)] for part in label.split(",") if _compact(part) in known), None)
            for label in labels
        ]


def _compact(word: str) -> str:
    return re.sub(r"[\W_]+", "", word.lower())


def load_vocabulary(spec: str) -> Vocabulary:
    """A built-in vocabulary by name, or a .txt, .yaml or .json file.

    .txt: one concept a line, `name, synonym, …`; .yaml and .json: a list of names, of lists of words, or a mapping
    from name to a synonym or a list of them. Raises CallError for anything else.
    """
    if spec in BUILT_IN:
        text = resources.files("bank").joinpath("vocabularies", f"{spec}.txt").read_text(encoding="utf-8")
        return parse_text(spec, text)
    suffix = spec.rsplit(".", 1)[-1].lower()
    if suffix not in ("txt", "yaml", "yml", "json"):
        raise CallError(
            f"vocabulary: {spec!r} is neither built in ({', '.join(BUILT_IN)}) nor a .txt, .yaml or .json file."
        )
    try:
        text = files.read_bytes(spec).decode("utf-8-sig")
    except FileNotFoundError:
        raise CallError(f"vocabulary: no such file: {spec}") from None
    except UnicodeDecodeError as error:
        raise CallError(f"{spec}: expected UTF-8 text: {error}") from None
    if suffix == "txt":
        return parse_text(spec, text)
    try:
        return parse_data(spec, json.loads(text) if suffix == "json" else yaml.safe_load(text))
    except (ValueError, yaml.YAMLError) as error:
        raise CallError(f"{spec}: not readable as {suffix}: {error}") from None


def parse_text(name: str, text: str) -> Vocabulary:
    """A vocabulary from lines of comma-separated words; blank lines and lines that begin with # are passed over."""
    lines = (line.strip() for line in text.splitlines())
    return make_vocabulary(name, [line.split(",") for line in lines if line and not line.startswith("#")])


def parse_data(name: str, data: object) -> Vocabulary:
    """A vocabulary from a list (of words or of lists of words) or a mapping from name to synonyms."""
    if isinstance(data, Mapping):
        entries = [[key, *_as_list(synonyms or [])] for key, synonyms in data.items()]
    elif isinstance(data, list):
        entries = [_as_list(entry) for entry in data]
    else:
        raise CallError(f"{name}: expected a list of concepts or a mapping from name to synonyms.")
    for number, entry in enumerate(entries):
        if not all(isinstance(word, str) for word in entry):
            raise CallError(
                f"{name}: concept {number} is {entry!r}; expected words, quoted where YAML reads something else."
            )
    return make_vocabulary(name, entries)


def _as_list(entry: Any) -> list[Any]:
    return entry if isinstance(entry, list) else [entry]


def make_vocabulary(name: str, entries: Iterable[Iterable[str]]) -> Vocabulary:
    """A vocabulary from lists of words, the name first. Raises CallError if it is empty or a name occurs twice."""
    concepts: list[Concept] = []
    seen: dict[str, int] = {}
    for entry in entries:
        words = [" ".join(word.lower().split()) for word in entry]
        words = list(dict.fromkeys(word for word in words if word))
        if not words:
            continue
        if words[0] in seen:
            raise CallError(f"{name}: the concept {words[0]!r} stands twice, as number {seen[words[0]]} and again.")
        seen[words[0]] = len(concepts)
        concepts.append(Concept(len(concepts), words[0], tuple(words[1:])))
    if not concepts:
        raise CallError(f"{name}: the vocabulary holds no concept.")
    return Vocabulary(name, tuple(concepts))
