"""`impact evaluate`: a bundle judged on real sounds by an independent tagger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from impact_plugin.errors import ImpactError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from impact_plugin.engine.engine import Engine
    from impact_plugin.evaluation.generated import Generate

app = typer.Typer(
    invoke_without_command=True,
    help="""Score a bundle.

    \b
    impact evaluate --data data/free -o report/
    impact evaluate roundtrip sounds/ -o after/
    """,
)

Model = Annotated[str | None, typer.Option(metavar="BUNDLE", help="Name or folder of a bundle.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")]


@app.callback()
def evaluate(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option(metavar="DATA", help="Data set, as `impact data` makes it.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Where the report and its picture go.")
    ] = None,
    model: Model = None,
    device: Device = "auto",
    split: Annotated[str, typer.Option(help="Which part of the data set.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many sounds, drawn at random.")] = None,
    iterations: Annotated[str | None, typer.Option(metavar="T", help="Iterations of decoding.")] = None,
    guidance: Annotated[str | None, typer.Option(metavar="G", help="How strictly to follow the prompt.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other takes.")] = 0,
    keep: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the takes here, to listen to.")] = None,
    tagger: Annotated[Path | None, typer.Option(metavar="PATH", help="The tagger's wheel or folder.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the tagger (7 MB) if it is missing.")] = False,
    codec_only: Annotated[bool, typer.Option("--codec-only", help="Only the codec's round trip.")] = False,
    as_json: Json = False,
) -> None:
    """Score a bundle: the codec's round trip, and takes against real sounds of the same captions.

    \b
    impact evaluate --data data/free -o report/
    impact evaluate --data data/free --limit 100 --iterations 16 --json
    impact evaluate roundtrip sounds/ -o after/
    """
    if context.invoked_subcommand is not None:
        return
    if data is None:
        raise ImpactError("bad_argument", "give the data set: impact evaluate --data DATA", "data")

    from impact_plugin.cli.output import print_json, print_line, progress_bar, remark
    from impact_plugin.evaluation.generated import evaluate_generated, write_report
    from impact_plugin.evaluation.roundtrip import roundtrip
    from impact_plugin.evaluation.tagger import Tagger
    from impact_plugin.evaluation.testset import TestSet
    from impact_plugin.request import Request

    settings = {key: value for key, value in (("iterations", iterations), ("guidance", guidance)) if value is not None}
    Request.parse({"prompt": "x", **settings})
    test = TestSet(data, split=split, limit=limit, seed=seed)
    judge = Tagger.load(tagger, download=download, say=remark)
    with progress_bar() as bar:
        bar.update(0.0, "loading the model")
        from impact_plugin.bundle.load import load_bundle
        from impact_plugin.engine.engine import Engine

        engine = Engine(load_bundle(model, device))

        def progress(done: int, total: int, name: str) -> None:
            bar.update(done / max(total, 1), name)

        codec = roundtrip(
            engine.bundle, test.sounds(engine.seconds_limit), tagger=judge, total=len(test), progress=progress
        )
        made = None
        if not codec_only:
            made = evaluate_generated(
                test,
                _generator(engine, settings),
                judge,
                seconds=(0.1, engine.seconds_limit),
                seed=seed,
                keep=keep,
                settings={"model": engine.bundle.info.name, **settings},
                progress=progress,
            )
    if output is not None:
        from impact_plugin.audio.files import make_folder
        from impact_plugin.evaluation.roundtrip import write_report as write_roundtrip

        make_folder(output)
        write_roundtrip(codec, output / "roundtrip.json")
        if made is not None:
            write_report(made, output)
    if as_json:
        report: dict[str, Any] = {"codec": codec.to_dict(rows=False)}
        if made is not None:
            report["generated"] = made.to_dict(rows=False)
        print_json(report)
        return
    agreement = f", tag agreement {codec.agreement.overlap:.3f}" if codec.agreement else ""
    print_line(f"codec round trip of {codec.sounds} sounds: log-mel L1 {codec.l1_db:.2f} dB{agreement}")
    for line in made.lines() if made is not None else []:
        print_line(line)


@app.command("roundtrip")
def roundtrip_sounds(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of sound files.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="Where they go, names unchanged.")],
    model: Model = None,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of the decoder's noise and phases.")] = 0,
    as_json: Json = False,
) -> None:
    """Write every sound of a folder after one encode and one decode, under the same name.

    \b
    impact evaluate roundtrip sounds/ -o after/
    """
    from impact_plugin.audio.find import sound_files
    from impact_plugin.cli.output import print_json, print_line, progress_bar, remark

    with progress_bar() as bar:
        bar.update(0.0, "loading the model")
        from impact_plugin.bundle.load import load_codec
        from impact_plugin.evaluation.roundtrip import roundtrip_folder

        problems = roundtrip_folder(
            load_codec(model, device),
            source,
            output,
            seed=seed,
            progress=lambda done, total, name: bar.update(done / max(total, 1), name),
        )
    for problem in problems:
        remark(f"left out: {problem}")
    written = len(sound_files(source, skip=output)) - len(problems)
    if as_json:
        print_json({"path": str(output), "sounds": written, "problems": problems})
    else:
        print_line(f"{output}: {written} sounds")


def _generator(engine: Engine, settings: dict[str, str]) -> Generate:
    """The engine as a function of prompt, seconds and seed."""
    from impact_plugin.engine.events import Result
    from impact_plugin.request import Request

    def generate(prompt: str, seconds: float, seed: int) -> tuple[npt.NDArray[np.float32], int]:
        plan = engine.plan(Request.parse({**settings, "prompt": prompt, "seconds": seconds, "seed": seed}))
        for event in engine.run(plan):
            if isinstance(event, Result):
                return event.audio, event.rate
        raise ImpactError("internal", f"no take came of {prompt!r}")

    return generate
