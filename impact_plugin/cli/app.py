"""The `impact` command: its sub-commands, and the one place where errors become a line and an exit status.

Knows typer and which module holds which command. Imports nothing heavy: commands load what they need when they run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from impact_plugin.cli import (
    bench,
    data,
    devices,
    doctor,
    evaluate,
    generate,
    models,
    presets,
    send,
    serve,
    takes,
    train,
)
from impact_plugin.errors import ImpactError
from impact_plugin.version import VERSION

DEBUG_VARIABLE = "IMPACT_DEBUG"
INTERRUPTED = 130


class ImpactGroup(TyperGroup):
    """A group whose errors are one line on stderr: `impact: CODE: text`. 2 = usage or input, 1 = the machine."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        debug = bool(os.environ.get(DEBUG_VARIABLE))
        try:
            status = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except ImpactError as error:
            if debug:
                raise
            sys.exit(complain(error.code, error.text, error.exit_status))
        except typer.TyperException as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                typer.echo(error.format_message(), err=True)
                sys.exit(2)
            sys.exit(complain("bad_argument", error.format_message(), 2))
        except (typer.Abort, KeyboardInterrupt):
            sys.exit(INTERRUPTED)
        except Exception as error:
            if debug:
                raise
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            sys.exit(complain("internal", f"{what} ({DEBUG_VARIABLE}=1 shows the traceback)", 1))
        sys.exit(status if isinstance(status, int) else 0)


def complain(code: str, text: str, status: int) -> int:
    """Print an error as users see it; gives the exit status back."""
    sys.stderr.write(f"impact: {code}: {' '.join(text.split())}\n")
    sys.stderr.flush()
    return status


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"impact-plugin {VERSION}")
        raise typer.Exit()


app = typer.Typer(
    name="impact",
    cls=ImpactGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Sound effects from words, on your own machine.

    \b
    impact generate "glass bottle shatters on concrete" -o out.wav
    impact generate "heavy wooden door slams" --variants 4 -o takes/
    impact doctor
    """


app.command("generate", no_args_is_help=True)(generate.generate)
app.command("serve")(serve.serve)
app.command("send", no_args_is_help=True, context_settings=send.CONTEXT)(send.send)
app.add_typer(presets.app, name="presets")
app.add_typer(takes.app, name="takes")
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app, name="evaluate")
app.command("bench")(bench.bench)
app.command("devices")(devices.devices)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """The console script."""
    # Threads that wait for one another must sleep, not spin: beside a busy host spinning makes small networks many
    # times slower. Read by OpenMP when PyTorch is loaded, which is why it is set here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app(prog_name="impact")
