"""The preset library as commands use it: a broken file is told on stderr, the others are used all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from impact_plugin.presets.library import Library


def open_library() -> Library:
    """The program's presets and the user's own."""
    from impact_plugin.cli.output import remark
    from impact_plugin.presets.library import Library

    library = Library()
    for fault in library.faults:
        remark(f"impact: {fault.text}")
    return library
