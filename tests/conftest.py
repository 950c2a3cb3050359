"""Fixtures for all tests: one thread, no user's own folders, and a tiny random bundle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from impact_plugin.bundle.load import Bundle

TINY_RATE = 16000
TINY_SECONDS = 4.0


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _no_user_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty home of the program and none of its variables, for this process and those that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("IMPACT_") and name != "IMPACT_MINILM"]:
            patch.delenv(name)
        patch.setenv("IMPACT_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def write_tiny_bundle(folder: Path, *, name: str | None = None, replace: bool = False) -> Path:
    """A bundle of random weights and the real code: 16 kHz, tokens of 64 ms, up to 4 s; about 0.3 MB.

    The codec's tensors are random too, so what it decodes is noise, but finite and of the right length.
    """
    import torch

    from impact_plugin.bundle.schema import Licence
    from impact_plugin.bundle.write import draft_info, write_bundle
    from impact_plugin.codec.starter import StarterCodec, StarterConfig
    from impact_plugin.conditions.bank import Bank
    from impact_plugin.model.config import ConditionKind, ModelConfig
    from impact_plugin.model.impact import ImpactModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20)
        codec = StarterCodec(
            StarterConfig(
                rate=TINY_RATE,
                fft=512,
                hop=256,
                bands=32,
                frames_per_token=4,
                dims=8,
                frame_width=16,
                token_width=16,
                frame_blocks=1,
                token_blocks=1,
                phase_rounds=4,
                preview_phase_rounds=2,
            )
        )
        config = ModelConfig(
            dims=8,
            tokens=63,
            width=32,
            heads=2,
            encoder_layers=1,
            decoder_layers=1,
            head_width=32,
            head_blocks=1,
            conditions={
                "text": ConditionKind(384, 32),
                "pooled": ConditionKind(384, 1),
                "length": ConditionKind(32, 1),
                "near": ConditionKind(8, 2 * 4),
            },
            dropout=0.0,
        )
        model = ImpactModel(config)
        with torch.no_grad():
            for parameter in model.head.parameters():  # made to start at zero; untrained, it would ignore the prompt
                parameter.normal_(0.0, 0.05)
        bank = Bank(  # three sounds of 2 tokens each, two captions a sound
            vectors=torch.nn.functional.normalize(torch.randn(6, 384), dim=-1),
            owners=torch.tensor([0, 0, 1, 1, 2, 2]),
            latents=torch.randn(6, 8),
            offsets=torch.tensor([0, 2, 4, 6]),
            seconds=torch.tensor([0.5, 1.0, 2.0]),
            tokens=4,
        )
    info = draft_info(
        name=name or folder.name,
        codec=codec,
        model=config,
        seconds_limit=TINY_SECONDS,
        licences=[Licence(covers="everything", licence="CC0-1.0")],
        description="Random weights, for tests.",
        defaults={"iterations": 4, "guidance": 2.0},
        text_config={"max_tokens": 32},
        attribution="ATTRIBUTION.md",
    )
    write_bundle(
        folder,
        info,
        codec_state=codec.to_parts()[1],
        generator_state=model.state_dict(),
        extras=bank.to_tensors(),
        attribution="# Attribution\n\nNothing was trained on.\n",
        replace=replace,
    )
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random bundle. Read only: a test that changes files copies it first."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_bundle: Path) -> Bundle:
    """The tiny random bundle, opened once for all tests, on the CPU. Do not change it."""
    from impact_plugin.bundle.load import load_bundle

    return load_bundle(tiny_bundle)
