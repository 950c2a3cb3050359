"""The addresses of what there is: takes, presets, models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse

from impact_plugin.daemon.core import Core
from impact_plugin.daemon.listing import model_rows, preset_rows
from impact_plugin.daemon.web.answers import ErrorBody
from impact_plugin.errors import ImpactError
from impact_plugin.takes.record import TakeRecord

MAX_TAKES: Final = 1000
_TAKE: Final = re.compile(r"[0-9a-f]{4,16}")
_TYPES: Final = {".wav": "audio/wav", ".flac": "audio/flac"}

Text = Annotated[str, Query(max_length=500, description="words that must all occur, or their beginnings; none: all")]


def library_router(core: Core) -> APIRouter:
    """Takes, presets and models of a core."""
    router = APIRouter(prefix="/api", responses={"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}})

    @router.get("/takes", summary="Takes, the newest first")
    def takes(
        text: Text = "",
        rating: Annotated[int, Query(ge=0, le=5, description="at least")] = 0,
        model: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_TAKES)] = 200,
    ) -> list[dict[str, Any]]:
        found = core.takes.index.find(text, rating=rating, model=model, limit=limit)
        return [record.long_row() for record in found]

    @router.get("/takes/{id}", summary="A take: the contract's row, and the request that makes it again")
    def take(id: str) -> dict[str, Any]:
        record = _record(core, id)
        return {
            **record.long_row(),
            "request": record.request,
            "changes": [change.model_dump() for change in record.changes],
        }

    @router.get("/takes/{id}/audio", summary="Its sound file, in parts if wanted (Range)", response_class=FileResponse)
    def audio(id: str) -> FileResponse:
        path = Path(_record(core, id).path)
        if not path.is_file():
            raise ImpactError("bad_file", f"the file of this take is gone: {path}", "id")
        media = _TYPES.get(path.suffix.lower(), "application/octet-stream")
        return FileResponse(path, media_type=media, filename=path.name, content_disposition_type="inline")

    @router.get("/presets", summary="Presets")
    def presets(text: Text = "") -> list[dict[str, Any]]:
        return preset_rows(core.presets, text)

    @router.get("/models", summary="Model bundles that are installed")
    def models(text: Text = "") -> list[dict[str, Any]]:
        return model_rows(text)

    return router


def _record(core: Core, take: str) -> TakeRecord:
    """A take by its id, or the beginning of it that no other has."""
    records = core.takes.index.named(take) if _TAKE.fullmatch(take) else []
    if len({record.take for record in records}) > 1:
        raise ImpactError("bad_argument", f"several takes begin with {take}: give more of it", "id")
    if not records:
        raise ImpactError("unknown_id", f"there is no take {take[:60]!r}: /api/takes lists them", "id")
    return records[0]
