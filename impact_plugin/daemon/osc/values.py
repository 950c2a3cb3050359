"""Single values as they come: job ids, and how an error quotes what is wrong."""

from __future__ import annotations

import math

from impact_plugin.daemon.events import JobId
from impact_plugin.daemon.ids import ALL, check_id
from impact_plugin.errors import ImpactError


def read_id(value: object) -> JobId:
    """A job's id: text, or a whole number (hosts turn 7 into 7.0); "" stays "", the core makes one of it.

    Raises:
        ImpactError: `bad_argument`.
    """
    if value in (None, "", ALL):
        return ALL if value == ALL else ""
    if isinstance(value, str) and value.startswith("/"):
        raise ImpactError("bad_argument", "an id does not start with /, as addresses do", "id")
    if isinstance(value, float) and not math.isfinite(value):
        raise ImpactError("bad_argument", "an id is text or a number", "id")
    return check_id(value)


def shown(value: object) -> str:
    """A value as an error quotes it: short, on one line, printable."""
    if isinstance(value, str):
        short = value if len(value) <= 40 else value[:37] + "..."
        return repr("".join(char if char.isprintable() else "?" for char in short))
    if value is None or isinstance(value, bool):
        return {None: "nil", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, int | float) else f"a {type(value).__name__}"
