"""`impact generate --like TAKE`: the request inside a take, and the model that made it.

Knows takes and bundles. Does not make anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from impact_plugin.cli.rows import Row, like_row
from impact_plugin.errors import ImpactError
from impact_plugin.request import canonical
from impact_plugin.takes.record import TakeRecord
from impact_plugin.takes.store import TakeStore

if TYPE_CHECKING:
    from impact_plugin.bundle.schema import BundleInfo

#: Keys that decide what a change of words on the way meant; with others of these it means nothing.
_SCHEDULE = frozenset({"prompt", "iterations", "seconds", "order", "variants"})


def read_like(take: str, given: Mapping[str, Any]) -> tuple[Row, TakeRecord]:
    """The row that makes a take again, but for the keys that are given besides.

    Raises:
        ImpactError: `bad_file` (no take), `unknown_id`, `bad_argument`.
    """
    own, _ = canonical(given)
    if "preset" in own:
        raise ImpactError("bad_argument", "give --like or --preset, not both", "preset")
    store = TakeStore()
    try:
        record = store.read(take)
    finally:
        store.close()
    return like_row(record, given, changes=() if _SCHEDULE & own.keys() else record.changes), record


def find_model(record: TakeRecord) -> Path:
    """The bundle that made a take: the one of its name if it still sounds the same, else one that does.

    Raises:
        ImpactError: `model_missing` when there is none.
    """
    from impact_plugin.bundle.registry import list_bundles

    entries = [entry for entry in list_bundles() if entry.info is not None]
    alike = [entry for entry in entries if entry.info is not None and entry.info.fingerprint == record.fingerprint]
    named = [entry for entry in entries if entry.name == record.model]
    chosen = [entry for entry in named if entry in alike] or alike or ([] if record.fingerprint else named)
    if chosen:
        return chosen[0].path
    what = f"another version of {record.model} than the one here" if named else f"{record.model}, which is not here"
    raise ImpactError(
        "model_missing",
        f"the take was made with {what} (fingerprint {record.fingerprint or 'unknown'}): install that one, "
        "or give --model NAME to make it with another, which sounds different",
        "model",
    )


def warning(record: TakeRecord, info: BundleInfo) -> str:
    """What is to be said when a take is made again with this bundle; "" when it is the one that made it."""
    if record.fingerprint == info.fingerprint:
        return ""
    if not record.fingerprint:
        return f"the take does not say which version of {record.model} made it: the sound may differ"
    return (
        f"the take was made with {record.model} ({record.fingerprint}), this is {info.name} ({info.fingerprint}): "
        "the sound will differ"
    )
