"""The contact sheet of presets: each made once with a bundle, all spectrograms in one picture.

Knows the engine and the library. Sounds longer than the bundle makes are made as long as it can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from impact_plugin.audio.files import check_folder, make_folder, write_bytes
from impact_plugin.audio.picture import Sound, contact_sheet_png
from impact_plugin.cli.library import open_library
from impact_plugin.cli.output import print_json, print_line, progress_bar
from impact_plugin.errors import ImpactError
from impact_plugin.presets.schema import Preset, expand
from impact_plugin.request import Request, unknown_key

if TYPE_CHECKING:
    from impact_plugin.engine.engine import Engine

#: Presets made in one batch.
BATCH = 6


def draw_sheet(
    output: Path,
    *,
    tag: str | None,
    seed: int,
    iterations: int | None,
    columns: int,
    model: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Make every preset (of a tag) once and write the picture, replacing an older one.

    Raises:
        ImpactError: an output that is no .png, a tag that no preset has, and what making sounds can raise.
    """
    if output.suffix.lower() != ".png":
        raise ImpactError("bad_argument", f"{output.name}: the picture's name must end in .png", "output")
    check_folder(output.parent)
    library = open_library()
    presets = sorted(library.values(), key=lambda preset: (preset.bank, preset.name))
    if tag is not None:
        tags = sorted({word for preset in presets for word in preset.tags})
        if tag not in tags:
            raise ImpactError("bad_argument", unknown_key(tag, tags, "tag").text, "tag")
        presets = [preset for preset in presets if tag in preset.tags]
    with progress_bar() as bar:
        bar.update(0.0, "loading the model")
        from impact_plugin.bundle.load import load_bundle
        from impact_plugin.engine.engine import Engine

        engine = Engine(load_bundle(model, device))
        requests = [_request(preset, seed, iterations, engine.seconds_limit) for preset in presets]
        sounds: dict[int, Sound] = {}
        for number, sound in _make(engine, requests):
            sounds[number] = sound
            prompt, audio, rate = sound
            bar.update(len(sounds) / len(presets), prompt)
            if as_json:
                print_json({"preset": presets[number].full_name, "prompt": prompt, "seconds": len(audio) / rate})
    make_folder(output.parent)
    tiles = [(preset.full_name, sounds[number]) for number, preset in enumerate(presets)]
    write_bytes(output, contact_sheet_png(tiles, columns=columns), overwrite=True)
    if not as_json:
        print_line(f"{output}: {len(tiles)} presets, seed {seed}, model {engine.bundle.info.name}")


def _request(preset: Preset, seed: int, iterations: int | None, limit: float) -> Request:
    values = expand({"preset": preset.name, "seed": seed, "variants": 1}, {preset.name: preset})
    if iterations is not None:
        values.setdefault("iterations", iterations)
    if "seconds" in values:
        values["seconds"] = min(values["seconds"], limit)
    return Request.parse(values)


def _make(engine: Engine, requests: Sequence[Request]) -> Iterator[tuple[int, Sound]]:
    """(number, (prompt, audio, rate)) of every request; those of like length share a batch."""
    from impact_plugin.engine.events import Result

    order = sorted(range(len(requests)), key=lambda number: requests[number].seconds or 0.0)
    for start in range(0, len(order), BATCH):
        numbers = order[start : start + BATCH]
        plans = [engine.plan(requests[number]) for number in numbers]
        for which, event in engine.run_together(plans):
            if isinstance(event, Result):
                yield numbers[which], (plans[which].prompt, event.audio, event.rate)
