"""Vocabularies: concepts, to which words of text and labels of detectors are mapped. Ids are line numbers."""

import json
import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any

from vlmixer.artifacts import files, yaml_files
from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.manifest import digest
from vlmixer.bank.plurals import possible_singulars

MAX_BYTES = 1 << 24
"""Of a vocabulary's file."""
MAX_CHARACTERS = 200
"""Of a word. Longer ones are in no sentence, and searches for similar words would take hours."""
MAX_WORDS = 1000
"""Of a concept."""
MAX_ALL_WORDS = 200_000
"""Of all concepts. WordNet's nouns have 150,000. Deriving the forms of this many takes half a minute per process."""

BUILT_IN = ("coco", "lvis", "vg1600", "openimages")

# Labels that detectors give to unused class numbers.
PLACEHOLDERS = ("__background__", "N/A", "")

# Words for places in a picture, measures, times, sports, colours, or anything at all. In captions they rarely mean
# something with a box around it, but vocabularies have them, vg1600 most of all.
HARDLY_VISUAL = tuple(
    (
        "air arctic area back background base baseline black blue border bottom breakfast brown bunch case center "
        "circle control copyright corner cover date day design detail dinner display distance edge end exterior "
        "file foreground front game gold gray group half home image information inside instruction interior item "
        "kind land landscape layer left line lot lunch match material median middle morning name night number "
        "object opening outline outside pack pair part pattern photo photograph picture piece pink place plain "
        "point pop portion product purple range rear record red register right row rubber scene section set shade "
        "shape she side silver size skiing sort space spread stop structure stuff support surface surfing tennis "
        "text thing time tip top trick type unit view wake way weather website white wild word yellow"
    ).split()
)

_QUALIFIER = re.compile(r"\([^()]*\)")
_BETWEEN_COMMAS = re.compile(r"((?:\([^()]*\)|[^,])*)(?:,|$)")


@dataclass(frozen=True)
class Concept:
    """One concept: its id (from 0), its name, and other words for it, all in lower case.

    A word may end in a qualifier that gives its sense: "bow (weapon)". The qualifier distinguishes concepts and labels;
    it is not searched for in text.
    """

    id: int
    name: str
    synonyms: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """What to look for in text: the name and the synonyms, without qualifiers and duplicates."""
        return tuple(dict.fromkeys(unqualified(word) for word in (self.name, *self.synonyms)))


