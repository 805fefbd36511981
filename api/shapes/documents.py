"""The JSON shapes shared by HTTP and the command line. Money and credits are always strings."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any

from projections.account_mapping.customer_attributes import CustomerAttributes, Erasure
from projections.account_mapping.mapping import AccountMapping, MappingAdoption
from projections.close.close import ClosedPeriod, ReopenedPeriod
from projections.close.period_history import Act, PeriodState
from projections.exports.exports import Export, MonthState
from projections.integrity import VerificationReport
from projections.journals.drill_down import EntryBehind
from projections.journals.journal import JournalLine
from projections.reads.balances import (
    AccountBalance,
    CreditBalance,
    CustomerBalances,
    FunctionalBalance,
    in_functional_currency,
)
from projections.reads.blocks import BlockView
from projections.reads.clock import Clock
from projections.reads.last_change import LastChange
from projections.replay.rebuild import RebuildCounts
from subledger.accounts import Side
from subledger.errors import InvalidCursor, InvalidJson
from subledger.events.envelope import OWN_SOURCE, format_time
from subledger.kinds import Entry, Rules
from subledger.ledger import LedgerState
from subledger.money import format_credits, format_minor
from subledger.store.reading.ledgers import LedgerHead
from subledger.store.reading.pages import NumberedLine, StoredEvent, lines_of
from subledger.store.reading.views import Due, PointInTime
from subledger.store.writing.approvals import ApprovalRequest
from subledger.store.writing.batch import Outcome
from subledger.text.json_text import loads

Document = dict[str, Any]


def money(amount_minor: int, currency: str) -> Document:
    return {"amount": format_minor(amount_minor, currency), "currency": currency}


def page(items: list[Document], following: Any) -> Document:
    """Returns a list with the cursor of the next page, null on the last page."""
    return {"items": items, "next": None if following is None else encode_cursor(following)}


def encode_cursor(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, ensure_ascii=False).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, shape: tuple[type, ...]) -> list[Any] | None:
    """Returns the values of a cursor made by ``encode_cursor``. Raises InvalidCursor."""
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        value = loads(base64.urlsafe_b64decode(padded.encode("ascii")))  # as it refuses half of a surrogate pair
        if not isinstance(value, list) or len(value) != len(shape):
            raise ValueError
        for part, kind in zip(value, shape, strict=True):
            if type(part) is not kind:
                raise ValueError
            if isinstance(part, int) and not 0 <= part < 2**62:
                raise ValueError
            if isinstance(part, str) and "\x00" in part:
                raise ValueError
    except (ValueError, UnicodeError, InvalidJson):
        raise InvalidCursor("the cursor was not made by this list", field="cursor", found=cursor[:80]) from None
    return value


def outcome(result: Outcome) -> Document:
    document: Document = {"id": result.event_id, "status": result.status}
    if result.position is not None:
        document["position"] = result.position
    if result.approval_id is not None:
        document["approval_id"] = result.approval_id
    if result.rejection_id is not None:
        document["rejection_id"] = result.rejection_id
    if result.error is not None:
        document["error"] = result.error.as_document()
    return document


def reopened_period(reopened: ReopenedPeriod) -> Document:
    document: Document = {"ledger": reopened.ledger, "period": str(reopened.period)}
    if reopened.position is None:
        return {**document, "state": "waiting", "approval_id": reopened.approval_id}
    return {**document, "state": "open", "position": reopened.position}


def customer_attributes(ledger: str, found: CustomerAttributes) -> Document:
    """Returns the attributes of a customer, with their last change."""
    return {
        "ledger": ledger,
        "customer": found.customer,
        "attributes": found.attributes,
        "changed_at": None if found.changed_at is None else format_time(found.changed_at),
        "changed_by": found.changed_by,
    }


def last_change(found: LastChange | None) -> Document:
    """Returns the user and the time of the last change of a setting; null for a default setting."""
    return {
        "changed_by": None if found is None else found.by,
        "changed_at": None if found is None else format_time(found.at),
    }


def last_change_title(document: Document) -> str:
    """Returns the last change as the title of a table."""
    if document["changed_by"] is None:
        return "as it ships"
    return f"changed by {document['changed_by']} at {document['changed_at']}"


def erasure(found: Erasure) -> Document:
    """Returns the erasure of a customer's attributes, without the attributes."""
    return {"customer": found.customer, "erased_at": format_time(found.erased_at), "erased_by": found.erased_by}


def mapping(ledger: str, adoption: MappingAdoption, found: AccountMapping) -> Document:
    """Returns an adopted account mapping: rows as ``mapping adopt`` reads them, the user and the time of adoption."""
    return {
        "ledger": ledger,
        "mapping": adoption.number,
        "valid_from": adoption.valid_from,
        "adopted_by": adoption.by,
        "adopted_at": format_time(adoption.adopted_at),
        "rows": list(found.rows),
    }


