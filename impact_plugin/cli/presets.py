"""`impact presets`: which there are, what one says, whether files of them are right, where one's own go, how they look.

Knows the library and its files. The making of the contact sheet is in `cli.sheet`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from impact_plugin.errors import ImpactError
    from impact_plugin.presets.schema import Preset

app = typer.Typer(
    no_args_is_help=True,
    help="""Presets: prompts with their settings, in plain YAML.

    \b
    impact presets list --tag door
    impact presets show glass_break
    impact presets check my-presets.yaml
    impact generate --preset glass_break --set slot.how=shatter
    """,
)

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")]


@app.command("list")
def list_presets(
    tag: Annotated[
        str | None, typer.Option(metavar="TAG", help="Only those with this tag.", show_default=False)
    ] = None,
    bank: Annotated[
        str | None, typer.Option(metavar="BANK", help="Only those of this bank.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Every preset, the user's own included.

    \b
    impact presets list
    impact presets list --tag water
    impact presets list --bank doors --json
    """
    from impact_plugin.cli.library import open_library
    from impact_plugin.cli.output import print_json, print_table
    from impact_plugin.errors import ImpactError
    from impact_plugin.request import unknown_key

    library = open_library()
    tags = sorted({word for preset in library.values() for word in preset.tags})
    banks = sorted({preset.bank for preset in library.values()})
    for given, known, what in ((tag, tags, "tag"), (bank, banks, "bank")):
        if given is not None and given not in known:
            raise ImpactError("bad_argument", unknown_key(given, known, what).text, what)
    found = [p for p in library.values() if (tag is None or tag in p.tags) and (bank is None or p.bank == bank)]
    found.sort(key=lambda preset: (preset.bank, preset.name))
    if as_json:
        for preset in found:
            print_json(_data(preset))
        return
    rows = [(preset.full_name, ", ".join(preset.tags), str(preset.values["prompt"])) for preset in found]
    print_table(("NAME", "TAGS", "PROMPT"), rows)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a preset, or bank/name.")],
    seed: Annotated[
        int | None,
        typer.Option(metavar="K", min=0, help="Fill the slots as this seed does.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """One preset with all its keys.

    \b
    impact presets show glass_break
    impact presets show doors/gate --seed 7
    """
    import yaml

    from impact_plugin.cli.library import open_library
    from impact_plugin.cli.output import print_json, print_line
    from impact_plugin.errors import ImpactError
    from impact_plugin.request import Request, unknown_key

    library = open_library()
    if name not in library:
        raise ImpactError("unknown_preset", unknown_key(name, library, "preset").text, "name")
    preset = library[name]
    data = _data(preset)
    if seed is not None:
        data = {**data, **preset.fill(seed), "seed": Request.parse({"prompt": "x", "seed": seed}).seed}
        data.pop("slots", None)
    if as_json:
        print_json(data)
    else:
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
        print_line(text.rstrip())


@app.command()
def check(
    path: Annotated[
        Path | None,
        typer.Argument(help="A YAML file or a folder; default: the program's own and yours.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check presets; every mistake is told with file, line and key. Exit status 2 when there is one.

    \b
    impact presets check
    impact presets check my-presets.yaml
    impact presets check my-presets/ --json
    """
    from impact_plugin.cli.output import print_json, print_line, remark
    from impact_plugin.errors import ImpactError
    from impact_plugin.paths import builtin_presets_folder, presets_folder

    if path is not None and not path.exists():
        raise ImpactError("bad_file", f"there is no {path}", "path")
    own = [builtin_presets_folder(), presets_folder()]
    targets = [path] if path is not None else [folder for folder in own if folder.is_dir()]
    faults: list[ImpactError] = []
    for target in targets:
        for file, count, found in _examine(target):
            faults += found
            if as_json:
                rows = [{"code": fault.code, "field": fault.field, "text": fault.text} for fault in found]
                print_json({"file": str(file), "presets": count, "faults": rows})
            elif not found:
                print_line(f"{file}: {count} preset{'' if count == 1 else 's'}, no mistake")
    if len(faults) == 1:
        raise faults[0]
    if faults:
        for fault in faults:
            remark(f"impact: {fault.text}")
        raise ImpactError("bad_argument", f"{len(faults)} mistakes, see above")


@app.command("path")
def show_path(as_json: Json = False) -> None:
    """Where your own presets go.

    \b
    impact presets path
    """
    from impact_plugin.cli.output import print_json, print_line
    from impact_plugin.paths import builtin_presets_folder, presets_folder

    if as_json:
        print_json({"path": str(presets_folder()), "builtin": str(builtin_presets_folder())})
    else:
        print_line(str(presets_folder()))


@app.command()
def sheet(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="A .png file.")],
    tag: Annotated[
        str | None, typer.Option(metavar="TAG", help="Only those with this tag.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(metavar="K", min=0, help="The seed of every sound.")] = 1,
    iterations: Annotated[
        int | None,
        typer.Option(metavar="T", min=1, help="Where the preset does not say.", show_default=False),
    ] = None,
    columns: Annotated[int, typer.Option(metavar="N", min=1, max=16, help="Sounds side by side.")] = 8,
    model: Annotated[
        str | None, typer.Option(metavar="BUNDLE", help="Name or folder of a model bundle.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")] = "auto",
    as_json: Json = False,
) -> None:
    """Make every preset once and draw the spectrograms of all on one sheet.

    \b
    impact presets sheet -o presets.png
    impact presets sheet -o doors.png --tag door --columns 4
    """
    from impact_plugin.cli.sheet import draw_sheet

    draw_sheet(
        output,
        tag=tag,
        seed=seed,
        iterations=iterations,
        columns=columns,
        model=model,
        device=device,
        as_json=as_json,
    )


def _examine(target: Path) -> list[tuple[Path, int, list[ImpactError]]]:
    """Each file of a target with its right presets and all its mistakes, names that are taken among them."""
    from impact_plugin.presets.library import name_taken
    from impact_plugin.presets.load import bank_files, read_bank

    found: list[tuple[Path, int, list[ImpactError]]] = []
    here: dict[str, Preset] = {}
    for file in bank_files(target) if target.is_dir() else [target]:
        presets, faults = read_bank(file)
        for name, preset in presets.items():
            if name in here:
                faults.append(name_taken(preset, here[name]))
            here.setdefault(name, preset)
        found.append((file, len(presets), faults))
    return found


def _data(preset: Preset) -> dict[str, Any]:
    return {"name": preset.name, "bank": preset.bank, **preset.to_data(), "file": preset.file, "line": preset.line}
