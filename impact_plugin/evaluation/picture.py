"""The picture of an evaluation: agreement, kinds, levels, and pairs of real and generated sounds.

Knows reports and matplotlib (loaded when a picture is drawn, without a display). Measures nothing.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from impact_plugin.evaluation.logmel import HOP, RANGE_DB, RATE, Levels

if TYPE_CHECKING:
    from impact_plugin.evaluation.generated import GeneratedReport

EXAMPLES = 8
COLOURS = ("#2a6f97", "#b0b0b0", "#7a9e7e")


def report_png(report: GeneratedReport) -> bytes:
    """PNG bytes: three charts in the first row, then `EXAMPLES` pairs (real on the left, generated on its right)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    step = max(len(report.examples) // EXAMPLES, 1)
    examples = report.examples[::step][:EXAMPLES]
    rows = -(-len(examples) // 2)
    figure = Figure(figsize=(14, 3.6 + 1.8 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1 + rows, 12, height_ratios=[2.0] + [1.0] * rows)
    _agreement(figure.add_subplot(grid[0, 0:4]), report)
    _kinds(figure.add_subplot(grid[0, 4:8]), report)
    _levels(figure.add_subplot(grid[0, 8:12]), report)
    for index, (prompt, real, take) in enumerate(examples):
        row, column = 1 + index // 2, 6 * (index % 2)
        _mel(figure.add_subplot(grid[row, column : column + 3]), real, f"real: {prompt}")
        _mel(figure.add_subplot(grid[row, column + 3 : column + 6]), take, "generated")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _agreement(axis: Any, report: GeneratedReport) -> None:
    judged = report.agreement
    bars = {"same caption": judged.same, "another caption": judged.other, "real twins": judged.twins}
    known = {name: value for name, value in bars.items() if value is not None}
    drawn = axis.bar(list(known), list(known.values()), color=COLOURS[: len(known)])
    axis.bar_label(drawn, fmt="%.2f", fontsize=9, label_type="center", color="white")
    axis.errorbar([0], [judged.same], yerr=[judged.error], color="black", capsize=4)
    axis.set_ylim(0.0, 1.05)
    axis.set_title(f"{judged.pairs} takes: share with a tag in common", fontsize=9)
    axis.tick_params(labelsize=8)


def _kinds(axis: Any, report: GeneratedReport) -> None:
    names = [f"{kind} ({n})" for kind, (n, _) in report.kinds.items()]
    axis.barh(names[::-1], [share for _, share in report.kinds.values()][::-1], color=COLOURS[0])
    axis.set_xlim(0.0, 1.0)
    axis.set_title("same caption, by kind", fontsize=9)
    axis.tick_params(labelsize=7)


def _levels(axis: Any, report: GeneratedReport) -> None:
    peaks = [row.peak_db for row in report.rows if row.peak_db is not None]
    loud = [row.loudness_lufs for row in report.rows if row.loudness_lufs is not None]
    axis.hist([peaks, loud], bins=24, label=["peak, dBFS", "loudness, LUFS"], color=COLOURS[:2])
    faults = ", ".join(f"{name} {count}" for name, count in report.faults.items()) or "none"
    axis.set_title(f"levels; faults: {faults}", fontsize=9)
    axis.legend(fontsize=7)
    axis.tick_params(labelsize=8)


def _mel(axis: Any, levels: Levels, title: str) -> None:
    top = float(levels.max(initial=-RANGE_DB))
    seconds = len(levels) * HOP / RATE
    axis.imshow(
        levels.T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=top - RANGE_DB,
        vmax=top,
        extent=(0.0, seconds, 0, 1),
    )
    axis.set_yticks([])
    axis.set_title(title if len(title) <= 56 else title[:53] + "...", fontsize=7)
    axis.tick_params(labelsize=6)