def approval(request: ApprovalRequest) -> Document:
    """Returns an approval request and its decision: the event as sent, the maker and the checker."""
    event: Document = {"id": request.event_id, "source": request.source, "type": request.type}
    if request.customer is not None:
        event["subject"] = request.customer
    event |= {"time": format_time(request.occurred_at), "data": json.loads(request.data_text)}
    return {
        "approval_id": request.approval_id,
        "state": request.state,
        "reason": request.reason,
        "event": event,
        "maker": request.maker,
        "requested_at": format_time(request.requested_at),
        "checker": request.checker,
        "decided_at": None if request.decided_at is None else format_time(request.decided_at),
        "note": request.note,
    }


def ledger(head: LedgerHead, policy: str) -> Document:
    state = head.state
    return {
        "ledger": state.ledger,
        "entity": state.entity,
        "currency": state.functional_currency,
        "policy": policy,
        "timezone": state.timezone,
        "on_shortfall": state.on_shortfall,
        "late_usage": state.late_usage,
        "approvals": state.approvals.document,
        "future_tolerance": state.future_tolerance,
        "sandbox": state.sandbox,
        "clock": None if state.clock is None else format_time(state.clock),
        "closed_through": state.closed_through.isoformat() if state.closed_through else None,
        "open_cut": state.open_cut,
        "position": head.position,
        "recorded_at": format_time(head.recorded_at),
    }


def clock(found: Clock) -> Document:
    return {
        "ledger": found.ledger,
        "sandbox": found.sandbox,
        "now": format_time(found.now),
        "today": found.today.isoformat(),
        "timezone": found.timezone,
    }


def moment(at: PointInTime) -> Document:
    """Returns the point in time of an answer, and the due expiries that will change it once they are recorded."""
    return {"as_of": at.as_of.isoformat(), "known_at": format_time(at.known_at), "position": at.position, **due(at.due)}


def due(found: Due | None) -> Document:
    """Returns ``due_expiries`` and ``due_since`` if expiries are due, otherwise nothing.

    An answer at a given ``known_at`` never has them, because it never changes.
    """
    if found is None or found.since is None:
        return {}
    return {"due_expiries": found.count, "due_since": format_time(found.since)}


def due_notice(at: PointInTime) -> str | None:
    """Returns the due expiries as a sentence; None if none are due."""
    return due_sentence(at.due, at.head.state, at.now)


def due_sentence(found: Due | None, state: LedgerState, now: datetime) -> str | None:
    """Returns the sentence for expiries that were counted separately; ``now`` is the time of the real clock."""
    if found is None or found.since is None:
        return None
    many = "1 expiry is" if found.count == 1 else f"{found.count} expiries are"
    return (
        f"{many} due and not recorded, the first since {format_time(found.since)}: the remaining credits of these "
        f"blocks are still shown. A server or a worker records them; or run: subledger expire --through "
        f"{state.today(now)} --ledger {state.ledger}"
    )


def account(balance: AccountBalance, functional_currency: str) -> Document:
    return {
        "account": balance.account,
        "currency": balance.currency,
        "debit": format_minor(balance.debit_minor, balance.currency),
        "credit": format_minor(balance.credit_minor, balance.currency),
        "balance": format_minor(balance.balance_minor, balance.currency),
        "functional": {
            "currency": functional_currency,
            "debit": format_minor(balance.functional_debit_minor, functional_currency),
            "credit": format_minor(balance.functional_credit_minor, functional_currency),
            "balance": format_minor(balance.functional_minor, functional_currency),
        },
    }


def functional_account(balance: FunctionalBalance, functional_currency: str) -> Document:
    return {
        "account": balance.account,
        "debit": format_minor(balance.debit_minor, functional_currency),
        "credit": format_minor(balance.credit_minor, functional_currency),
        "balance": format_minor(balance.balance_minor, functional_currency),
    }


def credit(balance: CreditBalance) -> Document:
    return {
        "unit": balance.unit,
        **{column: format_credits(quantity) for column, quantity in balance.columns.items()},
        "remaining": format_credits(balance.remaining),
    }


def customer_balances(at: PointInTime, customer: str, found: CustomerBalances) -> Document:
    return {
        "ledger": at.ledger,
        "customer": customer,
        **moment(at),
        "accounts": [account(balance, at.functional_currency) for balance in found.accounts],
        "credits": [credit(balance) for balance in found.credits],
    }


