"""The daemon as a process: startup, main loop, shutdown.

Startup takes the lock and the ports, reads the journal and begins to load the model; the main loop waits and looks
after things; shutdown lets what runs come to its end within a grace time. The first SIGINT or SIGTERM (or `quit`)
begins the shutdown, the second cuts the grace short. Knows the parts and their order. Does not know the command line.
"""

from __future__ import annotations

import datetime
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from impact_plugin import paths
from impact_plugin.bundle.registry import resolve_bundle
from impact_plugin.bundle.schema import FILE_NAME, read_info
from impact_plugin.daemon.core import Core
from impact_plugin.daemon.events import DaemonEvent
from impact_plugin.daemon.journal import Journal
from impact_plugin.daemon.listing import model_rows, preset_rows, take_rows
from impact_plugin.daemon.running import PREVIEW_SHARE
from impact_plugin.daemon.runtime import Runtime, RuntimeFile
from impact_plugin.errors import ImpactError
from impact_plugin.presets.library import Library
from impact_plugin.presets.watch import Watcher
from impact_plugin.takes.store import TakeStore
from impact_plugin.version import VERSION

if TYPE_CHECKING:
    from impact_plugin.daemon.audition import Audition
    from impact_plugin.daemon.osc.server import OscServer
    from impact_plugin.daemon.web.server import HttpServer
    from impact_plugin.engine.engine import Engine

logger = logging.getLogger(__name__)

JOURNAL: Final = "journal.jsonl"
GRACE: Final = 30.0
TICK: Final = 0.5
#: Temporary files of takes that were not written to for so long are a crash's, seconds.
STALE: Final = 15.0
#: Between two tries to bring the index of takes up to date, seconds.
REFRESH: Final = 5.0

_SIGNALS: Final = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
]


@dataclass(frozen=True)
class Options:
    """How to serve.

    Attributes:
        host, osc_port, http_port: where to listen; port 0 takes a free one.
        model: bundle, None = the starter; device: `auto`, `cpu`, `cuda` ...
        takes: folder, None = the user's own; audio: output device, None = the default one, "none" = play nothing.
        grace: seconds that what runs has at the end. previews: share of a job's time that its previews may take.
    """

    host: str = "127.0.0.1"
    osc_port: int = 9800
    http_port: int = 9880
    model: str | None = None
    device: str = "auto"
    takes: Path | None = None
    audio: str | None = None
    grace: float = GRACE
    previews: float = PREVIEW_SHARE


