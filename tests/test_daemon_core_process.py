"""The daemon as a process: its start and end, signals, kill -9, a full disk, and a second one."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
import soundfile
from daemon_kit import ENDLESS, PATIENCE, QUICK, Forked, wait_for

from impact_plugin.audio.files import PARTIAL
from impact_plugin.daemon.ledger import MAX_CRASHES
from impact_plugin.daemon.runtime import read_runtime
from impact_plugin.takes.file import read_record
from impact_plugin.takes.store import TakeStore

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks, and sends signals")

#: How often the daemon is killed under load; 50 for the whole proof, which takes minutes.
KILLS = int(os.environ.get("IMPACT_TEST_KILLS", "6"))


def takes(home: Path) -> list[Path]:
    return sorted((home / "data" / "takes").glob("*.wav"))


def test_it_says_where_it_is_and_cleans_up_behind_itself(tiny_bundle: Path, tmp_path: Path) -> None:
    with Forked(tiny_bundle, tmp_path) as one:
        found = read_runtime(tmp_path / "state")
        assert found is not None
        assert found.model_dump() == one.row
        assert found.pid == one.pid
        assert found.url == f"http://127.0.0.1:{found.http_port}"
        assert ((tmp_path / "state" / "daemon.json").stat().st_mode & 0o777) == 0o600
        two = Forked(tiny_bundle, tmp_path)
        assert two.row["code"] == "busy"
        for fact in (one.pid, found.osc_port, found.http_port):
            assert str(fact) in two.row["text"]
        assert two.end() == 1
        assert read_runtime(tmp_path / "state") == found  # the second one left it alone
        other = Forked(tiny_bundle, tmp_path / "elsewhere", http_port=found.http_port)
        assert other.row["code"] == "busy"
        assert str(one.pid) in other.row["text"]
        assert other.end() == 1
        third = Forked(tiny_bundle, tmp_path / "elsewhere", osc_port=found.osc_port)
        assert third.row["code"] == "busy"
        assert str(found.osc_port) in third.row["text"]
        assert third.end() == 1
        one.ask("/api/quit", {"token": found.token})
        assert one.end() == 0
    assert read_runtime(tmp_path / "state") is None
    assert not (tmp_path / "state" / "daemon.json").exists()


def test_a_file_that_a_dead_daemon_left_is_not_believed(tiny_bundle: Path, tmp_path: Path) -> None:
    one = Forked(tiny_bundle, tmp_path)
    one.kill()
    assert (tmp_path / "state" / "daemon.json").exists()
    assert read_runtime(tmp_path / "state") is None
    with Forked(tiny_bundle, tmp_path) as two:
        assert read_runtime(tmp_path / "state") is not None
        assert two.row["pid"] == two.pid


def test_a_signal_lets_what_runs_come_to_its_end(tiny_bundle: Path, tmp_path: Path) -> None:
    with Forked(tiny_bundle, tmp_path) as one:
        one.ask("/api/jobs", {"id": "j", "prompt": "rain", "seconds": 4, "iterations": 40, "head_steps": 60})
        wait_for(lambda: one.state("j") == "running")
        one.signal(signal.SIGTERM)
        assert one.end() == 0
    assert [read_record(path).id for path in takes(tmp_path)] == ["j"]


def test_what_takes_too_long_waits_for_the_next_start(tiny_bundle: Path, tmp_path: Path) -> None:
    with Forked(tiny_bundle, tmp_path, grace=0.3) as one:
        one.ask("/api/jobs", {"id": "j", **ENDLESS})
        wait_for(lambda: one.state("j") == "running")
        one.signal()
        assert one.end() == 1
    with Forked(tiny_bundle, tmp_path) as two:
        status = two.ask("/api/status")
        assert (status["state"], status["paused"], status["interrupted"]) == ("paused", 1, 1)
        assert [(row["id"], row["state"]) for row in two.ask("/api/queue")] == [("j", "interrupted")]
        assert two.ask("/api/queue/resume", {}) == {"count": 1}
        wait_for(lambda: two.state("j") == "running")


def test_a_second_signal_does_not_wait(tiny_bundle: Path, tmp_path: Path) -> None:
    with Forked(tiny_bundle, tmp_path, grace=600.0) as one:
        one.ask("/api/jobs", {"id": "j", **ENDLESS})
        wait_for(lambda: one.state("j") == "running")
        one.signal()
        wait_for(lambda: one.ask("/api/status")["state"] == "stopping")
        assert one.ask("/api/jobs", {"id": "late", **QUICK})["code"] == "busy"
        time.sleep(0.5)
        one.signal()
        assert one.end() == 1


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    one = Forked(tmp_path / "nothing", tmp_path)
    assert one.row["code"] == "model_missing"
    assert one.end() == 1


def test_it_starts_from_the_command_line(tiny_bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "impact_plugin", "serve", "--osc-port", "0", "--http-port", "0", "--json"]
    command += [
        "--audio-device",
        "none",
        "--model",
        str(tiny_bundle),
        "--device",
        "cpu",
        "--takes",
        str(tmp_path / "own"),
    ]
    environment = {**os.environ, "IMPACT_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        assert process.stdout is not None
        row = json.loads(process.stdout.readline())
        assert (row["event"], row["model"], row["takes"]) == ("ready", "tiny", str(tmp_path / "own"))
        assert row["osc_port"] > 0
        assert row["http_port"] > 0
        assert "token" not in row
        process.send_signal(signal.SIGINT)
        out, told = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in told


def test_own_temporary_files_are_cleaned_and_no_others(tiny_bundle: Path, tmp_path: Path) -> None:
    with Forked(tiny_bundle, tmp_path, previews=1.0) as one:
        one.ask("/api/jobs", {"id": "j", **QUICK, "iterations": 8, "previews_every": 1})
        wait_for(lambda: one.state("j") == "ok")
        one.kill()
    folder, previews = tmp_path / "data" / "takes", tmp_path / "cache" / "previews"
    left = list(previews.iterdir())
    assert left
    old, young, others = folder / f".{'ab' * 6}{PARTIAL}", folder / f".{'cd' * 6}{PARTIAL}", []
    for path in (old, young):
        path.write_bytes(b"half a take")
    os.utime(old, (1, 1))
    for name in (f"mine{PARTIAL}", ".hidden", "other.tmp", "song.wav"):
        others.append(folder / name)
        others.append(previews / name)
    for path in others:
        path.write_bytes(b"somebody's")
        os.utime(path, (1, 1))
    with Forked(tiny_bundle, tmp_path):
        wait_for(lambda: not old.exists())
        assert young.exists()  # somebody may be writing it
        assert all(path.exists() for path in others)
        assert not any(path.exists() for path in left)


def test_a_full_disk(tiny_bundle: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("limits of another process cannot be set here")
    with Forked(tiny_bundle, tmp_path) as one:
        one.ask("/api/jobs", {"id": "before", **QUICK, "seconds": 4})
        wait_for(lambda: one.state("before") == "ok")
        limits = resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
        one.ask("/api/jobs", {"id": "full", **QUICK, "seconds": 4, "variants": 2, "seed": 5})
        wait_for(lambda: one.state("full") == "failed")
        assert one.ask("/api/jobs/full")["error"]["code"] == "disk_full"
        assert one.ask("/api/status")["unsaved"] == 2
        assert one.ask("/api/jobs", {"id": "small", **QUICK, "seconds": 0.2})["id"] == "small"
        wait_for(lambda: one.state("small") == "ok")  # what fits is made all the same
        assert len(takes(tmp_path)) == 2
        resource.prlimit(one.pid, resource.RLIMIT_FSIZE, limits)
        wait_for(lambda: one.ask("/api/status")["unsaved"] == 0)  # by itself, without a restart
        assert [row["seed"] for row in one.ask("/api/jobs/full")["results"]] == [5, 6]
        wait_for(lambda: len(one.ask("/api/takes")) == 4)
    assert sorted(read_record(path).seed for path in takes(tmp_path) if read_record(path).id == "full") == [5, 6]
    assert not [path for path in (tmp_path / "data" / "takes").iterdir() if path.name.endswith(PARTIAL)]


def test_a_job_that_kills_the_daemon_does_so_twice_at_most(tiny_bundle: Path, tmp_path: Path) -> None:
    for crash in range(MAX_CRASHES):
        with Forked(tiny_bundle, tmp_path) as one:
            if crash:
                one.ask("/api/queue/resume", {})
            else:
                one.ask("/api/jobs", {"id": "bad", **ENDLESS})
                one.ask("/api/jobs", {"id": "innocent", **{**QUICK, "priority": -100}})
            wait_for(lambda: one.state("bad") == "running")
            one.kill()
    with Forked(tiny_bundle, tmp_path) as last:
        ended = last.ask("/api/jobs/bad")
        assert ended["state"] == "failed"
        assert "not run again" in ended["error"]["text"]
        assert [row["id"] for row in last.ask("/api/queue")] in (["innocent"], [])
        last.ask("/api/queue/resume", {})
        wait_for(lambda: last.ask("/api/queue") == [])


class Load:
    """A client that submits jobs and listens until its daemon dies."""

    def __init__(self, daemon: Forked, prefix: str) -> None:
        self.accepted: dict[str, int] = {}
        self.announced: list[str] = []
        self.ended: set[str] = set()
        self._daemon, self._prefix = daemon, prefix
        self._threads = [threading.Thread(target=self._submit), threading.Thread(target=self._listen)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE)

    def _submit(self) -> None:
        for number in range(1000):
            job = f"{self._prefix}-{number}"
            variants = 1 + number % 3
            body = {**QUICK, "id": job, "variants": variants, "iterations": 1 + number % 4, "preview": 1}
            try:
                if self._daemon.ask("/api/jobs", body).get("id") == job:
                    self.accepted[job] = variants
            except (OSError, HTTPException):
                return

    def _listen(self) -> None:
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        try:
            with connect(f"ws://127.0.0.1:{self._daemon.row['http_port']}/ws?previews=0") as socket:
                while True:
                    row = json.loads(socket.recv())
                    if row["event"] == "result":
                        self.announced.append(row["path"])
                    elif row["event"] == "end":
                        self.ended.add(row["id"])
        except (OSError, WebSocketException):
            return


def gave_up(daemon: Forked, jobs: set[str]) -> set[str]:
    """Those of these jobs that a daemon refuses to run again."""
    waiting = {row["id"] for row in daemon.ask("/api/queue")}
    return {job for job in jobs - waiting if daemon.state(job) == "failed"}


def test_kill_minus_nine_at_any_moment(tiny_bundle: Path, tmp_path: Path) -> None:
    dice = random.Random(9)
    accepted: dict[str, int] = {}
    announced: list[str] = []
    ended: set[str] = set()
    given_up: set[str] = set()  # they were running at two crashes
    for kill in range(KILLS):
        with Forked(tiny_bundle, tmp_path) as daemon:
            given_up |= gave_up(daemon, set(accepted) - ended - given_up)
            daemon.ask("/api/queue/resume", {})
            load = Load(daemon, f"k{kill}")
            time.sleep(dice.uniform(0.02, 1.5))
            daemon.kill()
        load.join()
        accepted.update(load.accepted)
        announced += load.announced
        ended |= load.ended
        for path in announced:
            assert soundfile.info(path).frames == 8000  # nothing that was announced is lost or half there
    with Forked(tiny_bundle, tmp_path) as last:
        queue = {row["id"] for row in last.ask("/api/queue")}
        assert all(row["state"] in ("paused", "interrupted") for row in last.ask("/api/queue"))
        assert not queue & ended
        made: dict[str, set[int]] = {}
        for path in takes(tmp_path):
            assert soundfile.info(path).frames == 8000
            record = read_record(path)
            made.setdefault(record.id, set()).add(record.variant)
        given_up |= gave_up(last, set(accepted) - ended - given_up)
        for job, variants in accepted.items():
            assert job in queue | given_up or made.get(job) == set(range(variants)), job
        store = TakeStore(tmp_path / "data" / "takes", tmp_path / "data" / "takes.sqlite3")
        files = {str(path) for path in takes(tmp_path)}
        wait_for(lambda: {record.path for record in store.index.find(missing=True)} == files)
        store.close()
        last.ask("/api/queue/resume", {})
        wait_for(lambda: last.ask("/api/queue") == [])
        for job, variants in accepted.items():
            found = {read_record(path).variant for path in takes(tmp_path) if read_record(path).id == job}
            assert found == set(range(variants)) or job in given_up, job
    assert len(accepted) > KILLS


def test_it_answers_osc_and_http_on_the_ports_it_told(tiny_bundle: Path, tmp_path: Path) -> None:
    from pythonosc.osc_message import OscMessage
    from pythonosc.osc_message_builder import OscMessageBuilder

    with Forked(tiny_bundle, tmp_path) as one, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        host.settimeout(PATIENCE)
        message = OscMessageBuilder("/impact/generate")
        for value in ("hit", "dog barks", "seconds", 0.5, "iterations", 3, "variants", 2):
            message.add_arg(value)
        host.sendto(message.build().dgram, ("127.0.0.1", one.row["osc_port"]))
        told: list[tuple[str, list[Any]]] = []
        while not told or told[-1][0] != "/impact/end":
            answer = OscMessage(host.recv(65536))
            told.append((answer.address, list(answer.params)))
        names = [address for address, _ in told]
        assert names[:2] == ["/impact/queued", "/impact/start"]
        assert names.count("/impact/result") == 2
        assert told[-1][1] == ["hit", "ok"]
        assert one.ask("/api/jobs/hit")["state"] == "ok"
        assert one.ask("/api/status")["osc_port"] == one.row["osc_port"]
