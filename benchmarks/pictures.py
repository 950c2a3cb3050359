"""The README's picture: `python -m benchmarks.pictures [OUT]` draws eight prompts as the starter bundle makes them.

Also how one sound takes shape: the previews of one job, from the first iteration to the take.
"""

from __future__ import annotations

import sys
from pathlib import Path

from impact_plugin.audio.picture import spectrogram_png
from impact_plugin.bundle.load import load_bundle
from impact_plugin.engine.engine import Engine
from impact_plugin.engine.events import Preview, Result
from impact_plugin.request import Request

PROMPTS = (
    "glass bottle shatters on concrete",
    "heavy wooden door slams",
    "laser gun shot",
    "sword clash",
    "water splash",
    "dog barks",
    "kick drum",
    "magic sparkle chime",
)
SHAPING = "glass bottle shatters on concrete"


def main(out: Path) -> None:
    """Write `takes.png` and `previews.png` into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    engine = Engine(load_bundle("starter"))
    sounds = []
    for prompt in PROMPTS:
        for event in engine.run(engine.plan(Request.parse({"prompt": prompt, "seed": 3, "preview": False}))):
            if isinstance(event, Result):
                sounds.append((prompt, event.audio, event.rate))
    (out / "takes.png").write_bytes(spectrogram_png(sounds, columns=4, width=3.2, height=2.0))
    shaped = []
    request = Request.parse({"prompt": SHAPING, "seed": 3, "seconds": 1.5, "previews_every": 1})
    for event in engine.run(engine.plan(request)):
        if isinstance(event, Preview) and event.iteration in (1, 2, 4, 6, 8, 11, 14):
            shaped.append((f"after iteration {event.iteration}", event.audio, event.rate))
        elif isinstance(event, Result):
            shaped.append(("the take", event.audio, event.rate))
    (out / "previews.png").write_bytes(spectrogram_png(shaped, columns=4, width=3.2, height=2.0))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/images"))
