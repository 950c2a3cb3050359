"""The other commands: help, models, presets, takes, bench, devices, doctor, data, train, evaluate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from impact_plugin.audio.files import write_sound
from impact_plugin.cli.app import app
from impact_plugin.version import VERSION

Impact = Callable[..., Result]

COMMANDS = [
    "generate",
    "models",
    "models list",
    "models show",
    "models verify",
    "presets",
    "presets list",
    "presets show",
    "presets check",
    "presets path",
    "takes show",
    "data collect",
    "data folder",
    "train codec",
    "train generator",
    "evaluate",
    "evaluate roundtrip",
    "bench",
    "devices",
    "doctor",
    "send",
]


@pytest.fixture
def impact(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Impact:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMPACT_THREADS", "1")
    monkeypatch.setenv("IMPACT_BUNDLES", str(tiny_bundle))

    def run(*args: str) -> Result:
        return CliRunner().invoke(app, list(args))

    return run


def failed(result: Result, status: int, code: str) -> str:
    assert result.exit_code == status, result.output
    assert result.stderr.splitlines()[-1].startswith(f"impact: {code}: "), result.stderr
    assert "Traceback" not in result.output
    return result.stderr


def library(folder: Path) -> Path:
    """A few sounds with captions in their names."""
    folder.mkdir()
    random = np.random.default_rng(1)
    for number, name in enumerate(("door slam wood", "dog bark", "rain on roof", "glass break")):
        noise = random.standard_normal(16000).astype(np.float32) * np.exp(-np.arange(16000) / (2000 + 2000 * number))
        write_sound(folder / f"{name}.wav", (0.3 * noise).astype(np.float32), 44100)
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(impact: Impact, command: str) -> None:
    result = impact(*command.split(), "--help")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert f"impact {command}" in result.stdout.replace("Usage: impact", "")


def test_version_and_no_arguments(impact: Impact) -> None:
    assert impact("--version").stdout == f"impact-plugin {VERSION}\n"
    bare = impact()
    assert bare.exit_code == 2
    assert "generate" in bare.output


def test_unknown_command(impact: Impact) -> None:
    assert "'generate'" in failed(impact("genrate"), 2, "bad_argument")


def test_models(impact: Impact, tiny_bundle: Path) -> None:
    assert "tiny" in impact("models", "list").stdout
    listed = [json.loads(line) for line in impact("models", "list", "--json").stdout.splitlines()]
    assert {"name": "tiny", "rate": 16000, "seconds_limit": 4.0}.items() <= next(
        row for row in listed if row["name"] == "tiny"
    ).items()
    shown = json.loads(impact("models", "show", "tiny", "--json").stdout)
    assert shown["name"] == "tiny"
    assert shown["parts"]["codec"]["kind"] == "starter"
    assert "seconds_limit: 4.0" in impact("models", "show", str(tiny_bundle)).stdout
    assert impact("models", "verify", "tiny").exit_code == 0
    failed(impact("models", "show", "tinny"), 2, "model_missing")


def test_verify_finds_harm(impact: Impact, tiny_bundle: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "tiny"
    shutil.copytree(tiny_bundle, copy)
    data = (copy / "codec.safetensors").read_bytes()
    (copy / "codec.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    result = impact("models", "verify", str(copy), "--json")
    failed(result, 2, "bad_file")
    assert any(json.loads(line)["level"] == "error" for line in result.stdout.splitlines())


def test_presets(impact: Impact, tmp_path: Path) -> None:
    assert "glass_break" in impact("presets", "list").stdout
    assert json.loads(impact("presets", "show", "glass_break", "--json").stdout)["ucs"] == "GLASBrk"
    assert "slots:" in impact("presets", "show", "glass_break").stdout
    assert "glass_break" in failed(impact("presets", "show", "glas_break"), 2, "unknown_preset")
    (tmp_path / "bank.yaml").write_text("a:\n  prompt: x\n  secnds: 2\n")
    assert "bank.yaml line 3" in failed(impact("presets", "check", "bank.yaml"), 2, "unknown_key")
    (tmp_path / "bank.yaml").write_text("a:\n  prompt: x\n")
    assert "1 preset, no mistake" in impact("presets", "check", "bank.yaml").stdout
    assert "no mistake" in impact("presets", "check").stdout
    failed(impact("presets", "check", "missing.yaml"), 2, "bad_file")
    assert Path(impact("presets", "path").stdout.strip()).name == "presets"


def test_takes_show(impact: Impact) -> None:
    impact("generate", "dog", "--model", "tiny", "--seconds", "0.2", "--seed", "3", "-o", "a.wav")
    data = json.loads(impact("takes", "show", "a.wav", "--json").stdout)
    assert (data["prompt"], data["seed"], data["model"], data["request"]["seed"]) == ("dog", 3, "tiny", 3)
    assert "prompt          dog" in impact("takes", "show", "a.wav").stdout
    failed(impact("takes", "show", "b.wav"), 2, "bad_file")


def test_bench(impact: Impact) -> None:
    args = ("bench", "--model", "tiny", "--seconds", "0.5,3", "--iterations", "2", "--repeats", "1")
    first, second = (json.loads(line) for line in impact(*args, "--json").stdout.splitlines())
    assert (first["seconds"], second["seconds"], first["model"]) == (0.5, 3.0, "tiny")
    assert 0 < first["first_preview_s"] < first["take_s"]
    assert first["load_s"] > 0
    assert "FIRST PREVIEW" in impact(*args).stdout
    failed(impact("bench", "--seconds", "two"), 2, "bad_argument")
    failed(impact("bench", "--iterations", ""), 2, "bad_argument")


def test_devices(impact: Impact) -> None:
    kinds = [json.loads(line)["kind"] for line in impact("devices", "--json").stdout.splitlines()]
    assert "compute" in kinds
    assert "cpu" in impact("devices").stdout


def test_doctor(impact: Impact) -> None:
    result = impact("doctor", "--model", "tiny", "--json")
    assert result.exit_code == 0, result.output
    findings = {row["subject"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert findings["model"]["level"] == findings["sound files"]["level"] == "ok"
    broken = impact("doctor", "--model", "no-such-model")
    failed(broken, 1, "internal")
    assert "-> " in broken.stdout


def small_codec(run: Path) -> None:
    """An untrained codec where a codec run leaves its own."""
    from impact_plugin.codec.starter import StarterCodec, StarterConfig
    from impact_plugin.training.parts import save_codec

    run.mkdir()
    widths = {"frame_width": 16, "token_width": 16, "frame_blocks": 1, "token_blocks": 1, "phase_rounds": 2}
    save_codec(run, StarterCodec(StarterConfig(dims=8, **widths)))


def test_library_to_bundle(impact: Impact, tmp_path: Path) -> None:
    """Library, generator, bundle, take, round trip, each as short as it can be."""
    library(tmp_path / "sounds")
    result = impact("data", "folder", "sounds", "-o", "data", "--json")
    assert json.loads(result.stdout)["sounds"] == 4, result.output
    small_codec(tmp_path / "codec")
    train = ("train", "generator", "data", "--codec", "codec", "-o", "run", "--bundle", "mine", "--steps", "2")
    options = ("--seconds-limit", "1", "--set", "iterations=3", "--device", "cpu", "--json")
    result = impact(*train, *options)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["path"] == "mine"
    failed(impact(*train, *options), 2, "bad_argument")
    assert impact("models", "verify", "mine").exit_code == 0
    shown = json.loads(impact("models", "show", "./mine", "--json").stdout)
    assert shown["defaults"]["iterations"] == 3
    assert "own library" in [licence["licence"] for licence in shown["licences"]]
    assert impact("generate", "dog bark", "--model", "./mine", "-o", "a.wav").exit_code == 0
    assert (tmp_path / "a.wav").is_file()
    result = impact("evaluate", "roundtrip", "sounds", "-o", "after", "--model", "./mine", "--json")
    assert json.loads(result.stdout)["sounds"] == 4, result.output
    assert sorted(path.name for path in (tmp_path / "after").iterdir()) == sorted(
        path.name for path in (tmp_path / "sounds").iterdir()
    )


def test_codec_of_another_rate_is_refused(impact: Impact, tmp_path: Path) -> None:
    library(tmp_path / "sounds")
    assert impact("data", "folder", "sounds", "-o", "data").exit_code == 0
    result = impact("train", "generator", "data", "--codec", "tiny", "-o", "run", "--steps", "1")
    assert "16000 hz" in failed(result, 2, "bad_argument")


def test_codec_training_leaves_a_codec(impact: Impact, tmp_path: Path) -> None:
    from impact_plugin.training.parts import read_codec

    library(tmp_path / "sounds")
    assert impact("data", "folder", "sounds", "-o", "data").exit_code == 0
    options = ("--steps", "1", "--dims", "8", "--batch", "2", "--device", "cpu")
    result = impact("train", "codec", "data", "-o", "run", *options)
    assert result.exit_code == 0, result.output
    assert read_codec(tmp_path / "run").dims == 8


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("data", "collect", "missing.csv", "-o", "d"), "bad_file"),
        (("data", "folder", "missing", "-o", "d"), "bad_file"),
        (("train", "codec", "data", "-o", "r"), "bad_argument"),
        (("train", "codec", "missing", "-o", "r", "--steps", "1"), "bad_file"),
        (("train", "generator", "missing", "-o", "r", "--codec", "x", "--steps", "1"), "bad_file"),
        (("train", "generator", "d", "-o", "r", "--codec", "x", "--steps", "1", "--optimiser", "sgd"), "bad_argument"),
        (("train", "generator", "d", "-o", "r", "--codec", "x", "--steps", "1", "--set", "itrations=3"), "unknown_key"),
        (("evaluate",), "bad_argument"),
        (("evaluate", "--data", "missing"), "bad_file"),
        (("evaluate", "roundtrip", "missing", "-o", "x", "--model", "tiny"), "bad_file"),
    ],
)
def test_bad_input(impact: Impact, args: tuple[str, ...], code: str) -> None:
    failed(impact(*args), 2, code)
