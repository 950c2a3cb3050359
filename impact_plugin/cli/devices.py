"""`impact devices`: what can compute and what can play on this machine."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer


def devices(as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")] = False) -> None:
    """Compute devices (for --device) and audio outputs.

    \b
    impact devices
    impact devices --json
    """
    from impact_plugin.cli.output import print_json, print_line, print_table

    compute, audio, problem = compute_devices(), *audio_outputs()
    if as_json:
        for row in [*compute, *audio]:
            print_json(row)
        return
    print_table(("COMPUTE", "NAME", "MEMORY"), [(row["id"], row["name"], row["memory"]) for row in compute])
    print_line("")
    if audio:
        rows = [(str(row["id"]), row["api"], f"{row['rate']} hz", row["name"]) for row in audio]
        print_table(("AUDIO", "API", "RATE", "NAME"), rows)
    else:
        print_line(f"no audio output: {problem}")


def compute_devices() -> list[dict[str, Any]]:
    """Devices that `--device` takes, the one that `auto` takes first."""
    import platform

    import torch

    from impact_plugin.bundle.device import cuda_count, has_mps
    from impact_plugin.engine.engine import usable_cores

    rows: list[dict[str, Any]] = []
    for index in range(cuda_count()):
        properties = torch.cuda.get_device_properties(index)
        rows.append(
            {
                "kind": "compute",
                "id": f"cuda:{index}",
                "name": properties.name,
                "memory": f"{properties.total_memory / 2**30:.1f} GB",
            }
        )
    if has_mps():
        rows.append({"kind": "compute", "id": "mps", "name": "Apple GPU", "memory": "shared"})
    name = platform.processor() or platform.machine()
    rows.append({"kind": "compute", "id": "cpu", "name": f"{name}, {usable_cores()} cores", "memory": "shared"})
    return rows


def audio_outputs() -> tuple[list[dict[str, Any]], str]:
    """Audio outputs, and why there are none if so."""
    from impact_plugin.audio.outputs import list_outputs

    outputs, problem = list_outputs()
    return [{"kind": "audio", **dataclasses.asdict(output)} for output in outputs], problem
