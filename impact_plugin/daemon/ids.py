"""Job ids: what clients may call their jobs, and when two names are the same.

Knows that hosts turn whole numbers into floats. Does not know jobs.
"""

from __future__ import annotations

import secrets
from typing import Final

from impact_plugin.daemon.events import JobId
from impact_plugin.errors import ImpactError

MAX_LENGTH: Final = 200
ALL: Final = "all"  # what `cancel` takes instead of an id
_LARGEST: Final = 2**31 - 1  # of an OSC integer


def check_id(given: object) -> JobId:
    """A client's id; "" gives a new one, 7.0 is 7.

    Raises:
        ImpactError: `bad_argument`.
    """
    if isinstance(given, str):
        if not given:
            return new_id()
        if len(given) > MAX_LENGTH:
            raise ImpactError("bad_argument", f"the id has {len(given)} characters, {MAX_LENGTH} at most", "id")
        if given == ALL:
            raise ImpactError(
                "bad_argument", "a job cannot be called all: that is what cancel takes for all jobs", "id"
            )
        if not given.isprintable():  # control characters and lone surrogates are not
            raise ImpactError("bad_argument", "the id holds characters that cannot be printed", "id")
        return given
    if isinstance(given, int | float) and not isinstance(given, bool) and abs(given) <= _LARGEST:
        return int(given) if given == int(given) else f"{given:g}"
    raise ImpactError("bad_argument", f"an id is text or a number from -{_LARGEST} to {_LARGEST}", "id")


def id_key(given: object) -> str:
    """What makes an id the same as another: 7, 7.0 and "7" are one.

    Raises:
        ImpactError: `bad_argument`.
    """
    return str(check_id(given)) if given != "" else ""


def new_id() -> str:
    """An id of the daemon's own making; its first letter keeps hosts from reading it as a number."""
    return f"j{secrets.token_hex(4)}"
