"""One or several: the number that English words name."""

from collections import Counter
from collections.abc import Sequence

from vlmixer.artifacts.samples import Mention
from vlmixer.bank.plurals import looks_plural, plural_of

GROUPS = frozenset({"couple", "crowd", "family", "flock", "group", "herd", "pair", "team"})
"""Words in the singular that name several."""


def is_plural(mention: Mention) -> bool:
    """Whether an English mention is plural, by its form alone: "dogs", "loaves of bread", "people".

    Words without a separate singular ("scissors") or plural ("sheep") count as singular.
    """
    lemma = mention.lemma.casefold().replace("-", " ").split()
    changed = [word for word in mention.surface.casefold().replace("-", " ").split() if word not in lemma]
    return any(map(looks_plural, changed))


def named_concepts(mentions: Sequence[Mention]) -> dict[str, bool]:
    """The concepts of a caption, and whether it names several of each.

    It does by a plural, by a word of GROUPS, or by two words for one concept: "a boy and a girl" are two persons.
    """
    words: dict[str, set[str]] = {}
    several: dict[str, bool] = {}
    for mention in mentions:
        lemma = mention.lemma.lower()
        words.setdefault(mention.concept, set()).add(lemma)
        many = is_plural(mention) or lemma in GROUPS or len(words[mention.concept]) > 1
        several[mention.concept] = several.get(mention.concept, False) or many
    return several


def tag_words(labels: Sequence[str]) -> tuple[str, ...]:
    """The concepts of an image's regions as a text names them: each once, in the plural if it has several regions."""
    counts = Counter(labels)
    return tuple(plural_of(name) if count > 1 and not looks_plural(name) else name for name, count in counts.items())
