"""What `impact generate` is asked to make: one prompt, or a file of them, every row checked before any is made.

Knows text files, CSV files and the request schema. Does not load models.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impact_plugin.cli.library import open_library
from impact_plugin.errors import ImpactError
from impact_plugin.presets.schema import Preset, expand
from impact_plugin.request import Request, canonical, unknown_key
from impact_plugin.takes.names import safe_stem
from impact_plugin.takes.record import Change, TakeRecord

MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Row:
    """A request to be made.

    Attributes:
        id: of its JSON rows; name: file name without variant and ending, "" = after the Universal Category System.
        where: file and line for error messages, "" on the command line.
        changes: prompts to put in on the way. parent: the take that it is made like.
    """

    id: str
    name: str
    request: Request
    where: str = ""
    changes: tuple[Change, ...] = ()
    parent: str | None = None


def like_row(record: TakeRecord, given: Mapping[str, Any], *, changes: tuple[Change, ...]) -> Row:
    """The row that makes a take again.

    Args:
        given: keys that are to be otherwise; changes: prompts to put in on the way.

    Raises:
        ImpactError: as `Request.parse`; names the take where it holds a request that this version does not know.
    """
    own, written = canonical(given)
    try:
        request = Request.parse({**record.request, **own})
    except ImpactError as error:
        if error.field in own:
            raise ImpactError(error.code, error.text, written[error.field or ""]) from None
        raise ImpactError(error.code, f"{record.path}: {error.text}", error.field) from None
    return Row(request.label or "1", "", request, "", changes, record.take or None)


def single_row(common: Mapping[str, Any]) -> Row:
    """The row of a prompt on the command line.

    Raises:
        ImpactError: as `Request.parse`.
    """
    request = _request(common, _presets(common))
    return Row(request.label or "1", "", request)


def read_rows(path: Path, common: Mapping[str, Any]) -> list[Row]:
    """The rows of a text file (one prompt a line) or a CSV file (columns named as the keys, `prompt` among them).

    Args:
        common: keys for every row; a row's own win.

    Raises:
        ImpactError: names file and line of the first row that is wrong; `bad_file` when the file cannot be read.
    """
    text = _read(path)
    found = _csv_rows(path, text) if path.suffix.lower() in {".csv", ".tsv"} else _text_rows(text)
    if not found:
        raise ImpactError("bad_file", f"{path} holds no prompts")
    shared, _ = canonical(common, slots=True)
    rows: list[Row] = []
    lines: dict[str, int] = {}
    presets: Mapping[str, Preset] | None = None
    for number, (line, values) in enumerate(found, start=1):
        where = f"{path} line {line}"
        try:
            row_id = str(values.pop("id", None) or number).strip()
            if row_id in lines:
                raise ImpactError("bad_argument", f"the id {row_id} was given in line {lines[row_id]} already", "id")
            lines[row_id] = line
            own, _ = canonical(values, slots=True)
            if "preset" in own or "preset" in shared:
                presets = presets if presets is not None else open_library()
            request = _request({**shared, **own}, presets or {})
        except ImpactError as error:
            raise ImpactError(error.code, f"{where}: {error.text}", error.field) from None
        rows.append(Row(row_id, safe_stem(row_id), request, where))
    return rows


def _request(values: Mapping[str, Any], presets: Mapping[str, Preset]) -> Request:
    return Request.parse(expand(values, presets))


def _presets(values: Mapping[str, Any]) -> Mapping[str, Preset]:
    return open_library() if values.get("preset") else {}


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ImpactError("too_large", f"{path} is larger than {MAX_BYTES >> 20} MB")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ImpactError("bad_file", f"cannot read {path}: {error.strerror or error}", "from") from error
    except UnicodeDecodeError as error:
        raise ImpactError("bad_file", f"{path} is not UTF-8 text (byte {error.start})", "from") from error


def _text_rows(text: str) -> list[tuple[int, dict[str, Any]]]:
    lines = text.splitlines()
    return [(number, {"prompt": line.strip()}) for number, line in enumerate(lines, start=1) if line.strip()]


def _csv_rows(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey="", strict=True)
    try:
        columns = [(name or "").strip() for name in reader.fieldnames or []]
        _check_columns(path, columns)
        reader.fieldnames = columns
        rows = []
        for fields in reader:
            if "" in fields:
                raise ImpactError("bad_file", f"{path} line {reader.line_num}: more cells than columns")
            values = {name: value for name, value in fields.items() if value is not None and value.strip()}
            if not values:
                continue
            rows.append((reader.line_num, {"prompt": "", **values} if "preset" not in values else dict(values)))
    except csv.Error as error:
        raise ImpactError("bad_file", f"{path} line {reader.reader.line_num}: not valid CSV: {error}") from error
    return rows


def _check_columns(path: Path, columns: list[str]) -> None:
    keys = ["id", *Request.model_fields]
    try:
        names, _ = canonical({column: None for column in columns if column != "id"}, slots=True)
        del names
    except ImpactError as error:
        if error.code == "unknown_key":
            error = unknown_key(error.field or "", keys, "column")
        raise ImpactError(error.code, f"{path} line 1: {error.text}", error.field) from None
    if len(set(columns)) != len(columns):
        raise ImpactError("bad_file", f"{path} line 1: a column comes twice")
    if not {"prompt", "text", "preset"} & set(columns):
        raise ImpactError("bad_file", f"{path} line 1: there is no column prompt")
