"""Reports over several ledgers: the list of them, and the shape of their answer.

Owns: choosing the ledgers; the answer: each ledger with its position, then one report per functional currency. Does not
own: the adding (``projections.reports.joint``), the parameters of a report (``reports``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any, Final

import msgspec

from api import terminal
from api.service import Subledger
from api.shapes import answers, report_tables, reports
from api.shapes.reports import ReportQuery
from projections.report import Report, ReportRequest
from projections.reports.joint import LedgerReport, added, by_currency
from subledger.errors import InvalidValue, MissingField
from subledger.events.envelope import format_time
from subledger.sandbox import check_alike
from subledger.store.reading.ledgers import ledger_head, ledgers_of
from subledger.store.reading.views import Due

JOINT: Final = ("trial-balance", "rollforward", "clearing", "summary")
"""Reports whose figures can be added: no estimates, and no reports of one customer."""
FORMATS: Final = ("json", "csv")


def listing(name: str) -> dict[str, Any]:
    """Returns a report's listing without the parameters for a single ledger: the customer, the printable page."""
    found = reports.listing(name)
    of_one = {"customer"}
    return {
        **found,
        "takes": [each for each in found["takes"] if each not in of_one],
        "by": [each for each in found["by"] if each not in of_one],
        "formats": list(FORMATS),
    }


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """The requested ledgers: all of an entity, or a list."""

    entity: str | None = None
    ledgers: tuple[str, ...] = ()


class JointAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The reports of the ledgers, and their sum for each functional currency."""

    chosen: Chosen
    request: ReportRequest
    parts: tuple[LedgerReport, ...]
    reports: dict[str, Report]

    @property
    def ties_out(self) -> bool:
        """True if the report of every ledger ties; in the sum, two differences could cancel."""
        return all(part.report.ties_out for part in self.parts)

    @property
    def owner(self) -> str:
        return self.chosen.entity or ", ".join(part.ledger for part in self.parts)


def answer(service: Subledger, name: str, query: ReportQuery, chosen: Chosen) -> JointAnswer:
    """Reads the report of each ledger in a database snapshot of its own, and adds them by functional currency.

    Every ledger is read as of the same day: ``as_of``, otherwise ``to``, otherwise today. Today is the date in UTC; for
    sandboxes, the latest date of their clocks. Raises the errors of a report of one ledger, and UnknownEntity,
    MissingField, InvalidValue for parameters that reports over several ledgers do not have.
    """
    report = reports.offered(name)
    if name not in JOINT:
        raise InvalidValue(
            f"report {name} needs a single ledger; the reports over several ledgers are: {', '.join(JOINT)}",
            field="name",
            expected=", ".join(JOINT),
            found=name[:80],
        )
    if query.customer is not None or query.by == "customer":
        raise InvalidValue(
            "customer filters need a single ledger: the same id can be another customer in another ledger",
            field="customer" if query.customer is not None else "by",
            expected="a report of one ledger",
        )
    request = reports.read_query(name, report, query)
    ledgers = _ledgers(service, chosen, query.known_at)
    as_of = query.as_of or request.to_date or _today(service, ledgers)
    # Every ledger gets the same end of the range. Otherwise a ledger without recent entries would end earlier and
    # leave out its carrying amounts.
    query = msgspec.structs.replace(query, as_of=as_of, to=query.to or as_of.isoformat())
    parts = []
    for ledger in ledgers:
        with reports.answer(service, ledger, name, query) as (found, view, request):
            parts.append(
                LedgerReport(
                    ledger=ledger,
                    entity=view.settings.entity,
                    functional_currency=view.functional_currency,
                    position=view.position,
                    known_at=view.known_at,
                    as_of=view.as_of,
                    report=found,
                    due=view.due,
                )
            )
    joint = {currency: added(group) for currency, group in by_currency(parts).items()}
    return JointAnswer(chosen=chosen, request=request, parts=tuple(parts), reports=joint)


def _ledgers(service: Subledger, chosen: Chosen, known_at: datetime | None) -> Sequence[str]:
    if (chosen.entity is None) == (not chosen.ledgers):
        raise MissingField(
            "the report needs an entity, or one or more ledgers",
            field="entity",
            expected="entity, or ledger once or more",
        )
    if chosen.entity is None:
        named = list(dict.fromkeys(chosen.ledgers))
        with service.database.read() as connection:
            check_alike([ledger_head(connection, ledger).state for ledger in named])
        return named
    with service.database.read() as connection:
        return ledgers_of(connection, chosen.entity, known_at=known_at)


def _today(service: Subledger, ledgers: Sequence[str]) -> date:
    """Returns today's date in UTC; for sandboxes, the latest date of their clocks."""
    moment = datetime.now(UTC)
    with service.database.read() as connection:
        states = [ledger_head(connection, ledger).state for ledger in ledgers]
    days = [state.today(moment) for state in states if state.sandbox]
    return max(days, default=moment.date())


def as_json(answer: JointAnswer) -> dict[str, Any]:
    """Returns the answer as JSON: the ledgers, then per functional currency the content of a report of one ledger."""
    first = answer.parts[0]
    request = answer.request
    return {
        "report": first.report.name,
        "title": first.report.title,
        "entity": answer.chosen.entity,
        "as_of": first.as_of.isoformat(),
        **_due(answer.parts),
        "from": None if request.from_date is None else request.from_date.isoformat(),
        "to": (request.to_date or first.as_of).isoformat(),
        "by": request.by,
        "ledgers": [
            {
                "ledger": part.ledger,
                "entity": part.entity,
                "functional_currency": part.functional_currency,
                "known_at": format_time(part.known_at),
                "position": part.position,
                "ties_out": part.report.ties_out,
                **answers.due(part.due),
            }
            for part in answer.parts
        ],
        "currencies": [
            {
                "functional_currency": currency,
                "ledgers": [part.ledger for part in answer.parts if part.functional_currency == currency],
                **reports.tables_as_json(report, currency),
            }
            for currency, report in answer.reports.items()
        ],
        "ties_out": answer.ties_out,
        "notes": list(dict.fromkeys(note for report in answer.reports.values() for note in report.notes)),
    }


def _due(parts: Sequence[LedgerReport]) -> dict[str, Any]:
    """Returns the due expiries of all ledgers: their number and the earliest time."""
    dues = [part.due for part in parts if part.due is not None]
    since = min((due.since for due in dues if due.since is not None), default=None)
    return answers.due(Due(count=sum(due.count for due in dues), since=since))


def csv_lines(answer: JointAnswer, table: str | None) -> Iterator[str]:
    """Yields one table as CSV over all functional currencies, which are in a column."""
    for number, (currency, report) in enumerate(answer.reports.items()):
        yield from islice(reports.csv_lines(reports.table_of(report, table), currency), min(number, 1), None)


def show(answer: JointAnswer) -> None:
    """Prints the answer for people: the ledgers and their positions, then a report per functional currency."""
    names = ["ledger", "functional_currency", "position", "known_at", "ties_out"]
    made = as_json(answer)
    names += ["due_expiries"] if "due_expiries" in made else []
    terminal.table(None, names, [[part.get(name, "") for name in names] for part in made["ledgers"]], right=(2, 5))
    for currency, report in answer.reports.items():
        report_tables.show(report, owner=f"{answer.owner}, in {currency}", as_of=made["as_of"], functional=currency)
