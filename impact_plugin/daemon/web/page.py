"""The plain page at `/`: how the daemon is, what it does, what it made. No script, so nothing to go wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from impact_plugin.version import VERSION

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top}"
    "th{font-weight:600}progress{width:8rem}audio{height:2rem}"
)


def status_page(
    status: Mapping[str, Any], queue: Sequence[Mapping[str, Any]], takes: Sequence[Mapping[str, Any]]
) -> str:
    """The page as HTML, from rows as the core and `listing` give them."""
    facts = "".join(f"<tr><th>{escape(str(key))}<td>{escape(str(value))}" for key, value in status.items())
    jobs = "".join(
        f"<tr><td>{escape(str(row['id']))}<td>{escape(row['state'])}<td>{escape(row['prompt'])}"
        f"<td><progress max=1 value={float(row['fraction']):.3f}></progress>"
        for row in queue
    )
    sounds = "".join(
        f"<tr><td>{escape(row['prompt'])}<td>{row['seconds']:.2f} s<td>seed {row['seed']}"
        f"<td><audio controls preload=none src=/api/takes/{escape(row['take'])}/audio></audio>"
        for row in takes
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=5>"
        f"<title>impact-plugin</title><style>{_STYLE}</style><h1>impact-plugin {escape(VERSION)}</h1>"
        "<p><a href=/docs>The addresses of this daemon</a></p>"
        f"<h2>Queue</h2><table>{jobs or '<tr><td>nothing waits, nothing runs'}</table>"
        f"<h2>Takes</h2><table>{sounds or '<tr><td>none yet'}</table><h2>Status</h2><table>{facts}</table>"
    )
