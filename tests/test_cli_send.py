"""`impact send`: finds the daemon, prints its replies, ends when they do, and says how it went."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from osc_peers import SmallCore, serving, wait_for
from typer.testing import CliRunner, Result

from impact_plugin.cli.app import app
from impact_plugin.daemon.osc import client
from impact_plugin.daemon.osc.client import Exchange, row
from impact_plugin.daemon.osc.server import OscServer
from impact_plugin.daemon.osc.services import Services
from impact_plugin.daemon.osc.wire import Message
from impact_plugin.daemon.runtime import Runtime, RuntimeFile

TOKEN = "a-token"
Send = Callable[..., Result]


@pytest.fixture
def core() -> SmallCore:
    return SmallCore()


def announce(folder: Path, server: OscServer, host: str = "127.0.0.1") -> RuntimeFile:
    """A runtime file as the daemon writes it."""
    runtime = RuntimeFile(folder)
    runtime.claim()
    runtime.write(
        Runtime(pid=os.getpid(), version="1", host=host, osc_port=server.port, http_port=1, token=server._token)
    )
    return runtime


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IMPACT_HOME", str(tmp_path))
    return tmp_path / "state"


@pytest.fixture
def quits() -> list[int]:
    return []


@pytest.fixture
def server(core: SmallCore, home: Path, quits: list[int]) -> Iterator[OscServer]:
    """A daemon's OSC side, announced in a runtime file, that runs every job as soon as it is queued."""
    with serving(core, Services(quit=lambda: quits.append(1)), token=TOKEN) as running:
        core.subscribe(lambda event: _run(core, event))
        runtime = announce(home, running)
        yield running
        runtime.release()


def _run(core: SmallCore, event: Any) -> None:
    if event.name == "queued" and not str(event.job).startswith("slow"):
        threading.Timer(0.05, core.run, (event.client, event.job)).start()


def send(*words: str) -> Result:
    return CliRunner().invoke(app, ["send", *words])


def failed(result: Result, status: int, code: str) -> str:
    assert result.exit_code == status, result.output
    assert result.stderr.startswith(f"impact: {code}: "), result.stderr
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


def test_a_job_is_followed_to_its_end(server: OscServer) -> None:
    result = send("/impact/generate", "my door", "heavy 'door' slams", "variants", "2", "peak_db", "-3")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        '/impact/queued "my door" 0',
        '/impact/start "my door" 7 2 2',
        '/impact/progress "my door" 1 2 0.5 0.25',
        '/impact/preview "my door" 0 1 /takes/preview.wav 2',
        '/impact/result "my door" 0 /takes/0.wav 2 44100 7',
        '/impact/result "my door" 1 /takes/1.wav 2 44100 8',
        '/impact/end "my door" ok',
    ]


