"""What daemon tests share: a core on a tiny bundle that records what it tells, and a daemon as a process of its own."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import soundfile

# Loaded before daemons are forked.
from impact_plugin.daemon.core import Core
from impact_plugin.daemon.events import DaemonEvent
from impact_plugin.daemon.journal import Journal
from impact_plugin.daemon.runtime import Runtime
from impact_plugin.daemon.serve import Daemon, Options
from impact_plugin.engine.engine import Engine
from impact_plugin.errors import ImpactError
from impact_plugin.presets.schema import Preset, parse_preset
from impact_plugin.takes.store import TakeStore

if TYPE_CHECKING:
    from impact_plugin.bundle.load import Bundle

#: A job that takes a moment, and one that takes much longer than any test; both with the tiny bundle.
QUICK = {"prompt": "dog barks", "seconds": 0.5, "iterations": 3, "head_steps": 4}
ENDLESS = {"prompt": "rain", "seconds": 4, "iterations": 60, "head_steps": 1000, "variants": 8}

PATIENCE = 60.0


class Recorder:
    """Everything a core tells, and the wait for some of it. Files that are announced are read there and then."""

    def __init__(self, core: Core, client: str | None = None) -> None:
        self.events: list[DaemonEvent] = []
        self.files: dict[str, tuple[int, int]] = {}
        self.broken: list[str] = []
        self._there = threading.Condition()
        self.close = core.subscribe(self._hear, client=client)

    def _hear(self, event: DaemonEvent) -> None:
        row = event.as_json()
        if "path" in row:
            try:
                info = soundfile.info(row["path"])
                self.files[row["path"]] = (info.frames, info.samplerate)
            except (OSError, RuntimeError) as error:
                self.broken.append(f"{row['path']}: {error}")
        with self._there:
            self.events.append(event)
            self._there.notify_all()

    def of(self, job: object, client: str | None = None) -> list[DaemonEvent]:
        """A job's events."""
        return [event for event in self.events if event.job == job and client in (None, event.client)]

    def names(self, job: object, client: str | None = None) -> list[str]:
        return [event.name for event in self.of(job, client)]

    def wait(self, what: Callable[[list[DaemonEvent]], bool], timeout: float = PATIENCE) -> list[DaemonEvent]:
        """Until the events are so, or a failed test."""
        with self._there:
            assert self._there.wait_for(lambda: what(self.events), timeout), self.events[-20:]
            return list(self.events)

    def until(self, name: str, job: object = None, client: str | None = None, timeout: float = PATIENCE) -> DaemonEvent:
        """The first event of that name, of that job."""

        def found(events: list[DaemonEvent]) -> list[DaemonEvent]:
            return [
                event
                for event in events
                if event.name == name and job in (None, event.job) and client in (None, event.client)
            ]

        return found(self.wait(lambda events: bool(found(events)), timeout))[0]


@contextlib.contextmanager
def running_core(
    bundle: Bundle,
    folder: Path,
    *,
    started: bool = True,
    engine: Callable[[], Engine] | None = None,
    grace: float = 0.0,
    presets: dict[str, dict[str, Any]] | None = None,
    share: float = 1.0,
) -> Iterator[Core]:
    """A core on a bundle with its files in a folder."""
    takes = TakeStore(folder / "takes", folder / "takes.sqlite3")
    takes.folder.mkdir(parents=True, exist_ok=True)
    library: dict[str, Preset] = {name: parse_preset(name, body) for name, body in (presets or {}).items()}
    core = Core(
        bundle.info,
        engine or (lambda: Engine(bundle, threads=1)),
        takes=takes,
        previews=folder / "previews",
        journal=Journal(folder / "journal.jsonl"),
        presets=library,
        share=share,
    )
    if started:
        core.start()
    try:
        yield core
    finally:
        core.stop(grace)
        takes.close()


def _serve(pipe: Connection, home: Path, options: Options) -> None:
    """What a forked daemon does; the first message is what it says when it is ready, or its error."""
    os.environ["IMPACT_HOME"] = str(home)
    os.environ["IMPACT_THREADS"] = "1"
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)

    def ready(runtime: Runtime, event: DaemonEvent) -> None:
        pipe.send(runtime.model_dump())

    try:
        done = Daemon(options, ready).run()
    except ImpactError as error:
        pipe.send({"code": error.code, "text": error.text})
        done = False
    os._exit(0 if done else 1)


class Forked:
    """A daemon as a process of its own, forked from one that has everything loaded: it is there in a moment.

    Attributes:
        row: what the runtime file says, or the error.
    """

    def __init__(self, bundle: Path, home: Path, *, ready: bool = True, **options: Any) -> None:
        self.home = home
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["daemon_kit"])
        self._pipe, end = context.Pipe()
        chosen = Options(osc_port=0, http_port=0, model=str(bundle), device="cpu", audio="none")
        self.process = context.Process(target=_serve, args=(end, home, replace(chosen, **options)))
        self.process.start()
        end.close()
        self.row: dict[str, Any] = {}
        if ready:
            self.row = self.told()

    def told(self) -> dict[str, Any]:
        """The next message."""
        assert self._pipe.poll(PATIENCE)
        found: dict[str, Any] = self._pipe.recv()
        return found

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def ask(self, path: str, body: object = None, method: str | None = None) -> Any:
        """A JSON answer; an error's body for an error."""
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.row['http_port']}{path}"
        request = urllib.request.Request(url, data, method=method or ("GET" if body is None else "POST"))
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return json.load(error)

    def state(self, job: str) -> Any:
        return self.ask(f"/api/jobs/{job}").get("state")

    def signal(self, number: int = signal.SIGINT) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9"""
        self.process.kill()
        self.end()

    def end(self, timeout: float = PATIENCE) -> int | None:
        """The exit status."""
        self.process.join(timeout)
        self._pipe.close()
        status = self.process.exitcode
        assert status is not None
        self.process.close()
        self.kill = self.end = lambda *_: status  # type: ignore[method-assign,assignment]
        return status


def wait_for(what: Callable[[], Any], timeout: float = PATIENCE) -> Any:
    """The first true answer."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        found = what()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"nothing within {timeout} seconds")
