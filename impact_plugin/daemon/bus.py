"""Who listens, and telling them.

Knows subscribers and order: what one thread publishes after another reaches everybody in that order. Does not know
what an event means, but for `ready`, which latecomers get too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from impact_plugin.daemon.events import DaemonEvent

Callback = Callable[[DaemonEvent], None]

logger = logging.getLogger(__name__)


class Bus:
    """Subscribers. Callbacks run one at a time, in the thread that publishes; they must return at once."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._listeners: dict[object, tuple[Callback, str | None]] = {}
        self._ready: DaemonEvent | None = None

    def subscribe(self, callback: Callback, client: str | None = None) -> Callable[[], None]:
        """Listen to one client's events, or to everybody's; `ready` comes at once when it has been."""
        token = object()
        with self._lock:
            self._listeners[token] = (callback, client)
            if self._ready is not None:
                _call(callback, self._ready)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners.pop(token, None)

        return unsubscribe

    def publish(self, event: DaemonEvent) -> None:
        """Tell everybody whom it concerns. Never called with another lock held: listeners may call the core."""
        with self._lock:
            if event.name == "ready":
                self._ready = event
            for callback, client in list(self._listeners.values()):
                if client is None or not event.client or client == event.client:
                    _call(callback, event)

    @property
    def ready(self) -> DaemonEvent | None:
        """The `ready` that was published, if it was."""
        return self._ready

    def __len__(self) -> int:
        return len(self._listeners)


def _call(callback: Callback, event: DaemonEvent) -> None:
    try:
        callback(event)
    except Exception:  # a listener's fault must harm neither the job nor the other listeners
        logger.exception("a listener failed on %s", event.name)
