"""What `bundle.yaml` says: the format of a model bundle, checked key by key.

Knows names, types and ranges. Does not know whether the files it names are there (:mod:`impact_plugin.bundle.weights`)
or what the kinds mean (:mod:`impact_plugin.bundle.kinds`).
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from impact_plugin.bundle.nearest import suggestion
from impact_plugin.document import Document, Key, read_document
from impact_plugin.errors import ImpactError

FORMAT: Final = 1
FILE_NAME: Final = "bundle.yaml"
PICKLE_SUFFIXES: Final = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz"})


def _check_name(name: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) is None:
        raise ValueError(f"{name[:80]!r} must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit")
    return name


def _check_setting(value: object) -> object:
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError("a setting is a number, a text, true or false")
    return value


Line = Annotated[str, StringConstraints(min_length=1, max_length=400, pattern=r"^[^\x00-\x1f\x7f]+$")]
Text = Annotated[str, StringConstraints(max_length=4000)]
Name = Annotated[str, AfterValidator(_check_name)]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Setting = Annotated[bool | int | float | str | None, BeforeValidator(_check_setting)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def check_relative(name: str) -> str:
    """A file name inside the bundle's folder, with ``/`` between folders.

    Raises:
        ValueError: absolute, with a drive, with ``..`` or otherwise able to leave the folder.
    """
    parts = name.split("/")
    if not name or "\\" in name or ":" in name or any(ord(letter) < 32 for letter in name):
        raise ValueError("must be a file name inside the bundle's folder, folders divided by '/'")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{name!r} leads out of the bundle's folder")
    return name


class Licence(_Strict):
    """A licence that holds for part of the bundle.

    Attributes:
        covers: what it covers, such as ``weights``, ``training data``, ``text encoder``.
        licence: SPDX identifier or name.
        holder: who gave it.
        url: where its text or the work is found.
    """

    covers: Line
    licence: Line
    holder: Line | None = None
    url: Line | None = None


class Part(_Strict):
    """One of the three parts: a kind, its config and, where the kind has weights of its own, one weight file.

    Attributes:
        kind: looked up in the tables of :mod:`impact_plugin.bundle.kinds`.
        config: handed to the kind as it is.
        weights: `.safetensors` file inside the folder.
        sha256: of that file, hexadecimal.
        size: of that file, bytes.
    """

    kind: Word
    config: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    sha256: Sha256 | None = None
    size: Annotated[int, Field(ge=1, le=1 << 40)] | None = None

    @field_validator("weights")
    @classmethod
    def _weights(cls, name: str | None) -> str | None:
        if name is None:
            return None
        check_relative(name)
        suffix = Path(name).suffix.lower()
        if suffix in PICKLE_SUFFIXES:
            raise ValueError(f"{name!r} may hold a pickle, which can run code: only .safetensors weights are loaded")
        if suffix != ".safetensors":
            raise ValueError(f"{name!r} must be a .safetensors file")
        return name

    @model_validator(mode="after")
    def _together(self) -> Part:
        if (self.weights is None) != (self.sha256 is None):
            raise ValueError("'weights' and 'sha256' go together")
        return self


class Parts(_Strict):
    """The three parts of a bundle."""

    codec: Part
    text: Part
    generator: Part

    def items(self) -> list[tuple[str, Part]]:
        """(name, part) in the order of the file."""
        return [("codec", self.codec), ("text", self.text), ("generator", self.generator)]


class BundleInfo(_Strict):
    """The whole of `bundle.yaml`.

    Attributes:
        format: version of this format.
        name: of the bundle; its folder should have the same.
        description: one or more lines for `impact models list` and `show`.
        version: of the bundle, the maker's own counting.
        licences: at least one.
        attribution: text file inside the folder that names the sources of the training sounds.
        rate: native sample rate, hz.
        seconds_limit: longest sound it makes, seconds.
        defaults: settings of a request that does not say otherwise, such as ``iterations`` or ``guidance``.
        parts: codec, text, generator.
    """

    format: Literal[1] = FORMAT
    name: Name
    description: Text = ""
    version: Line = "1"
    licences: Annotated[list[Licence], Field(min_length=1, max_length=1000)]
    attribution: str | None = None
    rate: Annotated[int, Field(ge=8000, le=192_000)]
    seconds_limit: Annotated[float, Field(gt=0, le=600)]
    defaults: dict[Word, Setting] = Field(default_factory=dict)
    parts: Parts

    @field_validator("attribution")
    @classmethod
    def _attribution(cls, name: str | None) -> str | None:
        if name is not None and Path(check_relative(name)).suffix.lower() not in (".md", ".txt", ".csv"):
            raise ValueError(f"{name!r} must be a .md, .txt or .csv file")
        return name

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that are equal for bundles that sound the same: kinds, configs and weights."""
        parts = {name: [part.kind, part.config, part.sha256] for name, part in self.parts.items()}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]

    def to_data(self) -> dict[str, Any]:
        """Plain values for a YAML or JSON file, without what was left unsaid."""
        data = self.model_dump(mode="json", exclude={"parts"})
        data["licences"] = [_said(licence) for licence in data["licences"]]
        parts = {name: _said(part.model_dump(mode="json")) for name, part in self.parts.items()}
        return {**_said(data), "parts": parts}


