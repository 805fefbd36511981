"""The words of the worked examples: each form of a line, and the event that it means.

A form is written as the line is read: ``{name}`` stands for one word, ``[…]`` may be left out. ``README.md`` explains
each form to who reads the examples; a test holds the two together. Owns: lines into events. Does not own: running
them, tables (test_examples).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

NOON = "T12:00:00Z"

Words = dict[str, str | None]
"""The value of each name of a form; None if its part is left out."""

_CURRENCIES: Final = ("currency", "base", "arrived_currency", "settles_currency")
_NUMBERS: Final = ("amount", "credits", "price")


def compiled(form: str) -> re.Pattern[str]:
    """The pattern of a form."""
    pattern = re.escape(form).replace(r"\ ", " ").replace(r"\[", "(?:").replace(r"\]", ")?")

    def word(match: re.Match[str]) -> str:
        name = match[1]
        return f"(?P<{name}>{'[A-Z]{3}' if name in _CURRENCIES else '[^ ]*[^ :,)]'})"

    return re.compile(re.sub(r"\\\{(\w+)\\\}", word, pattern))


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _moment(day: str | None) -> str | None:
    return None if day is None else f"{day}T00:00:00Z"


def _of(*names: str) -> Callable[[Words], dict[str, Any]]:
    """The data of an event that takes these words as they are."""
    return lambda words: _given(**{name: words.get(name) for name in names})


def _list(words: str | None) -> list[str] | None:
    return None if words is None else words.split(",")


def _bought(words: Words) -> dict[str, Any]:
    return {
        "invoice_id": words["invoice"] or words["block_id"],
        **({words["term"]: True} if words["term"] is not None else {}),
        **_of("block_id", "credits", "price", "currency", "tax", "pool", "escheat_class")(words),
        **_given(bonus_credits=words["bonus"], scope=_list(words["scope"])),
        **_given(
            starts_at=_moment(words["starts"]), expires_at=_moment(words["expires"]), due_at=_moment(words["due"])
        ),
        **_department(words),
    }


def _department(words: Words) -> dict[str, Any]:
    return {} if words["department"] is None else {"dimensions": {"department": words["department"]}}


def _granted(words: Words) -> dict[str, Any]:
    data = _of("block_id", "credits", "reason", "value")(words) | _given(expires_at=_moment(words["expires"]))
    return data | (_of("currency")(words) if words["value"] is not None else {})


def _used(words: Words) -> dict[str, Any]:
    data = _of("credits", "product", "block_id", "tax", "reservation_id")(words) | _department(words)
    if words["on_shortfall"] is not None:
        data |= _of("on_shortfall", "overage_price", "currency")(words)
    return data


def _taken_back(words: Words) -> dict[str, Any]:
    return {"event_id": words["used"], "reason": "correction", **_not_all(words)}


def _not_all(words: Words) -> dict[str, Any]:
    return {} if words["credits"] == "all" else {"credits": words["credits"]}


def _with_amount(*names: str) -> Callable[[Words], dict[str, Any]]:
    """The data of an event whose currency goes with an amount or a fee, and is absent without either."""

    def build(words: Words) -> dict[str, Any]:
        data = _of(*names, "amount", "fee")(words)
        return data | (_of("currency")(words) if data.keys() & {"amount", "fee"} else {})

    return build


def _extended(words: Words) -> dict[str, Any]:
    expires = None if words["expires"] == "never" else _moment(words["expires"])
    return {"block_id": words["block_id"], "expires_at": expires, "reason": "agreed"}


def _repriced(words: Words) -> dict[str, Any]:
    added = {
        name: text.removeprefix("+") for name in ("add_credits", "add_price", "add_tax") if (text := words.get(name))
    }
    return {"block_id": words["block_id"], "reason": "agreed", **added}


def _written_off(words: Words) -> dict[str, Any]:
    data = _of("block_id", "invoice_id", "amount")(words) | {"reason": "bankrupt"}
    return data | ({"tax_relief": False} if words["relief"] is not None else {})


def _billed(words: Words) -> dict[str, Any]:
    return _of("invoice_id", "amount", "currency", "tax")(words) | _given(due_at=_moment(words["due"]))


def _memo(words: Words) -> dict[str, Any]:
    return _of("block_id", "invoice_id", "amount", "currency", "tax")(words) | {"reason": "an outage"}


def _estimated(words: Words) -> dict[str, Any]:
    data = _of("pool", "cohort", "cohorts", "currency")(words) | {"evidence": "the redemption study"}
    for name in ("breakage", "escheat"):
        text = words[name]
        if text is not None and text.endswith("%"):
            data[f"expected_{name}_rate"] = str(Decimal(text[:-1]) / 100)
        elif text is not None:
            data[f"expected_{name}"] = text
    return data


def _paid_out(words: Words) -> dict[str, Any]:
    names = ("amount", "currency", "processor", "arrived_amount", "arrived_currency")
    return _of(*names)(words) | {"payout_id": f"payout of {words['day']}"}


def _adjusted(kind: str) -> Callable[[Words], dict[str, Any]]:
    """The data of an adjustment of a processor's balance; what it charges lowers the balance."""

    def build(words: Words) -> dict[str, Any]:
        amount = words.get("amount") or f"-{words['charge']}"
        adjustment_id = f"{kind} of {words['day']}: {amount}"
        return {**_of("currency", "processor", "tax")(words), "amount": amount, "adjustment_id": adjustment_id,
                "kind": kind}  # fmt: skip

    return build


