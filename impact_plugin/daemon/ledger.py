"""The jobs: who has which, in what state, and the one place where each begins and ends.

Knows acceptance, limits, ids, the journal and the bus; sees to it that every accepted job ends exactly once, and last.
Does not know how sounds are made or which job goes first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from impact_plugin.daemon.bus import Bus
from impact_plugin.daemon.events import DaemonEvent, JobId, Name, Value
from impact_plugin.daemon.ids import check_id, id_key
from impact_plugin.daemon.journal import Journal, Paper
from impact_plugin.engine.control import JobControl
from impact_plugin.errors import Code, ImpactError
from impact_plugin.request import Request

if TYPE_CHECKING:
    from impact_plugin.engine.job import Job
    from impact_plugin.engine.plan import Plan

logger = logging.getLogger(__name__)

#: accepting: not on disk yet; held: restored, waits for `resume`; saving: all takes are made, not all written.
State = Literal["accepting", "held", "waiting", "running", "saving", "ok", "cancelled", "failed"]
EndState = Literal["ok", "cancelled", "failed"]

MAX_JOBS: Final = 1024
MAX_JOBS_A_CLIENT: Final = 512
#: Jobs that have ended and can still be asked for.
REMEMBERED: Final = 1000
#: How often a job may have been running when the daemon died before it is not run again.
MAX_CRASHES: Final = 2


@dataclass(eq=False)
class Entry:
    """A job as the daemon knows it.

    Attributes:
        number: counts accepted jobs; client, id, request, origin: as submitted, `id_key` of the id in `key`.
        control: the engine's handle. state: see :data:`State`. crashes: see :class:`Paper`.
        interrupted: whether it was running when the daemon ended; known: takes finished before that, by variant.
        plan, job: once it runs. progress: values of the last `progress`.
        previews, results: values of the latest events, by variant. error: code and text, once something failed.
    """

    number: int
    client: str
    id: JobId
    key: str
    request: Request
    origin: str
    at: float
    control: JobControl = field(default_factory=JobControl)
    state: State = "accepting"
    crashes: int = 0
    interrupted: bool = False
    known: dict[int, str] = field(default_factory=dict)
    plan: Plan | None = None
    job: Job | None = None
    progress: tuple[Value, ...] = ()
    previews: dict[int, tuple[Value, ...]] = field(default_factory=dict)
    results: dict[int, tuple[Value, ...]] = field(default_factory=dict)
    error: tuple[Code, str] | None = None

    @property
    def over(self) -> bool:
        return self.state in {"ok", "cancelled", "failed"}

    def event(self, name: Name, *values: Value) -> DaemonEvent:
        return DaemonEvent(name, self.id, values, self.client)


class Ledger:
    """All jobs. Every method is thread-safe. `changed` is notified whenever there may be something to do."""

    def __init__(self, journal: Journal, bus: Bus) -> None:
        self.changed = threading.Condition()
        self._journal = journal
        self._bus = bus
        self._live: dict[int, Entry] = {}
        self._names: dict[tuple[str, str], Entry] = {}
        self._past: OrderedDict[int, Entry] = OrderedDict()
        self._next = journal.next_number
        self._closed = False
        self.ended = 0
        self._restore()

    def accept(self, client: str, job_id: object, request: Request, origin: str) -> Entry:
        """Take a job in: on disk, then told as `queued`, then waiting.

        Raises:
            ImpactError: `duplicate_id`, `queue_full`, `busy` (closing), `bad_argument` (the id), `disk_full`.
        """
        checked = check_id(job_id)
        with self.changed:
            entry = self._reserve(client, checked, request, origin)
            position = sum(other.state != "held" for other in self._live.values()) - 1
        paper = Paper(entry.number, client, checked, request.to_dict(), origin, entry.at)
        try:
            self._journal.accept(paper)
        except BaseException:
            with self.changed:
                self._forget(entry)
            raise
        self._bus.publish(entry.event("queued", position))
        with self.changed:
            entry.state = "waiting"
            self.changed.notify_all()
        return entry

    def begin(self, entry: Entry) -> bool:
        """A waiting job begins to run; False when it has been cancelled meanwhile."""
        with self.changed:
            if entry.state != "waiting" or self._closed:
                return False
            entry.state = "running"
        self._journal.start(entry.number)
        return True

    def all_made(self, entry: Entry) -> None:
        """Nothing of a job is left to be made; what is made is being written, then it ends."""
        with self.changed:
            if entry.state == "running":
                entry.state = "saving"

    def tell(self, entry: Entry, name: Name, *values: Value) -> None:
        """Publish an event of a job that has not ended."""
        self._bus.publish(entry.event(name, *values))

    def take_made(self, entry: Entry, variant: int, values: tuple[Value, ...]) -> None:
        """A take is complete on disk: noted, and told unless the job has ended already."""
        entry.results[variant] = values
        if not entry.over:
            self._journal.result(entry.number, variant, str(values[1]))
            self.tell(entry, "result", *values)

    def fail(self, entry: Entry, error: ImpactError) -> None:
        """Something of the job failed; told once. The end must still follow."""
        with self.changed:
            if entry.error is not None or entry.over:
                return
            entry.error = (error.code, error.text)
        self.tell(entry, "fail", error.code, error.text)

    def finish(self, entry: Entry, state: EndState) -> bool:
        """The job is over; False when it was already."""
        with self.changed:
            if entry.over or entry.number not in self._live:
                return False
            entry.state = state
            self._forget(entry)
            self._remember(entry)
            self.ended += 1
            self.changed.notify_all()
        self._journal.end(entry.number, state)
        self.tell(entry, "end", state)
        return True

    def change_prompt(self, client: str, job_id: object, prompt: str, weight: float) -> None:
        """See `Core.set_prompt`."""
        entry = self.find(client, job_id, live=True)
        if entry.state == "saving":
            raise ImpactError(
                "bad_argument", f"nothing of job {entry.id} is undecided any more: it keeps its words", "id"
            )
        entry.control.set_prompt(prompt, weight)
        if entry.state in {"waiting", "held"}:
            self._journal.prompt(entry.number, prompt, weight)

    def cancel(self, client: str, job_id: object | None) -> int:
        """Cancel one job, or with None all jobs of a client. Jobs that run end at their next iteration boundary."""
        if job_id is not None:
            entries = [self.find(client, job_id, live=True)]
        else:
            with self.changed:
                entries = [entry for entry in self._live.values() if entry.client == client]
        for entry in entries:
            entry.control.cancel()
            with self.changed:
                unstarted = entry.state in {"waiting", "held"}
                if unstarted:
                    entry.state = "saving"  # nobody else will touch it: it ends here
                self.changed.notify_all()
            if unstarted:
                self.finish(entry, "cancelled")
        return len(entries)

    def find(self, client: str | None, job_id: object, *, live: bool = False) -> Entry:
        """A job by its id: of this client, or with None the newest of that id.

        Args:
            live: only one that has not ended.

        Raises:
            ImpactError: `unknown_id`.
        """
        try:
            key = id_key(job_id)
        except ImpactError:
            key = ""
        with self.changed:
            own = self._names.get((client or "", key))
            if own is not None:
                return own
            known: list[Entry] = [*self._live.values(), *(() if live else self._past.values())]
            found = [entry for entry in known if entry.key == key and client in (None, entry.client)]
            if key and found:
                return max(found, key=lambda entry: entry.number)
            ended = any(entry.key == key and client in (None, entry.client) for entry in self._past.values())
        what = "has ended already" if ended and key else "is not known"
        raise ImpactError(
            "unknown_id", f"job {str(job_id)[:60]} {what}: impact send /impact/queue lists the jobs", "id"
        )

    def live(self) -> list[Entry]:
        """Jobs that have not ended, in the order of acceptance."""
        with self.changed:
            return list(self._live.values())

    def resume(self) -> int:
        """Let held jobs run."""
        with self.changed:
            held = [entry for entry in self._live.values() if entry.state == "held"]
            for entry in held:
                entry.state = "waiting"
            self.changed.notify_all()
        return len(held)

    def close(self) -> None:
        """No job is accepted or begun any more."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()

    @property
    def closed(self) -> bool:
        return self._closed

    def _reserve(self, client: str, job_id: JobId, request: Request, origin: str) -> Entry:
        key = str(job_id)
        if self._closed:
            raise ImpactError("busy", "the daemon is stopping: start it again with impact serve")
        if (client, key) in self._names:
            raise ImpactError("duplicate_id", f"job {key[:60]} is not over yet: give another id, or cancel it", "id")
        if len(self._live) >= MAX_JOBS:
            raise ImpactError("queue_full", f"the queue holds {MAX_JOBS} jobs: wait until some have ended")
        if sum(entry.client == client for entry in self._live.values()) >= MAX_JOBS_A_CLIENT:
            raise ImpactError("queue_full", f"{MAX_JOBS_A_CLIENT} jobs of yours wait: wait until some have ended")
        entry = Entry(self._next, client, job_id, key, request, origin, time.time())
        self._next += 1
        self._live[entry.number] = entry
        self._names[client, key] = entry
        return entry

    def _forget(self, entry: Entry) -> None:
        self._live.pop(entry.number, None)
        self._names.pop((entry.client, entry.key), None)
        entry.job = None

    def _remember(self, entry: Entry) -> None:
        self._past[entry.number] = entry
        while len(self._past) > REMEMBERED:
            self._past.popitem(last=False)

    def _restore(self) -> None:
        """Jobs out of the journal: held, but for those that are never to run again."""
        for paper in self._journal.restored:
            entry = _entry(paper)
            if entry.error is not None:
                logger.warning("job %s of %s: %s", entry.id, entry.client, entry.error[1])
                entry.state = "failed"
                self._remember(entry)
                self._journal.end(entry.number, "failed")
                continue
            entry.state = "held"
            self._live[entry.number] = entry
            self._names[entry.client, entry.key] = entry


def _entry(paper: Paper) -> Entry:
    """A restored job; with an error when it must not or cannot run again."""
    error: tuple[Code, str] | None = None
    try:
        values: dict[str, Any] = dict(paper.request)
        request = Request.parse(values)
    except ImpactError as problem:
        request = Request(prompt="?")
        error = (problem.code, f"this version does not take the restored job: {problem.text}")
    if paper.crashes >= MAX_CRASHES:
        text = f"it was running each of the {paper.crashes} times that the daemon died: it is not run again"
        error = ("internal", text)
    entry = Entry(
        paper.number, paper.client, paper.id, str(paper.id), request, paper.origin, paper.at, crashes=paper.crashes
    )
    entry.interrupted = paper.interrupted
    entry.known = dict(paper.results)
    entry.error = error
    for prompt, weight in paper.prompts:
        entry.control.set_prompt(prompt, weight)
    return entry
