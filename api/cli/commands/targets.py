"""Targets on the command line: the general ledgers for which formats exist, and their settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.commands.approvals import By, whoami
from api.settings import connect
from api.shapes import answers
from api.shapes import exports as export_answers
from api.terminal import Json, LedgerOption, out, print_json, read_toml, table
from projections.exports import targets
from projections.exports.formats import TARGETS
from projections.exports.presets import PRESETS, preset_named
from subledger.errors import InvalidInput
from subledger.store.reading.ledgers import ledger_head

target_app = typer.Typer(help="The general ledgers for which formats exist: limits and settings.", no_args_is_help=True)

TargetArgument = Annotated[
    str, typer.Argument(help="A general ledger of `subledger target list`, such as netsuite.", metavar="TARGET")
]


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.add_typer(target_app, name="target")


@target_app.command("list")
def target_list(json_: Json = False) -> None:
    """Lists the general ledgers, with the limits of a document of each.

    Example: subledger target list
    """
    if json_:
        items = [export_answers.target(target, target.settings()) for target in TARGETS.values()]
        print_json(answers.page(items, None))
        return
    rows = []
    for target in TARGETS.values():
        limits = target.limits
        currencies = "its own and the functional" if limits.two_currencies else "functional"
        rows.append([target.name, limits.lines, limits.text, limits.reference, currencies])
    table(None, ("target", "lines a document", "text", "reference", "amounts"), rows, right=(1, 2, 3))


@target_app.command("presets")
def target_presets(
    target: Annotated[str | None, typer.Argument(help="Only presets for this target.", metavar="TARGET")] = None,
    json_: Json = False,
) -> None:
    """Lists the presets: divisions of work between the ERP and this ledger, with the documents that we leave out.

    Example: subledger target presets quickbooks
    """
    only = None if target is None else targets.target_named(target)
    items = [export_answers.preset(preset) for preset in PRESETS.values() if only is None or preset.is_for(only)]
    if json_:
        print_json(answers.page(items, None))
        return
    for item in items:
        needs = [f"{name} {item[name]}" for name in ("policy", "format") if item[name]]
        rows = [
            ["meaning", item["meaning"]],
            ["accounts", item["accounts"]],
            ["left out", ", ".join(item["settings"]["native"]) or "nothing"],
            *([["needs", ", ".join(needs)]] if needs else []),
        ]
        table(item["preset"], ("", ""), rows)


@target_app.command("show")
def target_show(target: TargetArgument, ledger: LedgerOption, json_: Json = False) -> None:
    """Prints the settings of the next export to a target.

    Example: subledger target show netsuite --ledger acme --json
    """
    service, found = connect(), targets.target_named(target)
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        change = targets.change_of(connection, ledger, found)
        answer = export_answers.target(found, targets.settings_of(connection, ledger, found), change)
    if json_:
        print_json(answer)
        return
    rows = [[name, value] for name, value in answer["settings"].items()]
    table(answers.last_change_title(answer), ("setting", "value"), rows)


@target_app.command("set")
def target_set(
    target: TargetArgument,
    ledger: LedgerOption,
    file: Annotated[
        Path | None, typer.Argument(help="TOML: level, lines, title, native, and the target's own.", metavar="FILE")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="A division of work with the ERP, of `subledger target presets`.", metavar="NAME")
    ] = None,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Sets the settings of a target's next exports. A setting that is not in the file or preset gets its default.

    Earlier exports do not change, and later journals of a month keep the division of work of its first one.

    Example: subledger target set quickbooks quickbooks.toml --preset invoices_and_payments_native --ledger acme
    """
    if file is None and preset is None:
        raise InvalidInput("no settings are given", field="FILE", expected="a file, --preset, or both")
    chosen = {} if preset is None else preset_named(preset, targets.target_named(target)).settings
    given = chosen | ({} if file is None else read_toml(file))
    service, found = connect(), targets.target_named(target)
    with service.database.read() as connection:
        ledger_head(connection, ledger)
    settings = targets.set_settings(service.database, ledger, found, given, by=by)
    if json_:
        with service.database.read() as connection:
            print_json(export_answers.target(found, settings, targets.change_of(connection, ledger, found)))
    else:
        out.print(f"The settings of {target} are changed for the next exports.")
