"""The command line: ``subledger``. Each command does what the HTTP API does, on the same service.

Exit codes: 0 done; 1 a check found a difference; 2 wrong usage; 3 some input rejected; 4 the database, a file or the
network is unavailable. Every one of 1 to 4 comes with a sentence, none with a traceback: ``faults``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from api import documents, faults, terminal
from api.commands import (
    approvals,
    bench,
    checkpoints,
    clock,
    credentials,
    customers,
    delivery,
    distribution,
    general_ledgers,
    keys,
    maintenance,
    monitors,
    months,
    policies,
    reads,
    rejected,
    reports,
)
from api.commands.approvals import By, whoami
from api.commands.policies import policy_named
from api.event_files import EventLines, Refusals, RejectedLines
from api.rejecting import first_sent
from api.service import LedgerSettings, SettingsChange, Subledger
from api.settings import connect, home, is_embedded, owner_url, upgrade
from api.terminal import Json, LedgerOption, err, out, print_json, table
from projections.clock import read_clock
from subledger.errors import InvalidInput, Unavailable
from subledger.events import read_data
from subledger.own_event_data import Approvals
from subledger.posting import SHIPPED_POLICIES
from subledger.rejections import LONGEST_NAME, refused_line
from subledger.store import embedded
from subledger.store.batch import DUPLICATE, RECORDED, WAITING
from subledger.store.ledgers import ledger_head, ledger_heads, policy_name
from subledger.visible_text import visible


class _Commands(TyperGroup):
    """Every command, with a quiet end if the reader of its output goes away: Typer would make that a difference (1)."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _visible_usage():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # Typer's own copy of Click has no types
        with faults.piped(), _visible_usage():
            return super().invoke(ctx)


@contextmanager
def _visible_usage() -> Iterator[None]:
    """A wrong option or argument is quoted by Typer as it was given."""
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
ledger_app = typer.Typer(help="Ledgers and their settings.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")
keys.register(app)
reads.register(app)
months.register(app)
maintenance.register(app)
distribution.register(app)
bench.register(app)
reports.register(app)
rejected.register(app)
approvals.register(app)
policies.register(app)
general_ledgers.register(app)
customers.register(app)
delivery.register(app)
credentials.register(app)
monitors.register(app)
clock.register(app)
checkpoints.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"subledger {version('subledger')}\n")
        raise typer.Exit


