"""For the OSC tests: a small core that keeps real jobs, a server around it, and clients on real sockets."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from impact_plugin.daemon.events import DaemonEvent, JobId
from impact_plugin.daemon.ids import check_id, id_key
from impact_plugin.daemon.osc.framing import Framer, frame
from impact_plugin.daemon.osc.server import OscServer
from impact_plugin.daemon.osc.services import Services
from impact_plugin.errors import ImpactError
from impact_plugin.request import Request, canonical

PACKETS = Path(__file__).parent / "packets"
PATIENCE = 20.0


class SmallCore:
    """The core's interface over a list of jobs which are decoded by nobody: tests move them on by `run`.

    hold: while it is cleared, `submit` waits, as a core does whose disk is slow.
    """

    def __init__(self) -> None:
        self.jobs: dict[tuple[str, str], dict[str, Any]] = {}
        self.prompts: list[tuple[str, str, str, float]] = []
        self.defaults: dict[tuple[str, str], object] = {}
        self.paused = 0
        self.hold = threading.Event()
        self.hold.set()
        self._lock = threading.RLock()
        self._listeners: list[Callable[[DaemonEvent], None]] = []
        self._status: dict[str, Callable[[], int | float | str]] = {}

    def submit(
        self, client: str, job_id: JobId | float, request: Request | Mapping[str, Any], *, origin: str = ""
    ) -> JobId:
        self.hold.wait(PATIENCE)
        job = check_id(job_id)
        asked = request if isinstance(request, Request) else Request.parse(request)
        with self._lock:
            key = (client, id_key(job))
            if key in self.jobs and self.jobs[key]["state"] == "waiting":
                raise ImpactError("duplicate_id", f"the job {job} is not done yet", "id")
            row = {"id": job, "client": client, "state": "waiting", "position": len(self.queue()), "fraction": 0.0}
            self.jobs[key] = {**asked.model_dump(), **row, "results": []}
            self.tell("queued", job, row["position"], client=client)
        return job

    def run(self, client: str, job_id: JobId, folder: str = "/takes") -> None:
        """A job's events from start to end."""
        job = self.jobs[client, id_key(job_id)]
        name = job["id"]
        self.tell("start", name, 7, job["variants"], 2.0, client=client)
        self.tell("progress", name, 1, 2, 0.5, 0.25, client=client)
        self.tell("preview", name, 0, 1, f"{folder}/preview.wav", 2.0, client=client)
        for variant in range(job["variants"]):
            self.tell("result", name, variant, f"{folder}/{variant}.wav", 2.0, 44100, 7 + variant, client=client)
        self.end(client, job_id, "ok")

    def end(self, client: str, job_id: JobId, state: str) -> None:
        job = self.jobs[client, id_key(job_id)]
        job["state"] = state
        self.tell("end", job["id"], state, client=client)

    def tell(self, name: Any, job: JobId | None, *values: str | int | float, client: str = "") -> None:
        with self._lock:
            for listener in self._listeners:
                listener(DaemonEvent(name, job, values, client))

    def set_prompt(self, client: str, job_id: JobId | float, prompt: str, weight: float = 1.0) -> None:
        self._running(client, job_id)
        self.prompts.append((client, id_key(job_id), prompt, weight))

    def cancel(self, client: str, job_id: JobId | float) -> int:
        if job_id == "all":
            mine = [job["id"] for job in self.queue() if job["client"] == client]
        else:
            mine = [self._running(client, job_id)["id"]]
        for name in mine:
            self.end(client, name, "cancelled")
        return len(mine)

    def _running(self, client: str, job_id: JobId | float) -> dict[str, Any]:
        job = self.jobs.get((client, id_key(job_id)))
        if job is None or job["state"] != "waiting":
            raise ImpactError("unknown_id", f"there is no unfinished job {job_id}", "id")
        return job

    def queue(self) -> list[dict[str, Any]]:
        with self._lock:
            return [job for job in self.jobs.values() if job["state"] == "waiting"]

    def job(self, client: str | None, job_id: JobId | float) -> dict[str, Any]:
        for (owner, key), job in reversed(list(self.jobs.items())):
            if key == id_key(job_id) and client in (None, owner):
                return job
        raise ImpactError("unknown_id", f"there is no job {job_id}", "id")

    def status(self) -> dict[str, Any]:
        own = {"state": "ready", "waiting": len(self.queue()), "paused": self.paused}
        return own | {key: value() for key, value in self._status.items()}

    def add_status(self, key: str, value: Callable[[], int | float | str]) -> None:
        self._status[key] = value

    def set_default(self, client: str, key: str, value: object) -> None:
        values, _ = canonical({key: value})
        if values:
            Request.parse({"prompt": "x", **values})
        self.defaults[client, key] = value

    def get_default(self, client: str, key: str) -> Any:
        canonical({key: None})
        return self.defaults.get((client, key))

    def resume(self) -> int:
        self.paused = 0
        return 3

    def subscribe(self, callback: Callable[[DaemonEvent], None], *, client: str | None = None) -> Callable[[], None]:
        with self._lock:
            self._listeners.append(callback)
        callback(DaemonEvent("ready", None, ("0.1.0", "starter", "cpu", 44100)))
        return lambda: self._listeners.remove(callback)


