"""The daemon's inside as transports see it: submit, change, cancel, ask, listen, from any thread.

Knows jobs, clients, defaults, presets and who listens. Does not know sockets, OSC or HTTP, and does not touch the
model: one worker thread owns that.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from impact_plugin.audio.files import check_space, sound_bytes
from impact_plugin.daemon.bus import Bus, Callback
from impact_plugin.daemon.events import EVENTS, JobId
from impact_plugin.daemon.ids import ALL
from impact_plugin.daemon.journal import Journal
from impact_plugin.daemon.ledger import Entry, Ledger
from impact_plugin.daemon.ring import PreviewRing
from impact_plugin.daemon.running import PREVIEW_SHARE
from impact_plugin.daemon.saving import Saver
from impact_plugin.daemon.worker import Worker
from impact_plugin.engine.plan import check_request, draw_seed
from impact_plugin.errors import ImpactError
from impact_plugin.presets.schema import Preset, expand
from impact_plugin.request import Request, canonical
from impact_plugin.takes.store import TakeStore
from impact_plugin.version import VERSION

if TYPE_CHECKING:
    from impact_plugin.bundle.schema import BundleInfo
    from impact_plugin.engine.engine import Engine

#: Clients whose defaults are remembered, the latest ones; and bytes that must stay free beside the takes.
MAX_CLIENTS: Final = 256
SPARE_BYTES: Final = 1 << 20
#: Seconds in which a pass that is going on should come to its end.
_PASS_PATIENCE: Final = 5.0
_SUBTYPE: Final = "PCM_24"
#: Keys that rule each other out: a request's one hides a default for the other.
_EITHER: Final = (("seconds", "bars"), ("peak_db", "lufs"))


class Core:
    """One daemon.

    A *client* is a string that its transport makes up (`osc:127.0.0.1:57120`, `http`, `ws:...`). Job ids belong to
    their client: two clients may use the same one. 7, 7.0 and "7" are the same id; events carry it as it was submitted.

    Args:
        info: of the bundle; load: opens it, called once in the worker's thread.
        takes: where takes go; previews: folder of the preview ring; journal: the daemon's own.
        presets: as they are now, whatever happens to them later.
        share: of a job's time that its previews may take.
    """

    def __init__(
        self,
        info: BundleInfo,
        load: Callable[[], Engine],
        *,
        takes: TakeStore,
        previews: Path,
        journal: Journal,
        presets: Mapping[str, Preset] | None = None,
        share: float = PREVIEW_SHARE,
    ) -> None:
        self.info = info
        self.takes = takes
        self.presets: Mapping[str, Preset] = {} if presets is None else presets
        self._bus = Bus()
        self._journal = journal
        self._ledger = Ledger(journal, self._bus)
        self._saver = Saver(self._ledger, takes)
        self._ring = PreviewRing(previews)
        self._worker = Worker(load, self._ledger, self._bus, self._ring, self._saver, share=share)
        self._defaults: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._defaults_lock = threading.Lock()
        self._more_status: dict[str, Callable[[], int | float | str]] = {}
        self._began = time.monotonic()

    def start(self) -> None:
        """Open the model and begin to work; `ready` follows."""
        self._saver.start()
        self._worker.start()

    def stop(self, grace: float) -> bool:
        """Accept nothing more, let what runs come to its end, and stop.

        Jobs that wait, or that the grace was too short for, get `fail ... busy` and stay in the journal for the next
        start.

        Args:
            grace: seconds; 0 stops after the pass that is going on.

        Returns:
            Whether everything that ran came to its end.
        """
        self._ledger.close()
        done = self._worker.join(grace) and not self._worker.running
        if not done:
            self._worker.abort()
            self._worker.join(_PASS_PATIENCE)
        self._saver.close(max(grace, 5.0))
        for entry in self._ledger.live():
            self._ledger.fail(
                entry, ImpactError("busy", "the daemon stops: the job waits in its queue for the next start")
            )
        self._journal.close(clean=self._worker.error is None)
        self._ring.clear()
        return done

    def hurry(self) -> None:
        """Cut a :meth:`stop` short that another thread is in."""
        self._worker.abort()

    @property
    def error(self) -> ImpactError | None:
        """Why the model could not be opened, or died."""
        return self._worker.error

    def submit(
        self,
        client: str,
        job_id: JobId | float,
        request: Request | Mapping[str, Any],
        *,
        origin: str = "",
    ) -> JobId:
        """Take in a job. When this returns, it is on disk and `queued` has gone out.

        Args:
            job_id: the client's own; "" = the daemon makes one.
            request: loose keys as `Request.parse` takes them (preferred: a preset, by the key `preset`, and the
                client's defaults are filled in below them), or a finished request, taken as it is.
            origin: how it came, for the journal and the queue's listing ("osc", "http" ...).

        Returns:
            The id.

        Raises:
            ImpactError: what is wrong with the request; `duplicate_id`, `queue_full`, `disk_full`, `busy` (stopping).
        """
        parsed = request if isinstance(request, Request) else self._complete(client, request)
        check_request(parsed, self.info)
        if parsed.seed is None:
            parsed = parsed.model_copy(update={"seed": draw_seed()})
        entries = self._ledger.live()
        needed = self._bytes(parsed) + sum(self._bytes(entry.request) for entry in entries) + SPARE_BYTES
        check_space(self.takes.folder, needed)
        return self._ledger.accept(client, job_id, parsed, origin).id

    def set_prompt(self, client: str, job_id: JobId | float, prompt: str, weight: float = 1.0) -> None:
        """Change the words of a job; undecided tokens follow them from the next iteration on.

        Raises:
            ImpactError: `unknown_id` (also for a job that has ended), `bad_argument`.
        """
        self._ledger.change_prompt(client, job_id, prompt, weight)

    def cancel(self, client: str, job_id: JobId | float) -> int:
        """Stop that job of this client and no other; "all" stops every job of this client, and of no other.

        Returns:
            How many were told to stop. Each ends with `end ... cancelled`, unless it was done a moment earlier.

        Raises:
            ImpactError: `unknown_id` (never for "all").
        """
        return self._ledger.cancel(client, None if job_id == ALL else job_id)

    def queue(self) -> list[dict[str, Any]]:
        """The unfinished jobs of all clients in the order of acceptance, higher priority first.

        Rows: id, client, state (waiting, running, saving, paused, interrupted), position, prompt, priority, variants,
        seconds (None = not chosen yet), seed, iteration, iterations, fraction, origin, play.
        """
        entries = [entry for entry in self._ledger.live() if entry.state != "accepting"]
        entries.sort(key=lambda entry: (entry.state == "held", -entry.request.priority, entry.number))
        return [{**_row(entry), "position": position} for position, entry in enumerate(entries)]

    def job(self, client: str | None, job_id: JobId | float) -> dict[str, Any]:
        """One job, ended ones included for a while.

        The keys of :meth:`queue` but for the position, `results` and `previews` (the fields of those events, the latest
        preview of each variant) and `error` ({code, text} or None). Its state at the end is ok, cancelled or failed.

        Args:
            client: None = whosever it is, the newest of that id.

        Raises:
            ImpactError: `unknown_id`.
        """
        entry = self._ledger.find(client, job_id)
        results = [values for _, values in sorted(entry.results.items())]
        previews = [values for _, values in sorted(entry.previews.items())]
        return {
            **_row(entry),
            "results": [_named("result", values) for values in results],
            "previews": [_named("preview", values) for values in previews],
            "error": None if entry.error is None else {"code": entry.error[0], "text": entry.error[1]},
        }

    def owner(self, job_id: JobId | float) -> str:
        """The client of the newest job with that id.

        Raises:
            ImpactError: `unknown_id`.
        """
        return self._ledger.find(None, job_id).client

    def status(self) -> dict[str, int | float | str]:
        """How the daemon is: flat, plain values.

        Keys: state (loading, ready, paused, stopping, broken), version, model, device, rate, waiting, running,
        paused (jobs restored at the start that wait for :meth:`resume`), interrupted (those of them that were running),
        unsaved (takes in memory for which there was no room), jobs_done, uptime_s, pass_tokens, takes (folder),
        free_mb, pid, and what :meth:`add_status` added.
        """
        live = self._ledger.live()
        ready = self._bus.ready
        held = [entry for entry in live if entry.state == "held"]
        state = "ready" if ready is not None else "loading"
        if held and ready is not None:
            state = "paused"
        if self._ledger.closed:
            state = "stopping"
        if self._worker.error is not None:
            state = "broken"
        row: dict[str, int | float | str] = {
            "state": state,
            "version": VERSION,
            "model": self.info.name,
            "device": str(ready.values[2]) if ready is not None else "",
            "rate": int(self.info.rate),
            "waiting": sum(entry.state in {"accepting", "waiting"} for entry in live),
            "running": sum(entry.state in {"running", "saving"} for entry in live),
            "paused": len(held),
            "interrupted": sum(entry.interrupted for entry in held),
            "unsaved": self._saver.unsaved,
            "jobs_done": self._ledger.ended,
            "uptime_s": round(time.monotonic() - self._began, 1),
            "pass_tokens": self._worker.pass_tokens,
            "takes": str(self.takes.folder),
            "free_mb": _free_mb(self.takes.folder),
            "pid": os.getpid(),
        }
        row.update({key: value() for key, value in list(self._more_status.items())})
        return row

    def add_status(self, key: str, value: Callable[[], int | float | str]) -> None:
        """Let a transport add a row to :meth:`status`, such as its counter of dropped messages."""
        self._more_status[key] = value

    def set_default(self, client: str, key: str, value: object) -> None:
        """A default for this client's requests; "" or "default" takes it away again. Presets and requests win over it.

        Raises:
            ImpactError: `unknown_key`, `bad_argument`.
        """
        values, written = canonical({key: value})
        name = next(iter(written))
        if name in {"prompt", "seed"}:
            raise ImpactError("bad_argument", f"{key} cannot be a default: give it with each request", key)
        if values:
            Request.parse({"prompt": "x", key: value})
        with self._defaults_lock:
            own = self._defaults.setdefault(client, {})
            self._defaults.move_to_end(client)
            own.pop(name, None)
            own.update(values)
            if not own:
                del self._defaults[client]
            while len(self._defaults) > MAX_CLIENTS:
                self._defaults.popitem(last=False)

    def get_default(self, client: str, key: str) -> Any:
        """This client's default, else the program's; None = chosen anew each time.

        Raises:
            ImpactError: `unknown_key`.
        """
        _, written = canonical({key: None})
        name = next(iter(written))
        with self._defaults_lock:
            own = self._defaults.get(client, {})
            return own.get(name, Request.model_fields[name].default)

    def resume(self) -> int:
        """Let the jobs that were restored run, and try again to write takes that found no room.

        Returns:
            How many jobs were waiting for this.
        """
        self._saver.retry()
        return self._ledger.resume()

    def subscribe(self, callback: Callback, *, client: str | None = None) -> Callable[[], None]:
        """Listen.

        Args:
            callback: called from the daemon's own threads, the events of a job in order; it must return at once (put
                the event into a queue of your own) and may call back into the core. An error in it is logged, no more.
            client: only this client's events (and those that are nobody's); None = everybody's.

        Returns:
            A function that ends the subscription.

        If the model is warm already, the callback gets `ready` before this returns.
        """
        return self._bus.subscribe(callback, client)

    def _complete(self, client: str, given: Mapping[str, Any]) -> Request:
        """A client's keys over its preset's over its defaults."""
        _, written = canonical(given, slots=True)
        with self._defaults_lock:
            defaults = {key: value for key, value in self._defaults.get(client, {}).items() if key not in written}
        own = dict(given)
        if "preset" in defaults:
            own["preset"] = defaults.pop("preset")
        filled = expand(own, self.presets)
        _, chosen = canonical(filled)
        hidden = set(chosen).union(*(pair for pair in _EITHER if set(pair) & set(chosen)))
        return Request.parse({**{key: value for key, value in defaults.items() if key not in hidden}, **filled})

    def _bytes(self, request: Request) -> int:
        """Room that a request's takes need at most."""
        seconds = request.seconds or float(self.info.seconds_limit)
        return request.variants * sound_bytes(seconds, request.rate or int(self.info.rate), _SUBTYPE)


def _row(entry: Entry) -> dict[str, Any]:
    """A job as the queue lists it."""
    plan = entry.plan
    progress = entry.progress or (0, 0, 0.0, 0.0)
    state = {"held": "interrupted" if entry.interrupted else "paused", "accepting": "waiting"}.get(
        entry.state, entry.state
    )
    return {
        "id": entry.id,
        "client": entry.client,
        "state": state,
        "prompt": entry.request.prompt or "",
        "priority": entry.request.priority,
        "variants": entry.request.variants,
        "seconds": plan.seconds if plan is not None else entry.request.seconds,
        "seed": entry.request.seed,
        "iteration": progress[0],
        "iterations": progress[1],
        "fraction": progress[2],
        "origin": entry.origin,
        "play": entry.request.play,
    }


def _named(name: str, values: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip((field.name for field in EVENTS[name].fields), values, strict=False))


def _free_mb(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free >> 20
    except OSError:
        return 0
