"""The addresses of jobs, queue and status."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from impact_plugin.daemon.core import Core
from impact_plugin.daemon.ids import MAX_LENGTH
from impact_plugin.daemon.web.answers import ErrorBody
from impact_plugin.daemon.web.body import only, read_object, take_words
from impact_plugin.daemon.web.clients import HTTP, client_of, owner_of
from impact_plugin.errors import ImpactError
from impact_plugin.request import Request

Body = Annotated[dict[str, Any], Depends(read_object)]
Id = Annotated[str, Path(max_length=MAX_LENGTH, description="as it was given at the start")]
Client = Annotated[str | None, Query(description="whose job, as the queue shows it; needed where several have that id")]

_ERRORS: Final[dict[int | str, dict[str, Any]]] = {"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}}


class JobRow(BaseModel):
    """A job in the queue."""

    model_config = ConfigDict(extra="allow")

    id: str | int
    client: str = Field(description="whose it is")
    state: str = Field(description="waiting, running, saving, paused, interrupted; ok, cancelled or failed at the end")
    prompt: str
    priority: int
    variants: int
    seconds: float | None = Field(description="length of each take; null = not chosen yet")
    seed: int | None
    iteration: int
    iterations: int
    fraction: float = Field(description="0...1 of it is done")
    origin: str = Field(description="how it came")


class JobState(JobRow):
    """A job with what has come of it."""

    results: list[dict[str, Any]]
    previews: list[dict[str, Any]]
    error: dict[str, Any] | None


class Count(BaseModel):
    """How many jobs were meant."""

    count: int


def job_schema() -> dict[str, Any]:
    """What POST /api/jobs takes: the keys of a request, an id and a client."""
    schema = Request.model_json_schema()
    schema["properties"] = {
        "id": {
            "anyOf": [{"type": "string"}, {"type": "integer"}],
            "description": "your own name for the job; without it the daemon makes one",
        },
        "client": {"type": "string", "description": "your own name; ids belong to their client"},
        **schema["properties"],
    }
    return schema


def jobs_router(core: Core) -> APIRouter:
    """Jobs, queue, defaults and status of a core."""
    router = APIRouter(prefix="/api", responses=_ERRORS)

    @router.post(
        "/jobs",
        status_code=201,
        response_model=JobState,
        summary="Queue a request",
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": job_schema()}}}},
    )
    def submit(body: Body) -> dict[str, Any]:
        """On disk when this answers. Numbers may come as text. A preset goes by the key `preset`, other keys win."""
        client, job_id = client_of(body.pop("client", None)), body.pop("id", None)
        given = core.submit(client, "" if job_id is None else job_id, body, origin=HTTP)
        return core.job(client, given)

    @router.get("/jobs/{id}", response_model=JobState, summary="A job, ended ones included for a while")
    def job(id: Id, client: Client = None) -> dict[str, Any]:
        return core.job(_lookup(core, id, client), id)

    @router.delete("/jobs/{id}", response_model=Count, summary="Stop that job and no other; `all`: those of a client")
    def cancel(id: Id, client: Client = None) -> dict[str, int]:
        return {"count": core.cancel(owner_of(core, id, client), id)}

    @router.post(
        "/jobs/{id}/prompt",
        response_model=JobState,
        summary="Change the words of a job while it decodes: what is not decided yet follows them",
        openapi_extra=_body(
            prompt={"type": "string"}, weight={"type": "number", "minimum": 0, "maximum": 1, "default": 1}
        ),
    )
    def prompt(id: Id, body: Body, client: Client = None) -> dict[str, Any]:
        words, weight = take_words(body)
        only(body)
        owner = owner_of(core, id, client)
        core.set_prompt(owner, id, words, weight)
        return core.job(owner, id)

    @router.get(
        "/jobs/{id}/previews/{variant}/audio", summary="The newest preview of a variant", response_class=FileResponse
    )
    def preview(id: Id, variant: int, client: Client = None) -> FileResponse:
        rows = core.job(_lookup(core, id, client), id)["previews"]
        path = next((FilePath(row["path"]) for row in rows if row["variant"] == variant), None)
        if path is None or not path.is_file():
            raise ImpactError("unknown_id", f"job {id[:60]} has no preview of variant {variant} now", "variant")
        return FileResponse(path, media_type="audio/wav")

    @router.get("/queue", response_model=list[JobRow], summary="The unfinished jobs of all clients")
    def queue() -> list[dict[str, Any]]:
        return core.queue()

    @router.post("/queue/resume", response_model=Count, summary="Let the jobs that were restored after a crash run")
    def resume() -> dict[str, int]:
        return {"count": core.resume()}

    @router.get("/defaults", summary="A client's defaults, null = chosen anew each time")
    def defaults(client: str = "") -> dict[str, Any]:
        name = client_of(client)
        return {key.name: core.get_default(name, key.name) for key in Request.fields_help() if key.group != "edit"}

    @router.patch("/defaults", summary='Change a client\'s defaults; "default" takes one away', openapi_extra=_body())
    def change_defaults(body: Body, client: str = "") -> dict[str, Any]:
        name = client_of(client)
        for key, value in body.items():
            core.set_default(name, key, value)
        return {key: core.get_default(name, key) for key in body}

    @router.get("/status", summary="How the daemon is")
    def status() -> dict[str, Any]:
        return core.status()

    return router


def quit_router(token: str, stop: Callable[[], None]) -> APIRouter:
    """Stopping the daemon."""
    router = APIRouter(prefix="/api", responses=_ERRORS)

    @router.post(
        "/quit", response_model=Count, summary="Stop the daemon", openapi_extra=_body(token={"type": "string"})
    )
    def leave(body: Body) -> dict[str, int]:
        given = str(body.get("token", ""))
        if not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
            raise ImpactError("bad_argument", "that is not the token of the daemon's runtime file", "token")
        stop()
        return {"count": 1}

    return router


def _body(**properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


def _lookup(core: Core, job_id: str, client: str | None) -> str | None:
    """Whose job to show: looking does no harm, so without a name the newest of that id will do."""
    return None if client is None else owner_of(core, job_id, client)