@contextmanager
def serving(core: Any = None, services: Services | None = None, **options: Any) -> Iterator[OscServer]:
    """A server on a free port of loopback."""
    server = OscServer(core or SmallCore(), services, **{"port": 0, "token": "secret", **options})
    server.start()
    try:
        yield server
    finally:
        server.stop()


def message(address: str, *values: Any) -> bytes:
    """A message with the types of its values, blobs and all."""
    builder = OscMessageBuilder(address)
    for value in values:
        builder.add_arg(value)
    return builder.build().dgram


def bundle(*elements: bytes, tag: int = 1) -> bytes:
    """A bundle with this time tag (1 = now)."""
    return b"#bundle\0" + struct.pack(">Q", tag) + b"".join(struct.pack(">i", len(part)) + part for part in elements)


def tag_in(seconds: float, now: float | None = None) -> int:
    """The time tag of so many seconds from now."""
    return int(((time.time() if now is None else now) + 2208988800 + seconds) * 2**32)


Reply = tuple[str, list[Any]]


class Client:
    """What all clients can do: send packets, and read what comes until something does."""

    def send(self, address: str, *values: Any) -> None:
        self.send_packet(message(address, *values))

    def send_packet(self, packet: bytes) -> None:
        raise NotImplementedError

    def receive(self, seconds: float = PATIENCE) -> Reply:
        """The next message; checked to be one that every host can read."""
        return checked(self.receive_packet(seconds))

    def receive_packet(self, seconds: float) -> bytes:
        raise NotImplementedError

    def until(self, address: str, *start: Any) -> list[Reply]:
        """Everything up to the first message of this address whose arguments start so."""
        got = []
        while not got or got[-1][0] != address or got[-1][1][: len(start)] != list(start):
            got.append(self.receive())
        return got

    def ask(self, address: str, *values: Any) -> list[Reply]:
        """The answers to a command, `done` or `fail` excluded from the first and included in the second case."""
        self.send(address, *values)
        got = []
        while True:
            reply = self.receive()
            if reply[0] == "/impact/done":
                assert reply[1][0] == address
                return got
            got.append(reply)
            if reply[0] == "/impact/fail":
                return got

    def silent(self) -> bool:
        """Whether nothing is on its way: the answer to a last question comes first."""
        self.send("/impact/sync", 424242)
        return self.receive() == ("/impact/synced", [424242])


class UdpClient(Client):
    """A UDP socket that any host could have."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = int(self.socket.getsockname()[1])
        self._server = ("127.0.0.1", port)

    @property
    def name(self) -> str:
        return f"osc:127.0.0.1:{self.port}"

    def send_packet(self, packet: bytes) -> None:
        self.socket.sendto(packet, self._server)

    def receive_packet(self, seconds: float) -> bytes:
        self.socket.settimeout(seconds)
        return self.socket.recv(65536)

    def __enter__(self) -> UdpClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class TcpClient(Client):
    """A TCP connection with OSC 1.0 or 1.1 framing."""

    def __init__(self, port: int, framing: Any = "length") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.port = int(self.socket.getsockname()[1])
        self.framing = framing
        self._framer = Framer()
        self._got: list[bytes] = []

    @property
    def name(self) -> str:
        return f"osc-tcp:127.0.0.1:{self.port}"

    def send_packet(self, packet: bytes) -> None:
        self.socket.sendall(frame(packet, self.framing))

    def receive_packet(self, seconds: float) -> bytes:
        self.socket.settimeout(seconds)
        while not self._got:
            data = self.socket.recv(4096)
            if not data:
                raise EOFError("the server closed the connection")
            self._got += self._framer.feed(data)
            assert self._framer.framing == self.framing
        return self._got.pop(0)

    def __enter__(self) -> TcpClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def checked(packet: bytes) -> Reply:
    """A packet as python-osc reads it, if it is one that Pd, Max and sclang can read too."""
    assert len(packet) <= 1400
    assert len(packet) % 4 == 0
    tags = packet[packet.index(b",") :].split(b"\0", 1)[0]
    assert set(tags) <= set(b",ifs"), tags
    assert len(tags) <= 200
    parsed = OscMessage(packet)
    return parsed.address, list(parsed.params)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something holds, and fail if it never does."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.005)
