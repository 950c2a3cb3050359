"""What commands print: JSON rows and tables on stdout, progress and remarks on stderr.

Knows the two streams and when they are terminals. Does not know what is said.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress


def print_line(text: str) -> None:
    """A line on stdout, at once; what the terminal's encoding lacks becomes `?`."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    sys.stdout.flush()


def print_json(row: Mapping[str, Any]) -> None:
    """One JSON object on one line of stdout; NaN becomes null."""
    print_line(json.dumps(_finite(row), ensure_ascii=True, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def remark(text: str) -> None:
    """A line on stderr that is no error."""
    encoding = sys.stderr.encoding or "utf-8"
    sys.stderr.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    sys.stderr.flush()


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns on stdout, padded; the last column may be as long as it likes."""
    grid = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in grid) for column in range(len(headings) - 1)]
    for row in grid:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print_line("  ".join([*cells, row[-1]]).rstrip())


class Bar:
    """A progress bar on stderr; without a terminal there it is never seen."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=1.0, left="")

    def update(self, fraction: float, text: str, seconds_left: float | None = None) -> None:
        """fraction: 0...1; text: what is being done, markup is not interpreted."""
        from rich.markup import escape

        left = "" if seconds_left is None else f"{seconds_left:.0f} s left"
        self._progress.update(self._task, completed=fraction, description=escape(text[:50]), left=left)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Inside, lines may be printed without crossing the bar."""
        if self._progress.disable:
            yield
            return
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()


@contextmanager
def progress_bar() -> Iterator[Bar]:
    """A :class:`Bar` for the time of the block; it leaves nothing behind."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not console.is_terminal,
    )
    with progress:
        yield Bar(progress)