def test_json_has_the_names_of_the_fields(server: OscServer) -> None:
    result = send("/impact/generate", "", "door", "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    name = rows[0]["id"]
    assert rows[0] == {"event": "queued", "id": name, "position": 0}
    assert rows[-2] == {
        "event": "result",
        "id": name,
        "variant": 0,
        "path": "/takes/0.wav",
        "seconds": 2.0,
        "rate": 44100,
        "seed": 7,
    }
    assert rows[-1] == {"event": "end", "id": name, "state": "ok"}


def test_numbers_arrive_as_they_were_written(server: OscServer, core: SmallCore) -> None:
    assert send("/impact/generate", "1", "808", "guidance", "3.3", "seed", "16777215").exit_code == 0
    [job] = core.jobs.values()
    assert (job["prompt"], job["guidance"], job["seed"]) == ("808", 3.3, 16777215)


def test_what_is_asked_is_answered_and_over(server: OscServer) -> None:
    assert send("/impact/ping").stdout == "/impact/done /impact/ping\n"
    assert send("/impact/sync", "3").stdout == "/impact/synced 3\n"
    assert "/impact/status.reply state ready" in send("/impact/status").stdout
    rows = [json.loads(line) for line in send("/impact/version", "--json").stdout.splitlines()]
    assert rows[0] == {"reply": "/impact/version", "version": "0.1.0", "protocol": 1, "program": "impact-plugin"}
    assert rows[1] == {"event": "done", "command": "/impact/version"}


def test_a_refusal_is_one_line_and_exit_status_2(server: OscServer) -> None:
    assert "did you mean seconds" in failed(send("/impact/generate", "a", "door", "secnds", "1"), 2, "unknown_key")
    assert "/impact/generate" in failed(send("/impact/generat", "a"), 2, "unknown_address")
    failed(send("/impact/cancel", "nothing"), 2, "unknown_id")
    failed(send("/impact/generat*"), 2, "unknown_address")
    result = send("/impact/generate", "all", "door", "--json")
    assert json.loads(result.stdout)["code"] == "bad_argument"
    failed(result, 2, "bad_argument")


def test_a_job_that_fails_or_is_cancelled_is_exit_status_1(server: OscServer, core: SmallCore) -> None:
    def end(state: str, *events: tuple[Any, ...]) -> None:
        wait_for(lambda: bool(core.queue()))
        [job] = core.queue()
        for name, *values in events:
            core.tell(name, job["id"], *values, client=job["client"])
        core.end(job["client"], job["id"], state)

    ending = threading.Thread(target=end, args=("cancelled",))
    ending.start()
    result = send("/impact/generate", "slow1", "door")
    ending.join()
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (1, "/impact/end slow1 cancelled")
    ending = threading.Thread(target=end, args=("failed", ("fail", "out_of_memory", "no memory: 3 GB are missing")))
    ending.start()
    result = send("/impact/generate", "slow2", "door")
    ending.join()
    assert "3 GB are missing" in failed(result, 1, "out_of_memory")
    assert result.stdout.splitlines()[-1] == "/impact/end slow2 failed"


def test_a_path_that_is_told_too_late_does_not_end_it(server: OscServer, core: SmallCore) -> None:
    """A `fail` about one message of a job that goes on is not the job's end."""
    exchange = Exchange("/impact/generate", "a")
    assert exchange.take(Message("/impact/queued", ("a", 0)))
    assert exchange.take(Message("/impact/fail", ("a", "too_large", "the path does not fit")))
    assert not exchange.over
    assert exchange.take(Message("/impact/end", ("a", "ok")))
    assert (exchange.over, exchange.exit_status) == (True, 0)


def test_answers_to_others_are_not_ours() -> None:
    exchange = Exchange("/impact/status")
    assert not exchange.take(Message("/impact/done", ("/impact/ping",)))
    assert not exchange.take(Message("/impact/fail", ("/impact/queue", "busy", "x")))
    assert not exchange.over
    assert row(Message("/strange", (1, None))) == {"reply": "/strange", "values": [1, None]}


def test_time_can_be_up(server: OscServer) -> None:
    result = send("/impact/generate", "slow", "door", "--timeout", "0.3")
    assert "/impact/cancel slow" in failed(result, 1, "internal")
    assert result.stdout == "/impact/queued slow 0\n"


def test_no_daemon(home: Path) -> None:
    assert "impact serve" in failed(send("/impact/ping"), 1, "internal")


def test_nobody_listens_on_a_port(home: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert "no daemon listens" in failed(send("/impact/ping", "--port", str(port)), 1, "internal")


def test_a_daemon_that_falls_silent(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ASK", 0.1)
    monkeypatch.setattr(client, "GONE", 0.5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = str(deaf.getsockname()[1])
        assert "nothing answers" in failed(send("/impact/generate", "a", "door", "--port", port), 1, "internal")


def test_a_daemon_that_dies_in_the_middle(core: SmallCore, home: Path) -> None:
    with serving(core) as server:
        result: list[Result] = []
        waiting = threading.Thread(
            target=lambda: result.append(send("/impact/generate", "slow", "door", "--port", str(server.port)))
        )
        waiting.start()
        wait_for(lambda: bool(core.queue()))
    waiting.join(20)
    failed(result[0], 1, "internal")


def test_quit_knows_the_token(server: OscServer, quits: list[int]) -> None:
    assert send("/impact/quit").stdout == "/impact/done /impact/quit\n"
    wait_for(lambda: quits == [1])
    failed(send("/impact/quit", "wrong"), 2, "bad_argument")


def test_a_daemon_open_to_others_is_shown_the_token(core: SmallCore, home: Path) -> None:
    with serving(core, host="0.0.0.0", token=TOKEN) as server:
        runtime = announce(home, server, "0.0.0.0")
        assert send("/impact/version").exit_code == 0
        assert send("/impact/set", "seconds", "2").stdout == "/impact/done /impact/set seconds\n"
        runtime.release()
    with serving(core, host="0.0.0.0", token=TOKEN) as server:
        there = ["--host", "127.0.0.1", "--port", str(server.port)]
        failed(send("/impact/version", *there), 2, "bad_argument")
        failed(send("/impact/version", *there, "--token", "wrong"), 2, "bad_argument")
        assert send("/impact/version", *there, "--token", TOKEN).exit_code == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["impact/ping"], "bad_argument"),
        (["/impact/ping", "--jsn"], "bad_argument"),
        (["/impact/ping", "--port", "0"], "bad_argument"),
        (["/impact/ping", "x" * 70_000, "--port", "9"], "too_large"),
        (["/impact/ping", "--host", "no such host", "--port", "9"], "bad_argument"),
    ],
)
def test_what_cannot_be_sent(home: Path, words: list[str], code: str) -> None:
    home.mkdir()
    if "--port" not in words:
        words = [*words, "--port", "9"]
    result = send(*words)
    assert result.exit_code == 2, result.output
    assert code in result.stderr


def test_it_starts_quickly_and_works_as_a_process(server: OscServer, home: Path) -> None:
    """Without PyTorch: a shell script may call it many times."""
    code = "import sys; from impact_plugin.cli.app import main; sys.argv[1:] = ['send', '/impact/ping', 'tür']; main()"
    probe = f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); {code}"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["/impact/done /impact/ping tür", "False"]
