"""Balances, blocks and journal lines at a point in time."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from fastapi import Path, Query

from api import settings
from api.access import Access
from api.checkpoint_log import seen_of
from api.http.routes.dependencies import AsOf, Cursor, KnownAt, LedgerId, Limit, Service, Text, check_day, needs
from api.http.routes.guarded import Router
from api.shapes import answers
from api.shapes import balances as balance_answers
from api.shapes import events as event_answers
from api.shapes import verification as verification_answers
from projections import integrity
from projections.monitors.mismatch import keep_verified
from projections.reads import blocks
from projections.reads.customers import customers_page
from projections.reads.date_reasons import reasons_of
from projections.reads.spendable import spendable_credits
from projections.replay.resumable import manifests
from subledger.accounts import ROLE_BY_NAME
from subledger.errors import InvalidValue
from subledger.store.reading.in_force import rules_of
from subledger.store.reading.ledgers import ledger_head
from subledger.store.reading.pages import entries_page, events_page, lines_of
from subledger.store.reading.views import due_expiries

router = Router(prefix="/v1/ledgers/{ledger}", tags=["reads"], dependencies=[needs(Access.READER)])

CustomerId = Annotated[str, Path(description="The customer", examples=["cust-42"], pattern=r"^[^\x00]+$")]
BlockId = Annotated[str, Path(description="The credit block", examples=["blk-7"], pattern=r"^[^\x00]+$")]


@router.get("/trial-balance")
def trial_balance(service: Service, ledger: LedgerId, known_at: KnownAt, as_of: AsOf = None) -> dict[str, Any]:
    """Every account of the ledger. Debits equal credits in every currency and in the functional currency."""
    return balance_answers.trial_balance(
        *service.trial_balance(ledger, as_of=check_day(as_of, "as_of"), known_at=known_at)
    )


@router.get("/customers")
def customers(service: Service, ledger: LedgerId, limit: Limit = 100, cursor: Cursor = None) -> dict[str, Any]:
    """Customers in order of id."""
    after = (answers.decode_cursor(cursor, (str,)) or [""])[0]
    with service.database.read() as connection:
        state = ledger_head(connection, ledger).state
        due = due_expiries(connection, state, now=datetime.now(UTC))
        found = customers_page(connection, ledger, after=after, limit=limit)
    items = [msgspec.to_builtins(customer) for customer in found]
    return {**answers.page(items, [items[-1]["customer"]] if len(items) == limit else None), **answers.due(due)}


# These routes must come before the other routes of a customer, and use a path parameter, because an id may contain an
# escaped slash.
@router.get("/customers/{customer:path}/balances")
def customer_balances(
    service: Service, ledger: LedgerId, customer: CustomerId, known_at: KnownAt, as_of: AsOf = None
) -> dict[str, Any]:
    """A customer's accounts and credits, through the end of a day, as known at a moment."""
    at, found = service.customer_balances(ledger, customer, as_of=check_day(as_of, "as_of"), known_at=known_at)
    return balance_answers.customer_balances(at, customer, found)


