"""Reads a YAML document strictly: plain values only, with the line of every key.

Knows YAML. Does not know what the document is about. Refused: tags that build objects, anchors and aliases (an alias
bomb is a kilobyte that grows to gigabytes), keys given twice or that are no words, deep nesting, big files, dates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import yaml

from impact_plugin.errors import ImpactError

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 24

Key = tuple[str | int, ...]

_PREFIX: Final = "tag:yaml.org,2002:"
_SCALARS: Final = frozenset(_PREFIX + name for name in ("null", "bool", "int", "float", "str"))


@dataclass(frozen=True, slots=True)
class Document:
    """A read document.

    Attributes:
        name: what to call it in messages, a path or file name.
        data: its top mapping; values are None, bool, int, finite float, str, lists and mappings of these.
        lines: the line (from 1) of every key and list item, by its path, such as ``("parts", "codec", "kind")``.
    """

    name: str
    data: dict[str, Any]
    lines: dict[Key, int]

    def line(self, key: Key) -> int:
        """The line of a key, or of the nearest key above it that is there."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)

    def error(self, key: Key, text: str) -> ImpactError:
        """A ``bad_file`` error that names file, line and key."""
        dotted = ".".join(str(part) for part in key)
        where = f"{self.name} line {self.line(key)}"
        return ImpactError("bad_file", f"{where}: {dotted + ': ' if dotted else ''}{text}", dotted or None)


def read_document(name: str, content: bytes) -> Document:
    """Parse the bytes of a document whose top is a mapping.

    Raises:
        ImpactError: ``bad_file`` naming the file, the line and what is wrong.
    """
    if len(content) > MAX_BYTES:
        raise ImpactError("bad_file", f"{name}: {len(content)} bytes are too many for a YAML file of ours")
    reader = _Reader(name)
    try:
        root = reader.compose(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ImpactError("bad_file", f"{name}: not UTF-8 text (byte {error.start})") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}" if mark else ""
        raise ImpactError("bad_file", f"{name}{line}: {error.problem or 'not YAML'}") from None
    except yaml.YAMLError as error:
        raise ImpactError("bad_file", f"{name}: {str(error) or 'not YAML'}") from None
    if not isinstance(root, yaml.MappingNode):
        raise ImpactError("bad_file", f"{name}: must be a mapping of keys to values")
    data = reader.value(root, ())
    return Document(name, data, reader.lines)


class _Loader(yaml.SafeLoader):
    """SafeLoader whose composer refuses aliases and deep nesting before they cost anything."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not allowed", problem_mark=event.start_mark)
        if self.depth >= MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=event.start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Reader:
    """Turns composed nodes into plain values and notes their lines."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Key, int] = {}

    def compose(self, text: str) -> yaml.Node | None:
        self._loader = _Loader(text)
        try:
            return self._loader.get_single_node()
        finally:
            self._loader.dispose()

    def value(self, node: yaml.Node, key: Key) -> Any:
        self.lines[key] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode) and node.tag == _PREFIX + "map":
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode) and node.tag == _PREFIX + "seq":
            return [self.value(item, (*key, index)) for index, item in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _SCALARS:
            raise self._error(node, f"a value of type {node.tag.removeprefix(_PREFIX)!r} is not allowed here")
        try:
            value = self._loader.construct_object(node)
        except (ValueError, yaml.YAMLError) as error:
            raise self._error(node, f"not a value: {str(error).splitlines()[0]}") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise self._error(node, "infinite and not-a-number values are not allowed")
        return value

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for name_node, value_node in node.value:
            if not isinstance(name_node, yaml.ScalarNode) or name_node.tag != _PREFIX + "str":
                raise self._error(name_node, "keys must be words (put others in quotes)")
            name = str(name_node.value)
            if name in data:
                raise self._error(name_node, f"key {name!r} is given twice")
            data[name] = self.value(value_node, (*key, name))
            self.lines[(*key, name)] = name_node.start_mark.line + 1
        return data

    def _error(self, node: yaml.Node, text: str) -> ImpactError:
        return ImpactError("bad_file", f"{self.name} line {node.start_mark.line + 1}: {text}")
