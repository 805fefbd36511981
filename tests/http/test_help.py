"""The help of the command line: each command has a help text with an example, and the example is valid."""

from __future__ import annotations

import importlib
import pkgutil
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.exceptions import TyperException
from typer.testing import CliRunner

import api.cli.commands
from api.cli.main import COMMANDS as COMMANDS_BY_NAME
from api.cli.main import app
from api.shapes.event_types import event_types
from subledger.events.data import EVENT_TYPES

ROOT: Any = typer.main.get_command(app)


def _commands(found: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    if names and (getattr(found, "invoke_without_command", False) or not hasattr(found, "commands")):
        yield names, found
    for name, below in getattr(found, "commands", {}).items():
        yield from _commands(below, *names, name)


COMMANDS = dict(_commands(ROOT))


def _examples(found: Any) -> list[str]:
    return [line.strip().removeprefix("Example: ") for line in (found.help or "").splitlines() if "Example: " in line]


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_every_command_has_an_example_that_it_takes(names: tuple[str, ...]) -> None:
    examples = _examples(COMMANDS[names])
    assert examples
    for example in examples:
        words = shlex.split(example.replace('psql "$(', "").replace(')"', "").partition(" > ")[0])
        assert words[: len(names) + 1] == ["subledger", *names]
        try:
            COMMANDS[names].make_context(" ".join(names), words[len(names) + 1 :])
        except TyperException as wrong:
            pytest.fail(f"{example}: {wrong.message}")


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_the_help_of_a_command_begins_with_its_verb_and_says_what_each_argument_is(names: tuple[str, ...]) -> None:
    found = COMMANDS[names]
    first = (found.help or "").split()[0]
    assert first.endswith("s"), f"{first}: a sentence about what the command does"
    for parameter in found.params:
        if parameter.param_type_name == "argument":
            assert parameter.help, parameter.name


def test_the_help_of_every_command_can_be_printed() -> None:
    for words in ((), *COMMANDS):
        done = CliRunner().invoke(app, [*words, "--help"])
        assert done.exit_code == 0, words
        assert "Usage:" in done.output


def test_the_example_of_an_id_is_of_its_own_kind() -> None:
    seen: dict[str, set[str]] = {}
    for described in event_types():
        for field in described["fields"]:
            if field["name"].endswith("_id"):
                seen.setdefault(field["values"].rpartition("such as ")[2], set()).add(field["name"])
    assert {example: names for example, names in seen.items() if len(names) > 1} == {}


def test_each_type_has_its_own_description() -> None:
    descriptions = [described["description"] for described in event_types()]
    assert len(set(descriptions)) == len(EVENT_TYPES)
    assert not any("``" in description for description in descriptions)


def test_what_is_required_is_not_said_to_be_absent() -> None:
    for described in event_types():
        for field in described["fields"]:
            assert not (field["required"] and "absent" in field["meaning"]), (described["type"], field)


def test_the_table_of_commands_names_each_with_the_module_that_has_it() -> None:
    for module in set(COMMANDS_BY_NAME.values()):
        loaded = typer.Typer()
        loaded.callback()(lambda: None)
        importlib.import_module(f"api.cli.commands.{module}").register(loaded)
        registered = set(typer.main.get_group(loaded).commands)
        assert registered == {name for name, its_module in COMMANDS_BY_NAME.items() if its_module == module}
    assert {module.name for module in pkgutil.iter_modules(api.cli.commands.__path__)} == set(COMMANDS_BY_NAME.values())


def test_a_command_loads_neither_the_server_nor_the_other_commands() -> None:
    program = "import sys, api.cli.main, api.cli.commands.reads; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert not {"fastapi", "paramiko", "jwt", "api.cli.commands.serve"} & set(loaded)


def test_a_fault_of_a_commands_module_is_not_an_unknown_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise KeyError(name)

    commands = typer.main.get_command(app).commands
    assert commands.get("no such command") is None
    monkeypatch.setattr("api.cli.main.import_module", broken)
    with pytest.raises(KeyError):
        commands.get("keys")
