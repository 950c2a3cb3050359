"""Where takes go: `-o FILE`, `-o DIR/`, or the current folder.

Knows file names and formats. Does not know what is written.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from impact_plugin.audio.files import FORMATS, Format, Subtype, check_folder, check_format, disk_error
from impact_plugin.engine.record import stem_of
from impact_plugin.errors import ImpactError

if TYPE_CHECKING:
    from impact_plugin.cli.rows import Row
    from impact_plugin.engine.plan import Plan


@dataclass(frozen=True)
class Target:
    """Where and as what takes are written.

    Attributes:
        folder: it can be written, as far as can be told, but need not exist yet.
        stem: the file name the user gave, without its ending; "" = names are made.
        named_rows: whether rows of a file are named after their id.
    """

    folder: Path
    stem: str
    format: Format
    subtype: Subtype
    named_rows: bool

    def take(self, row: Row, plan: Plan, variant: int) -> str:
        """A take's file name without its ending."""
        if self.stem:
            return self.stem if plan.variants == 1 else f"{self.stem}_{variant}"
        if self.named_rows and row.name:
            return f"{row.name}_{variant}"
        return stem_of(plan, variant)

    def preview(self, row: Row, plan: Plan, variant: int, iteration: int) -> str:
        """A preview's file name without its ending."""
        return f"{self.take(row, plan, variant)}_i{iteration:03d}"


def choose_target(output: str | None, format: str | None, subtype: str | None, *, rows_from_file: bool) -> Target:
    """The target that the options describe; nothing is made yet.

    Raises:
        ImpactError: `bad_argument` (a type that is not written, a folder that cannot be).
    """
    if output and "\0" in output:
        raise ImpactError("bad_argument", "the output path holds a null character", "output")
    path = Path(output).expanduser() if output else Path()
    try:
        is_folder = not output or path.is_dir() or output.endswith(("/", os.sep)) or not path.suffix
    except OSError as error:
        raise disk_error(error, path) from error
    if is_folder:
        chosen = format or "wav"
        folder, stem = path, ""
    else:
        ending = path.suffix.lower().removeprefix(".")
        if rows_from_file:
            raise ImpactError("bad_argument", f"--from makes many takes: give -o a folder, not {path}", "output")
        if ending not in FORMATS:
            raise ImpactError(
                "bad_argument", f"{path.name}: the file type must be one of {', '.join(FORMATS)}", "output"
            )
        if format and format != ending:
            raise ImpactError("bad_argument", f"--format {format} does not go with {path.name}", "format")
        chosen, folder, stem = ending, path.parent, path.stem
    checked = check_format(chosen, subtype or "PCM_24")
    return Target(check_folder(folder), stem, *checked, named_rows=rows_from_file and bool(output))