@dataclass(frozen=True)
class Vocabulary:
    """An ordered set of concepts. `name` is for people; `hash` identifies the vocabulary."""

    name: str
    concepts: tuple[Concept, ...]

    @cached_property
    def hash(self) -> str:
        """SHA-256 over all names and synonyms in order."""
        return digest([(concept.name, *concept.synonyms) for concept in self.concepts])

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """Concept id by name."""
        return {concept.name: concept.id for concept in self.concepts}

    @property
    def names(self) -> list[str]:
        """Names in id order."""
        return [concept.name for concept in self.concepts]

    @cached_property
    def claims(self) -> Mapping[str, tuple[Concept, ...]]:
        """For each word of text, the concepts that list it. The first one gets it.

        A concept with this name comes first, then one with this synonym, then one with this name before a qualifier,
        then one with this synonym before a qualifier; among equals, the one with the lowest id. "bow" means
        bow (decorative ribbons), which has the synonym "bow", and not bow (weapon), which does not.
        """
        ranked: dict[str, list[tuple[int, Concept]]] = {}
        for concept in self.concepts:
            for place, word in enumerate((concept.name, *concept.synonyms)):
                bare = unqualified(word)
                rank = (0 if place == 0 else 1) + (0 if bare == word else 2)
                ranked.setdefault(bare, []).append((rank, concept))
        # By id: to hash a concept takes as long as it has words.
        return {
            word: tuple({concept.id: concept for _, concept in sorted(claims, key=lambda claim: claim[0])}.values())
            for word, claims in ranked.items()
        }

    @property
    def shared_words(self) -> dict[str, list[str]]:
        """The words that several concepts list, with the concepts' names. The first one gets the word in text."""
        return {
            word: [concept.name for concept in concepts] for word, concepts in self.claims.items() if len(concepts) > 1
        }

    @property
    def unreachable(self) -> list[str]:
        """The names of concepts that no text can mention, because other concepts get all of their words."""
        reached = {concepts[0].name for concepts in self.claims.values()}
        return [name for name in self.names if name not in reached]

    def map_labels(self, labels: Sequence[str]) -> list[int | None]:
        """The concept id of each detector label; None where the vocabulary has no such concept.

        Spacing ("pottedplant"), hyphens, underscores and case do not matter. A label matches a name, else a name
        without its qualifier ("orange" matches orange (fruit)), else a synonym, else the singular of one of these
        ("hot dogs"). In a label with alternatives ("stop sign,stopsign") the first match counts. A label's own
        qualifier ("car_(automobile)") is dropped if nothing matches with it, unless the vocabulary has the word in
        another sense: a label pitcher_(vessel_for_liquid) does not match the synonym pitcher (baseball).
        """
        words = [(concept, word) for concept in self.concepts for word in (concept.name, *concept.synonyms)]
        # Visual Genome has "head band" and "headband": spacing is ignored only where it does not distinguish names.
        exact = {concept.name: concept.id for concept in self.concepts}
        senses = {_compact(unqualified(word)) for _, word in words if unqualified(word) != word}
        known: dict[str, int] = {}
        for concept in self.concepts:
            known.setdefault(_compact(concept.name), concept.id)
        # If two names differ only in the qualifier, the one that gets the word in text wins.
        named = [(unqualified(concept.name), concept) for concept in self.concepts]
        for word, concept in sorted(named, key=lambda pair: self.claims[pair[0]][0] is not pair[1]):
            known.setdefault(_compact(word), concept.id)
        for concept, word in words:
            known.setdefault(_compact(word), concept.id)
        known.pop("", None)

        def concept_of(label: str) -> int | None:
            if label in PLACEHOLDERS:
                return None
            for part in _BETWEEN_COMMAS.findall(label):
                bare = _compact(unqualified(part))
                found = exact.get(_normal(part), known.get(_compact(part)))
                if found is None and bare not in senses:
                    found = known.get(bare)
                before, _, last = _normal(part).rpartition(" ")
                singulars = (_compact(before + noun) for noun in possible_singulars(last))
                singular = (known[word] for word in singulars if word in known)
                found = next(singular, None) if found is None else found
                if found is not None:
                    return found
            return None

        return [concept_of(label) for label in labels]


def unqualified(word: str) -> str:
    """The word without its parentheses: "bow (weapon)" gives "bow". The word itself if nothing else would be left."""
    return _normal(_QUALIFIER.sub(" ", word)) or word


def _normal(word: str) -> str:
    return " ".join(word.lower().replace("_", " ").split())


def _compact(word: str) -> str:
    return re.sub(r"[\W_]+", "", word.lower())