@app.callback()
def every(
    _: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """The prepaid-credit sub-ledger: from usage-based billing to the general ledger."""


def main() -> None:
    """Runs one command; whatever stops it ends in one sentence and its exit code."""
    terminal.configure_logs()
    with faults.told(as_json="--json" in sys.argv):
        app()


# --- set-up -------------------------------------------------------------------------------------------------


@app.command()
def init(json_: Json = False) -> None:
    """Applies the migrations. The embedded database does that by itself; another one needs it once a version.

    Example: subledger init
    """
    url = owner_url()
    upgrade(url)
    if json_:
        print_json({"migrated": True})
    else:
        out.print("The database has this version's schema.")


@app.command()
def database(
    stop: Annotated[bool, typer.Option("--stop", help="Stop the embedded server.")] = False, json_: Json = False
) -> None:
    """Prints the owner's database URL, for psql. The embedded server ends by itself 10 minutes after its last client.

    Example: psql "$(subledger database)"
    """
    if stop:
        stopped = embedded.stop(home()) if is_embedded() else False
        if json_:
            print_json({"stopped": stopped})
        else:
            out.print("The embedded server has stopped." if stopped else "No embedded server was running.")
        return
    url = owner_url()
    if json_:
        print_json({"url": url})
    else:
        sys.stdout.write(url + "\n")


GrantsWithin = Annotated[
    str | None,
    typer.Option(
        help="The limits hold for all that one customer is given within this time: 1d, 12h. Not set: for each event.",
        metavar="TIME",
    ),
]
CreditPrice = Annotated[
    list[str] | None,
    typer.Option(help="What a credit of a unit is sold for, to value gifts: credit=0.01; may be repeated."),
]


@ledger_app.command("create")
def ledger_create(
    ledger: Annotated[str, typer.Argument(help="The ledger's id, such as acme.")],
    currency: Annotated[str, typer.Option(help="Functional currency, ISO 4217, such as USD.")],
    policy: Annotated[
        str, typer.Option(help="contract_liability, customer_deposits, customer_deposits_arm, or FILE.toml.")
    ] = "customer_deposits",
    entity: Annotated[
        str | None, typer.Option(help="The ERP's subsidiary or company code, such as US01; default the ledger's id.")
    ] = None,
    timezone: Annotated[str, typer.Option(help="IANA time zone of the books, such as Europe/Berlin.")] = "UTC",
    on_shortfall: Annotated[str, typer.Option(help="reject, overage or backfill.")] = "reject",
    late_usage: Annotated[
        str, typer.Option(help="new, or reclassify: usage from before an expiry takes breakage back.")
    ] = "new",
    second_person_for: Annotated[
        list[str] | None,
        typer.Option(help="breakage_estimates, voids, write_offs, reopening, expiry_changes; may be repeated."),
    ] = None,
    grant_credits_above: Annotated[str | None, typer.Option(help="Larger grants need a second person: 1000.")] = None,
    grant_value_above: Annotated[str | None, typer.Option(help="As above, by value: 100.00.")] = None,
    grants_within: GrantsWithin = None,
    credit_price: CreditPrice = None,
    future_tolerance: Annotated[str, typer.Option(help="How far ahead of now events may lie: 1d, 36h, 0s.")] = "1d",
    sandbox: Annotated[bool, typer.Option("--sandbox", help="For trials: a clock of its own, no deliveries.")] = False,
    clock: Annotated[str | None, typer.Option(help="Where a sandbox's clock begins; default now.", metavar="T")] = None,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Creates a ledger. The same again changes nothing.

    Example: subledger ledger create acme --currency USD
    """
    service = connect()
    settings = LedgerSettings(
        currency=currency, policy=policy if policy in SHIPPED_POLICIES else policy_named(policy), entity=entity,
        timezone=timezone, on_shortfall=on_shortfall, late_usage=late_usage,
        approvals=_approvals(second_person_for, grant_credits_above, grant_value_above, grants_within, credit_price),
        future_tolerance=future_tolerance, sandbox=sandbox,
        clock=None if clock is None else read_clock(clock),
    )  # fmt: skip
    created = service.create_ledger(ledger, settings, by=by)
    with service.database.read() as connection:
        head = ledger_head(connection, ledger)
        document = documents.ledger(head, policy_name(connection, ledger, head.state.policy))
    if json_:
        print_json({**document, "created": created})
    else:
        out.print(f"Ledger {ledger}: {'created' if created else 'existed already'}.")


def _approvals(
    named: list[str] | None, credits: str | None, value: str | None, within: str | None, prices: list[str] | None
) -> Approvals:
    """Raises InvalidInput."""
    asked: dict[str, Any] = dict.fromkeys(named or (), True)
    limits = (("grant_credits_above", credits), ("grant_value_above", value), ("grants_within", within))
    asked |= {name: text for name, text in limits if text}
    if prices:
        asked["credit_prices"] = _prices(prices)
    return read_data(Approvals, asked, prefix="approvals.")


def _prices(given: list[str]) -> dict[str, str]:
    """``UNIT=PRICE`` each, as units with their prices. Raises InvalidInput."""
    prices: dict[str, str] = {}
    for text in given:
        unit, equals, price = text.rpartition("=")
        if not (unit and equals and price):
            raise InvalidInput(
                "a price of credits is given as UNIT=PRICE", field="credit_price", expected="such as credit=0.01",
                found=text[:60],
            )  # fmt: skip
        prices[unit] = price
    return prices


@ledger_app.command("configure")
def ledger_configure(
    ledger: Annotated[str, typer.Argument(help="The ledger's id, such as acme.")],
    entity: Annotated[str | None, typer.Option(help="The ERP's subsidiary or company code, such as US01.")] = None,
    on_shortfall: Annotated[str | None, typer.Option(help="reject, overage or backfill.")] = None,
    late_usage: Annotated[str | None, typer.Option(help="new or reclassify.")] = None,
    second_person_for: Annotated[
        list[str] | None,
        typer.Option(
            help="All that needs one: breakage_estimates, voids, write_offs, reopening, expiry_changes; or none."
        ),
    ] = None,
    grant_credits_above: Annotated[
        str | None, typer.Option(help="Larger grants need a second person: 1000; none takes the limit away.")
    ] = None,
    grant_value_above: Annotated[str | None, typer.Option(help="As above, by value: 100.00.")] = None,
    grants_within: GrantsWithin = None,
    credit_price: CreditPrice = None,
    future_tolerance: Annotated[
        str | None, typer.Option(help="How far ahead of now events may lie: 1d, 36h, 0s.")
    ] = None,
    currency: Annotated[str | None, typer.Option(hidden=True)] = None,
    timezone: Annotated[str | None, typer.Option(hidden=True)] = None,
    sandbox: Annotated[bool | None, typer.Option(hidden=True)] = None,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Changes settings for what is recorded from now on. What is not named stays; who asked is recorded.

    Currency and time zone are for a ledger's life, and so is being a sandbox.

    Example: subledger ledger configure acme --on-shortfall overage --second-person-for voids
    """
    change = SettingsChange(
        currency=currency, timezone=timezone, entity=entity, on_shortfall=on_shortfall, late_usage=late_usage,
        approvals=_approvals_change(
            second_person_for, grant_credits_above, grant_value_above, grants_within, credit_price
        ),
        future_tolerance=future_tolerance, sandbox=sandbox,
    )  # fmt: skip
    service = connect()
    configured = service.configure_ledger(ledger, change, by=by)
    with service.database.read() as connection:
        head = ledger_head(connection, ledger)
        document = documents.ledger(head, policy_name(connection, ledger, head.state.policy))
    if json_:
        print_json({**document, "status": "configured" if configured else "unchanged"})
    else:
        out.print(f"Ledger {ledger}: {'configured' if configured else 'unchanged'}.")


_NEEDING_A_SECOND_PERSON = ("breakage_estimates", "voids", "write_offs", "reopening", "expiry_changes")


def _approvals_change(
    named: list[str] | None, credits: str | None, value: str | None, within: str | None, prices: list[str] | None
) -> dict[str, Any]:
    """What is named needs a second person, and nothing else does; where nothing is named, nothing changes."""
    change: dict[str, Any] = {}
    if named:
        wanted = [] if named == ["none"] else named
        change |= dict.fromkeys(_NEEDING_A_SECOND_PERSON, False) | dict.fromkeys(wanted, True)
    for name, text in (("grant_credits_above", credits), ("grant_value_above", value), ("grants_within", within)):
        if text is not None:
            change[name] = None if text == "none" else text
    if prices:
        change["credit_prices"] = None if prices == ["none"] else _prices(prices)
    return change


@ledger_app.command("list")
def ledger_list(json_: Json = False) -> None:
    """Lists the ledgers; a SANDBOX is for trials, and its books are no real ones.

    Example: subledger ledger list
    """
    service = connect()
    with service.database.read() as connection:
        items = [documents.ledger(h, p) for h, p in ledger_heads(connection, after="", limit=100_000)]
    if json_:
        print_json(documents.page(items, None))
        return
    names = ("ledger", "kind", "currency", "policy", "timezone", "closed_through", "position")
    kinds = [{**item, "kind": "SANDBOX" if item["sandbox"] else "real"} for item in items]
    table(None, names, [[item[name] for name in names] for item in kinds], right=(6,))


# --- events -------------------------------------------------------------------------------------------------


@app.command()
def record(
    file: Annotated[str, typer.Argument(help="JSON Lines of CloudEvents; - for standard input.")],
    ledger: LedgerOption,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Records a file of events, one CloudEvent a line. Safe to repeat: what is recorded already is a duplicate.

    Rejected lines are kept (`rejected list`), and go to FILE.rejected.jsonl with their reason; that file can be
    recorded as it is. What needs a second person waits: `approvals list`.

    Example: subledger record events.jsonl --ledger acme
    """
    service = connect()
    rejected_path = Path("stdin.rejected.jsonl" if file == "-" else f"{file}.rejected.jsonl")
    refusals, warn = Refusals(), partial(_warn_of_file, rejected_path)
    if file == "-":
        rejects = RejectedLines(rejected_path, warn, read=sys.stdin.buffer)
        counts = _record_lines(service, ledger, by, EventLines(sys.stdin.buffer, file), rejects, None, refusals)
    else:
        path = Path(file)
        if not path.is_file():
            raise InvalidInput(f"there is no file {file}", field="FILE", expected="a file, or -", found=file)
        with path.open("rb") as lines:
            reading, rejects = EventLines(lines, file), RejectedLines(rejected_path, warn, read=lines)
            counts = _record_lines(service, ledger, by, reading, rejects, path.stat().st_size, refusals)
    if json_:
        print_json(counts)
    else:
        out.print(counted(counts))
    if counts["rejected"]:
        for said in refusals.summary():
            err.print(said, markup=False)
        if rejects.complete:
            err.print(f"rejected lines and their reasons, which can be recorded as they are: {rejected_path}")
        err.print(f"they are kept until recorded or dismissed: subledger rejected list --ledger {ledger}")
        raise typer.Exit(terminal.SOME_REJECTED)


def counted(counts: Mapping[str, int]) -> str:
    """Counts for people: ``recorded 2, duplicates 0, rejected 1``."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _record_lines(
    service: Subledger, ledger: str, by: str, reading: EventLines, rejects: RejectedLines, size: int | None,
    refusals: Refusals,
) -> dict[str, int]:  # fmt: skip
    """How many became what; ``waiting`` only where something waits for a second person."""
    way = "stdin" if size is None else f"file:{reading.name[:LONGEST_NAME]}"
    counts = {"recorded": 0, "duplicates": 0, "rejected": 0}
    done = 0
    with service.database.read() as connection:
        ledger_head(connection, ledger)
    with rejects, terminal.progress("recording", size) as show:
        while reading.batch:
            batch, kept, inputs = reading.batch, reading.kept, reading.inputs
            texts = [line.strip(b"\r\n") for _, line in kept]
            try:
                outcomes = service.recorder.record(ledger, inputs, by=by, meanwhile=reading.read_on)
                outcomes = service.rejected.keep(ledger, outcomes, texts.__getitem__, sender=by, way=way)
            except Unavailable:
                err.print(f"stopped after {counted(counts)}; record the file again: what is recorded is a duplicate")
                raise
            if not inputs:
                reading.read_on()
            for (number, line), outcome in zip(kept, outcomes, strict=True):
                if outcome.status == RECORDED:
                    counts["recorded"] += 1
                elif outcome.status == DUPLICATE:
                    counts["duplicates"] += 1
                elif outcome.status == WAITING:
                    counts["waiting"] = counts.get("waiting", 0) + 1
                else:
                    counts["rejected"] += 1
                    assert outcome.error is not None
                    refusals.add(number, outcome.error)
                    rejects.write(refused_line(number, first_sent(line.strip(b"\r\n")), outcome.error))
            done += sum(len(line) for _, line in batch)
            show(done)
    return counts


def _warn_of_file(path: Path, error: OSError) -> None:
    err.print(
        f"{path} cannot be written ({error.strerror or error}). Recording goes on: rejected lines are stored in the "
        "database, and `subledger rejected list` shows them.", markup=False,
    )  # fmt: skip


if __name__ == "__main__":
    main()
