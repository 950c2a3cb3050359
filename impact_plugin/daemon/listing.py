"""Lists that transports give: presets, takes, models, in rows that hold all words of a text.

Knows which columns a row has. Does not know transports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from impact_plugin.presets.schema import Preset
from impact_plugin.takes.store import TakeStore


def preset_rows(presets: Mapping[str, Preset], text: str = "") -> list[dict[str, Any]]:
    """Presets by name: name, bank, tags, notes, and the keys of the request."""
    rows = []
    for name in sorted(presets):
        preset = presets[name]
        row = {"name": name, "full_name": preset.full_name, "tags": list(preset.tags), "notes": preset.notes}
        row.update(preset.to_data())
        if _holds(text, name, preset.full_name, str(row.get("prompt", "")), " ".join(preset.tags)):
            rows.append(row)
    return rows


def take_rows(takes: TakeStore, text: str = "") -> Iterator[dict[str, Any]]:
    """Takes, the newest first; `id` is the take's own, `job` its request's."""
    for record in takes.index.find(text):
        yield {**record.long_row(), "id": record.take, "job": record.id}


def model_rows(text: str = "") -> list[dict[str, Any]]:
    """Installed bundles: name, rate, seconds_limit, description; those that are broken with what is wrong."""
    from impact_plugin.bundle.registry import list_bundles

    rows = []
    for entry in list_bundles():
        info = entry.info
        row: dict[str, Any] = {"name": entry.name, "source": entry.source, "rate": None, "seconds_limit": None}
        row["description"] = entry.problem.text if entry.problem is not None else ""
        if info is not None:
            row.update(rate=info.rate, seconds_limit=info.seconds_limit, description=info.description)
        if _holds(text, entry.name, str(row["description"])):
            rows.append(row)
    return rows


def _holds(text: str, *places: str) -> bool:
    """Whether all words of a text occur."""
    heap = "\n".join(places).lower()
    return all(word in heap for word in text.lower().split())
