"""Everything that is wrong with a bundle, for `impact models verify`: not only the first fault.

Knows which checks there are. Each check itself lives where loading does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from impact_plugin.bundle.kinds import MISFITS, check_kind, misfit
from impact_plugin.bundle.load import open_folder
from impact_plugin.bundle.schema import FILE_NAME, PICKLE_SUFFIXES, Part, read_info
from impact_plugin.bundle.weights import inside, read_weights
from impact_plugin.errors import ImpactError

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check.

    Attributes:
        level: ``error`` when the bundle cannot be used.
        subject: the file or part it is about.
        text: one line.
        code: the contract's code of an error, else None.
    """

    level: Level
    subject: str
    text: str
    code: str | None = None


def verify_bundle(path: Path) -> list[Finding]:
    """Check a bundle's folder: description, kinds, bytes and values of weights, attribution, fit of the parts.

    Never raises for a faulty bundle; :func:`is_usable` sums the findings up.
    """
    try:
        info = read_info(path / FILE_NAME)
    except ImpactError as error:
        return [_error(FILE_NAME, error)]
    findings = [Finding("ok", FILE_NAME, f"format {info.format}, {info.name!r} version {info.version}")]
    if path.resolve().name != info.name:
        findings.append(
            Finding("warning", FILE_NAME, f"name is {info.name!r}, but its folder is {path.resolve().name!r}")
        )
    for name, part in info.parts.items():
        try:
            check_kind(name, part.kind)
            findings.append(_weights(path, name, part) if part.weights else Finding("ok", name, f"kind {part.kind!r}"))
        except ImpactError as error:
            findings.append(_error(name, error))
    findings.append(_attribution(path, info.attribution))
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in PICKLE_SUFFIXES:
            findings.append(
                Finding("warning", file.name, "may hold a pickle; it is never loaded and should be deleted")
            )
    if is_usable(findings):
        from impact_plugin.conditions.bank import Bank

        try:
            bundle = open_folder(path)
            Bank.from_tensors(bundle.extras)
            count = sum(parameter.numel() for parameter in bundle.model.parameters())
            findings.append(Finding("ok", "parts", f"fit each other, generator of {count / 1e6:.1f} M parameters"))
        except ImpactError as error:
            findings.append(_error("parts", error))
        except MISFITS as error:
            findings.append(_error("generator", misfit("generator", info.parts.generator.kind, error)))
    return findings


def is_usable(findings: list[Finding]) -> bool:
    """Whether none of the findings is an error."""
    return all(finding.level != "error" for finding in findings)


def _weights(path: Path, name: str, part: Part) -> Finding:
    import torch

    tensors = read_weights(path, part)
    for key, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            text = f"tensor {key!r} of {part.weights} holds infinite or not-a-number values"
            return Finding("error", name, text, "bad_file")
    values = sum(tensor.numel() for tensor in tensors.values())
    return Finding("ok", name, f"kind {part.kind!r}, {part.weights} matches its sha256, {values / 1e6:.1f} M values")


def _attribution(path: Path, name: str | None) -> Finding:
    if name is None:
        return Finding("warning", FILE_NAME, "names no attribution file for its training sounds")
    try:
        found = inside(path, name).is_file()
    except ImpactError as error:
        return _error(name, error)
    if not found:
        return Finding("warning", name, "the attribution file is missing: copy the bundle again")
    return Finding("ok", name, "attribution is there")


def _error(subject: str, error: ImpactError) -> Finding:
    return Finding("error", subject, error.text, error.code)
