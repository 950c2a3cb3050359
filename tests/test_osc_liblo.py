"""A peer that is not ours: liblo's oscsend and oscdump, over UDP and TCP."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from osc_peers import SmallCore, UdpClient, serving, wait_for

from impact_plugin.daemon.osc.services import Services

if shutil.which("oscsend") is None or shutil.which("oscdump") is None:
    if os.environ.get("IMPACT_REQUIRE_HOSTS"):
        raise RuntimeError("IMPACT_REQUIRE_HOSTS is set, and oscsend and oscdump are missing (package liblo-tools)")
    pytest.skip("oscsend and oscdump are missing (package liblo-tools)", allow_module_level=True)


def oscsend(port: int, *words: str, protocol: str = "udp") -> None:
    url = f"osc.{protocol}://127.0.0.1:{port}/"
    subprocess.run(["oscsend", url, *words], check=True, timeout=20)


@contextmanager
def oscdump(port: int) -> Iterator[Iterator[str]]:
    """A running oscdump, as the lines it prints: `<time> /address tags values`, the time cut off."""
    process = subprocess.Popen(["oscdump", "-L", str(port)], stdout=subprocess.PIPE, text=True)
    try:
        stdout = process.stdout
        assert stdout is not None
        with UdpClient(port) as knocking:  # until it listens

            def heard() -> bool:
                knocking.send("/knock")
                return bool(select.select([stdout.fileno()], [], [], 0.05)[0])

            wait_for(heard)
        yield (line.strip().split(" ", 1)[-1] for line in stdout if "/knock" not in line)
    finally:
        process.terminate()
        process.communicate(timeout=20)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_a_job_from_a_shell(protocol: str) -> None:
    core = SmallCore()
    with serving(core) as server, oscdump(free := free_port()) as lines:
        oscsend(server.port, "/impact/notify", "ii", "1", str(free), protocol=protocol)
        assert next(lines) == '/impact/done si "/impact/notify" 1'
        assert next(lines).startswith('/impact/ready sssi "0.1.0" "starter" "cpu" 44100')
        prompt = "glass bottle 'breaks' in the bökken \N{DOG FACE}"
        oscsend(
            *(server.port, "/impact/generate", "sssisf"),
            *("door 1", prompt, "variants", "2", "seconds", "2.5"),
            protocol=protocol,
        )
        assert next(lines) == '/impact/queued si "door 1" 0'
        [job] = core.queue()
        assert (job["prompt"], job["variants"], job["seconds"]) == (prompt, 2, 2.5)
        core.run(job["client"], "door 1", "/takes/with space ö")
        got = [next(lines) for _ in range(6)]
        assert got[0].startswith('/impact/start siif "door 1" 7 2 2.0')
        assert got[1].startswith('/impact/progress siiff "door 1" 1 2 0.5')
        assert got[2].startswith('/impact/preview siisf "door 1" 0 1 "/takes/with space ö/preview.wav" 2.0')
        assert got[4].startswith('/impact/result sisfii "door 1" 1 "/takes/with space ö/1.wav" 2.0')
        assert got[5] == '/impact/end ss "door 1" "ok"'


def test_a_second_oscsend_cancels_what_the_first_began() -> None:
    """Each is a client of its own, on a port that is gone when the answer comes."""
    core = SmallCore()
    with serving(core) as server:
        oscsend(server.port, "/impact/generate", "is", "7", "rain")
        wait_for(lambda: len(core.queue()) == 1)
        oscsend(server.port, "/impact/cancel", "f", "7")
        wait_for(lambda: core.queue() == [])


def test_type_tags_of_every_kind_are_answered() -> None:
    """oscsend can send types that we do not take, and one (S) that python-osc would misread."""
    with serving(services=Services()) as server, oscdump(free := free_port()) as lines:
        oscsend(server.port, "/impact/notify", "TS", "1", str(free))
        oscsend(server.port, "/impact/notify", "hs", "1", str(free))
        assert next(lines) == '/impact/done si "/impact/notify" 1'
        next(lines)
        for tags, values in {"c": ["x"], "m": ["00112233"], "S": ["sym"], "I": []}.items():
            oscsend(server.port, "/impact/ping", tags, *values)
            assert next(lines).startswith('/impact/fail sss "/impact/ping" "bad_argument"')
        for tags, values in {"d": ["1.5"], "T": [], "N": [], "h": ["7"]}.items():
            oscsend(server.port, "/impact/ping", tags, *values)
            assert next(lines).startswith("/impact/done s")
