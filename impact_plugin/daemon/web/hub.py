"""The daemon's events to any number of WebSockets, none of which can hold up another or the daemon.

Knows queues and what may be left out for a slow listener: progress first, then previews; results and ends never. Does
not know sockets.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from impact_plugin.daemon.core import Core
from impact_plugin.daemon.events import DaemonEvent

#: Events that may wait for a listener before some are left out, and before the listener is given up.
SLOW: Final = 256
HOPELESS: Final = 4096
_LEFT_OUT: Final = frozenset({"progress", "preview"})


class Listener:
    """One WebSocket's events. client: only its events; None = everybody's."""

    def __init__(self, client: str | None = None) -> None:
        self.client = client
        self.overrun = False
        self._events: deque[DaemonEvent] = deque()
        self._there = asyncio.Event()

    def put(self, event: DaemonEvent) -> None:
        """An event for the listener, in the loop's thread."""
        if self.client is not None and event.client and event.client != self.client:
            return
        if len(self._events) >= SLOW and event.name in _LEFT_OUT:
            return
        if len(self._events) >= HOPELESS:
            self.overrun = True
        else:
            self._events.append(event)
        self._there.set()

    async def get(self) -> DaemonEvent | None:
        """The next event; None when the listener was too slow for too long."""
        while not self._events or self.overrun:
            if self.overrun:
                return None
            self._there.clear()
            await self._there.wait()
        return self._events.popleft()


class Hub:
    """Spreads the core's events. Lives in one event loop."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._listeners: set[Listener] = set()
        self._ready: DaemonEvent | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._listeners)

    def add(self, listener: Listener) -> None:
        """Listen; `ready` comes first if it has been."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._core.subscribe(self._hear)
        self._listeners.add(listener)
        if self._ready is not None:
            listener.put(self._ready)

    def remove(self, listener: Listener) -> None:
        self._listeners.discard(listener)

    def _hear(self, event: DaemonEvent) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._spread, event)

    def _spread(self, event: DaemonEvent) -> None:
        if event.name == "ready":
            self._ready = event
        for listener in list(self._listeners):
            listener.put(event)
