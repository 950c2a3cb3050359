"""The bounded queue between the sockets and the core.

Each client has its own short queue, in order; clients take turns. So one that floods fills its own share, and the
others' messages still get through. Knows nothing of what is queued.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Final, Generic, TypeVar

CAPACITY: Final = 1024
SHARE: Final = 256

Item = TypeVar("Item")


class Intake(Generic[Item]):
    """A queue of bounded size with a bounded share for each client. Every method may be called from any thread.

    Args:
        capacity: items of all clients; share: items of one.
    """

    def __init__(self, capacity: int = CAPACITY, share: int = SHARE) -> None:
        self._capacity = capacity
        self._share = share
        self._queues: OrderedDict[str, deque[Item]] = OrderedDict()
        self._size = 0
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return self._size

    def put(self, client: str, items: list[Item]) -> bool:
        """Queue items of a client, all or none; False = there is no room (or it is closed)."""
        with self._changed:
            queue = self._queues.get(client)
            mine = len(queue) if queue else 0
            # A first batch is taken whatever the share, so that a large bundle can get in at all.
            full = self._size + len(items) > self._capacity or (mine and mine + len(items) > self._share)
            if self._closed or full:
                return False
            if queue is None:
                queue = self._queues[client] = deque()
            queue.extend(items)
            self._size += len(items)
            self._changed.notify()
            return True

    def get(self) -> Item | None:
        """The next item, clients in turn; waits for one. None once it is closed and empty."""
        with self._changed:
            while not self._queues:
                if self._closed:
                    return None
                self._changed.wait()
            client, queue = self._queues.popitem(last=False)
            item = queue.popleft()
            if queue:
                self._queues[client] = queue
            self._size -= 1
            return item

    def close(self) -> None:
        """Take nothing more; what is queued can still be got."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
