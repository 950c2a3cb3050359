"""How others find the daemon: a lock that only one holds, and a file that says where it listens.

The file is `daemon.json` in `paths.state_folder()` (`impact doctor` prints the folder), readable by its user alone:
`pid`, `version`, `host`, `osc_port`, `http_port`, `token`, `model`, `takes`, `started`. It is valid as long as the lock
`daemon.lock` beside it is held; the system lets go of that when the daemon dies, however it dies. Knows no sockets.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from impact_plugin.audio.files import disk_error, write_bytes
from impact_plugin.errors import ImpactError
from impact_plugin.paths import state_folder

FILE: Final = "daemon.json"
LOCK: Final = "daemon.lock"
#: Who looks whether the lock is held holds it for a moment: the daemon waits that long for it, seconds.
_PATIENCE: Final = 1.0


class Runtime(BaseModel):
    """What the runtime file says."""

    model_config = ConfigDict(extra="ignore")

    pid: int
    version: str
    host: str
    osc_port: int
    http_port: int
    token: str
    model: str = ""
    takes: str = ""
    started: str = ""

    @property
    def url(self) -> str:
        """The daemon's page."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.http_port}"


class RuntimeFile:
    """The lock and the file of this daemon.

    Args:
        folder: of both; without it the user's own.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = state_folder() if folder is None else folder
        self.path = self.folder / FILE
        self._lock = FileLock(self.folder / LOCK)

    def claim(self) -> None:
        """Become the one daemon of this folder.

        Raises:
            ImpactError: `busy`, naming the daemon that is; `bad_argument` where the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=_PATIENCE)
        except Timeout:
            raise ImpactError("busy", self._holder()) from None
        except OSError as error:
            raise disk_error(error, self.folder) from error
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)  # of a daemon that died

    def write(self, runtime: Runtime) -> None:
        """Tell where the daemon listens.

        Raises:
            ImpactError: as :func:`impact_plugin.audio.files.write_bytes`.
        """
        before = os.umask(0o077)
        try:
            write_bytes(self.path, runtime.model_dump_json(indent=1).encode() + b"\n", overwrite=True)
        finally:
            os.umask(before)

    def release(self) -> None:
        """The daemon is no more."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
            self._lock.release()

    def _holder(self) -> str:
        found = _read(self.path)
        who = "it is just starting"
        if found is not None:
            who = f"process {found.pid}, OSC port {found.osc_port}, {found.url}"
        return f"a daemon is running already ({who}): use it, or stop it with impact send /impact/quit"


def read_runtime(folder: Path | None = None) -> Runtime | None:
    """Where the daemon that runs now listens; None when none does. A file that a dead daemon left counts as none."""
    folder = state_folder() if folder is None else folder
    found = _read(folder / FILE)
    if found is None or not _held(folder / LOCK):
        return None
    return found


def _read(path: Path) -> Runtime | None:
    try:
        return Runtime.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError, ValidationError):
        return None


def _held(path: Path) -> bool:
    """Whether somebody holds the lock."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False
