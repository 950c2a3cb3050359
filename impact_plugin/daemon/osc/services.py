"""What the daemon can do beside jobs, as OSC needs it: lists, audition, the end. Whoever starts the daemon fills it in.

Knows signatures only. What is left at None answers `unsupported`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
#: Rows that hold all words of a text ("" = all), with the keys that the table of addresses names.
Listing = Callable[[str], Iterable[Row]]


@dataclass
class Services:
    """One daemon's.

    Attributes:
        presets, takes, models: rows with at least the fields of the table; takes come newest first.
        play: (a job as `Core.job` tells it, variant or None); stop: (job or None, variant or None). Both raise
            ImpactError (`unknown_id`, `unsupported` without a device).
        quit: begins to stop the daemon and returns at once.
    """

    presets: Listing | None = None
    takes: Listing | None = None
    models: Listing | None = None
    play: Callable[[Row, int | None], None] | None = None
    stop: Callable[[Row | None, int | None], None] | None = None
    quit: Callable[[], None] | None = None
