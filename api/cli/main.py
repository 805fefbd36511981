"""The command line: ``subledger``. Each command does the same as the HTTP API, on the same service.

A command's module is loaded when the command is used: loading all of them takes twice as long as most commands.

Exit codes: 0 done; 1 a check found a difference; 2 wrong usage; 3 some input rejected; 4 the database, a file or the
network is unavailable. Every one of 1 to 4 comes with a sentence, none with a traceback: ``faults``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from api import terminal
from api.cli import faults
from subledger.text.visible_text import visible

COMMANDS: Final = {
    "init": "database", "database": "database", "ledger": "ledgers", "record": "record", "rejected": "rejected",
    "approvals": "approvals", "events": "reads", "history": "reads", "balances": "reads", "blocks": "reads",
    "spendable": "reads",
    "report": "reports", "expire": "months", "close": "months", "reopen": "months", "periods": "months",
    "checklist": "months", "export": "exports", "exports": "exports", "journals": "journals", "target": "targets",
    "tie-out": "tie_out", "mapping": "mapping", "policy": "policies", "customer": "customers", "channel": "channels",
    "deliver": "deliveries", "deliveries": "deliveries", "worker": "worker", "credentials": "credentials",
    "monitor": "monitors", "keys": "keys", "clock": "clock", "checkpoint": "checkpoints", "verify": "verify",
    "rebuild": "rebuild", "serve": "serve", "distribute": "distribute", "sizing": "sizing", "bench": "bench",
    "demo": "demo",
}  # fmt: skip
"""Each command and its module in ``api.cli.commands``, in the order of the help."""


class _Loaded(MutableMapping[str, Any]):
    """The commands by name. A module is loaded when one of its commands is looked up."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            module = typer.Typer()
            # Without a callback, typer would turn a group with one command into that command.
            module.callback()(lambda: None)
            import_module(f"api.cli.commands.{COMMANDS[name]}").register(module)
            self._loaded |= typer.main.get_group(module).commands
        return self._loaded[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the default only for an unknown name: a KeyError in a command's module must not look like one."""
        return self[name] if name in COMMANDS else default

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Commands(TyperGroup):
    """All commands. If the reader of the output closes the pipe, the exit code is 0; Typer would exit with 1."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Loaded()

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _visible_usage():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # Typer's own copy of Click has no types
        with faults.piped(), _visible_usage():
            return super().invoke(ctx)


@contextmanager
def _visible_usage() -> Iterator[None]:
    """Makes control characters visible in usage errors, in which Typer quotes options and arguments unchanged."""
    try:
        yield
    except TyperException as error:
        error.message = visible(error.message)
        raise


app = typer.Typer(
    cls=_Commands,
    help="The prepaid-credit sub-ledger: from usage-based billing to the general ledger.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"subledger {version('subledger')}\n")
        raise typer.Exit


@app.callback()
def every(
    _: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """The prepaid-credit sub-ledger: from usage-based billing to the general ledger."""


def main() -> None:
    """Runs one command. Every failure ends in one sentence and its exit code."""
    terminal.configure_logs()
    with faults.reported(as_json="--json" in sys.argv):
        app()


if __name__ == "__main__":
    main()
