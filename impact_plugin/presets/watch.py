"""Edited presets are picked up while the program runs.

Knows a thread, watchfiles, and that folders come and go. What a broken edit means is the library's business. Where the
system cannot watch (too many watches, a network drive) the folders are looked at every second.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType

from impact_plugin.presets.library import Change, Library

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
#: An editor may write a file in several steps: changes this close together are read once. Milliseconds.
SETTLE_MS = 200


class Watcher:
    """Reloads a library in a thread of its own when its files change.

    Args:
        library: to keep fresh.
        changed: called in the watcher's thread with what has changed; may be left out, the log tells too.
    """

    def __init__(self, library: Library, changed: Callable[[list[Change]], None] | None = None) -> None:
        self._library = library
        self._changed = changed
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch; a second call does nothing."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="impact-presets", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop watching, within about a tenth of a second; can be started again."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join(timeout=5.0)
            self._thread = None

    def __enter__(self) -> Watcher:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._look()
            try:
                self._watch()
            except (OSError, RuntimeError) as error:  # watchfiles has both for a system that cannot watch
                logger.info("presets cannot be watched (%s): they are looked at every second", error)
                while not self._stop.wait(LOOK_SECONDS):
                    self._look()

    def _watch(self) -> None:
        """Until told to stop, or the folders that exist are others than at the beginning."""
        from watchfiles import watch

        folders = self._existing()
        if not folders:
            self._stop.wait(LOOK_SECONDS)
            return
        events = watch(
            *folders,
            recursive=False,
            stop_event=self._stop,
            debounce=SETTLE_MS,
            step=50,
            rust_timeout=round(1000 * LOOK_SECONDS),
            yield_on_timeout=True,
            raise_interrupt=False,
        )
        for _ in events:
            self._look()
            if self._existing() != folders:
                return

    def _existing(self) -> list[str]:
        return [str(folder) for folder in self._library.folders if folder.is_dir()]

    def _look(self) -> None:
        changes = self._library.reload()
        for change in changes:
            logger.log(logging.WARNING if change.error is not None else logging.INFO, "presets: %s", change.text)
        if changes and self._changed is not None:
            try:
                self._changed(changes)
            except Exception:
                logger.exception("whoever listens to changed presets failed")