def trial_balance(at: PointInTime, accounts: list[AccountBalance]) -> Document:
    currencies, functional_currency = sorted({balance.currency for balance in accounts}), at.functional_currency
    functional = in_functional_currency(accounts)
    return {
        "ledger": at.ledger,
        **moment(at),
        "accounts": [account(balance, functional_currency) for balance in accounts],
        "totals": [
            {
                "currency": currency,
                "debit": format_minor(sum(b.debit_minor for b in accounts if b.currency == currency), currency),
                "credit": format_minor(sum(b.credit_minor for b in accounts if b.currency == currency), currency),
            }
            for currency in currencies
        ],
        "functional": {
            "currency": functional_currency,
            "accounts": [functional_account(balance, functional_currency) for balance in functional],
            "debit": format_minor(sum(balance.debit_minor for balance in functional), functional_currency),
            "credit": format_minor(sum(balance.credit_minor for balance in functional), functional_currency),
        },
    }


def block(view: BlockView, functional_currency: str) -> Document:
    """Returns a block. ``rate`` is the exchange rate at the purchase, null in the functional currency."""
    header = view.block
    return {
        "block_id": header.block_id,
        "customer": view.customer,
        "credit_kind": header.credit_kind,
        "unit": header.unit,
        "credits": format_credits(view.credits),
        "used": format_credits(view.used),
        "remaining": format_credits(view.remaining),
        "price": format_minor(view.price_minor, header.currency),
        "currency": header.currency,
        "drawn": format_minor(view.drawn_minor, header.currency),
        "carrying_amount": format_minor(view.carrying_minor, header.currency),
        "rate": None if header.rate is None else format_credits(header.rate),
        "functional": {
            "currency": functional_currency,
            "carrying_amount": format_minor(view.carrying_functional, functional_currency),
        },
        "starts_at": format_time(header.starts_at),
        "expires_at": None if view.expires_at is None else format_time(view.expires_at),
        "priority": header.priority,
        "scope": None if header.scope is None else list(header.scope),
        "invoice_id": header.invoice_id,
        "refundable": header.refundable,
        "pool": header.pool,
        "escheat_class": header.escheat_class,
        "status": view.status.value,
        "expiry_due": view.expiry_due,
    }


def sides(side: Side, amount_minor: int, currency: str) -> Document:
    """Returns an amount as ``debit`` and ``credit``; the other side is 0."""
    amount, zero = format_minor(amount_minor, currency), format_minor(0, currency)
    debit = side is Side.DEBIT
    return {"debit": amount if debit else zero, "credit": zero if debit else amount}


def line(position: int, item: NumberedLine, functional_currency: str) -> Document:
    """One line of the entry at a position."""
    entry = item.entry
    return {
        "position": position,
        "entry": entry.number,
        "line": item.line,
        "kind": entry.kind,
        "account": item.account,
        "side": item.side.value,
        **sides(item.side, item.amount_minor, entry.currency),
        "currency": entry.currency,
        "functional": {"currency": functional_currency, **sides(item.side, item.functional_minor, functional_currency)},
        "customer": entry.customer,
        "block_id": entry.block_id,
        "accounting_date": entry.accounting_date.isoformat(),
        "effective_date": entry.effective_date.isoformat(),
        "cut": entry.cut,
        "product": entry.dimensions.product or None,
        "credit_kind": entry.dimensions.credit_kind or None,
        "pool": entry.dimensions.pool or None,
        "processor": entry.dimensions.processor or None,
    }


def event(stored: StoredEvent, rules: dict[int, Rules], functional_currency: str) -> Document:
    """Returns a recorded event: as received, its decision, its entries and lines, its leaf hash."""
    row = stored.row
    received: Document = {
        "specversion": "1.0",
        "id": row.event_id,
        "source": row.source,
        "type": row.type,
        "time": format_time(row.occurred_at),
    }
    if row.customer is not None:
        received["subject"] = row.customer
    if row.attributes_text is not None:
        received |= json.loads(row.attributes_text)
    received["data"] = json.loads(row.data_text)
    return {
        "position": row.position,
        "recorded_at": format_time(stored.recorded_at),
        "event": received,
        "id": row.event_id,
        "source": row.source,
        "type": row.type,
        "customer": row.customer,
        "occurred_at": format_time(row.occurred_at),
        **_who_and_why(row.source, received["data"], json.loads(row.decision_text)),
        "decision": json.loads(row.decision_text),
        "entries": [_entry(entry, rules, functional_currency) for entry in stored.entries],
        "leaf": bytes(row.leaf).hex(),
    }


