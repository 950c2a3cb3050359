"""Which compute device to use.

Knows PyTorch's three kinds of devices and how to say that one is not there. Does not know what will run on it.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Final

from impact_plugin.errors import ImpactError

if TYPE_CHECKING:
    import torch

CHOICES: Final = ("auto", "cpu", "cuda", "mps")


def resolve_device(choice: str = "auto") -> torch.device:
    """The device of a choice: ``auto`` takes CUDA, else MPS, else the CPU; ``cuda:1`` names the second GPU.

    Raises:
        ImpactError: ``bad_argument`` for an unknown choice, ``unsupported`` for a device that is not there.
    """
    import torch

    if choice == "auto":
        return torch.device("cuda" if cuda_count() else "mps" if has_mps() else "cpu")
    match = re.fullmatch(r"(cpu|mps|cuda(?::(\d{1,3}))?)", choice)
    if match is None:
        raise ImpactError("bad_argument", f"unknown device {choice!r}: use {', '.join(CHOICES)} or cuda:N", "device")
    if choice == "mps" and not has_mps():
        raise ImpactError("unsupported", "no Apple GPU that PyTorch can use here: use --device auto or cpu", "device")
    if choice.startswith("cuda"):
        count = cuda_count()
        if not count:
            built = torch.version.cuda is not None or torch.version.hip is not None
            why = "PyTorch finds no CUDA GPU here" if built else "the installed PyTorch is built without CUDA"
            raise ImpactError("unsupported", f"{why}: use --device auto or cpu", "device")
        if int(match[2] or 0) >= count:
            raise ImpactError("unsupported", f"no GPU {match[2]}: the last one is cuda:{count - 1}", "device")
    return torch.device(choice)


def cuda_count() -> int:
    """How many CUDA GPUs PyTorch can use; a broken driver counts as none."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.cuda.device_count() if torch.cuda.is_available() else 0


def has_mps() -> bool:
    """Whether an Apple GPU is there and this PyTorch can use it."""
    import torch

    return torch.backends.mps.is_available()
