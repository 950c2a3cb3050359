"""Takes to the disk, in a thread of its own, so that a slow disk does not hold up the model.

Knows the order of a job's last words: every take is written, noted and told before the job's end. Takes that find no
room stay in memory and are tried again. Does not know how a take's file is made: see `takes`.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from impact_plugin.audio.files import make_folder
from impact_plugin.daemon.ledger import EndState, Entry, Ledger
from impact_plugin.engine.record import take_record
from impact_plugin.errors import ImpactError
from impact_plugin.takes.record import TakeRecord
from impact_plugin.takes.store import TakeStore

if TYPE_CHECKING:
    from impact_plugin.engine.events import Result
    from impact_plugin.engine.plan import Plan

logger = logging.getLogger(__name__)

#: Results that may wait to be written before the model waits for the disk.
MAX_WAITING: Final = 32
#: Memory for takes that found no room, bytes; and seconds between two tries.
MAX_UNSAVED: Final = 512 << 20
RETRY_SECONDS: Final = 5.0


@dataclass(frozen=True)
class _Take:
    entry: Entry
    plan: Plan
    result: Result
    record: TakeRecord


@dataclass(frozen=True)
class _Known:
    """A take that was finished before a crash."""

    entry: Entry
    plan: Plan
    variant: int
    path: Path


@dataclass(frozen=True)
class _End:
    entry: Entry
    state: EndState


class _Stop:
    """Nothing comes after this."""


class Saver:
    """Writes takes and ends jobs.

    Args:
        takes: where they go; its folder is made anew when it vanishes.
    """

    def __init__(self, ledger: Ledger, takes: TakeStore) -> None:
        self._takes = takes
        self._ledger = ledger
        self._items: queue.Queue[_Take | _Known | _End | _Stop] = queue.Queue(MAX_WAITING)
        self._unsaved: list[_Take] = []
        self._retry = threading.Event()
        self._thread = threading.Thread(target=self._run, name="impact-saver", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, entry: Entry, plan: Plan, result: Result, first_preview_s: float | None, elapsed_s: float) -> None:
        """Write a take; waits when too many are waiting already."""
        record = take_record(str(entry.id), plan, result, first_preview_s, elapsed_s)
        self._items.put(_Take(entry, plan, result, record))

    def put_known(self, entry: Entry, plan: Plan, variant: int, path: Path) -> None:
        """Tell of a take that is on disk already."""
        self._items.put(_Known(entry, plan, variant, path))

    def end(self, entry: Entry, state: EndState) -> None:
        """End a job after everything that was put for it."""
        self._items.put(_End(entry, state))

    @property
    def unsaved(self) -> int:
        """Takes in memory that found no room."""
        return len(self._unsaved)

    def retry(self) -> None:
        """Try the unsaved takes again now."""
        self._retry.set()

    def close(self, timeout: float) -> bool:
        """Write what is waiting, give the unsaved a last try, and stop; whether that was done in time."""
        if not self._thread.is_alive():
            return True
        try:
            self._items.put(_Stop(), timeout=max(timeout, 0.1))
        except queue.Full:
            return False
        self._thread.join(max(timeout, 0.1))
        return not self._thread.is_alive()

    def _run(self) -> None:
        tried = time.monotonic()
        try:
            _ = self._takes.index  # opened before it is needed
        except ImpactError as error:
            logger.warning("the index of takes: %s", error.text)
        stopping = False
        while not stopping:
            try:
                item = self._items.get(timeout=0.5 if self._unsaved else None)
            except queue.Empty:
                item = None
            if isinstance(item, _Stop):
                stopping = True
            elif item is not None:
                try:
                    self._handle(item)
                except Exception:  # one job's fault must not stop the writing of all others
                    logger.exception("job %s could not be written", item.entry.id)
                    fault = ImpactError("internal", "writing the take failed: see the daemon's log")
                    self._ledger.fail(item.entry, fault)
            if self._unsaved and (stopping or self._retry.is_set() or time.monotonic() - tried > RETRY_SECONDS):
                self._retry.clear()
                self._save_unsaved()
                tried = time.monotonic()
        for take in self._unsaved:
            logger.error("lost for want of room: %s, variant %d", take.record.prompt, take.record.variant)

    def _handle(self, item: _Take | _Known | _End) -> None:
        if isinstance(item, _End):
            state = "failed" if item.entry.error is not None and item.state == "ok" else item.state
            self._ledger.finish(item.entry, state)
        elif isinstance(item, _Known):
            plan, variant = item.plan, item.variant
            values = (variant, str(item.path), plan.frames / plan.rate, plan.rate, plan.seeds[variant])
            self._ledger.take_made(item.entry, variant, values)
        else:
            try:
                self._save(item)
            except ImpactError as error:
                self._keep(item, error)

    def _save(self, take: _Take) -> None:
        try:
            record = self._takes.save(take.result.audio, take.record)
        except ImpactError:
            if self._takes.folder.is_dir():
                raise
            make_folder(self._takes.folder)  # it was deleted or its disk is back
            record = self._takes.save(take.result.audio, take.record)
        values = (record.variant, record.path, record.seconds, record.rate, record.seed)
        self._ledger.take_made(take.entry, record.variant, values)

    def _keep(self, take: _Take, error: ImpactError) -> None:
        """Keep a take that could not be written, and tell its job."""
        held = sum(kept.result.audio.nbytes for kept in self._unsaved)
        if held + take.result.audio.nbytes <= MAX_UNSAVED:
            self._unsaved.append(take)
            text = f"{error.text}; the take is kept in memory and written once that works"
        else:
            text = f"{error.text}; memory for such takes is full, this one is lost: its seed makes it again"
        code = "bad_file" if error.code == "bad_argument" else error.code
        self._ledger.fail(take.entry, ImpactError(code, text))

    def _save_unsaved(self) -> None:
        while self._unsaved:
            try:
                self._save(self._unsaved[0])
            except ImpactError as error:
                logger.info("still not written: %s", error.text)
                return
            take = self._unsaved.pop(0)
            logger.info("written at last: %s, variant %d", take.record.prompt, take.record.variant)
