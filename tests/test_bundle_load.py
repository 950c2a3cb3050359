"""Opening a bundle: what is checked, and that nothing wrong gets through."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from impact_plugin.bundle.device import CHOICES, cuda_count, has_mps, resolve_device
from impact_plugin.bundle.kinds import make_codec, make_generator
from impact_plugin.bundle.load import Bundle, load_bundle, load_codec
from impact_plugin.bundle.verify import is_usable, verify_bundle
from impact_plugin.conditions.bank import Bank
from impact_plugin.errors import ImpactError


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a bundle's `bundle.yaml`."""
    path = folder / "bundle.yaml"
    data = yaml.safe_load(path.read_text())
    change(data)
    path.write_text(yaml.safe_dump(data, sort_keys=False))


def adopt(folder: Path, part: str, content: bytes) -> None:
    """Replace a part's weight file and its sha256, as somebody who means harm would."""
    (folder / f"{part}.safetensors").write_bytes(content)
    new = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    edit(folder, lambda data: data["parts"][part].update(new))


def refused(folder: Path, code: str, *words: str) -> ImpactError:
    """The error of loading; `verify_bundle` must find it too."""
    with pytest.raises(ImpactError) as caught:
        load_bundle(folder)
    error = caught.value
    assert error.code == code, error.text
    assert "\n" not in error.text
    for word in words:
        assert word in error.text
    findings = verify_bundle(folder)
    assert not is_usable(findings)
    assert code in [finding.code for finding in findings]
    return error


def test_opened_bundle_is_whole(tiny: Bundle, tiny_bundle: Path) -> None:
    assert tiny.name == tiny.info.name == "tiny"
    assert tiny.path == tiny_bundle
    assert tiny.codec.rate == tiny.info.rate == 16000
    assert tiny.codec.dims == tiny.model.config.dims == 8
    assert tiny.text.kind == "minilm"
    assert tiny.extras["bank.seconds"].dtype == torch.float32
    assert tiny.extras["bank.latents"].dtype == torch.int8
    bank = Bank.from_tensors(tiny.extras)
    assert bank is not None
    assert bank.sounds == 3
    assert not tiny.model.training
    for parameter in tiny.model.parameters():
        assert parameter.dtype == torch.float32
        assert not parameter.requires_grad
        assert bool(torch.isfinite(parameter).all())


def test_codec_of_the_bundle_works(tiny: Bundle, tiny_bundle: Path) -> None:
    audio = torch.randn(1, 16000, generator=torch.Generator().manual_seed(1)) * 0.1
    latents = tiny.codec.encode(audio)
    assert latents.shape == (1, 16, 8)
    again = load_codec(tiny_bundle)
    assert torch.equal(again.encode(audio), latents)
    heard = again.decode(latents, seeds=[3])
    assert heard.shape == (1, 16 * 1024)
    assert bool(torch.isfinite(heard).all())


def test_verify_finds_nothing(tiny_bundle: Path) -> None:
    findings = verify_bundle(tiny_bundle)
    assert {finding.level for finding in findings} == {"ok"}
    assert {finding.subject for finding in findings} >= {"codec", "text", "generator", "parts"}


@pytest.mark.parametrize("part", ["codec", "generator"])
def test_truncated(copy: Path, part: str) -> None:
    path = copy / f"{part}.safetensors"
    size = path.stat().st_size
    os.truncate(path, size - 10)
    refused(copy, "bad_file", str(path), f"truncated: {size - 10} of {size} bytes")


@pytest.mark.parametrize("part", ["codec", "generator"])
def test_tampered(copy: Path, part: str) -> None:
    path = copy / f"{part}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    refused(copy, "bad_file", str(path), "sha256 differs")


@pytest.mark.parametrize("part", ["codec", "generator"])
def test_missing_file(copy: Path, part: str) -> None:
    path = copy / f"{part}.safetensors"
    path.unlink()
    refused(copy, "bad_file", str(path), "missing")
    path.mkdir()
    refused(copy, "bad_file", str(path))


@pytest.mark.parametrize("part", ["codec", "generator"])
def test_no_weights(copy: Path, part: str) -> None:
    def change(data: dict[str, Any]) -> None:
        for key in ("weights", "sha256", "size"):
            del data["parts"][part][key]

    edit(copy, change)
    refused(copy, "bad_file", part)


