"""What has been accepted and what became of it, on disk: the queue that survives a crash.

One JSON object a line, appended. Each change of a job is a line: `accept`, `prompt`, `start`, `result`, `end`; `stop`
says that the daemon ended in good order. At opening the lines are read back and the file is written anew with what is
unfinished only. Knows lines and jobs on paper. Does not run anything.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from impact_plugin.audio.files import disk_error, write_bytes
from impact_plugin.daemon.events import JobId
from impact_plugin.errors import ImpactError

logger = logging.getLogger(__name__)

FORMAT: Final = 1
#: The file is written anew when it has so many lines and most of them are of finished jobs.
COMPACT_AT: Final = 4000


@dataclass
class Paper:
    """A job on paper.

    Attributes:
        number: counts accepted jobs; client, id, request, origin: as submitted; at: `time.time` of the acceptance.
        prompts: words put in while it waited, with weights. started: whether it ran when the journal was last written.
        interrupted: whether it ran when the daemon before this one ended, well or badly; crashes: how often that was a
            crash. results: paths of takes that were finished, by variant.
    """

    number: int
    client: str
    id: JobId
    request: dict[str, Any]
    origin: str = ""
    at: float = 0.0
    prompts: list[tuple[str, float]] = field(default_factory=list)
    started: bool = False
    interrupted: bool = False
    crashes: int = 0
    results: dict[int, str] = field(default_factory=dict)

    def to_line(self) -> dict[str, Any]:
        return {
            "do": "accept",
            "n": self.number,
            "client": self.client,
            "id": self.id,
            "request": self.request,
            "origin": self.origin,
            "at": round(self.at, 3),
            "interrupted": self.interrupted,
            "crashes": self.crashes,
            "prompts": self.prompts,
            "results": {str(variant): path for variant, path in self.results.items()},
        }


class Journal:
    """The journal of one daemon, which must be the only one that uses the file. Every method is thread-safe.

    Args:
        path: made if it is not there.

    Attributes:
        restored: jobs that were unfinished at opening, in the order of acceptance. `crashes` counts the last end.
        next_number: for the next job.

    Raises:
        ImpactError: `disk_full`, `bad_argument` when it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file: io.FileIO | None = None
        self._live: dict[int, Paper] = {}
        self._closed = False
        self._lines = 0
        self._owed: list[dict[str, Any]] = []
        self.next_number = 1
        clean = self._read()
        for paper in self._live.values():
            paper.crashes += paper.started and not clean
            paper.interrupted = paper.interrupted or paper.started
            paper.started = False
        self.restored = list(self._live.values())
        self._rewrite()

    def accept(self, paper: Paper) -> None:
        """A job is on disk when this returns.

        Raises:
            ImpactError: `disk_full` and the like; then it is not.
        """
        with self._lock:
            self._live[paper.number] = paper
            try:
                self._append(paper.to_line())
            except BaseException:
                del self._live[paper.number]
                raise
            self.next_number = max(self.next_number, paper.number + 1)

    def prompt(self, number: int, prompt: str, weight: float) -> None:
        """A waiting job got other words."""
        with self._lock:
            if number in self._live:
                self._live[number].prompts.append((prompt, weight))
                self._note({"do": "prompt", "n": number, "prompt": prompt, "weight": weight})

    def start(self, number: int) -> None:
        """A job begins to run: on disk when this returns, so that a crash is put down to it."""
        with self._lock:
            if number in self._live:
                self._live[number].started = True
                self._note({"do": "start", "n": number})

    def result(self, number: int, variant: int, path: str) -> None:
        """A take is finished."""
        with self._lock:
            if number in self._live:
                self._live[number].results[variant] = path
                self._note({"do": "result", "n": number, "variant": variant, "path": path})

    def end(self, number: int, state: str) -> None:
        """A job is over."""
        with self._lock:
            if self._live.pop(number, None) is not None:
                self._note({"do": "end", "n": number, "state": state})
                if self._lines >= COMPACT_AT and self._lines >= 8 * len(self._live):
                    try:
                        self._rewrite()
                    except ImpactError as error:
                        logger.warning("journal: %s", error.text)

    def close(self, *, clean: bool = True) -> None:
        """The daemon ends; in good order, so that what still runs was not interrupted by a crash, unless told not."""
        with self._lock:
            if clean:
                self._note({"do": "stop"})
            self._closed = True
            if self._file is not None:
                self._file.close()
                self._file = None

    def _append(self, line: dict[str, Any]) -> None:
        """Write a line and flush it to the disk; leave no half line behind."""
        if self._closed:
            return
        data = b"".join(_encode(owed) for owed in [*self._owed, line])
        end = 0
        try:
            if self._file is None:
                self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - kept open until close()
            end = self._file.seek(0, os.SEEK_END)
            written = self._file.write(data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            if self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.truncate(end)
            raise disk_error(error, self.path) from error
        self._lines += 1 + len(self._owed)
        self._owed.clear()

    def _note(self, line: dict[str, Any]) -> None:
        """Append a line that must not fail the job: without room it is written together with the next one."""
        try:
            self._append(line)
        except ImpactError as error:
            logger.warning("journal: %s", error.text)
            self._owed.append(line)

    def _read(self) -> bool:
        """Read what is there; whether the daemon before ended in good order."""
        clean = False
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return True
        except OSError as error:
            raise disk_error(error, self.path) from error
        for number, raw in enumerate(data.split(b"\n"), start=1):
            if not raw.strip():
                continue
            try:
                line = json.loads(raw)
                clean = self._replay(line)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                logger.warning("%s line %d is not readable and left out", self.path, number)
        return clean

    def _replay(self, line: dict[str, Any]) -> bool:
        """Take one line in; whether it says that all is in good order."""
        do = line["do"]
        if do == "journal":
            self.next_number = max(self.next_number, int(line["next"]))
        elif do == "accept":
            paper = _paper(line)
            self._live[paper.number] = paper
            self.next_number = max(self.next_number, paper.number + 1)
        elif do in {"prompt", "start", "result", "end"}:
            found = self._live.get(int(line["n"]))
            if found is None:
                return False
            if do == "prompt":
                found.prompts.append((str(line["prompt"]), float(line["weight"])))
            elif do == "start":
                found.started = True
            elif do == "result":
                found.results[int(line["variant"])] = str(line["path"])
            else:
                del self._live[found.number]
        return bool(do == "stop")

    def _rewrite(self) -> None:
        """Write the file anew with the unfinished jobs only, and open it for more."""
        head = {"do": "journal", "format": FORMAT, "next": self.next_number}
        lines = [head]
        for paper in self._live.values():
            lines.append(paper.to_line())
            if paper.started:
                lines.append({"do": "start", "n": paper.number})
        if self._file is not None:
            self._file.close()
            self._file = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, self.path) from error
        write_bytes(self.path, b"".join(map(_encode, lines)), overwrite=True)
        self._lines = len(lines)
        self._owed.clear()


def _encode(line: dict[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _paper(line: dict[str, Any]) -> Paper:
    job_id = line["id"]
    if not isinstance(job_id, str | int) or not isinstance(line["request"], dict):
        raise TypeError("not a job")
    return Paper(
        number=int(line["n"]),
        client=str(line["client"]),
        id=job_id,
        request=line["request"],
        origin=str(line.get("origin", "")),
        at=float(line.get("at", 0.0)),
        prompts=[(str(prompt), float(weight)) for prompt, weight in line.get("prompts", [])],
        interrupted=bool(line.get("interrupted", False)),
        crashes=int(line.get("crashes", 0)),
        results={int(variant): str(path) for variant, path in line.get("results", {}).items()},
    )
