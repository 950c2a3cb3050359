"""Spectrogram pictures of one or several sounds, one under the other, as a PNG.

Knows matplotlib (loaded when a picture is drawn, without a display). Does not know where the sounds come from.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from impact_plugin.audio.files import write_bytes

Audio = npt.NDArray[np.float32]

FLOOR_DB = -90.0


def spectrogram_png(
    sounds: Sequence[tuple[str, Audio, int]], *, columns: int = 1, width: float = 6.0, height: float = 2.0
) -> bytes:
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
        levels, seconds, hertz = _levels(audio, rate)
        axis.pcolormesh(seconds, hertz, levels, vmin=FLOOR_DB, vmax=0.0, cmap="magma", rasterized=True)
        axis.set_yscale("symlog", linthresh=1000.0, linscale=1.0)
        axis.set_ylim(30.0, rate / 2)
        axis.set_yticks([200, 1000, 5000], labels=["200", "1k", "5k"])
        axis.set_title(title if len(title) <= 70 else title[:67] + "...", fontsize=8)
        axis.tick_params(labelsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def write_spectrogram(path: Path, sounds: Sequence[tuple[str, Audio, int]], *, columns: int = 1) -> Path:
    """Write :func:`spectrogram_png` to a file, replacing an older picture.

    Raises:
        ImpactError: as :func:`impact_plugin.audio.files.write_bytes`.
    """
    return write_bytes(path, spectrogram_png(sounds, columns=columns), overwrite=True)


def _levels(audio: Audio, rate: int) -> tuple[Audio, Audio, Audio]:
    """dBFS (bins, frames) with the edges of frames (s) and bins (hz)."""
    fft, hop = 1024, max(256, len(audio) // 1200)
    padded = np.pad(audio, (fft // 2, fft))
    frames = np.lib.stride_tricks.sliding_window_view(padded, fft)[::hop][: len(audio) // hop + 1]
    window = np.hanning(fft).astype(np.float32)
    magnitude = np.abs(np.fft.rfft(frames * window, axis=1)) * (4.0 / fft)
    levels = 20.0 * np.log10(np.maximum(magnitude, 10 ** (FLOOR_DB / 20))).T
    seconds = (np.arange(levels.shape[1] + 1) - 0.5) * hop / rate
    hertz = np.clip((np.arange(levels.shape[0] + 1) - 0.5) * rate / fft, 0, None)
    return levels.astype(np.float32), seconds.astype(np.float32), hertz.astype(np.float32)