def _rated(words: Words) -> dict[str, Any]:
    return {"base": words["base"], "quote": words["home"], "rate": words["rate"], "rate_source": "central bank"}


_OPENED: Final = (
    "amount", "currency", "block_id", "invoice_id", "payment_id", "processor", "credits", "on_shortfall", "price",
    "tax", "pool", "cohort", "redeemed", "expired", "used", "drawn", "remaining", "carrying_amount", "earlier_drawn",
    "functional_amount", "functional_price", "escheat_class",
)  # fmt: skip


def _had(role: str) -> Callable[[Words], dict[str, Any]]:
    """The data of an opening balance."""
    return lambda words: {
        "role": role, **_of(*_OPENED)(words),
        **_given(due_at=_moment(words.get("due")), expires_at=_moment(words.get("expires"))),
    }  # fmt: skip


def _had_block(words: Words) -> dict[str, Any]:
    return _had("prepaid_liability")(words) | {"invoice_id": words["block_id"]}


Form = tuple[str, str, Callable[[Words], dict[str, Any]]]

FORMS: Final[tuple[Form, ...]] = (
    ("{day} {who} buys {block_id}: {credits}[ + {bonus} bonus] credits for {price}[ {currency}][ tax {tax}]"
     "[ starts {starts}][ expires {expires}][ for {scope} only][ in pool {pool}][ escheat class {escheat_class}]"
     "[ on invoice {invoice}][ due {due}][, {term}][ (department {department})]", "credits.purchased", _bought),
    ("{day} {who} is granted {block_id}: {credits} credits as {reason}[ worth {value}][ {currency}]"
     "[ expires {expires}]", "credits.granted", _granted),
    ("{day} {who} uses {credits}[ of {product}][ from {block_id}][ as reserved by {reservation_id}][ with tax {tax}]"
     "[ ({id})][, {on_shortfall} at {overage_price}[ {currency}]][ (department {department})]", "credits.consumed",
     _used),
    ("{day} {who} reserves {credits}[ of {product}] as {reservation_id} until {until}", "credits.reserved",
     lambda w: {**_of("credits", "product", "reservation_id")(w), "expires_at": _moment(w["until"])}),
    ("{day} {who} releases {reservation_id}", "reservation.released", _of("reservation_id")),
    ("{day} {who} takes back {credits} of {used}", "consumption.reversed", _taken_back),
    ("{day} {event_id} of {who} is undone", "event.reversed", lambda w: {"event_id": w["event_id"], "reason": "wrong"}),
    ("{day} {event_id} is undone", "event.reversed", lambda w: {"event_id": w["event_id"], "reason": "wrong"}),
    ("{day} {who} cancels[ {credits} of] {block_id}", "purchase.voided",
     lambda w: {**_of("block_id", "credits")(w), "reason": "cancelled"}),
    ("{day} {who} gives back[ {credits} of] {block_id}[ for {amount}[ {currency}]]", "credits.refunded",
     _with_amount("block_id", "credits")),
    ("{day} {who} gets {block_id} extended to {expires}", "block.expiry_changed", _extended),
    ("{day} {who} gets {block_id} repriced by {add_credits} credits[ and {add_price}][ tax {add_tax}]",
     "block.repriced", _repriced),
    ("{day} {who} gets {block_id} repriced by {add_price}[ tax {add_tax}]", "block.repriced", _repriced),
    ("{day} {who} hands[ {credits} of] {block_id} to {to_customer} as {new_block_id}", "credits.transferred",
     _of("block_id", "credits", "to_customer", "new_block_id")),
    ("{day} {who} pays {amount}[ {currency}][ for {block_id}][ on invoice {invoice_id}][ through {processor}]"
     "[ less {fee}][ ({payment_id})][, {elsewhere} of it elsewhere]"
     "[, which settles {settles_amount} {settles_currency}]", "payment.received",
     _of("amount", "currency", "block_id", "invoice_id", "processor", "fee", "payment_id", "elsewhere",
         "settles_amount", "settles_currency")),
    ("{day} {who} applies {amount}[ {currency}] of {payment_id} to {block_id}", "payment.applied",
     _of("amount", "currency", "payment_id", "block_id")),
    ("{day} {who} applies {amount}[ {currency}] of {payment_id} to invoice {invoice_id}", "payment.applied",
     _of("amount", "currency", "payment_id", "invoice_id")),
    ("{day} {processor} pays out {amount}[ {currency}][, {arrived_amount} {arrived_currency} arrive]", "payout.settled",
     _paid_out),
    ("{day} {processor} charges {charge}[ {currency}][ with tax {tax}]", "processor.adjusted", _adjusted("fee")),
    ("{day} {processor} charges tax of {charge}[ {currency}]", "processor.adjusted", _adjusted("tax")),
    ("{day} {processor} adjusts its balance by {amount}[ {currency}]", "processor.adjusted", _adjusted("adjustment")),
    ("{day} {who} is paid back {amount}[ {currency}][ of {payment_id}][ for {block_id}][ through {processor}]"
     "[, {elsewhere} of it elsewhere][, fee {fee}]", "payment.refunded",
     _of("amount", "currency", "payment_id", "block_id", "processor", "elsewhere", "fee")),
    ("{day} {who} disputes[ {amount}[ {currency}] of] {block_id}[ at {processor}] ({dispute_id})[, fee {fee}]",
     "dispute.opened", _with_amount("dispute_id", "block_id", "processor")),
    ("{day} {who} disputes[ {amount}[ {currency}] of] payment {payment_id} ({dispute_id})[, fee {fee}]",
     "dispute.opened", _with_amount("dispute_id", "payment_id")),
    ("{day} dispute {dispute_id} of {who} is won[ for {amount}][, fee {fee}[ {currency}]]", "dispute.won",
     _with_amount("dispute_id")),
    ("{day} dispute {dispute_id} of {who} is lost[ for {amount}[ {currency}]][, fee {fee}]", "dispute.lost",
     _with_amount("dispute_id")),
    ("{day} [{amount} of ]what {who} owes for {block_id} is written off[, without {relief} relief]",
     "receivable.written_off", _written_off),
    ("{day} [{amount} of ]what {who} owes on invoice {invoice_id} is written off[, without {relief} relief]",
     "receivable.written_off", _written_off),
    ("{day} {who} gets a credit memo of {amount}[ {currency}][ tax {tax}][ for {block_id}][ on invoice {invoice_id}]",
     "credit_memo.issued", _memo),
    ("{day} {who} is billed {amount}[ {currency}][ tax {tax}] of overage on invoice {invoice_id}[ due {due}]",
     "overage.billed", _billed),
    ("{day} [cohort {cohort} of ]pool {pool} expects {breakage}[ {currency}] of breakage[ and {escheat} of escheat]"
     "[, by {cohorts}]", "breakage.estimated", _estimated),
    ("{day} what {who} has left of {block_id} goes to the state", "credits.escheated", _of("block_id")),
    ("{day} {who} reclaims {amount}[ {currency}] of {block_id} from the state", "escheat.reclaimed",
     _of("block_id", "amount", "currency")),
    ("{day} {amount}[ {currency}] of {block_id} of {who} are remitted to the state", "escheat.remitted",
     _of("block_id", "amount", "currency")),
    ("{day} 1 {base} is worth {rate}", "exchange_rate.set", _rated),
    ("{day} {who} had {block_id}: {used} used of {credits} credits, {drawn} of {price}[ {currency}][ tax {tax}]"
     "[, {remaining} left worth {carrying_amount}][, {earlier_drawn} drawn before][, {expired} expired before]"
     "[, carried at {functional_amount}]"
     "[ of {functional_price}][ expires {expires}][ due {due}][ in pool {pool} of {cohort}]"
     "[ escheat class {escheat_class}][ through {processor}]", "balance.opened", _had_block),
    ("{day} {who} owed {amount}[ {currency}] for {block_id}[, carried at {functional_amount}]", "balance.opened",
     _had("accounts_receivable")),
    ("{day} {who} owed {amount}[ {currency}] of {price} with tax {tax} on invoice {invoice_id} due {due}",
     "balance.opened", _had("accounts_receivable")),
    ("{day} {who} had paid {amount}[ {currency}] ahead ({payment_id})[ through {processor}]", "balance.opened",
     _had("customer_balance")),
    ("{day} {who} had used {credits} beyond the credits for {amount}[ {currency}], {on_shortfall}", "balance.opened",
     _had("unbilled_receivable")),
    ("{day} {amount}[ {currency}] for {block_id} were owed back to {who}", "balance.opened", _had("refunds_payable")),
    ("{day} {amount}[ {currency}] of {block_id} of {who} were owed to the state", "balance.opened",
     _had("unclaimed_property")),
    ("{day} {amount}[ {currency}] of tax were payable", "balance.opened", _had("tax_payable")),
    ("{day} {processor} held {amount}[ {currency}]", "balance.opened", _had("processor_clearing")),
    ("{day} cohort {cohort} of pool {pool} had {amount}[ {currency}] recognised ahead, {redeemed} redeemed"
     "[ and {expired} expired]", "balance.opened", _had("breakage_recognized")),
)  # fmt: skip

_PATTERNS: Final = tuple((compiled(form), type, build) for form, type, build in FORMS)


class Unreadable(AssertionError):
    """A line that no form fits."""


def read_line(line: str, number: int, currency: str) -> dict[str, Any]:
    """The CloudEvent a line means; ``currency`` is meant where the line names none. Raises Unreadable."""
    for pattern, type, build in _PATTERNS:
        match = pattern.fullmatch(line)
        if match is None:
            continue
        words: Words = match.groupdict()
        words |= {"currency": words.get("currency") or currency, "home": currency}
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": words.get("id") or f"e{number}",
            "source": "billing",
            "type": type,
            "time": f"{words['day']}{NOON}",
            "data": build(words),
        }
        return event | _given(subject=words.get("who"))
    raise Unreadable(f"no form of tests/examples/README.md fits: {line}")
