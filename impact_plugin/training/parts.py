"""What training runs hand on: a trained codec in its run folder, and a finished bundle.

Knows the files between the steps and the licences of a data set. Does not train.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from impact_plugin.bundle.kinds import make_codec
from impact_plugin.bundle.load import Bundle
from impact_plugin.bundle.schema import FILE_NAME, BundleInfo, Licence
from impact_plugin.bundle.write import draft_info, write_bundle
from impact_plugin.errors import ImpactError
from impact_plugin.training.store import Sound, SoundStore

if TYPE_CHECKING:
    from impact_plugin.codec.base import Codec
    from impact_plugin.conditions.bank import Bank
    from impact_plugin.model.impact import ImpactModel
    from impact_plugin.text.base import TextEncoder

CODEC_TENSORS = "codec.safetensors"
CODEC_CONFIG = "codec.json"
ATTRIBUTION = "ATTRIBUTION.md"

Setting = bool | int | float | str | None


def save_codec(run: Path, codec: Codec) -> None:
    """Leave a trained codec in its run folder: config as JSON, tensors as safetensors."""
    config, tensors = codec.to_parts()
    partial = run / (CODEC_TENSORS + ".partial")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial)
    os.replace(partial, run / CODEC_TENSORS)
    partial = run / (CODEC_CONFIG + ".partial")
    partial.write_text(json.dumps({"kind": codec.kind, "config": config}, indent=1), encoding="utf-8")
    os.replace(partial, run / CODEC_CONFIG)


def read_codec(place: Path | str) -> Codec:
    """The codec of a codec run, or of a bundle (name or folder).

    Raises:
        ImpactError: `bad_file`, `model_missing`.
    """
    from impact_plugin.bundle.load import load_codec

    folder = Path(place)
    if not (folder / CODEC_CONFIG).is_file() or (folder / FILE_NAME).is_file():
        return load_codec(place)
    try:
        description = json.loads((folder / CODEC_CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / CODEC_TENSORS)
        kind, config = str(description["kind"]), dict(description["config"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ImpactError("bad_file", f"{folder} holds no whole codec: {error}", "codec") from error
    return make_codec(kind, config, tensors)


def licences_of(sounds: Sequence[Sound]) -> list[Licence]:
    """Every licence of the sounds that are trained on, the commonest first."""
    counted = Counter(sound.license for sound in sounds if sound.split == "train" and sound.license_ok)
    found = [
        Licence(covers=f"{count} training sounds", licence=(name or "unknown")[:400])
        for name, count in counted.most_common()
    ]
    return found or [Licence(covers="training sounds", licence="unknown")]


def attribution_of(sounds: Sequence[Sound]) -> str:
    """The attribution file: where the training sounds come from, by source and licence."""
    counted = Counter(
        (_origin(sound.source), sound.license or "unknown")
        for sound in sounds
        if sound.split == "train" and sound.license_ok
    )
    rows = [f"| {source} | {licence} | {count} |" for (source, licence), count in sorted(counted.items())]
    head = ["# Attribution", "", "The sounds that this bundle was trained on.", ""]
    return "\n".join([*head, "| source | licence | sounds |", "|---|---|---|", *rows, ""])


def describe(
    name: str,
    codec: Codec,
    model: ImpactModel,
    sounds: Sequence[Sound],
    *,
    seconds_limit: float,
    text_tokens: int,
    defaults: Mapping[str, Setting],
    description: str = "",
    licence: str | None = None,
) -> BundleInfo:
    """The `bundle.yaml` of what was trained.

    Args:
        licence: of the weights, and of the training sounds' latents that lie in the bundle.
    """
    own = [Licence(covers="weights and bank of neighbouring sounds", licence=licence)] if licence else []
    encoder = Licence(
        covers="text encoder (not part of the bundle)", licence="Apache-2.0", holder="sentence-transformers"
    )
    return draft_info(
        name=name,
        codec=codec,
        model=model.config,
        seconds_limit=seconds_limit,
        licences=[*own, encoder, *licences_of(sounds)],
        description=description,
        defaults=defaults,
        text_config={"max_tokens": text_tokens},
        attribution=ATTRIBUTION,
    )


def save_bundle(
    folder: Path, info: BundleInfo, codec: Codec, model: ImpactModel, bank: Bank, data: Path, *, replace: bool = False
) -> BundleInfo:
    """Write the bundle of a finished run.

    Raises:
        ImpactError: as :func:`impact_plugin.bundle.write.write_bundle`.
    """
    return write_bundle(
        folder,
        info,
        codec_state=codec.to_parts()[1],
        generator_state=model.state_dict(),
        extras=bank.to_tensors(),
        attribution=attribution_of(SoundStore(data).read_index()),
        keep_float32=["bank.seconds"],
        replace=replace,
    )


def in_memory(info: BundleInfo, codec: Codec, text: TextEncoder, model: ImpactModel, bank: Bank) -> Bundle:
    """The bundle of a run that is still going on, to listen to it."""
    device = next(model.parameters()).device
    return Bundle(info, Path(), codec, text, model, bank.to_tensors(), device)


def _origin(source: str) -> str:
    """The package or library of a sound, without the path inside it."""
    head, _, tail = source.partition(":")
    return f"{head}: own library" if head == "folder" else head or tail