def load_vocabulary(spec: str) -> Vocabulary:
    """A built-in vocabulary by name, or a .txt, .yaml or .json file (a path or an fsspec URL).

    .txt: one concept per line, `name, synonym, …`. .yaml and .json: a list of names, a list of lists of words, or a
    mapping from name to a synonym or a list of synonyms. Raises CallError for anything else.
    """
    if spec in BUILT_IN:
        text = resources.files("vlmixer.bank").joinpath("vocabularies", f"{spec}.txt").read_text(encoding="utf-8")
        return parse_text(spec, text)
    suffix = spec.rsplit(".", 1)[-1].lower()
    if suffix not in ("txt", "yaml", "yml", "json"):
        raise CallError(
            f"vocabulary: {spec!r} is neither built in ({', '.join(BUILT_IN)}) nor a .txt, .yaml or .json file."
        )
    try:
        data = files.read_start(spec, MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise CallError(f"vocabulary: {spec} has more than {MAX_BYTES:,} bytes. Leave out words.")
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise CallError(f"vocabulary: no such file: {spec}") from None
    except UnicodeDecodeError as error:
        raise CallError(f"{spec}: expected UTF-8 text: {error}") from None
    except OSError as error:
        raise CallError(f"vocabulary: cannot read {spec}: {error.strerror or error}") from None
    if suffix == "txt":
        return parse_text(spec, text)
    try:
        if suffix == "json":
            return parse_data(spec, json.loads(text, object_pairs_hook=_without_repeats))
        return parse_data(spec, yaml_files.parse(text, unique_keys=True))
    except (ValueError, RecursionError) as error:
        raise CallError(f"{spec}: not readable as {suffix}: {error}") from None


def _without_repeats(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """The mapping. Raises ValueError for a duplicate key, which would silently replace the first concept."""
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        times = Counter(key for key, _ in pairs)
        raise ValueError(f"the key {next(key for key in times if times[key] > 1)!r} occurs twice.")
    return mapping


def parse_text(name: str, text: str) -> Vocabulary:
    """A vocabulary from lines of comma-separated words. Skips blank lines and lines that begin with #."""
    lines = (line.strip() for line in text.splitlines())
    return make_vocabulary(name, [[line] for line in lines if line and not line.startswith("#")])


def parse_data(name: str, data: object) -> Vocabulary:
    """A vocabulary from a list of words, a list of lists of words, or a mapping from name to synonyms."""
    if isinstance(data, Mapping):
        entries = [[key, *_as_list(synonyms or [])] for key, synonyms in data.items()]
    elif isinstance(data, list):
        entries = [_as_list(entry) for entry in data]
    else:
        raise CallError(f"{name}: expected a list of concepts or a mapping from name to synonyms.")
    for number, entry in enumerate(entries):
        if not all(isinstance(word, str) for word in entry):
            raise CallError(
                f"{name}: concept {number} is {reprlib.repr(entry)}; expected words, "
                "quoted where YAML would read something else."
            )
    return make_vocabulary(name, entries)


def _as_list(entry: Any) -> list[Any]:
    return entry if isinstance(entry, list) else [entry]


def make_vocabulary(name: str, entries: Iterable[Iterable[str]]) -> Vocabulary:
    """A vocabulary from lists of words, the name first. A comma outside parentheses also separates words.

    Case does not matter, underscores count as blanks, repeated blanks as one, and duplicate synonyms of a concept are
    dropped. Raises CallError if the vocabulary is empty, a name is empty or occurs twice, or a parenthesis is not
    closed, or a word, a concept or the vocabulary is too long.
    """
    concepts: list[Concept] = []
    seen: dict[str, int] = {}
    total = 0
    for place, entry in enumerate(entries):
        entry = list(entry)
        if sum(map(len, entry)) > MAX_CHARACTERS * MAX_WORDS:
            raise CallError(f"{name}: concept {place} has more than {MAX_CHARACTERS * MAX_WORDS:,} characters.")
        written = [_normal(word) for words in entry for word in _BETWEEN_COMMAS.findall(words)]
        words = list(dict.fromkeys(word for word in written if word))
        if not words:
            continue
        if not written[0]:
            raise CallError(f"{name}: the concept of {', '.join(words)} has no name: its first word is empty.")
        if len(words) > MAX_WORDS:
            raise CallError(f"{name}: the concept {words[0][:80]!r} has {len(words):,} words, at most {MAX_WORDS:,}.")
        for word in words:
            if len(word) > MAX_CHARACTERS:
                raise CallError(
                    f"{name}: the word {word[:40]!r}… has {len(word):,} characters, expected at most {MAX_CHARACTERS}."
                )
            if re.search(r"[()]", _QUALIFIER.sub("", word)):
                raise CallError(f"{name}: {word!r} has an unbalanced parenthesis.")
        if words[0] in seen:
            raise CallError(f"{name}: the concept {words[0]!r} occurs twice. The first one is number {seen[words[0]]}.")
        seen[words[0]] = len(concepts)
        total += len(words)
        if total > MAX_ALL_WORDS:
            raise CallError(f"{name}: the vocabulary has more than {MAX_ALL_WORDS:,} words. Leave out concepts.")
        concepts.append(Concept(len(concepts), words[0], tuple(words[1:])))
    if not concepts:
        raise CallError(f"{name}: the vocabulary holds no concept.")
    return Vocabulary(name, tuple(concepts))
