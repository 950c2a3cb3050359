"""Presets out of YAML files: one file a bank, the user's folder over the built-in one.

Knows files, lines and which preset wins. What a preset may say is `schema`'s business.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from impact_plugin.errors import ImpactError
from impact_plugin.paths import builtin_presets_folder, presets_folder
from impact_plugin.presets.schema import Preset, parse_preset


def load_presets(*folders: Path) -> dict[str, Preset]:
    """All presets by name; later folders win. Without folders: the built-in ones, then the user's own.

    Raises:
        ImpactError: names file, line and key of the first mistake.
    """
    presets: dict[str, Preset] = {}
    for folder in folders or (builtin_presets_folder(), presets_folder()):
        if folder.is_dir():
            for path in sorted(folder.glob("*.yaml")):
                presets.update(load_bank(path))
    return dict(sorted(presets.items()))


def load_bank(path: Path) -> dict[str, Preset]:
    """The presets of one file.

    Raises:
        ImpactError: `bad_file` (unreadable, no YAML), or `bad_argument`/`unknown_key` with file and line in its text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ImpactError("bad_file", f"cannot read {path}: {error}") from error
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        bodies = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise ImpactError("bad_file", f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}") from error
    except RecursionError:
        raise ImpactError("bad_file", f"{path}: nested too deeply") from None
    if bodies is None:
        return {}
    if not isinstance(tree, yaml.MappingNode) or not isinstance(bodies, dict):
        raise ImpactError("bad_file", f"{path} line 1: a bank is a mapping of preset names to presets")
    presets: dict[str, Preset] = {}
    for key_node, body_node in tree.value:
        name = str(key_node.value)
        if name in presets:
            raise ImpactError("bad_argument", f"{path} line {key_node.start_mark.line + 1}: {name} comes twice")
        try:
            preset = parse_preset(name, bodies[yaml_key(bodies, name)])
        except ImpactError as error:
            line = _line(body_node, error.field) or key_node.start_mark.line + 1
            raise ImpactError(error.code, f"{path} line {line}: {name}: {error.text}", error.field) from None
        presets[name] = Preset(name, preset.values, preset.slots, preset.tags, preset.notes, str(path))
    return presets


def yaml_key(bodies: dict[object, object], name: str) -> object:
    """The key under which YAML filed a name (an unquoted 808 became a number)."""
    return next(key for key in bodies if str(key) == name or key == yaml.safe_load(name))


def _line(body: yaml.Node, key: str | None) -> int | None:
    if isinstance(body, yaml.MappingNode):
        for key_node, _ in body.value:
            if key_node.value == key:
                return int(key_node.start_mark.line) + 1
    return None
