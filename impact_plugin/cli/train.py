"""`impact train`: a codec, then a generator, which ends in a bundle.

Knows the options and how the steps hand over to each other. How training goes is in :mod:`impact_plugin.training`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from impact_plugin.errors import ImpactError

if TYPE_CHECKING:
    from impact_plugin.training.loop import Progress

app = typer.Typer(
    no_args_is_help=True,
    help="""Train a bundle of your own.

    \b
    impact train codec data/own -o runs/codec --minutes 30
    impact train generator data/own --codec runs/codec -o runs/generator --minutes 240 --bundle my-bundle
    """,
)

INTERRUPTED = 130
LINE_SECONDS = 30.0
SAMPLE_PROMPTS = ("glass bottle shatters on concrete", "wooden door slams", "dog barks", "laser gun shot")

Data = Annotated[Path, typer.Argument(help="Data set, as `impact data` makes it.")]
Run = Annotated[Path, typer.Option("-o", "--output", metavar="RUN", help="Folder of the run; a checkpoint goes on.")]
Steps = Annotated[int | None, typer.Option(min=1, help="End after so many steps.")]
Minutes = Annotated[float | None, typer.Option(min=0.001, help="End after so many minutes, resumed ones included.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")]
Bf16 = Annotated[bool, typer.Option("--bf16", help="Mixed precision where the hardware has it.")]
Seed = Annotated[int, typer.Option(min=0, help="Of everything random in the run.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")]


@app.command("codec")
def codec(
    data: Data,
    output: Run,
    steps: Steps = None,
    minutes: Minutes = None,
    dims: Annotated[int | None, typer.Option(min=1, max=1024, help="Size of a latent token.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Sounds a step.")] = None,
    rate: Annotated[float | None, typer.Option(min=1e-7, max=1.0, help="Learning rate.")] = None,
    seed: Seed = 0,
    bf16: Bf16 = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a codec: audio to latents and back. Ctrl-C leaves a checkpoint, the same command goes on from it.

    \b
    impact train codec data/own -o runs/codec --minutes 30
    """
    _check_budget(steps, minutes)
    from impact_plugin.audio.files import make_folder
    from impact_plugin.bundle.device import resolve_device
    from impact_plugin.codec.starter import StarterConfig
    from impact_plugin.training.codec import CodecTraining, train_codec
    from impact_plugin.training.loop import Budget
    from impact_plugin.training.parts import save_codec

    make_folder(output)
    settings = CodecTraining(**_given(batch=batch, rate=rate), seed=seed, bf16=bf16)
    with _reports(as_json) as report:
        trained = train_codec(
            data,
            output,
            config=StarterConfig(**_given(dims=dims)),
            settings=settings,
            budget=Budget(steps=steps, minutes=minutes),
            device=resolve_device(device).type,
            report=report,
        )
    _stop_unless_finished(output)
    save_codec(output, trained.to("cpu"))
    _tell(as_json, path=str(output), codec=trained.kind)


