"""Balances from the day totals and from the index equal the sums of the journal lines, in every view and currency."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import date
from typing import Any

import pytest
from sqlalchemy import text

from api.service import Subledger
from projections.reads import balances
from projections.reads.blocks import BlockView, customer_blocks
from projections.replay.rebuild import rebuild
from subledger.accounts import ROLE_BY_NAME, Side
from subledger.errors import UnknownCustomer
from subledger.store.reading.views import View, statement_of
from tests.conftest import NewLedger
from tests.laws.test_judges import CUSTOMERS, World
from tests.store.walked import record_months

Figures = dict[tuple[str, str], tuple[int, int, int, int]]
"""Account, currency → debit, credit, functional debit, functional credit, in minor units."""

OF_LINES = """
    SELECT account, currency,
           coalesce(sum(amount_minor) FILTER (WHERE side = 'debit'), 0) AS debit,
           coalesce(sum(amount_minor) FILTER (WHERE side = 'credit'), 0) AS credit,
           coalesce(sum(functional_minor) FILTER (WHERE side = 'debit'), 0) AS functional_debit,
           coalesce(sum(functional_minor) FILTER (WHERE side = 'credit'), 0) AS functional_credit
    FROM journal_lines
    WHERE ledger = :ledger AND accounting_date <= :as_of AND position <= :position
      AND (CAST(:customer AS text) IS NULL OR customer = :customer)
    GROUP BY account, currency
"""


@pytest.fixture(scope="module")
def ledger(service: Subledger, new_ledger: NewLedger) -> str:
    """Five months in four currencies, with remeasurements, settlements and pools. Only the last is not closed."""
    ledger = new_ledger(on_shortfall="backfill")
    record_months(service, ledger, prefix="b", size=400)
    return ledger


def of_lines(view: View, customer: str | None = None) -> Figures:
    parameters = {"ledger": view.ledger, "as_of": view.as_of, "position": view.position, "customer": customer}
    return {
        (row.account, row.currency): (row.debit, row.credit, row.functional_debit, row.functional_credit)
        for row in view.connection.execute(text(OF_LINES), parameters)
    }


def figures(found: list[balances.AccountBalance]) -> Figures:
    result = {
        (b.account, b.currency): (b.debit_minor, b.credit_minor, b.functional_debit_minor, b.functional_credit_minor)
        for b in found
    }
    assert len(result) == len(found)
    return result


def moments(service: Subledger, ledger: str) -> list[Any]:
    with service.database.read() as connection:
        query = text("SELECT recorded_at FROM batches WHERE ledger = :ledger ORDER BY 1")
        return list(connection.execute(query, {"ledger": ledger}).scalars())


def test_balances_are_the_lines_added_up_in_every_view(service: Subledger, ledger: str) -> None:
    chance, known = random.Random(1), moments(service, ledger)
    alone = 0
    for _ in range(40):
        as_of = date(2026, chance.randint(1, 6), chance.randint(1, 28))
        with service.view(ledger, as_of=as_of, known_at=chance.choice((None, *known))) as view:
            found = balances.trial_balance(view)
            assert figures(found) == of_lines(view)
            check_ties(found)
            alone += sum(b.debit_minor == b.credit_minor == 0 for b in found)
            customer = chance.choice(CUSTOMERS)
            try:
                own = balances.customer_balances(view, customer).accounts
            except UnknownCustomer:
                own = []
            assert figures(own) == of_lines(view, customer)
            check_ties(own)
    assert alone, "accounts that nothing but functional amounts have moved"


def check_ties(found: list[balances.AccountBalance]) -> None:
    """Checks that debits equal credits in each currency, in the functional currency for each, and over all of them."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for b in found:
        sums[b.currency][0] += b.debit_minor - b.credit_minor
        sums[b.currency][1] += b.functional_debit_minor - b.functional_credit_minor
    assert all(total == [0, 0] for total in sums.values())
    over_all = balances.in_functional_currency(found)
    assert sum(b.debit_minor for b in over_all) == sum(b.credit_minor for b in over_all)
    for each in over_all:
        of_account = [b for b in found if b.account == each.account]
        assert each.balance_minor == sum(b.functional_minor for b in of_account)
        debit = ROLE_BY_NAME[each.account].normal_side is Side.DEBIT
        assert each.balance_minor == (each.debit_minor - each.credit_minor) * (1 if debit else -1)
    assert [b.account for b in over_all] == [name for name in ROLE_BY_NAME if name in {b.account for b in found}]


