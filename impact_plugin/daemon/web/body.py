"""A request's body as a JSON object: read within a size and a time, or refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from fastapi import Request

from impact_plugin.errors import ImpactError
from impact_plugin.request import Request as Words
from impact_plugin.request import unknown_key

MAX_BYTES: Final = 65_536
#: Seconds that a client has to send its body.
PATIENCE: Final = 10.0


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object in a body; none at all is an empty one.

    Raises:
        ImpactError: `too_large`, `bad_argument`.
    """
    try:
        data = await asyncio.wait_for(_read(request), PATIENCE)
    except TimeoutError:
        raise ImpactError("bad_argument", f"the body did not come within {PATIENCE:g} seconds") from None
    return parse_object(data)


def parse_object(data: bytes | str) -> dict[str, Any]:
    """The JSON object in some bytes.

    Raises:
        ImpactError: `too_large`, `bad_argument`.
    """
    if len(data) > MAX_BYTES:
        raise _too_large()
    if not data:
        return {}
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise ImpactError("bad_argument", "JSON was expected") from None
    if not isinstance(value, dict):
        raise ImpactError("bad_argument", 'a JSON object was expected: {"prompt": "...", ...}')
    return value


def take_words(body: dict[str, Any]) -> tuple[str, float]:
    """The `prompt` and `weight` of a body, taken out of it; how large a weight may be is the job's business.

    Raises:
        ImpactError: `bad_argument`.
    """
    words, weight = body.pop("prompt", None), body.pop("weight", 1.0)
    prompt = Words.parse({"prompt": "" if words is None else words}).prompt or ""
    try:
        if isinstance(weight, bool) or not isinstance(weight, str | int | float):
            raise ValueError("no number")
        return prompt, float(weight)
    except (ValueError, OverflowError):
        raise ImpactError("bad_argument", "weight must be a number from 0 to 1", "weight") from None


def only(body: dict[str, Any], *keys: str) -> None:
    """Refuse other keys.

    Raises:
        ImpactError: `unknown_key`.
    """
    for key in body:
        if key not in keys:
            raise unknown_key(key, keys)


async def _read(request: Request) -> bytes:
    if int(request.headers.get("content-length") or 0) > MAX_BYTES:
        raise _too_large()
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BYTES:
            raise _too_large()
    return bytes(data)


def _too_large() -> ImpactError:
    return ImpactError("too_large", f"more than {MAX_BYTES} bytes are not taken")
