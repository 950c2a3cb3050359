"""`impact models`: which bundles there are, what one says of itself, whether its files are whole."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="""Model bundles.

    \b
    impact models list
    impact models show starter
    impact models verify ./my-bundle
    """,
)

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")]
Model = Annotated[
    str | None, typer.Argument(metavar="BUNDLE", help="Name or folder; default: starter.", show_default=False)
]


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """Every bundle that is found, broken ones included.

    \b
    impact models list
    impact models list --json
    """
    from impact_plugin.bundle.registry import list_bundles
    from impact_plugin.cli.output import print_json, print_table, remark

    entries = list_bundles()
    if as_json:
        for entry in entries:
            info = entry.info
            print_json(
                {
                    "name": entry.name,
                    "path": str(entry.path),
                    "source": entry.source,
                    "rate": info.rate if info else None,
                    "seconds_limit": info.seconds_limit if info else None,
                    "problem": entry.problem.text if entry.problem else None,
                }
            )
        return
    if not entries:
        remark("no model bundle is installed")
        return
    rows = []
    for entry in entries:
        if entry.info:
            limits = (f"{entry.info.rate} hz", f"{entry.info.seconds_limit:g} s", entry.info.description.strip())
        else:
            limits = ("-", "-", entry.problem.text if entry.problem else "")
        rows.append((entry.name, entry.source, *limits))
    print_table(("NAME", "FROM", "RATE", "LONGEST", "DESCRIPTION"), rows)


@app.command()
def show(model: Model = None, as_json: Json = False) -> None:
    """What a bundle says of itself: parts, limits, defaults, licences.

    \b
    impact models show
    impact models show ./my-bundle --json
    """
    from impact_plugin.bundle.registry import resolve_bundle
    from impact_plugin.bundle.schema import FILE_NAME, read_info
    from impact_plugin.cli.output import print_json, print_line

    folder = resolve_bundle(model)
    info = read_info(folder / FILE_NAME)
    if as_json:
        print_json({**info.to_data(), "path": str(folder), "fingerprint": info.fingerprint})
        return
    import yaml

    data = {"path": str(folder), "fingerprint": info.fingerprint, **info.to_data()}
    print_line(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110).rstrip())


@app.command()
def verify(model: Model = None, as_json: Json = False) -> None:
    """Check a bundle: description, hashes, weights, licences, fit of the parts. Exit status 2 when it is not usable.

    \b
    impact models verify
    impact models verify ./my-bundle
    """
    from impact_plugin.bundle.registry import resolve_bundle
    from impact_plugin.bundle.verify import is_usable, verify_bundle
    from impact_plugin.cli.output import print_json, print_line
    from impact_plugin.errors import ImpactError

    folder = resolve_bundle(model)
    findings = verify_bundle(folder)
    for finding in findings:
        if as_json:
            print_json({"level": finding.level, "subject": finding.subject, "text": finding.text, "code": finding.code})
        else:
            print_line(f"{finding.level:<8}{finding.subject}: {finding.text}")
    if not is_usable(findings):
        faults = sum(finding.level == "error" for finding in findings)
        raise ImpactError(
            "bad_file", f"{folder} cannot be used: {faults} fault{'s' if faults > 1 else ''}, listed above"
        )