@app.command("generator")
def generator(
    data: Data,
    output: Run,
    codec: Annotated[str, typer.Option(metavar="RUN|BUNDLE", help="Whose latents: a codec run or a bundle.")],
    bundle: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The bundle to write (default: RUN/bundle).")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of a bundle that is there.")] = False,
    steps: Steps = None,
    minutes: Minutes = None,
    seconds_limit: Annotated[float, typer.Option(min=0.2, max=600.0, help="Longest sound, seconds.")] = 12.0,
    neighbours: Annotated[int, typer.Option(min=0, max=16, help="Neighbouring sounds in the prefix.")] = 2,
    optimiser: Annotated[str, typer.Option(metavar="muon|adamw", help="How to step.")] = "muon",
    rate: Annotated[float | None, typer.Option(min=1e-7, max=1.0, help="Learning rate of AdamW.")] = None,
    unconditional: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Share of the budget without words first.")
    ] = None,
    drop: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Share of samples without words later.")] = None,
    defaults: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Defaults of the bundle's requests.")
    ] = None,
    description: Annotated[str, typer.Option(help="For `impact models list`.")] = "",
    licence: Annotated[
        str | None, typer.Option("--license", metavar="SPDX", help="Under which the weights are released.")
    ] = None,
    samples_every: Annotated[int, typer.Option(min=1, help="Steps from one set of samples to the next.")] = 500,
    seed: Seed = 0,
    bf16: Bf16 = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a generator: words to latents. Ctrl-C leaves a checkpoint, the same command goes on from it.

    \b
    impact train generator data/own --codec runs/codec -o runs/generator --minutes 240 --bundle my-bundle
    impact generate "door slams" --model my-bundle
    """
    _check_budget(steps, minutes)
    if optimiser not in ("muon", "adamw"):
        raise ImpactError("bad_argument", f"--optimiser must be muon or adamw, not {optimiser!r}", "optimiser")
    wanted = _defaults(defaults or [])
    folder = bundle or output / "bundle"
    if folder.exists() and not replace:
        raise ImpactError("bad_argument", f"{folder} exists already: choose another, or --replace it", "bundle")

    from impact_plugin.audio.files import make_folder
    from impact_plugin.bundle.device import resolve_device
    from impact_plugin.text.kinds import make_text_encoder
    from impact_plugin.training.generator import TEXT_TOKENS, GeneratorTraining, starter_config, train_generator
    from impact_plugin.training.loop import Budget
    from impact_plugin.training.parts import describe, read_codec, save_bundle
    from impact_plugin.training.prepare import RATE
    from impact_plugin.training.store import SoundStore

    make_folder(output)
    sounds = SoundStore(data).read_index()
    latents = read_codec(codec)
    if latents.rate != RATE:
        raise ImpactError(
            "bad_argument", f"data sets are at {RATE} hz, this codec at {latents.rate} hz: take another codec", "codec"
        )
    text = make_text_encoder("minilm", {"max_tokens": TEXT_TOKENS})
    settings = GeneratorTraining(
        **_given(rate=rate, unconditional=unconditional, drop=drop),
        optimiser="muon" if optimiser == "muon" else "adamw",
        seed=seed,
        bf16=bf16,
    )

    def info_of(model: Any) -> Any:
        return describe(
            folder.name,
            latents,
            model,
            sounds,
            seconds_limit=seconds_limit,
            text_tokens=TEXT_TOKENS,
            defaults=wanted,
            description=description,
            licence=licence,
        )

    def sample(model: Any, bank: Any, step: int) -> None:
        from impact_plugin.training.parts import in_memory

        _write_samples(in_memory(info_of(model), latents, text, model, bank), output / "samples", step)

    with _reports(as_json) as report:
        trained = train_generator(
            data,
            output,
            latents,
            text,
            seconds_limit=seconds_limit,
            settings=settings,
            config=starter_config(latents, text, seconds_limit, neighbours=neighbours),
            budget=Budget(steps=steps, minutes=minutes),
            device=resolve_device(device).type,
            report=report,
            samples=sample,
            samples_every=samples_every,
        )
    _stop_unless_finished(output)
    save_bundle(folder, info_of(trained.model), latents, trained.model, trained.bank, data, replace=replace)
    _tell(as_json, path=str(folder), parameters=trained.model.parameter_count())


def _check_budget(steps: int | None, minutes: float | None) -> None:
    if steps is None and minutes is None:
        raise ImpactError("bad_argument", "say when to end: --steps or --minutes", "minutes")


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _defaults(items: list[str]) -> dict[str, Any]:
    """Defaults of a bundle's requests, checked as a request."""
    from impact_plugin.request import Request, assignments

    values = Request.parse({**assignments(items), "prompt": "x"}).to_dict()
    return {name: value for name, value in values.items() if name != "prompt"}


@contextmanager
def _reports(as_json: bool) -> Iterator[Callable[[Progress], None]]:
    """Where progress goes: a bar on a terminal, else a line every half minute; JSON rows when asked for."""
    from impact_plugin.cli.output import print_json, print_line, progress_bar

    last = 0.0
    with progress_bar() as bar:

        def report(progress: Progress) -> None:
            nonlocal last
            figures = ", ".join(f"{name} {value:.4g}" for name, value in progress.losses.items())
            bar.update(progress.fraction, f"step {progress.step}: {figures}", progress.seconds_left)
            if as_json:
                with bar.aside():
                    print_json(
                        {
                            "step": progress.step,
                            "fraction": progress.fraction,
                            **progress.losses,
                            "items_per_second": progress.items_per_second,
                            "seconds_left": progress.seconds_left,
                        }
                    )
            elif not sys.stderr.isatty() and time.monotonic() - last >= LINE_SECONDS:
                last = time.monotonic()
                speed = f"{progress.items_per_second:.1f} a second, {progress.seconds_left / 60:.1f} minutes left"
                print_line(f"step {progress.step}  {100 * progress.fraction:.1f} %  {figures}  {speed}")

        yield report


def _stop_unless_finished(run: Path) -> None:
    """After Ctrl-C: say how to go on, and leave with the status of an interruption."""
    import json

    from impact_plugin.cli.output import remark
    from impact_plugin.training.loop import STATE

    if not json.loads((run / STATE).read_text(encoding="utf-8")).get("finished", False):
        remark(f"interrupted: {run} holds a checkpoint, the same command goes on from it")
        raise typer.Exit(INTERRUPTED)


def _write_samples(bundle: Any, folder: Path, step: int) -> None:
    """A few takes of the model as it stands, `samples/<step>_<number>.wav`."""
    from impact_plugin.audio.files import make_folder, write_sound
    from impact_plugin.engine.engine import Engine
    from impact_plugin.engine.events import Result
    from impact_plugin.request import Request

    make_folder(folder)
    import torch

    engine = Engine(bundle, threads=torch.get_num_threads())
    plans = [
        engine.plan(
            Request.parse({"prompt": prompt, "seconds": min(2.0, engine.seconds_limit), "seed": 1, "iterations": 16})
        )
        for prompt in SAMPLE_PROMPTS
    ]
    for number, event in engine.run_together(plans):
        if isinstance(event, Result):
            path = folder / f"{step:06d}_{number}.wav"
            write_sound(path, event.audio, event.rate, subtype="PCM_16", overwrite=True)


def _tell(as_json: bool, **result: Any) -> None:
    from impact_plugin.cli.output import print_json, print_line

    if as_json:
        print_json(result)
    else:
        print_line("  ".join(f"{name} {value}" for name, value in result.items()))
