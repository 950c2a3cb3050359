"""The pages about the daemon say what is so: each promise's test exists, each address is served."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROMISES = (ROOT / "docs" / "server-behaviour.md").read_text(encoding="utf-8")


def test_each_promise_names_a_test_that_exists() -> None:
    named = 0
    for line in PROMISES.splitlines():
        file = None
        for given, test in re.findall(r"`(?:(test_\w+\.py)::)?(test_\w+)`", line):
            file = given or file
            assert file, f"{test}: of which file?"
            assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), test
            named += 1
    assert named > 30


def test_no_promise_is_without_a_test() -> None:
    promised = PROMISES.split("## Not promised")[0]
    for table in re.findall(r"(?:^\|.*\n)+", promised, flags=re.MULTILINE):
        for row in table.splitlines()[2:]:
            assert "`test_" in row or "the same" in row.rsplit("|", 2)[1], row


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        ("ledger", "MAX_JOBS", "1024 jobs"),
        ("ledger", "MAX_JOBS_A_CLIENT", "512 of one client"),
        ("schedule", "LIVE_WORK", "up to 640"),
        ("schedule", "EVEN_EVERY", "Every fourth pass"),
        ("schedule", "PASS_SECONDS", "about 0.3 s"),
        ("running", "PREVIEW_SHARE", "at most a quarter"),
        ("ring", "MAX_FILES", "1024 files"),
        ("ring", "MAX_BYTES", "256 MB"),
        ("saving", "MAX_UNSAVED", "512 MB"),
        ("saving", "RETRY_SECONDS", "every 5 s"),
        ("serve", "GRACE", "30 s at most"),
        ("serve", "STALE", "for 15 s"),
        ("ledger", "REMEMBERED", "latest 1000"),
        ("web.body", "MAX_BYTES", "64 KiB"),
        ("web.body", "PATIENCE", "longer than 10 s"),
        ("web.server", "PATIENCE", "within 15 s"),
        ("web.server", "MAX_CONNECTIONS", "256 connections"),
        ("web.sockets", "MAX_SOCKETS", "64 WebSockets"),
    ],
)
def test_numbers_on_the_page_are_those_of_the_program(module: str, name: str, value: str) -> None:
    import importlib

    found = getattr(importlib.import_module(f"impact_plugin.daemon.{module}"), name)
    words = {4: "fourth", 0.25: "quarter"}
    shown = re.search(r"[\d.]+|fourth|quarter", value)
    assert value in PROMISES
    assert shown is not None
    scale = {"MB": 1 << 20, "KiB": 1 << 10}.get(value.split()[-1], 1)
    assert shown.group() == words.get(found, f"{found / scale:g}")


def test_each_address_of_the_page_is_served(tmp_path: Path) -> None:
    from fastapi import FastAPI

    from impact_plugin.daemon.web.jobs import jobs_router, quit_router
    from impact_plugin.daemon.web.library import library_router

    app = FastAPI()
    for router in (jobs_router(None), library_router(None), quit_router("", lambda: None)):  # type: ignore[arg-type]
        app.include_router(router)
    served = {f"{verb.upper()} {path}" for path, verbs in app.openapi()["paths"].items() for verb in verbs}
    page = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
    told = set()
    for row in re.findall(r"^\| (`.*?) \|", page, flags=re.MULTILINE):
        verbs: list[str] = []
        for cell in re.findall(r"`([^`]+)`", row):
            words = cell.split()
            verbs.append(words[0]) if words[0].isupper() else None
            if words[-1].startswith("/api"):
                told |= {f"{verb} {words[-1].split('?')[0]}" for verb in (verbs or ["GET"])}
                verbs = []
    assert {re.sub(r"\{\w+\}", "{}", one) for one in told} == {re.sub(r"\{\w+\}", "{}", one) for one in served}
