"""The only way to YAML: configs, vocabularies and values of `--set`. The result is plain data of bounded size.

An alias stands for a copy of its anchor, so ten lines can stand for a billion values, or for a value inside itself.
The text is read in steps, and each step has a limit: its length, the depth of its events, the values with all aliases
copied. Only then is it made into data.
"""

from typing import Any, NamedTuple

import yaml

MAX_CHARACTERS = 1 << 22
MAX_DEPTH = 64
MAX_VALUES = 1_000_000
"""With aliases copied."""
MAX_DIGITS = 100
"""Of a number. "1:30:00" is one, too, to the base of 60: two million digits of that would take half an hour."""
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")

# What PyYAML raises for values that do not fit their tags ("2024-99-99" looks like a date), besides its own errors.
_DAMAGE = (ValueError, TypeError, AttributeError, IndexError, KeyError, OverflowError, RecursionError)


def parse(
    text: str,
    *,
    unique_keys: bool = False,
    max_characters: int = MAX_CHARACTERS,
    max_depth: int = MAX_DEPTH,
    max_values: int = MAX_VALUES,
) -> Any:
    """The text's only document as plain data; None if it is empty.

    unique_keys: refuse a key that occurs twice in a mapping, where the second would replace the first. Raises
    ValueError, with what is wrong and where.
    """
    if len(text) > max_characters:
        raise ValueError(f"{len(text):,} characters, expected at most {max_characters:,}")
    try:
        _check_events(text, max_depth, max_values)
        loader = _LOADER(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            _Measure(max_values, max_depth, unique_keys).size(root)
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except (yaml.YAMLError, _Refused) as error:
        raise ValueError(" ".join(str(error).split())) from None
    except _DAMAGE as error:
        raise ValueError(f"a value does not fit its tag: {error}") from None


class _Refused(Exception):
    """Why the text is refused."""


# libyaml's, where PyYAML was built with it, is ten times as fast.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _check_events(text: str, max_depth: int, max_values: int) -> None:
    """Raises _Refused for deeper nesting, which the loader would follow by recursion, and for more values."""
    depth = values = 0
    for event in yaml.parse(text, _LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        values += isinstance(event, yaml.NodeEvent)
        if depth > max_depth:
            raise _Refused(f"nested more than {max_depth} deep{_place(event)}")
        if values > max_values:
            raise _Refused(f"more than {max_values:,} values{_place(event)}")


class _Size(NamedTuple):
    values: int
    depth: int


class _Measure:
    """Measures what nodes stand for with all aliases copied, each node once."""

    def __init__(self, max_values: int, max_depth: int, unique_keys: bool) -> None:
        self._max_values, self._max_depth, self._unique_keys = max_values, max_depth, unique_keys
        self._known: dict[yaml.Node, _Size] = {}
        self._open: set[yaml.Node] = set()

    def size(self, node: yaml.Node) -> _Size:
        """Raises _Refused for too many values, too deep nesting, a loop, a number that is too long, and text that UTF-8
        cannot hold."""
        if node in self._open:
            raise _Refused(f"an alias inside its own anchor{_place(node)}")
        if node not in self._known:
            self._open.add(node)
            values, depth = 1, 0
            for part in self._parts(node):
                inner = self.size(part)
                values, depth = values + inner.values, max(depth, 1 + inner.depth)
                if values > self._max_values:
                    raise _Refused(f"more than {self._max_values:,} values, with the aliases copied{_place(part)}")
                if depth > self._max_depth:
                    raise _Refused(f"nested more than {self._max_depth} deep, with the aliases copied{_place(part)}")
            self._open.discard(node)
            self._known[node] = _Size(values, depth)
        return self._known[node]

    def _parts(self, node: yaml.Node) -> list[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        if not isinstance(node, yaml.MappingNode):
            node.value.encode()
            if node.tag in _NUMBERS and len(node.value) > MAX_DIGITS:
                raise _Refused(f"a number of {len(node.value):,} digits, expected at most {MAX_DIGITS}{_place(node)}")
            return []
        if self._unique_keys:
            keys: set[str] = set()
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                if key.value in keys:
                    raise _Refused(f"the key {key.value[:100]!r} occurs twice{_place(key)}")
                keys.add(key.value)
        return [part for pair in node.value for part in pair]


def _place(found: Any) -> str:
    mark = found.start_mark
    return f", in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
