"""Balances and credit blocks as JSON."""

from __future__ import annotations

from api.shapes.answers import JsonObject, moment
from projections.reads.balances import (
    AccountBalance,
    CreditBalance,
    CustomerBalances,
    FunctionalBalance,
    in_functional_currency,
)
from projections.reads.blocks import BlockView
from projections.reads.spendable import PARTS, Spendable
from subledger.events.envelope import format_time
from subledger.money import format_credits, format_minor
from subledger.own_dimensions import pairs_of
from subledger.store.reading.views import PointInTime


def account(balance: AccountBalance, functional_currency: str) -> JsonObject:
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


def functional_account(balance: FunctionalBalance, functional_currency: str) -> JsonObject:
    return {
        "account": balance.account,
        "debit": format_minor(balance.debit_minor, functional_currency),
        "credit": format_minor(balance.credit_minor, functional_currency),
        "balance": format_minor(balance.balance_minor, functional_currency),
    }


def credit(balance: CreditBalance) -> JsonObject:
    return {
        "unit": balance.unit,
        **{column: format_credits(quantity) for column, quantity in balance.columns.items()},
        "remaining": format_credits(balance.remaining),
    }


def customer_balances(at: PointInTime, customer: str, found: CustomerBalances) -> JsonObject:
    return {
        "ledger": at.ledger,
        "customer": customer,
        **moment(at),
        "accounts": [account(balance, at.functional_currency) for balance in found.accounts],
        "credits": [credit(balance) for balance in found.credits],
    }


def trial_balance(at: PointInTime, accounts: list[AccountBalance]) -> JsonObject:
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


def block(view: BlockView, functional_currency: str) -> JsonObject:
    """Returns a block. ``rate`` is the exchange rate at the purchase, null in the functional currency. ``used_before``
    and ``drawn_before`` are the parts of ``used`` and ``drawn`` from before a cut-over."""
    header = view.block
    return {
        "block_id": header.block_id,
        "customer": view.customer,
        "credit_kind": header.credit_kind,
        "unit": header.unit,
        "credits": format_credits(view.credits),
        "used": format_credits(view.used),
        "used_before": format_credits(view.used_before),
        "remaining": format_credits(view.remaining),
        "price": format_minor(view.price_minor, header.currency),
        "currency": header.currency,
        "drawn": format_minor(view.drawn_minor, header.currency),
        "drawn_before": format_minor(view.drawn_before_minor, header.currency),
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
        "due_at": None if header.due_at is None else format_time(header.due_at),
        "cancellable": header.cancellable,
        "refundable": header.refundable,
        "pool": header.pool,
        "cohort": header.cohort,
        "escheat_class": header.escheat_class,
        "dimensions": dict(pairs_of(header.dimensions)),
        "status": view.status.value,
        "expiry_due": view.expiry_due,
    }


def spendable(at: PointInTime, customer: str, found: Spendable) -> JsonObject:
    """Returns the credits of each unit at ``moment``: those that usage of the product can draw, and the others by
    reason.
    """
    return {
        "ledger": at.ledger,
        "customer": customer,
        **moment(at),
        "moment": format_time(found.moment),
        "product": found.product,
        "credits": [
            {
                "unit": credits.unit,
                **{part: format_credits(getattr(credits, part)) for part in PARTS},
                "remaining": format_credits(credits.remaining),
                "products": sorted(credits.products),
            }
            for credits in found.units
        ],
        "reservations": [
            {
                "reservation_id": open.reservation.reservation_id,
                "credits": format_credits(open.reservation.credits),
                "held": format_credits(open.held),
                "unit": open.reservation.unit,
                "product": open.reservation.product,
                "reserved_at": format_time(open.reservation.reserved_at),
                "expires_at": format_time(open.reservation.expires_at),
            }
            for open in found.reservations
        ],
    }
