"""Training curves as a picture. Knows the long-form CSV that `loop.Run.log` writes, nothing of models."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def read_curve(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Name of the figure -> (step, value) pairs."""
    series: dict[str, list[tuple[float, float]]] = {}
    with open(path, newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            series.setdefault(row["name"], []).append((float(row["step"]), float(row["value"])))
    return series


def draw_curve(source: Path, target: Path) -> Path:
    """One panel for each figure of the run, steps to the right."""
    series = read_curve(source)
    columns = min(len(series), 3)
    rows = -(-len(series) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (name, points) in enumerate(sorted(series.items()), start=1):
        axes = figure.add_subplot(rows, columns, number)
        axes.plot([x for x, _ in points], [y for _, y in points], linewidth=1.0)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.grid(alpha=0.3)
    partial = target.with_suffix(".partial.png")
    figure.savefig(partial, dpi=100)
    os.replace(partial, target)
    return target
