"""`impact presets`: which there are, what one says, whether files of them are right, where one's own go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="""Presets: prompts with their settings, in plain YAML.

    \b
    impact presets list
    impact presets show glass_break
    impact presets check my-presets.yaml
    """,
)

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")]


@app.command("list")
def list_presets(as_json: Json = False) -> None:
    """Every preset, the user's own included.

    \b
    impact presets list
    impact presets list --json
    """
    from impact_plugin.cli.output import print_json, print_table
    from impact_plugin.presets.load import load_presets

    presets = load_presets()
    if as_json:
        for preset in presets.values():
            print_json(_data(preset))
        return
    rows = [(preset.name, ", ".join(preset.tags), str(preset.values["prompt"])) for preset in presets.values()]
    print_table(("NAME", "TAGS", "PROMPT"), rows)


@app.command()
def show(name: Annotated[str, typer.Argument(help="Name of a preset.")], as_json: Json = False) -> None:
    """One preset with all its keys.

    \b
    impact presets show glass_break
    """
    import yaml

    from impact_plugin.cli.output import print_json, print_line
    from impact_plugin.errors import ImpactError
    from impact_plugin.presets.load import load_presets
    from impact_plugin.request import unknown_key

    presets = load_presets()
    if name not in presets:
        raise ImpactError("unknown_preset", unknown_key(name, presets, "preset").text, "name")
    data = _data(presets[name])
    if as_json:
        print_json(data)
    else:
        print_line(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110).rstrip())


@app.command()
def check(
    path: Annotated[
        Path | None, typer.Argument(help="A YAML file or a folder; default: your own.", show_default=False)
    ] = None,
) -> None:
    """Check presets; the first mistake is told with file, line and key.

    \b
    impact presets check
    impact presets check my-presets.yaml
    """
    from impact_plugin.cli.output import print_line
    from impact_plugin.errors import ImpactError
    from impact_plugin.paths import presets_folder
    from impact_plugin.presets.load import load_bank, load_presets

    target = path or presets_folder()
    if path is not None and not path.exists():
        raise ImpactError("bad_file", f"there is no {path}", "path")
    presets = load_presets(target) if target.is_dir() or path is None else load_bank(target)
    print_line(f"{target}: {len(presets)} preset{'' if len(presets) == 1 else 's'}, no mistake")


@app.command("path")
def show_path() -> None:
    """Where your own presets go.

    \b
    impact presets path
    """
    from impact_plugin.cli.output import print_line
    from impact_plugin.paths import presets_folder

    print_line(str(presets_folder()))


def _data(preset: Any) -> dict[str, Any]:
    from impact_plugin.presets.schema import Range

    slots = {
        name: {"min": choice.low, "max": choice.high} if isinstance(choice, Range) else list(choice)
        for name, choice in preset.slots.items()
    }
    data = {"name": preset.name, **preset.values, "slots": slots, "tags": list(preset.tags), "notes": preset.notes}
    return {key: value for key, value in data.items() if value not in ({}, [], "")} | {"file": preset.file}
