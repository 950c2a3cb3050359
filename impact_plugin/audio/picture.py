"""Spectrogram pictures of sounds as a PNG: a few with their axes, or a contact sheet of many without.

Knows matplotlib (loaded when a picture is drawn, without a display). Does not know where the sounds come from.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from impact_plugin.audio.files import write_bytes

Audio = npt.NDArray[np.float32]
#: Title, audio (frames,), rate in hz.
Sound = tuple[str, Audio, int]

FLOOR_DB = -90.0
#: A tile of the contact sheet: pixels of its picture, of the two lines of text above it, and between tiles.
TILE_WIDTH, TILE_HEIGHT, TILE_TEXT, TILE_GAP = 200, 90, 26, 8
LOWEST_HZ = 40.0


def spectrogram_png(sounds: Sequence[Sound], *, columns: int = 1, width: float = 6.0, height: float = 2.0) -> bytes:
    """Log-frequency spectrograms with titles.

    Args:
        sounds: (title, audio (frames,), rate in hz) each.
        columns: sounds side by side; width, height: of one spectrogram, inches.

    Returns:
        PNG bytes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(sounds) // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for index, axis in enumerate(axes.flat):
        if index >= len(sounds):
            axis.set_axis_off()
            continue
        title, audio, rate = sounds[index]
        levels, seconds, hertz = _levels(audio, rate, max(256, len(audio) // 1200))
        axis.pcolormesh(seconds, hertz, levels, vmin=FLOOR_DB, vmax=0.0, cmap="magma", rasterized=True)
        axis.set_yscale("symlog", linthresh=1000.0, linscale=1.0)
        axis.set_ylim(30.0, rate / 2)
        axis.set_yticks([200, 1000, 5000], labels=["200", "1k", "5k"])
        axis.set_title(title if len(title) <= 70 else title[:67] + "...", fontsize=8)
        axis.tick_params(labelsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def contact_sheet_png(sounds: Sequence[tuple[str, Sound]], *, columns: int = 8) -> bytes:
    """Many small spectrograms: log frequency from 40 Hz to half the rate, each as wide as its sound is long.

    Args:
        sounds: (heading, sound): two lines of text stand above a picture, the heading and the sound's title with its
            length; both are cut to the width.

    Returns:
        PNG bytes.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    rows = -(-len(sounds) // columns)
    step_x, step_y = TILE_WIDTH + TILE_GAP, TILE_HEIGHT + TILE_TEXT + TILE_GAP
    width, height = columns * step_x + TILE_GAP, rows * step_y + TILE_GAP
    sheet = np.full((height, width, 3), 255, np.uint8)
    dots = 100.0
    figure = Figure(figsize=(width / dots, height / dots), dpi=dots)
    canvas: Any = FigureCanvasAgg(figure)  # matplotlib's canvas has no types
    for index, (heading, (title, audio, rate)) in enumerate(sounds):
        left = TILE_GAP + index % columns * step_x
        top = TILE_GAP + index // columns * step_y
        tile = colormaps["magma"](_tile(audio, rate), bytes=True)[..., :3]
        sheet[top + TILE_TEXT : top + TILE_TEXT + TILE_HEIGHT, left : left + TILE_WIDTH] = tile
        for line, (text, weight) in enumerate(((heading, "bold"), (f"{title}, {len(audio) / rate:.2f} s", "normal"))):
            short = text if len(text) <= 40 else text[:37] + "..."
            y = 1.0 - (top + 10 + 11 * line) / height
            figure.text(left / width, y, short, fontsize=6, weight=weight, va="baseline", parse_math=False)
    figure.figimage(sheet, zorder=-1)
    canvas.draw()
    buffer = io.BytesIO()  # with a palette it is a third as large
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(256).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def write_spectrogram(path: Path, sounds: Sequence[Sound], *, columns: int = 1) -> Path:
    """Write :func:`spectrogram_png` to a file, replacing an older picture.

    Raises:
        ImpactError: as :func:`impact_plugin.audio.files.write_bytes`.
    """
    return write_bytes(path, spectrogram_png(sounds, columns=columns), overwrite=True)


def _tile(audio: Audio, rate: int) -> Audio:
    """Levels of one tile, (TILE_HEIGHT, TILE_WIDTH), 0 = floor, 1 = full scale, the highest frequency on top."""
    levels, _, hertz = _levels(audio, rate, max(16, len(audio) // (2 * TILE_WIDTH)))
    bands = np.geomspace(LOWEST_HZ, rate / 2, TILE_HEIGHT + 1)
    edges = np.clip(np.searchsorted(hertz, bands) - 1, 0, len(levels) - 1)
    rows = [levels[low : max(high, low + 1)].max(axis=0) for low, high in itertools.pairwise(edges)]
    times = np.linspace(0, levels.shape[1], TILE_WIDTH + 1).astype(int)
    starts = np.minimum(times[:-1], levels.shape[1] - 1)
    ends = np.maximum(times[1:], starts + 1)
    grid = np.stack(rows[::-1])
    tile = np.stack([grid[:, start:end].max(axis=1) for start, end in zip(starts, ends, strict=True)], axis=1)
    return np.clip(1.0 - tile / FLOOR_DB, 0.0, 1.0).astype(np.float32)


def _levels(audio: Audio, rate: int, hop: int) -> tuple[Audio, Audio, Audio]:
    """dBFS (bins, frames) with the edges of frames (s) and bins (hz)."""
    fft = 1024
    padded = np.pad(audio, (fft // 2, fft))
    frames = np.lib.stride_tricks.sliding_window_view(padded, fft)[::hop][: len(audio) // hop + 1]
    window = np.hanning(fft).astype(np.float32)
    magnitude = np.abs(np.fft.rfft(frames * window, axis=1)) * (4.0 / fft)
    levels = 20.0 * np.log10(np.maximum(magnitude, 10 ** (FLOOR_DB / 20))).T
    seconds = (np.arange(levels.shape[1] + 1) - 0.5) * hop / rate
    hertz = np.clip((np.arange(levels.shape[0] + 1) - 0.5) * rate / fft, 0, None)
    return levels.astype(np.float32), seconds.astype(np.float32), hertz.astype(np.float32)
