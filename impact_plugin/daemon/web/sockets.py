"""`/ws`: events out, commands in.

Out: each event as a JSON object, `event` and the fields of the OSC reply of that name; after a `preview` its sound as a
binary frame (see `frames`). In: JSON objects `{"do": COMMAND, ...}` with the keys of the HTTP address of that name;
answered by `{"event": "done", "command": COMMAND, ...}` or `{"event": "fail", "id": ..., "code", "text", "field"}`.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from starlette.websockets import WebSocket, WebSocketDisconnect

from impact_plugin.daemon.core import Core
from impact_plugin.daemon.events import DaemonEvent
from impact_plugin.daemon.web.answers import error_body
from impact_plugin.daemon.web.body import only, parse_object, take_words
from impact_plugin.daemon.web.clients import HTTP, client_of, owner_of
from impact_plugin.daemon.web.frames import pack_preview
from impact_plugin.daemon.web.hub import Hub, Listener
from impact_plugin.errors import ImpactError

MAX_SOCKETS: Final = 64
_TRY_AGAIN: Final = 1013
_COMMANDS: Final = ("generate", "preset", "prompt", "cancel", "queue", "status", "resume", "ping")


def add_socket(app: FastAPI, core: Core, hub: Hub) -> None:
    """Serve `/ws`. Query: `client=NAME` for one's own events only; `previews=0` for no binary frames."""

    @app.websocket("/ws")
    async def socket(websocket: WebSocket) -> None:
        if len(hub) >= MAX_SOCKETS:
            await websocket.close(_TRY_AGAIN, f"{MAX_SOCKETS} listeners are there already")
            return
        try:
            client = client_of(websocket.query_params.get("client"))
        except ImpactError as error:
            await websocket.close(1008, error.text[:120])
            return
        only_own = "client" in websocket.query_params
        sounds = websocket.query_params.get("previews", "1").lower() not in ("0", "no", "false", "off")
        await websocket.accept()
        listener = Listener(client if only_own else None)
        hub.add(listener)
        lock = asyncio.Lock()
        tasks = [
            asyncio.create_task(_out(websocket, listener, lock, sounds)),
            asyncio.create_task(_in(websocket, core, client, lock)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if listener.overrun:
                await websocket.close(_TRY_AGAIN, "too slow: events were lost, come back and ask for the queue")
        except (WebSocketDisconnect, RuntimeError, OSError):
            pass  # gone: its jobs go on
        finally:
            hub.remove(listener)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _out(websocket: WebSocket, listener: Listener, lock: asyncio.Lock, sounds: bool) -> None:
    while (event := await listener.get()) is not None:
        text, frame = json.dumps(event.as_json()), None
        if event.name == "preview" and sounds:
            frame = await asyncio.to_thread(_frame, event)
        async with lock:
            await websocket.send_text(text)
            if frame is not None:
                await websocket.send_bytes(frame)


def _frame(event: DaemonEvent) -> bytes | None:
    """A preview's frame; None when its file is gone already."""
    row = event.as_json()
    try:
        return pack_preview(row, Path(row["path"]).read_bytes())
    except OSError:
        return None


async def _in(websocket: WebSocket, core: Core, client: str, lock: asyncio.Lock) -> None:
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        subject: Any = "/ws"
        try:
            command = parse_object(message.get("text") or message.get("bytes") or "{}")
            given = command.get("id")
            subject = given if isinstance(given, str | int) and given != "" else "/ws"
            answer = await asyncio.to_thread(run_command, core, client, command)
        except ImpactError as error:
            answer = {"event": "fail", "id": subject, **error_body(error)}
        async with lock:
            await websocket.send_text(json.dumps(answer))


def run_command(core: Core, client: str, command: dict[str, Any]) -> dict[str, Any]:
    """Do what a message asks for.

    Raises:
        ImpactError: `unknown_address` for a command that does not exist, and what the core raises.
    """
    do = command.pop("do", None)
    answer: dict[str, Any] = {"event": "done", "command": do}
    if do in ("generate", "preset"):
        job_id = command.pop("id", None)
        if do == "preset" and "name" in command:
            command["preset"] = command.pop("name")
        return {**answer, "id": core.submit(client, "" if job_id is None else job_id, command, origin=HTTP)}
    if do == "prompt":
        words, weight = take_words(command)
        only(command, "id", "client")
        core.set_prompt(_owner(core, client, command), command.get("id", ""), words, weight)
        return {**answer, "id": command.get("id")}
    if do == "cancel":
        only(command, "id", "client")
        count = core.cancel(_owner(core, client, command), command.get("id", ""))
        return {**answer, "id": command.get("id"), "count": count}
    if do == "queue":
        return {**answer, "jobs": core.queue()}
    if do == "status":
        return {**answer, **core.status()}
    if do == "resume":
        return {**answer, "count": core.resume()}
    if do == "ping":
        return answer
    raise ImpactError("unknown_address", f"do is one of {', '.join(_COMMANDS)}", "do")


def _owner(core: Core, client: str, command: dict[str, Any]) -> str:
    """Whose job a command means: its sender's, unless it names somebody else."""
    named = command.get("client")
    return client if named is None else owner_of(core, command.get("id", ""), str(named))
