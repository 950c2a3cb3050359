"""The kinds of codec and generator a bundle may name.

Knows how each is made from a config and tensors, and that they must fit. Does not know files. Text kinds are in
:mod:`impact_plugin.text.kinds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from impact_plugin.bundle.nearest import suggestion
from impact_plugin.errors import ImpactError

if TYPE_CHECKING:
    from torch import Tensor

    from impact_plugin.codec.base import Codec
    from impact_plugin.model.impact import ImpactModel

#: Kinds that have a place in the format but no code yet.
RESERVED: Final[Mapping[str, str]] = {
    "audioldm": "codec kind 'audioldm' is not in this version yet: update impact-plugin or use another bundle",
}


def _starter_codec(config: dict[str, Any], tensors: dict[str, Tensor]) -> Codec:
    from impact_plugin.codec.starter import StarterCodec

    return StarterCodec.from_parts(config, tensors)


def _impact_generator(config: dict[str, Any], tensors: dict[str, Tensor]) -> ImpactModel:
    from torch.overrides import TorchFunctionMode

    from impact_plugin.model.config import ModelConfig
    from impact_plugin.model.impact import ImpactModel

    class NoRandomFill(TorchFunctionMode):
        """Leaves new parameters unfilled: the weights replace every one, and filling takes `base` three seconds."""

        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = kwargs or {}
            if getattr(func, "__name__", "").endswith(("uniform_", "normal_")):
                return args[0] if args else kwargs["tensor"]
            return func(*args, **kwargs)

    with NoRandomFill():
        model = ImpactModel(ModelConfig.from_dict(config))
    model.load_state_dict(tensors, assign=True)
    model.requires_grad_(False)
    return model.eval()


CODECS: Final[Mapping[str, Callable[[dict[str, Any], dict[str, Tensor]], Codec]]] = {"starter": _starter_codec}
GENERATORS: Final[Mapping[str, Callable[[dict[str, Any], dict[str, Tensor]], ImpactModel]]] = {
    "impact": _impact_generator
}


#: What Python and PyTorch raise when a config or tensors do not fit a constructor.
MISFITS: Final = (ValueError, TypeError, LookupError, RuntimeError, ArithmeticError, AttributeError)


def check_kind(part: str, kind: str) -> None:
    """Whether a part's kind has code here.

    Args:
        part: ``codec``, ``text`` or ``generator``.

    Raises:
        ImpactError: ``unsupported``.
    """
    from impact_plugin.text.kinds import KINDS

    known = {"codec": tuple(CODECS), "text": KINDS, "generator": tuple(GENERATORS)}[part]
    if kind in known:
        return
    if part == "codec" and kind in RESERVED:
        raise ImpactError("unsupported", RESERVED[kind], "parts.codec.kind")
    raise ImpactError("unsupported", f"unknown {part} kind {kind!r}; {suggestion(kind, known)}", f"parts.{part}.kind")


def make_codec(kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Codec:
    """A codec of a kind.

    Raises:
        ImpactError: ``unsupported`` kind; ``bad_file`` when config and tensors do not fit it.
    """
    check_kind("codec", kind)
    try:
        return CODECS[kind](dict(config), dict(tensors))
    except MISFITS as error:
        raise misfit("codec", kind, error) from error


def make_generator(kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ImpactModel:
    """A generator of a kind, in eval mode, without gradients.

    Raises:
        ImpactError: ``unsupported`` kind; ``bad_file`` when config and tensors do not fit it.
    """
    check_kind("generator", kind)
    try:
        return GENERATORS[kind](dict(config), dict(tensors))
    except MISFITS as error:
        raise misfit("generator", kind, error) from error


def misfit(part: str, kind: str, error: Exception) -> ImpactError:
    """The error for a config or tensors that do not fit a kind, in one line."""
    if isinstance(error, ImpactError):
        return error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    text = " ".join(lines[:2])[:300]
    return ImpactError("bad_file", f"the bundle's {part} does not fit kind {kind!r}: {text}", f"parts.{part}")
