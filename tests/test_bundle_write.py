"""Writing a bundle: whole and checked, or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY_SECONDS, write_tiny_bundle

from impact_plugin.bundle.load import Bundle, load_bundle
from impact_plugin.bundle.schema import BundleInfo, Licence, read_info
from impact_plugin.bundle.weights import SMALL, stored, to_bytes
from impact_plugin.bundle.write import draft_info, write_bundle
from impact_plugin.errors import ImpactError


def draft(tiny: Bundle, seconds_limit: float = TINY_SECONDS) -> BundleInfo:
    return draft_info(
        name="again",
        codec=tiny.codec,
        model=tiny.model.config,
        seconds_limit=seconds_limit,
        licences=[Licence(covers="weights", licence="CC0-1.0")],
        text_config={"max_tokens": 32},
    )


def write(folder: Path, tiny: Bundle, info: BundleInfo | None = None, **changes: Any) -> BundleInfo:
    arguments: dict[str, Any] = {
        "codec_state": tiny.codec.to_parts()[1],
        "generator_state": tiny.model.state_dict(),
        **changes,
    }
    return write_bundle(folder, info or draft(tiny), **arguments)


def test_written_bundle_opens_and_is_the_same(tiny: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "again"
    bank = torch.arange(10)
    info = write(folder, tiny, extras={"bank": bank, "norm": torch.full((3,), 1e-9)})
    assert [path.name for path in folder.parent.iterdir()] == ["again"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "bundle.yaml",
        "codec.safetensors",
        "generator.safetensors",
    ]
    assert read_info(folder / "bundle.yaml") == info
    bundle = load_bundle(folder)
    assert torch.equal(bundle.extras["bank"], bank)
    assert float(bundle.extras["norm"][0]) == pytest.approx(1e-9)
    for name, tensor in bundle.model.state_dict().items():
        assert torch.equal(tensor, tiny.model.state_dict()[name])
    assert info.fingerprint != tiny.info.fingerprint


def test_same_tensors_give_the_same_files(tiny_bundle: Path, tmp_path: Path) -> None:
    again = write_tiny_bundle(tmp_path / "tiny")
    for path in tiny_bundle.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_what_is_there_is_not_overwritten(tiny: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    write(folder, tiny)
    with pytest.raises(ImpactError, match="already"):
        write(folder, tiny)
    write(folder, tiny, extras={"x": torch.zeros(1)}, replace=True)
    assert list(load_bundle(folder).extras) == ["x"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "novel.txt").write_text("my only copy")
    with pytest.raises(ImpactError, match="something else"):
        write(other, tiny, replace=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "other"]
    assert (other / "novel.txt").exists()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"codec_state": {}}, "bad_file"),
        ({"generator_state": {}}, "bad_file"),
        ({"generator_state": {"mask": torch.full((4,), float("nan"))}}, "bad_argument"),
        ({"attribution": "text without a name"}, "bad_argument"),
    ],
)
def test_faulty_parts_leave_nothing(tiny: Bundle, tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(ImpactError) as caught:
        write(tmp_path / "again", tiny, **changes)
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_failed_replacement_keeps_the_old_one(tiny: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    write(folder, tiny)
    with pytest.raises(ImpactError, match="seconds_limit"):
        write(folder, tiny, draft(tiny, seconds_limit=9), replace=True)
    assert load_bundle(folder).info.seconds_limit == TINY_SECONDS
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_folder_that_cannot_be(tiny: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImpactError) as caught:
        write(tmp_path / "file" / "again", tiny)
    assert caught.value.code == "bad_file"
    assert "cannot write" in caught.value.text


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_disk_that_takes_no_more_leaves_nothing(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
torch.set_num_threads(1)
from conftest import write_tiny_bundle
from impact_plugin.errors import ImpactError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_tiny_bundle(Path(sys.argv[1]) / "tiny")
except ImpactError as error:
    sys.exit(error.text)
"""
    arguments = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert "\n" not in done.stderr.strip()
    assert list(tmp_path.iterdir()) == []


def test_how_tensors_are_stored() -> None:
    random = torch.Generator().manual_seed(1)
    big = torch.randn(SMALL + 1, generator=random)
    assert stored("w", big).dtype == torch.float16
    assert stored("w", big, keep_float32=True).dtype == torch.float32
    assert stored("w", big[:SMALL]).dtype == torch.float32
    assert stored("w", big * 1e6).dtype == torch.float32
    assert stored("w", big * 1e-9).dtype == torch.float32
    assert stored("w", big.double()).dtype == torch.float16
    assert stored("w", torch.arange(SMALL * 2)).dtype == torch.int64
    for bad in (float("inf"), float("nan")):
        with pytest.raises(ImpactError) as caught:
            stored("w", torch.tensor([bad]))
        assert caught.value.code == "bad_argument"
        assert "'w'" in caught.value.text


def test_shared_and_strided_tensors_are_stored() -> None:
    from safetensors.torch import load

    table = torch.arange(12.0).reshape(3, 4)
    tensors = {"a": table, "b": table.T, "c": table[:, 1]}
    for name, tensor in load(to_bytes(tensors)).items():
        assert torch.equal(tensor, tensors[name])
    assert to_bytes(tensors) == to_bytes(dict(reversed(tensors.items())))