def _said(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value is not None}


def read_info(path: Path) -> BundleInfo:
    """Read a bundle's `bundle.yaml`.

    Args:
        path: the file itself.

    Raises:
        ImpactError: ``model_missing`` when there is no such file, ``bad_file`` with line and key when it is wrong.
    """
    try:
        if path.stat().st_size > 4 << 20:
            raise ImpactError("bad_file", f"{path}: too big for a {FILE_NAME}")
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ImpactError("model_missing", f"no {FILE_NAME} in {path.parent}: not a model bundle", "model") from None
    except OSError as error:
        raise ImpactError("bad_file", f"cannot read {path}: {error.strerror or error}") from None
    return parse_info(str(path), content)


def parse_info(name: str, content: bytes) -> BundleInfo:
    """Parse the bytes of a `bundle.yaml`; ``name`` is what messages call the file.

    Raises:
        ImpactError: ``bad_file`` with line and key.
    """
    document = read_document(name, content)
    version = document.data.get("format")
    if version is None:
        raise document.error((), f"'format: {FORMAT}' is missing, so this is no model bundle")
    if isinstance(version, bool) or version != FORMAT:
        raise document.error(
            ("format",), f"bundle format {version!r} is not {FORMAT}, the one this version reads: update impact-plugin"
        )
    return validate(BundleInfo, document)


Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], document: Document) -> Model:
    """Check a document against a pydantic model; the first fault becomes one line.

    Raises:
        ImpactError: ``bad_file`` with line, key and, for an unknown key, the nearest valid one.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=True)
        fault = next((one for one in faults if one["type"] == "extra_forbidden"), faults[0])
        key: Key = tuple(fault["loc"])
        if fault["type"] == "extra_forbidden":
            valid = _keys_at(model, key[:-1])
            text = f"unknown key {str(key[-1])!r}; {suggestion(str(key[-1]), valid)}"
            raise document.error(key, text.rstrip("; ")) from None
        if fault["type"] == "missing":
            raise document.error(key[:-1], f"key {str(key[-1])!r} is missing") from None
        raise document.error(_known(key, document), _plain(str(fault["msg"]))) from None


def _known(key: Key, document: Document) -> Key:
    """The part of an error's location that exists in the file: pydantic adds names of union members at the end."""
    while key and key not in document.lines:
        key = key[:-1]
    return key


def _plain(message: str) -> str:
    """Pydantic's message in the words of a user."""
    message = re.sub(r"^(Value error|Assertion failed), ", "", message)
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def _keys_at(model: type[BaseModel], key: Key) -> list[str]:
    """The valid keys of the nested model at a location of an error."""
    current: type[BaseModel] = model
    for step in key:
        if isinstance(step, int):
            continue
        field = current.model_fields.get(str(step))
        inner = _model_of(field.annotation) if field is not None else None
        if inner is None:
            return []
        current = inner
    return list(current.model_fields)


def _model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_of(argument)
        if found is not None:
            return found
    return None