class Harm:
    """Unpickling one of these leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def test_pickle_is_never_loaded(copy: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    content = pickle.dumps(Harm(trace))
    adopt(copy, "codec", content)
    refused(copy, "bad_file", "not a safetensors file")
    (copy / "codec.pt").write_bytes(content)
    edit(copy, lambda data: data["parts"]["codec"].update(weights="codec.pt"))
    refused(copy, "bad_file", "may hold a pickle")
    assert not trace.exists()
    pickle.loads(content)
    assert trace.exists()


def test_stray_pickle_is_pointed_out(copy: Path) -> None:
    (copy / "old.ckpt").write_bytes(b"x")
    findings = verify_bundle(copy)
    assert is_usable(findings)
    assert [finding.subject for finding in findings if finding.level == "warning"] == ["old.ckpt"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_link_out_of_the_folder(copy: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.safetensors"
    (copy / "codec.safetensors").rename(outside)
    (copy / "codec.safetensors").symlink_to(outside)
    refused(copy, "bad_file", "leads out of")


def test_path_escape(copy: Path) -> None:
    shutil.copy(copy / "codec.safetensors", copy.parent)
    edit(copy, lambda data: data["parts"]["codec"].update(weights="../codec.safetensors"))
    refused(copy, "bad_file", "leads out of")


@pytest.mark.parametrize(
    ("part", "kind", "words"),
    [
        ("codec", "startre", "did you mean 'starter'?"),
        ("codec", "audioldm", "not in this version yet"),
        ("text", "flan", "minilm"),
        ("generator", "impcat", "did you mean 'impact'?"),
    ],
)
def test_unknown_kind(copy: Path, part: str, kind: str, words: str) -> None:
    edit(copy, lambda data: data["parts"][part].update(kind=kind))
    assert refused(copy, "unsupported", words).field == f"parts.{part}.kind"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (("rate",), 22050, "22050"),
        (("seconds_limit",), 5.0, "4.03 s"),
        (("parts", "text", "config", "max_tokens"), 33, "33"),
        (("parts", "text", "config", "max_token"), 33, "max_token"),
        (("parts", "codec", "config", "dims"), 9, "codec"),
        (("parts", "codec", "config", "dims"), "8", "codec"),
        (("parts", "codec", "config", "zork"), 1, "zork"),
        (("parts", "generator", "config", "width"), 34, "generator"),
        (("parts", "generator", "config", "heads"), 0, "generator"),
        (("parts", "generator", "config", "heads"), 3, "generator"),
        (("parts", "generator", "config", "zork"), 1, "zork"),
        (("parts", "generator", "config", "conditions"), [1], "generator"),
        (("parts", "generator", "config", "encoder_layers"), 2, "generator"),
        (("parts", "generator", "config"), {}, "generator"),
    ],
)
def test_parts_that_do_not_fit(copy: Path, key: tuple[str, ...], value: object, words: str) -> None:
    def change(data: dict[str, Any]) -> None:
        for step in key[:-1]:
            data = data[step]
        data[key[-1]] = value

    edit(copy, change)
    error = refused(copy, "unknown_key" if "max_token" in key else "bad_file", words)
    assert len(error.text) < 500


def test_tensor_of_no_use(copy: Path, tiny: Bundle) -> None:
    from safetensors.torch import save

    adopt(copy, "generator", save({"zork": torch.zeros(2)}))
    refused(copy, "bad_file", "zork")
    state = {f"model.{name}": tensor for name, tensor in tiny.model.state_dict().items()}
    adopt(copy, "generator", save({**state, "model.zork": torch.zeros(2)}))
    refused(copy, "bad_file", "zork")
    del state["model.mask"]
    adopt(copy, "generator", save(state))
    refused(copy, "bad_file", "mask")


def test_verify_finds_values_that_are_no_numbers(copy: Path, tiny: Bundle) -> None:
    from safetensors.torch import save

    state = {f"model.{name}": tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    state["model.mask"][0] = float("nan")
    adopt(copy, "generator", save(state))
    findings = [finding for finding in verify_bundle(copy) if finding.level == "error"]
    assert len(findings) == 1
    assert "model.mask" in findings[0].text


def test_verify_looks_into_the_bank(copy: Path, tiny: Bundle) -> None:
    from safetensors.torch import save

    state = {f"model.{name}": tensor for name, tensor in tiny.model.state_dict().items()}
    adopt(copy, "generator", save({**state, "extra.bank.vectors": torch.zeros(2, 384)}))
    findings = [finding for finding in verify_bundle(copy) if finding.level == "error"]
    assert [finding.code for finding in findings] == ["bad_file"]
    assert "bank" in findings[0].text


def test_verify_tells_all_faults(copy: Path) -> None:
    (copy / "codec.safetensors").unlink()
    os.truncate(copy / "generator.safetensors", 100)
    (copy / "ATTRIBUTION.md").unlink()
    renamed = copy.rename(copy.parent / "other")
    found = {finding.subject: finding.level for finding in verify_bundle(renamed) if finding.level != "ok"}
    assert found == {
        "bundle.yaml": "warning",
        "codec": "error",
        "generator": "error",
        "ATTRIBUTION.md": "warning",
    }


def test_verify_of_no_bundle(tmp_path: Path) -> None:
    assert [finding.code for finding in verify_bundle(tmp_path)] == ["model_missing"]


def test_make_without_files(tiny: Bundle) -> None:
    config = tiny.model.config.to_dict()
    model = make_generator("impact", config, tiny.model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, tiny.model.state_dict()[name])
    codec = make_codec("starter", *tiny.codec.to_parts())
    assert codec.dims == 8


def test_devices(tiny: Bundle) -> None:
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type in CHOICES
    for choice in ("", "gpu", "cuda:x", "cpu:0", "CPU", "cuda:-1", "cuda:9999"):
        with pytest.raises(ImpactError) as caught:
            resolve_device(choice)
        assert (caught.value.code, caught.value.field) == ("bad_argument", "device")
    for choice, there in (("cuda", cuda_count() > 0), ("mps", has_mps()), ("cuda:999", False)):
        if there:
            assert resolve_device(choice).type == choice
            continue
        with pytest.raises(ImpactError) as caught:
            resolve_device(choice)
        assert caught.value.code == "unsupported"
        assert "--device" in caught.value.text or "the last one is cuda:" in caught.value.text
        with pytest.raises(ImpactError):
            load_bundle(tiny.path, device=choice)
    assert tiny.to("cpu") is tiny


@pytest.mark.skipif(not cuda_count(), reason="needs a CUDA GPU")
def test_bundle_moves_to_the_gpu(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle, device="cuda")
    assert all(parameter.is_cuda for parameter in bundle.model.parameters())
    assert all(tensor.is_cuda for tensor in bundle.extras.values())
    latents = bundle.codec.encode(torch.zeros(1, 4096))
    assert latents.is_cuda
    assert bool(torch.isfinite(bundle.codec.decode(latents, seeds=[1])).all())


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys; from impact_plugin.bundle.registry import list_bundles; list_bundles();"
        "import impact_plugin.bundle.device; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