@router.get("/customers/{customer:path}/blocks")
def customer_blocks(
    service: Service,
    ledger: LedgerId,
    customer: CustomerId,
    known_at: KnownAt,
    as_of: AsOf = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """A customer's credit blocks, in order of id."""
    after = (answers.decode_cursor(cursor, (str,)) or [""])[0]
    with service.view(ledger, as_of=check_day(as_of, "as_of"), known_at=known_at, customer=customer) as view:
        found, following = blocks.customer_blocks(view, customer, after=after, limit=limit)
        items = [balance_answers.block(block, view.functional_currency) for block in found]
    return {**answers.page(items, None if following is None else [following]), **answers.due(view.due)}


@router.get("/customers/{customer:path}/spendable")
def spendable(
    service: Service,
    ledger: LedgerId,
    customer: CustomerId,
    known_at: KnownAt,
    product: Annotated[Text, Query(description="the product of the usage; absent: usage that names no product")] = None,
    as_of: AsOf = None,
) -> dict[str, Any]:
    """The credits that a customer's usage can draw now, or at the end of a day, by unit, and the open reservations.

    Credits that cannot be drawn are divided by the reason: reserved, frozen by a dispute, not started (`scheduled`),
    expired and not recorded yet, or for other products. The parts add up to `remaining`.
    """
    with service.view(ledger, as_of=check_day(as_of, "as_of"), known_at=known_at, customer=customer) as view:
        return balance_answers.spendable(view, customer, spendable_credits(view, customer, product=product))


@router.get("/blocks/{block_id:path}/history")
def history(
    service: Service, ledger: LedgerId, block_id: BlockId, limit: Limit = 100, cursor: Cursor = None
) -> dict[str, Any]:
    """Every event that touched a block, with its lines, oldest first."""
    after = (answers.decode_cursor(cursor, (int,)) or [0])[0]
    with service.database.read() as connection:
        state = ledger_head(connection, ledger).state
        rules = rules_of(service.database, connection, ledger)
        found = events_page(connection, ledger, block=block_id, after=after, limit=limit)
        reasons = reasons_of(connection, ledger, [stored.row.position for stored in found])
        due = due_expiries(connection, state, now=datetime.now(UTC), block=block_id)
    items = [event_answers.event(stored, rules, state.functional_currency, reasons) for stored in found]
    page = answers.page(items, [items[-1]["position"]] if len(items) == limit else None)
    return {**page, **answers.due(due)}


@router.get("/blocks/{block_id:path}")
def block(
    service: Service, ledger: LedgerId, block_id: BlockId, known_at: KnownAt, as_of: AsOf = None
) -> dict[str, Any]:
    """One credit block."""
    with service.view(ledger, as_of=check_day(as_of, "as_of"), known_at=known_at) as view:
        return balance_answers.block(blocks.one_block(view, block_id), view.functional_currency)


@router.get("/journal-lines")
def journal_lines(
    service: Service,
    ledger: LedgerId,
    customer: Text = None,
    block: Text = None,
    account: Text = None,
    from_: Annotated[date | None, Query(alias="from", description="first accounting date")] = None,
    to: Annotated[date | None, Query(description="last accounting date, inclusive")] = None,
    position: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Expanded journal lines, in the order of the log. A page contains only whole entries, so it may exceed the limit
    slightly.
    """
    if account is not None and account not in ROLE_BY_NAME:
        raise InvalidValue(f"no account {account}", field="account", expected=", ".join(ROLE_BY_NAME), found=account)
    after = answers.decode_cursor(cursor, (int, int)) or [0, 0]
    with service.database.read() as connection:
        state = ledger_head(connection, ledger).state
        functional_currency = state.functional_currency
        due = due_expiries(connection, state, now=datetime.now(UTC), as_of=to, customer=customer, block=block)
        rules = rules_of(service.database, connection, ledger)
        kinds = None
        if account is not None:
            kinds = sorted(
                {
                    kind
                    for of_policy in rules.values()
                    for kind, pairs in of_policy.items()
                    if any(account in (pair.debit, pair.credit) for pair in pairs)
                }
            )
        entries = entries_page(
            connection,
            ledger,
            kinds=kinds,
            customer=customer,
            block=block,
            from_date=check_day(from_, "from"),
            to_date=check_day(to, "to"),
            position=position,
            after=(after[0], after[1]),
            limit=limit,
        )
    items = [
        event_answers.line(recorded.position, line, functional_currency)
        for recorded in entries
        for line in lines_of(recorded.entry, rules)
        if account is None or line.account == account
    ]
    last = entries[-1] if len(entries) == limit else None
    page = answers.page(items, None if last is None else [last.position, last.entry.number])
    return {**page, **answers.due(due)}


@router.get("/reports/integrity")
def integrity_report(service: Service, ledger: LedgerId) -> dict[str, Any]:
    """Verifies the ledger: hash chain, replay, invariants. A sound ledger has no differences. The call reads the whole
    log.
    """
    began_at = datetime.now(UTC)
    # These are read before the snapshot begins, so that none belongs to a later log.
    earlier = manifests(settings.home() / "verified" / quote(ledger, safe=""))
    report = integrity.verify(service.database, ledger, seen=seen_of(ledger), earlier=earlier)
    keep_verified(service.database, report, at=began_at)
    return verification_answers.report(report)
