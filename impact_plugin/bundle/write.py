"""Writes a model bundle: whole, checked by opening it again, or not at all.

Knows files and the format. Does not know training; whoever trained hands over tensors and a description.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from impact_plugin.bundle.load import EXTRA_PREFIX, MODEL_PREFIX, open_folder
from impact_plugin.bundle.schema import FILE_NAME, BundleInfo, Licence, Part, Parts, parse_info
from impact_plugin.bundle.weights import to_bytes
from impact_plugin.errors import ImpactError

if TYPE_CHECKING:
    from torch import Tensor

    from impact_plugin.codec.base import Codec
    from impact_plugin.model.config import ModelConfig

CODEC_FILE: Final = "codec.safetensors"
GENERATOR_FILE: Final = "generator.safetensors"
_FULL: Final = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows knows no quota error


def draft_info(
    *,
    name: str,
    codec: Codec,
    model: ModelConfig,
    seconds_limit: float,
    licences: Sequence[Licence],
    description: str = "",
    version: str = "1",
    defaults: Mapping[str, bool | int | float | str | None] | None = None,
    text_kind: str = "minilm",
    text_config: Mapping[str, Any] | None = None,
    attribution: str | None = None,
) -> BundleInfo:
    """The description of a bundle to be written: weight files and hashes are filled in by :func:`write_bundle`.

    Args:
        seconds_limit: longest sound, seconds.
        attribution: name of the attribution file, such as ``ATTRIBUTION.md``.

    Raises:
        pydantic.ValidationError: a value does not fit the format.
    """
    return BundleInfo(
        name=name,
        description=description,
        version=version,
        licences=list(licences),
        attribution=attribution,
        rate=codec.rate,
        seconds_limit=seconds_limit,
        defaults=dict(defaults or {}),
        parts=Parts(
            codec=Part(kind=codec.kind, config=codec.to_parts()[0]),
            text=Part(kind=text_kind, config=dict(text_config or {})),
            generator=Part(kind="impact", config=model.to_dict()),
        ),
    )


def write_bundle(
    folder: Path,
    info: BundleInfo,
    *,
    codec_state: Mapping[str, Tensor],
    generator_state: Mapping[str, Tensor],
    extras: Mapping[str, Tensor] | None = None,
    attribution: str | None = None,
    keep_float32: Collection[str] = (),
    replace: bool = False,
) -> BundleInfo:
    """Write a bundle's folder and open it again before it gets its name.

    Args:
        folder: where; its parent is made if missing. Nothing of it is there until all of it is.
        info: what it is; weight files, sizes and hashes of codec and generator are filled in.
        codec_state: tensors as the codec's ``to_parts`` gives them.
        generator_state: the model's state dict.
        extras: further tensors that belong to the bundle.
        attribution: content of the file that ``info.attribution`` names.
        keep_float32: names of tensors (of any of the three) that must not be stored as float16.
        replace: take the place of a bundle that is there.

    Returns:
        The description as written.

    Raises:
        ImpactError: ``bad_argument`` (folder taken, attribution text missing, values not finite), ``bad_file`` (parts
            that do not fit each other, folder cannot be written), ``disk_full``.
    """
    folder = Path(folder)
    if (attribution is None) != (info.attribution is None):
        raise ImpactError("bad_argument", "the attribution file's name and its text go together", "attribution")
    if folder.exists() and not (replace and (folder / FILE_NAME).is_file()):
        what = "there is a bundle already" if (folder / FILE_NAME).is_file() else "something else is there"
        raise ImpactError("bad_argument", f"cannot write {folder}: {what}", "name")
    generator = {MODEL_PREFIX + name: tensor for name, tensor in generator_state.items()}
    generator |= {EXTRA_PREFIX + name: tensor for name, tensor in (extras or {}).items()}
    keep = {prefix + name for name in keep_float32 for prefix in ("", MODEL_PREFIX, EXTRA_PREFIX)}
    files = {
        CODEC_FILE: to_bytes(codec_state, keep_float32=keep),
        GENERATOR_FILE: to_bytes(generator, keep_float32=keep),
    }
    parts = info.parts.model_copy(
        update={
            "codec": _with_file(info.parts.codec, CODEC_FILE, files[CODEC_FILE]),
            "generator": _with_file(info.parts.generator, GENERATOR_FILE, files[GENERATOR_FILE]),
        }
    )
    info = info.model_copy(update={"parts": parts})
    if info.attribution is not None and attribution is not None:
        files[info.attribution] = attribution.encode()
    files[FILE_NAME] = yaml.safe_dump(info.to_data(), sort_keys=False, allow_unicode=True, width=100).encode()
    written = parse_info(FILE_NAME, files[FILE_NAME])
    temporary = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.tmp"
    try:
        temporary.mkdir(parents=True)
        for name, content in files.items():
            _write_file(temporary / name, content)
        open_folder(temporary)
        _put_in_place(temporary, folder)
    except OSError as error:
        full = error.errno in _FULL
        text = f"cannot write {folder}: {'the disk is full' if full else error.strerror or error}"
        raise ImpactError("disk_full" if full else "bad_file", text) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return written


def _with_file(part: Part, name: str, content: bytes) -> Part:
    digest = hashlib.sha256(content).hexdigest()
    return part.model_copy(update={"weights": name, "sha256": digest, "size": len(content)})


def _write_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Rename; a bundle that is in the way steps aside first and comes back if that fails."""
    if not folder.exists():
        temporary.rename(folder)
        return
    aside = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.old"
    folder.rename(aside)
    try:
        temporary.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)
