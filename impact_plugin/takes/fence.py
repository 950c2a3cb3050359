"""The fence around paths that came over the network: they lead into a few folders, or nowhere.

Knows links, `..` and drives. Does not know what lies at a path.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from impact_plugin.errors import ImpactError


def fence(path: str | Path, roots: Sequence[Path], field: str = "path") -> Path:
    """A path, if it lies inside one of the folders that may be touched.

    Args:
        path: absolute, or relative to the first of the folders; it need not exist.
        roots: the folders, links in them resolved; none: nothing may be touched.

    Returns:
        The path with every link resolved. Use this one, not the one given.

    Raises:
        ImpactError: `bad_argument` when it leads elsewhere (`..`, a link, another drive) or is no path.
    """
    text = os.fspath(path)
    try:
        if not text or "\0" in text or (os.name == "nt" and ":" in os.path.splitdrive(text)[1]):
            raise ValueError("no path")
        text.encode("utf-8")
        places = [Path(root).resolve() for root in roots]
        found = (places[0] / text if places else Path(text)).resolve()
    except (OSError, ValueError, RuntimeError):  # loops of links, names too long, lone surrogates
        raise ImpactError("bad_argument", f"the {field} cannot be used: it is no path", field) from None
    if not any(found != place and found.is_relative_to(place) for place in places):
        shown = " or ".join(str(root) for root in roots) or "no folder at all"
        raise ImpactError("bad_argument", f"the {field} must lie inside {shown}", field)
    return found