def _who_and_why(source: str, data: Any, decision: Any) -> Document:
    """Returns ``who`` and ``why`` as text, null if unknown.

    ``who``: the user of one of the ledger's own events; maker and checker of an event that a second person approved.
    ``why``: the reason in the event's data.
    """
    approval = decision.get("approval") if isinstance(decision, dict) else None
    person = f"by {data['by']}" if source == OWN_SOURCE and data.get("by") else None
    if approval:
        person = f"requested by {approval['maker']}, approved by {approval['checker']}"
    return {"who": person, "why": data.get("reason")}


def _entry(entry: Entry, rules: dict[int, Rules], functional_currency: str) -> Document:
    return {
        "number": entry.number,
        "kind": entry.kind,
        "policy": entry.policy,
        "block_id": entry.block_id,
        "unit": entry.unit,
        "credits": format_credits(entry.credits),
        "amount": money(entry.amount_minor, entry.currency),
        "functional": money(entry.functional_minor, functional_currency),
        "pool": entry.dimensions.pool or None,
        "accounting_date": entry.accounting_date.isoformat(),
        "effective_date": entry.effective_date.isoformat(),
        "lines": [
            {
                "account": item.account,
                "side": item.side.value,
                "amount": format_minor(item.amount_minor, entry.currency),
                "functional": money(item.functional_minor, functional_currency),
            }
            for item in lines_of(entry, rules)
        ],
    }


def period(state: PeriodState) -> Document:
    return {
        "period": str(state.period),
        "state": state.state,
        "entries": state.entries,
        "journals": state.journals,
        "closed_by": state.closed_by,
        "closed_at": None if state.closed_at is None else format_time(state.closed_at),
        "reopened_by": state.reopened_by,
        "reopened_at": None if state.reopened_at is None else format_time(state.reopened_at),
        "reason": state.reason,
        "history": [period_act(act) for act in state.history],
    }


def period_act(act: Act) -> Document:
    """Returns an act on a period (close, reopen, …), with its user and its reason."""
    return {
        "what": act.what,
        "by": act.by,
        "at": format_time(act.at),
        "reason": act.reason,
        "subject": act.subject,
        "position": act.position,
    }


def closed_period(closed: ClosedPeriod) -> Document:
    return {
        "ledger": closed.ledger,
        "period": str(closed.period),
        "state": "closed",
        "expired": closed.expired,
        "cut": closed.cut,
        "position": closed.position,
    }


def export(made: Export) -> Document:
    return {
        "id": made.export_id,
        "ledger": made.ledger,
        "period": str(made.period),
        "number": made.number,
        "format": made.format,
        "detail": made.detail,
        "filename": made.filename,
        "media_type": made.media_type,
        "content_hash": made.content_hash,
        "created_at": format_time(made.created_at),
        "created_by": made.created_by,
    }


def standing(found: MonthState) -> Document:
    """Returns the state of the month of exported journals: open or closed, interim, sandbox, due expiries, notices."""
    return {
        "period_state": "open" if found.interim else "closed",
        "interim": found.interim,
        "sandbox": found.sandbox,
        **due(found.due),
        "notices": list(found.notices),
    }


def exported_line(line: JournalLine, functional_currency: str) -> Document:
    return {
        "line": line.number,
        "role": line.role,
        "account": line.account.number,
        "account_name": line.account.name,
        "dimensions": dict(line.account.dimensions),
        "side": line.side.value,
        **sides(line.side, line.amount_minor, line.currency),
        "currency": line.currency,
        "functional": {"currency": functional_currency, **sides(line.side, line.functional_minor, functional_currency)},
        "product": line.product or None,
        "credit_kind": line.credit_kind or None,
        "pool": line.pool or None,
        "processor": line.processor or None,
        "entries": line.entries,
    }


def entry_behind(entry: EntryBehind, functional_currency: str) -> Document:
    return {
        "position": entry.position,
        "entry": entry.number,
        "source": entry.source,
        "event_id": entry.event_id,
        "event_type": entry.event_type,
        "kind": entry.kind,
        "customer": entry.customer,
        "block_id": entry.block_id,
        "accounting_date": entry.accounting_date.isoformat(),
        "effective_date": entry.effective_date.isoformat(),
        "amount": format_minor(int(entry.amount_minor), entry.currency),
        "currency": entry.currency,
        "functional": money(int(entry.functional_minor), functional_currency),
    }


def report(found: VerificationReport) -> Document:
    return {
        "ledger": found.ledger,
        "clean": not found.differences,
        "events": found.events,
        "entries": found.entries,
        "since": found.since,
        "differences": [
            {
                "check": difference.check,
                "position": difference.position,
                "subject": difference.subject,
                "expected": difference.expected,
                "found": difference.found,
                "message": difference.message,
            }
            for difference in found.differences
        ],
    }


def counts(ledger: str, made: RebuildCounts) -> Document:
    return {"ledger": ledger, "rows": dict(made.rows), "resumed_from": made.resumed_from}