class Daemon:
    """One daemon process.

    Args:
        ready: called once the model is warm, with where things are.
    """

    def __init__(self, options: Options, ready: Callable[[Runtime, DaemonEvent], None] | None = None) -> None:
        self.options = options
        self._told = ready
        self._stop = threading.Event()
        self._signals = 0
        self._runtime_file = RuntimeFile()
        self._core: Core | None = None
        self._osc: OscServer | None = None
        self._http: HttpServer | None = None
        self._audition: Audition | None = None
        self._watcher: Watcher | None = None
        self._takes: TakeStore | None = None
        self._swept = 0.0
        self._refreshed = 0.0

    def run(self) -> bool:
        """Serve until told to stop.

        Returns:
            Whether everything that ran came to its end.

        Raises:
            ImpactError: why it could not start, or go on.
        """
        main_thread = threading.current_thread() is threading.main_thread()
        before = {number: signal.signal(number, self._signalled) for number in _SIGNALS} if main_thread else {}
        try:
            try:
                self.startup()
                self.main_loop()
            finally:
                done = self.shutdown()
            if self._core is not None and self._core.error is not None:
                raise self._core.error
            return done
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Begin to stop; a second call cuts the grace short."""
        if self._stop.is_set() and self._core is not None:
            self._core.hurry()
        self._stop.set()

    def startup(self) -> None:
        """Everything up to the loading of the model, which goes on in its thread.

        Raises:
            ImpactError: `busy` (a second daemon, a taken port), `model_missing`, `bad_file`, `bad_argument`,
                `disk_full`.
        """
        from impact_plugin.daemon.web.server import HttpServer

        options = self.options
        bundle = resolve_bundle(options.model)
        info = read_info(bundle / FILE_NAME)
        self._runtime_file.claim()
        self._http = HttpServer(options.host, options.http_port)
        self._http.bind()
        folder = paths.takes_folder() if options.takes is None else options.takes.expanduser()
        takes = self._takes = TakeStore(folder.absolute())
        self._make_takes_folder(takes)
        library = Library()
        for fault in library.faults:
            logger.warning("presets: %s", fault.text)
        core = self._core = Core(
            info,
            lambda: _load(bundle, options.device),
            takes=takes,
            previews=paths.cache_folder().absolute() / "previews",
            journal=Journal(self._runtime_file.folder / JOURNAL),
            presets=library,
            share=options.previews,
        )
        self._watcher = Watcher(library)
        self._watcher.start()
        token = secrets.token_urlsafe(18)
        self._start_audio(core)
        osc_port = self._start_osc(core, token)
        self._start_http(core, token, osc_port)
        runtime = Runtime(
            pid=os.getpid(),
            version=VERSION,
            host=options.host,
            osc_port=osc_port,
            http_port=self._http.port,
            token=token,
            model=info.name,
            takes=str(takes.folder),
            started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        self._runtime_file.write(runtime)
        core.subscribe(lambda event: self._ready(runtime, event))
        self._sweep()
        self._refresh()
        core.start()

    def main_loop(self) -> None:
        """Wait for the end, looking after things now and then."""
        while not self._stop.wait(TICK):
            self.on_tick()

    def on_tick(self) -> None:
        """What is done now and then."""
        if self._core is not None and self._core.error is not None:
            self._stop.set()
        if self._swept and time.monotonic() - self._swept > STALE + 5.0:
            self._sweep()
            self._swept = 0.0  # what a crash left is gone now
        if self._takes is not None and self._takes.problem and time.monotonic() - self._refreshed > REFRESH:
            logger.warning("the index of takes: %s; it is brought up to date", self._takes.problem)
            self._takes.problem = ""
            self._refresh()

    def shutdown(self) -> bool:
        """Let what runs come to its end, then close everything; whether all of it did."""
        done = True
        if self._core is not None:
            if self._core.error is None and self._core.status()["running"]:
                logger.warning("finishing what runs, %g s at most; a second signal stops at once", self.options.grace)
            done = self._core.stop(self.options.grace if self._signals < 2 else 0.0)
        if self._audition is not None:
            self._audition.close()
        if self._osc is not None:
            self._osc.stop()
        if self._http is not None:
            self._http.stop()
        if self._watcher is not None:
            self._watcher.stop()
        if self._takes is not None:
            self._takes.close()
        self._runtime_file.release()
        return done

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        self.stop()

    def _ready(self, runtime: Runtime, event: DaemonEvent) -> None:
        if event.name == "ready" and self._told is not None:
            self._told(runtime, event)

    def _start_osc(self, core: Core, token: str) -> int:
        """The OSC server; its port."""
        from impact_plugin.daemon.osc.server import OscServer
        from impact_plugin.daemon.osc.services import Services

        audition = self._audition
        services = Services(
            presets=lambda text: preset_rows(core.presets, text),
            takes=lambda text: take_rows(core.takes, text),
            models=model_rows,
            play=None if audition is None else audition.play,
            stop=None if audition is None else audition.stop,
            quit=self.stop,
        )
        server = OscServer(core, services, host=self.options.host, port=self.options.osc_port, token=token)
        server.start()
        self._osc = server
        return server.port

    def _start_http(self, core: Core, token: str, osc_port: int) -> None:
        from impact_plugin.daemon.web.app import make_app

        host = self.options.host
        if self._http is not None:
            self._http.start(make_app(core, host=host, token=token, stop=self.stop, osc=lambda: (host, osc_port)))

    def _start_audio(self, core: Core) -> None:
        """Playing, if there is anything to play on."""
        if self.options.audio is not None and self.options.audio.strip().lower() == "none":
            return
        from impact_plugin.audio.playback import Player
        from impact_plugin.daemon.audition import Audition

        self._audition = Audition(core, Player.open(self.options.audio))
        self._audition.start()

    def _make_takes_folder(self, takes: TakeStore) -> None:
        from impact_plugin.audio.files import make_folder

        make_folder(takes.folder)

    def _refresh(self) -> None:
        """Bring the index up to date, in a thread of its own: a take may have got its file but no row."""
        self._refreshed = time.monotonic()
        if self._takes is not None:
            threading.Thread(target=_refresh, args=(self._takes,), name="impact-takes", daemon=True).start()

    def _sweep(self) -> None:
        """Remove the temporary files that a crash left among the takes."""
        self._swept = time.monotonic()
        if self._takes is None:
            return
        try:
            removed = self._takes.clean(older_than_s=STALE)
        except ImpactError as error:
            logger.warning("the takes could not be looked through: %s", error.text)
            return
        for path in removed:
            logger.info("removed %s", path)


def _refresh(takes: TakeStore) -> None:
    try:
        takes.refresh()
    except Exception as error:  # the daemon ends meanwhile, or the index is broken: takes are saved all the same
        logger.info("the index of takes was not brought up to date: %s", error)


def _load(bundle: Path, device: str) -> Engine:
    """Open the model (in the worker's thread)."""
    from impact_plugin.bundle.load import load_bundle
    from impact_plugin.engine.engine import Engine

    return Engine(load_bundle(bundle, device))
