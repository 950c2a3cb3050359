"""A bundle's weight files: where they may lie, what bytes they must be, how tensors are stored.

Knows files and safetensors. Does not know which part of a bundle the tensors are for.
On disk big float tensors are float16, small ones float32; in memory all floats are float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from impact_plugin.bundle.schema import Part, check_relative
from impact_plugin.errors import ImpactError

if TYPE_CHECKING:
    from torch import Tensor

#: Tensors of up to this many values stay float32 on disk: norms, biases, statistics and filter banks cost nothing.
SMALL: Final = 4096
#: A bigger tensor becomes float16 only if no value moves by more than this share of the tensor's largest.
TOLERANCE: Final = 1e-3


def inside(folder: Path, name: str) -> Path:
    """The path of a file named by a bundle, which must lie in its folder, links followed.

    Raises:
        ImpactError: ``bad_file``.
    """
    try:
        check_relative(name)
    except ValueError as error:
        raise ImpactError("bad_file", f"{folder}: {error}") from None
    root = folder.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise ImpactError("bad_file", f"{folder / name} is a link that leads out of the bundle's folder")
    return path


def check_bytes(path: Path, data: bytes, sha256: str | None, size: int | None) -> None:
    """Compare a file's bytes with what `bundle.yaml` says.

    Raises:
        ImpactError: ``bad_file``, truncated or changed.
    """
    again = "copy the bundle again"
    if size is not None and len(data) < size:
        raise ImpactError("bad_file", f"{path} is truncated: {len(data)} of {size} bytes; {again}")
    if size is not None and len(data) > size:
        raise ImpactError("bad_file", f"{path} is too long: {len(data)} instead of {size} bytes; {again}")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ImpactError("bad_file", f"{path} is not the file that bundle.yaml names (sha256 differs); {again}")


def read_weights(folder: Path, part: Part) -> dict[str, Tensor]:
    """The tensors of a part, checked before a byte of them is interpreted; floats as float32.

    The file is read once, so that what was checked is what is used.

    Raises:
        ImpactError: ``bad_file`` when the file is missing, truncated, changed or not safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if part.weights is None:
        return {}
    path = inside(folder, part.weights)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImpactError("bad_file", f"weight file {path} is missing: copy the bundle again") from None
    except OSError as error:
        raise ImpactError("bad_file", f"cannot read {path}: {error.strerror or error}") from None
    check_bytes(path, data, part.sha256, part.size)
    try:
        tensors = load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ImpactError("bad_file", f"{path} is not a safetensors file: {error}") from None
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def to_bytes(tensors: Mapping[str, Tensor], *, keep_float32: Collection[str] = ()) -> bytes:
    """The bytes of a safetensors file; the same tensors always give the same bytes.

    Args:
        keep_float32: names of tensors that must not become float16.

    Raises:
        ImpactError: ``bad_argument`` for a tensor with a value that is infinite or no number.
    """
    from safetensors.torch import save

    return save(
        {name: stored(name, tensor, keep_float32=name in keep_float32) for name, tensor in sorted(tensors.items())}
    )


def stored(name: str, tensor: Tensor, *, keep_float32: bool = False) -> Tensor:
    """A tensor as it goes to disk: on the CPU, contiguous, its own memory, float16 where that loses nothing heard."""
    import torch

    out = tensor.detach().to("cpu")
    if not out.is_floating_point():
        return out.clone(memory_format=torch.contiguous_format)
    out = out.to(torch.float32)
    if not bool(torch.isfinite(out).all()):
        raise ImpactError("bad_argument", f"tensor {name!r} holds infinite or not-a-number values: not written")
    if out.numel() > SMALL and not keep_float32:
        half = out.to(torch.float16)
        if float((half.float() - out).abs().max()) <= TOLERANCE * float(out.abs().max()):
            out = half
    return out.clone(memory_format=torch.contiguous_format)
