"""How errors look over HTTP: one body `{code, text, field}`, one status for each code of the contract."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from impact_plugin.errors import Code, ImpactError

logger = logging.getLogger(__name__)

#: HTTP status by code.
STATUS: Final[Mapping[Code, int]] = MappingProxyType(
    {
        "bad_argument": 400,
        "unknown_key": 400,
        "unknown_address": 404,
        "unknown_preset": 404,
        "unknown_id": 404,
        "duplicate_id": 409,
        "queue_full": 503,
        "disk_full": 507,
        "out_of_memory": 507,
        "model_missing": 503,
        "bad_file": 400,
        "busy": 503,
        "too_large": 413,
        "unsupported": 501,
        "internal": 500,
    }
)


class ErrorBody(BaseModel):
    """What is wrong, and what to do next."""

    code: str = Field(description="one of the contract's codes")
    text: str = Field(description="one line for people")
    field: str | None = Field(None, description="the key that is meant, if there is one")


def error_response(error: ImpactError, status: int | None = None) -> JSONResponse:
    """An error as HTTP says it."""
    return JSONResponse(error_body(error), STATUS[error.code] if status is None else status)


def error_body(error: ImpactError) -> dict[str, str | None]:
    """An error as JSON, in characters that can be encoded."""
    text, field = (
        None if part is None else part.encode("utf-8", "replace").decode() for part in (error.text, error.field)
    )
    return {"code": error.code, "text": text, "field": field}


def install(app: FastAPI) -> None:
    """Let every error of an application leave in this form."""
    app.add_exception_handler(ImpactError, _impact)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(Exception, _unexpected)


async def _impact(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ImpactError):
        raise error
    return error_response(error)


async def _http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    text = f"{request.method} {request.url.path[:100]}: {error.detail}; /docs lists what there is"
    code: Code = "unknown_address" if error.status_code in (404, 405) else "bad_argument"
    response = error_response(ImpactError(code, text), error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _validation(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    name = str(first["loc"][-1])
    return error_response(ImpactError("bad_argument", f"{name}: {first['msg']}", name))


async def _unexpected(_: Request, error: Exception) -> JSONResponse:
    logger.error("a request failed", exc_info=error)
    return error_response(ImpactError("internal", f"{type(error).__name__}: see the daemon's log"))
