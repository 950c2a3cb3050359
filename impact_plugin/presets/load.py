"""Presets out of YAML files: one file a bank.

Knows files and lines. What a preset may say is `schema`'s business, which preset wins is `library`'s.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from impact_plugin.document import MAX_BYTES, Document, read_document
from impact_plugin.errors import Code, ImpactError
from impact_plugin.presets.schema import Preset, PresetError, parse_preset

ENDINGS = frozenset({".yaml", ".yml"})


def bank_files(folder: Path) -> list[Path]:
    """The banks of a folder, sorted by name; hidden files and what editors leave behind are none."""
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and path.name[0] not in ".~#"]
    except OSError:
        return []
    return sorted(path for path in found if path.is_file())


def load_bank(path: Path) -> dict[str, Preset]:
    """The presets of one file, by name.

    Raises:
        ImpactError: the first mistake: `bad_file` (unreadable, no YAML), or `bad_argument`/`unknown_key` with file,
            line and preset in its text and the key in `field`.
    """
    presets, faults = read_bank(path)
    if faults:
        raise faults[0]
    return presets


def read_bank(path: Path) -> tuple[dict[str, Preset], list[ImpactError]]:
    """The presets of one file that are right, and the first mistake of each that is not, in the order of the file."""
    try:
        document = _document(path)
    except ImpactError as error:
        return {}, [error]
    presets: dict[str, Preset] = {}
    faults: list[ImpactError] = []
    for name, body in document.data.items():
        try:
            preset = parse_preset(name, body)
        except PresetError as error:
            faults.append(_located(document, name, error))
        else:
            line = document.line((name,))
            presets[name] = dataclasses.replace(preset, bank=path.stem, file=str(path), line=line)
    return presets, faults


def _document(path: Path) -> Document:
    try:
        with path.open("rb") as handle:
            content = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise ImpactError("bad_file", f"cannot read {path}: {error.strerror or error}") from error
    if not any(line.strip() and not line.lstrip().startswith(b"#") for line in content.splitlines()):
        return Document(str(path), {}, {})
    return read_document(str(path), content)


def _located(document: Document, name: str, error: PresetError) -> ImpactError:
    code: Code = error.code
    where = f"{document.name} line {document.line((name, *error.path))}"
    return ImpactError(code, f"{where}: {name}: {error.text}", error.field)
