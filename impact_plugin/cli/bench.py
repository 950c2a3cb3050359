"""`impact bench`: how fast a bundle is on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from impact_plugin.errors import ImpactError


def bench(
    model: Annotated[str | None, typer.Option(metavar="BUNDLE", help="Name or folder of a bundle.")] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")] = "auto",
    seconds: Annotated[str, typer.Option(metavar="S,S", help="Lengths of takes.")] = "2,10",
    iterations: Annotated[str, typer.Option(metavar="T,T", help="Iterations of decoding.")] = "8,16,32",
    variants: Annotated[int, typer.Option(min=1, max=64, help="Takes in one batch.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Runs of each, of which the median counts.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")] = False,
) -> None:
    """Time a bundle: seconds to the first preview and to the take.

    \b
    impact bench
    impact bench --seconds 2 --iterations 8,16 --json
    """
    lengths = _numbers(seconds, "seconds")
    counts = [round(number) for number in _numbers(iterations, "iterations")]

    import time

    from impact_plugin.cli.output import print_json, print_line, print_table, progress_bar

    with progress_bar() as bar:
        bar.update(0.0, "loading the model")
        began = time.perf_counter()
        from impact_plugin.bundle.load import load_bundle
        from impact_plugin.engine.engine import Engine
        from impact_plugin.engine.timing import machine, time_generation

        engine = Engine(load_bundle(model, device))
        load_s = round(time.perf_counter() - began, 3)
        about = {**machine(engine), "load_s": load_s}
        rows = []
        for timing in time_generation(engine, seconds=lengths, iterations=counts, variants=variants, repeats=repeats):
            rows.append(timing)
            bar.update(
                len(rows) / (len(lengths) * len(counts)), f"{timing.seconds:g} s, {timing.iterations} iterations"
            )
            if as_json:
                with bar.aside():
                    print_json({**timing.to_dict(), **about})
    if as_json:
        return
    print_line(", ".join(f"{name} {value}" for name, value in about.items()))
    table = [
        (
            f"{row.seconds:g}",
            str(row.iterations),
            "-" if row.first_preview_s is None else f"{row.first_preview_s:.2f}",
            f"{row.take_s:.2f}",
            f"{row.realtime:.1f} x",
        )
        for row in rows
    ]
    print_table(("SECONDS", "ITERATIONS", "FIRST PREVIEW", "TAKE", "REAL TIME"), table)


def _numbers(text: str, name: str) -> list[float]:
    from impact_plugin.request import Request

    numbers = []
    for part in text.split(","):
        value = getattr(Request.parse({"prompt": "x", name: part.strip()}), name)
        if value is None:
            raise ImpactError("bad_argument", f"--{name} must be numbers with commas between, not {text[:40]!r}", name)
        numbers.append(float(value))
    return numbers
