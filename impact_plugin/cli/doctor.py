"""`impact doctor`: what is wrong with this installation, and how to mend it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from impact_plugin.errors import ImpactError

Level = Literal["ok", "warning", "error"]

PACKAGES = (
    "numpy",
    "torch",
    "pydantic",
    "typer",
    "rich",
    "yaml",
    "soundfile",
    "soxr",
    "safetensors",
    "tokenizers",
    "fastapi",
    "uvicorn",
    "websockets",
    "pythonosc",
    "filelock",
)
SPACE_MB = 200


@dataclass(frozen=True)
class Finding:
    """One thing looked at. mend: what to do about it, "" when nothing."""

    level: Level
    subject: str
    text: str
    mend: str = ""


def doctor(
    model: Annotated[str | None, typer.Option(metavar="BUNDLE", help="Bundle to check (default: starter).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")] = False,
) -> None:
    """Check this installation. Exit status 1 when something must be mended before sounds can be made.

    \b
    impact doctor
    impact doctor --model ./my-bundle
    """
    from impact_plugin.cli.output import print_json, print_line

    faults = 0
    for finding in examine(model):
        faults += finding.level == "error"
        if as_json:
            print_json({"level": finding.level, "subject": finding.subject, "text": finding.text, "mend": finding.mend})
        else:
            print_line(f"{finding.level:<8}{finding.subject}: {finding.text}")
            if finding.mend:
                print_line(f"        -> {finding.mend}")
    if faults:
        plural = "s have" if faults > 1 else " has"
        raise ImpactError("internal", f"{faults} thing{plural} to be mended, see above")


def examine(model: str | None) -> Iterator[Finding]:
    """Every check in turn; a check that breaks is itself a finding."""
    yield _python()
    missing = False
    for name in PACKAGES:
        finding = _package(name)
        missing = missing or finding.level == "error"
        yield finding
    if missing:
        return
    checks: dict[str, Callable[[], Finding]] = {
        "compute": _devices,
        "model": partial(_bundle, model),
        "sound files": _sound,
        "disk": _folders,
        "playing": _audio,
        "daemon": _daemon,
    }
    for subject, check in checks.items():
        yield _safely(subject, check)


def _safely(subject: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except ImpactError as error:
        return Finding("error", subject, error.text)
    except (RuntimeError, OSError, ValueError, TypeError, AttributeError, ImportError) as error:
        return Finding("error", subject, f"{type(error).__name__}: {error}")


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 11):  # noqa: UP036 - somebody may have forced the installation
        return Finding("error", "python", version, "install Python 3.11 or newer")
    return Finding("ok", "python", f"{version} in {sys.prefix}")


def _package(name: str) -> Finding:
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:
        return Finding(
            "error", name, str(error), "reinstall impact-plugin: pip install --force-reinstall impact-plugin"
        )
    return Finding("ok", name, str(getattr(module, "__version__", "is there")))


def _devices() -> Finding:
    from impact_plugin.cli.devices import compute_devices

    rows = compute_devices()
    text = "; ".join(f"{row['id']} ({row['name']})" for row in rows)
    return Finding("ok", "compute", text)


def _bundle(model: str | None) -> Finding:
    from impact_plugin.bundle.registry import resolve_bundle
    from impact_plugin.bundle.verify import verify_bundle

    try:
        folder = resolve_bundle(model)
    except ImpactError as error:
        return Finding("error", "model", error.text, "reinstall impact-plugin, or name a bundle with --model")
    faults = [finding for finding in verify_bundle(folder) if finding.level == "error"]
    if faults:
        return Finding(
            "error", "model", f"{folder}: {faults[0].subject}: {faults[0].text}", "copy the bundle there again"
        )
    return Finding("ok", "model", f"{folder} is whole")


def _sound() -> Finding:
    import numpy as np

    from impact_plugin.audio.files import encode_sound
    from impact_plugin.audio.resample import resample

    wave = np.sin(np.arange(4410, dtype=np.float32) / 10)
    size = len(encode_sound(resample(wave, 44100, 48000), 48000))
    return Finding("ok", "sound files", f"written and resampled ({size} bytes)")


def _folders() -> Finding:
    import shutil

    from impact_plugin.paths import data_folder

    folder = data_folder()
    existing = next((place for place in (folder, *folder.parents) if place.is_dir()), Path.cwd())
    free = shutil.disk_usage(existing).free / 1e6
    if free < SPACE_MB:
        return Finding("warning", "disk", f"{existing} has {free:.0f} MB free", "free some space")
    return Finding("ok", "disk", f"{existing} has {free / 1000:.1f} GB free")


def _audio() -> Finding:
    from impact_plugin.cli.devices import audio_outputs

    outputs, problem = audio_outputs()
    if not outputs:
        return Finding("warning", "playing", f"{problem}; sounds are made all the same")
    return Finding("ok", "playing", f"{len(outputs)} outputs")


def _daemon() -> Finding:
    from impact_plugin.daemon.runtime import FILE, read_runtime
    from impact_plugin.paths import state_folder

    running = read_runtime()
    where = f"its runtime file is {state_folder() / FILE}"
    if running is None:
        return Finding("ok", "daemon", f"none is running; {where}")
    return Finding("ok", "daemon", f"process {running.pid}, OSC port {running.osc_port}, {running.url}; {where}")
