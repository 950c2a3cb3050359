"""Whose job is meant, over HTTP: client names, and finding the owner of an id.

A client of HTTP or WebSocket calls itself what it likes (`client`, "" by default) and is `http` or `http:NAME` in the
queue. To look at, change or cancel a job of anybody else, the client is given as the queue shows it.
"""

from __future__ import annotations

from typing import Any, Final

from impact_plugin.daemon.core import Core
from impact_plugin.daemon.ids import ALL, id_key
from impact_plugin.errors import ImpactError

HTTP: Final = "http"
MAX_NAME: Final = 100


def client_of(name: object) -> str:
    """The client of a name that somebody gave himself.

    Raises:
        ImpactError: `bad_argument`.
    """
    if name is None or name == "":
        return HTTP
    if not isinstance(name, str) or len(name) > MAX_NAME or not name.isprintable():
        raise ImpactError("bad_argument", f"client is a name of at most {MAX_NAME} printable characters", "client")
    return name if name == HTTP or name.startswith(f"{HTTP}:") else f"{HTTP}:{name}"


def owner_of(core: Core, job_id: Any, name: str | None) -> str:
    """The client whose job is meant.

    Args:
        name: as the queue shows it, or as :func:`client_of` takes it; None: `http` if it has such a job, else whoever
            has it alone.

    Raises:
        ImpactError: `bad_argument` when several clients have a job of that id, and none was named.
    """
    if name:
        known = {str(row["client"]) for row in core.queue()}
        return name if name in known else client_of(name)
    if job_id == ALL:
        return HTTP
    key = id_key(job_id)
    owners = {str(row["client"]) for row in core.queue() if id_key(row["id"]) == key}
    if HTTP in owners or not owners:
        return HTTP
    if len(owners) > 1:
        text = f"{len(owners)} clients have a job {job_id}: name one, client={min(owners)}"
        raise ImpactError("bad_argument", text, "client")
    return owners.pop()
