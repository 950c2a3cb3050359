"""Opens a model bundle: codec, text encoder and generator, checked and ready to use.

Knows the order of checks (names, kinds, bytes, shapes, fit of the parts to each other). Does not know decoding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from impact_plugin.bundle.device import resolve_device
from impact_plugin.bundle.kinds import check_kind, make_codec, make_generator
from impact_plugin.bundle.registry import resolve_bundle
from impact_plugin.bundle.schema import FILE_NAME, BundleInfo, read_info
from impact_plugin.bundle.weights import read_weights
from impact_plugin.errors import ImpactError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from impact_plugin.codec.base import Codec
    from impact_plugin.model.impact import ImpactModel
    from impact_plugin.text.base import TextEncoder

#: How tensors are named in the generator's file: parameters, and everything else that belongs to the bundle.
MODEL_PREFIX: Final = "model."
EXTRA_PREFIX: Final = "extra."


@dataclass
class Bundle:
    """An opened bundle.

    Attributes:
        info: what its `bundle.yaml` says.
        path: its folder.
        codec, text, model: its parts; the model in eval mode without gradients.
        extras: further tensors of the generator's file, such as a duration predictor, float32.
        device: where codec, model and extras are; the text encoder always works on the CPU.
    """

    info: BundleInfo
    path: Path
    codec: Codec
    text: TextEncoder
    model: ImpactModel
    extras: dict[str, Tensor]
    device: torch.device

    @property
    def name(self) -> str:
        return self.info.name

    def to(self, device: torch.device | str) -> Bundle:
        """This bundle, its codec, model and extras moved to a device.

        Raises:
            ImpactError: ``out_of_memory``, or what :func:`resolve_device` raises.
        """
        import torch

        target = resolve_device(str(device))
        try:
            self.codec = self.codec.to(target)
            self.model = self.model.to(target)
            self.extras = {name: tensor.to(target) for name, tensor in self.extras.items()}
        except (torch.OutOfMemoryError, MemoryError) as error:
            text = f"model {self.name!r} does not fit into the memory of {target}: use --device cpu"
            raise ImpactError("out_of_memory", text, "device") from error
        self.device = target
        return self


def load_bundle(name_or_path: str | Path | None = None, device: str = "cpu") -> Bundle:
    """Open a bundle.

    Args:
        name_or_path: a name, a folder, or None for the starter bundle.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        ImpactError: ``model_missing`` (no such bundle, no text encoder), ``bad_file`` (anything wrong with its files),
            ``unsupported`` (kind or device), ``out_of_memory``.
    """
    target = resolve_device(device)
    return open_folder(resolve_bundle(name_or_path)).to(target)


def load_codec(name_or_path: str | Path | None = None, device: str = "cpu") -> Codec:
    """Only the codec of a bundle; the rest is not read. Arguments and errors as :func:`load_bundle`."""
    target = resolve_device(device)
    folder = resolve_bundle(name_or_path)
    info = read_info(folder / FILE_NAME)
    return _codec(folder, info).to(target)


def open_folder(folder: Path) -> Bundle:
    """Open the bundle in a folder, on the CPU. Errors as :func:`load_bundle`."""
    import torch

    from impact_plugin.text.kinds import make_text_encoder

    info = read_info(folder / FILE_NAME)
    for name, part in info.parts.items():
        check_kind(name, part.kind)
    try:
        codec = _codec(folder, info)
        tensors = read_weights(folder, info.parts.generator)
        state, extras = split_tensors(tensors, folder)
        model = make_generator(info.parts.generator.kind, info.parts.generator.config, state)
        text = make_text_encoder(info.parts.text.kind, info.parts.text.config)
    except MemoryError as error:
        raise ImpactError("out_of_memory", f"model {info.name!r} does not fit into memory", "model") from error
    check_fit(info, codec, text, model)
    return Bundle(info, folder, codec, text, model, extras, torch.device("cpu"))


def split_tensors(tensors: dict[str, Tensor], folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The generator's file, split into the model's parameters and the extras.

    Raises:
        ImpactError: ``bad_file`` for a tensor that is neither.
    """
    state, extras = {}, {}
    for name, tensor in tensors.items():
        if name.startswith(MODEL_PREFIX):
            state[name.removeprefix(MODEL_PREFIX)] = tensor
        elif name.startswith(EXTRA_PREFIX):
            extras[name.removeprefix(EXTRA_PREFIX)] = tensor
        else:
            raise ImpactError("bad_file", f"{folder}: tensor {name[:100]!r} of the generator is of no known use")
    return state, extras


def check_fit(info: BundleInfo, codec: Codec, text: TextEncoder, model: ImpactModel) -> None:
    """Whether the parts fit each other and what `bundle.yaml` promises.

    Raises:
        ImpactError: ``bad_file`` with the two numbers that differ.
    """
    config = model.config
    faults = []
    if codec.rate != info.rate:
        faults.append(f"rate is {info.rate} hz, but its codec works at {codec.rate} hz")
    if codec.dims != config.dims:
        faults.append(f"the codec's tokens have {codec.dims} dims, the generator's {config.dims}")
    needed = math.ceil(info.seconds_limit * codec.tokens_per_second - 1e-6)
    if needed > config.tokens:
        reach = config.tokens / codec.tokens_per_second
        faults.append(f"seconds_limit {info.seconds_limit:g} is longer than the {reach:.2f} s the generator reaches")
    words = config.conditions.get("text")
    if words is not None and words.dims != text.dims:
        faults.append(f"the text encoder's features have {text.dims} dims, the generator wants {words.dims}")
    if words is not None and words.length < text.max_tokens:
        faults.append(f"the text encoder gives up to {text.max_tokens} tokens, the generator takes {words.length}")
    if faults:
        raise ImpactError("bad_file", f"the parts of bundle {info.name!r} do not fit: {faults[0]}")


def _codec(folder: Path, info: BundleInfo) -> Codec:
    part = info.parts.codec
    check_kind("codec", part.kind)
    return make_codec(part.kind, part.config, read_weights(folder, part))