def test_the_exchange_gains_of_a_ledger_are_in_its_trial_balance(service: Subledger, ledger: str) -> None:
    with service.view(ledger, as_of=date(2026, 12, 31)) as view:
        assert balances.has_other_currencies(view)
        [gains] = [
            b for b in balances.in_functional_currency(balances.trial_balance(view)) if b.account == "fx_gain_loss"
        ]
        of_entries = view.connection.execute(
            text("SELECT -sum(functional_minor) FROM entries WHERE ledger = :l AND kind LIKE 'fx\\_%'"), {"l": ledger}
        ).scalar_one()
    assert gains.balance_minor == of_entries != 0


def test_what_a_block_carries_in_the_functional_currency_is_what_the_writer_remembers(
    service: Subledger, ledger: str
) -> None:
    """At the head blocks are at their own rate, and refundable ones as last remeasured. Their sum is the control
    balance.
    """
    found: list[BlockView] = []
    with service.view(ledger, as_of=date(2026, 12, 31)) as view:
        after: str | None = ""
        while after is not None:
            page, after = customer_blocks(view, after=after, limit=50)
            found += page
        books = balances.in_functional_currency(balances.trial_balance(view))
    for each in found:
        held = each.block.carrying_functional if each.block.rate is not None else each.block.carrying_minor
        assert each.carrying_functional == held, each.block.block_id
    remeasured = [b for b in found if b.block.refundable and b.block.rate is not None and b.carrying_functional]
    assert len(remeasured) > 5
    [control] = [b.balance_minor for b in books if b.account == "prepaid_liability"]
    assert sum(each.carrying_functional for each in found) == control > 0


def test_a_rebuild_leaves_the_functional_balances_as_they_were(service: Subledger, ledger: str) -> None:
    def found() -> list[balances.AccountBalance]:
        with service.view(ledger, as_of=date(2026, 12, 31)) as view:
            return balances.trial_balance(view)

    before = found()
    rebuild(service.database, ledger)
    assert found() == before


def test_a_ledger_in_one_currency_has_no_others(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger(currency="EUR")
    service.record(ledger, World(random.Random(1), ("EUR",), "o").events(20))
    with service.view(ledger, as_of=date(2026, 12, 31)) as view:
        assert not balances.has_other_currencies(view)
        for b in balances.trial_balance(view):
            assert (b.debit_minor, b.credit_minor) == (b.functional_debit_minor, b.functional_credit_minor)


def test_a_customers_entries_are_found_by_the_index(service: Subledger, ledger: str) -> None:
    asked = balances.OfCustomer(customer=CUSTOMERS[0])
    found = plan(service, ledger, asked, asked.query)
    assert "Index Scan using ix_entries_customer on entries" in found
    assert "Seq Scan on entries" not in found


def plan(service: Subledger, ledger: str, asked: balances.OfCustomer, query: str) -> str:
    with service.view(ledger, as_of=date(2026, 12, 31)) as view:
        # The test checks that the index can be used, not the planner's choice for such a small table.
        for way in ("seqscan", "bitmapscan"):
            view.connection.execute(text(f"SET LOCAL enable_{way} = off"))
        parameters = {
            **asked.parameters,
            "ledger": ledger,
            "as_of": view.as_of,
            "known_at": None,
            "position": view.position,
            "due_by": None,
            "due_block": None,
            "due_of": None,
        }
        found = view.connection.exec_driver_sql(f"EXPLAIN {statement_of(query)}", parameters)
        return "\n".join(found.scalars())
