"""`impact` as its own process: start-up time, streams, signals, full disks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")


def environment(bundle: Path | None = None) -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    extra = {"PYTHONPATH": paths, "IMPACT_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    if bundle:
        extra["IMPACT_BUNDLES"] = str(bundle)
    return {**os.environ, **extra}


def impact(*args: str, bundle: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "impact_plugin", *args],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=cwd,
        env=environment(bundle),
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from impact_plugin.cli.app import app\n"
        "try: app(['--help'], prog_name='impact')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'scipy', 'soundfile', 'pydantic', 'matplotlib', 'yaml'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    best = 99.0
    for _ in range(3):
        began = time.perf_counter()
        assert impact("--help").returncode == 0
        best = min(best, time.perf_counter() - began)
    assert best < 1.0  # half a second on an idle machine; tests may share theirs


def test_take_by_pipe(tiny_bundle: Path, tmp_path: Path) -> None:
    done = impact(
        *("generate", "dog barks — 狗", "--model", "tiny", "--seconds", "0.5", "--seed", "1", "--json"),
        bundle=tiny_bundle,
        cwd=tmp_path,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    row = json.loads(done.stdout)
    assert row["prompt"] == "dog barks — 狗"
    assert (tmp_path / row["path"]).is_file()


def test_usage_errors_are_one_line(tmp_path: Path) -> None:
    for args in (("generate", "dog", "--bogus"), ("bogus",), ("generate", ""), ("generate", "x", "--seconds", "nan")):
        done = impact(*args, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("impact: bad_argument: ")
        assert done.stderr.count("\n") == 1
    assert names(tmp_path) == []


def test_a_reader_that_goes_away_is_no_traceback(tiny_bundle: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "impact_plugin", "generate", "--keys"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(tiny_bundle),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) in (0, 1)
    assert "Traceback" not in errors


@POSIX
def test_interrupt(tiny_bundle: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(f"sound {number}" for number in range(400)))
    out = tmp_path / "out"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "impact_plugin", "generate", "--from", str(prompts), "-o", str(out)),
            *("--model", "tiny", "--seconds", "1", "--json"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tiny_bundle),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    announced = [Path(json.loads(line)["path"]) for line in (first + rest).splitlines()]
    assert 0 < len(announced) < 400
    import soundfile

    for path in out.iterdir():
        assert not path.name.startswith(".")
        assert soundfile.info(path).frames == 16000
    assert set(announced) <= set(out.iterdir())


@POSIX
def test_disk_that_fills_while_writing(tiny_bundle: Path, tmp_path: Path) -> None:
    code = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from impact_plugin.cli.app import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "generate", "dog", "--model", "tiny", "--seconds", "2", "-o", "out/"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=tmp_path,
        env=environment(tiny_bundle),
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("impact: disk_full: ")
    assert done.stderr.count("\n") == 1
    assert names(tmp_path / "out") == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 160 kB; needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(folder)], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("no mount command")
    if made.returncode:
        pytest.skip("no small file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@POSIX
def test_small_disk(tiny_bundle: Path, small_disk: Path) -> None:
    from impact_plugin.audio.files import write_bytes
    from impact_plugin.errors import ImpactError

    done = impact("generate", "dog", "--model", "tiny", "--seconds", "4", "-o", f"{small_disk}/", bundle=tiny_bundle)
    assert done.returncode == 1
    assert done.stderr.startswith("impact: disk_full: ")
    done = impact(
        *("generate", "dog", "--model", "tiny", "--seconds", "1", "-o", f"{small_disk}/a.wav"), bundle=tiny_bundle
    )
    assert done.returncode == 0
    assert names(small_disk) == ["a.wav"]
    with pytest.raises(ImpactError) as caught:  # what the check beforehand cannot see: it fills while writing
        write_bytes(small_disk / "b.wav", bytes(200_000))
    assert caught.value.code == "disk_full"
    assert names(small_disk) == ["a.wav"]
