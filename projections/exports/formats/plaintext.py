"""Plain-text accounting: Beancount and hledger, whose programs recompute every balance independently of us.

A debit is positive, a credit negative. The account is the role under its class, so that balances can be compared with
ours by name. The GL account is beside it. In a detail rendering every customer has a sub-account. Its name is made of
the customer's id so that two ids never share one. The id itself is in the metadata.

A posting in a foreign currency has its functional amount as its total price. The programs balance it in the functional
currency and recompute both. The sum of quantities is an account's balance in the currency. The sum at cost (``hledger
bal -B``, Beancount's ``weight``) is its functional balance over all currencies.

Some entries move only the functional amount (remeasurement, settlement, a cent of rounding). They have no quantity to
price, and for both programs 0 at any price is 0. So such a posting is in the functional currency, with the mark
``functional-of``. The quantities in the functional currency without this mark are the balances of what was posted in
that currency.

Beancount accepts an entry that is off by less than half a unit of its last digit. So a journal is proved to balance
exactly before it is written. Beancount stores a total price per unit, with 28 digits, so round its weights to the minor
unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from typing import Final
from urllib.parse import quote

from projections.journals.detail import DetailEntry, DetailLine
from projections.journals.journal import Journal, JournalLine
from subledger.accounts import ROLE_BY_NAME, AccountClass, Side
from subledger.money import exponent, format_credits, format_minor
from subledger.own_dimensions import pairs_of

_ROOTS: Final = {
    AccountClass.ASSET: "Assets",
    AccountClass.LIABILITY: "Liabilities",
    AccountClass.CONTRA_LIABILITY: "Liabilities",
    AccountClass.REVENUE: "Income",
    AccountClass.CONTRA_REVENUE: "Income",
    AccountClass.EXPENSE: "Expenses",
    AccountClass.CLEARING: "Assets",
}
_HLEDGER_ROOTS: Final = {"Assets": "assets", "Liabilities": "liabilities", "Income": "revenues", "Expenses": "expenses"}
_HLEDGER_TYPES: Final = {"assets": "A", "liabilities": "L", "revenues": "R", "expenses": "X"}


def _signed(amount_minor: int, side: Side, currency: str) -> str:
    return format_minor(amount_minor if side is Side.DEBIT else -amount_minor, currency)


def _amount(line: JournalLine | DetailLine, currency: str, functional: str) -> str:
    """Amount of a posting: ``-5.00 USD``.

    In a foreign currency it is ``-5.00 EUR @@ 6.00 USD``, or ``-6.00 USD`` if only the functional amount moves.
    """
    amount = f"{_signed(line.amount_minor, line.side, currency)} {currency}"
    if currency == functional:
        return amount
    if line.amount_minor == 0:
        return f"{_signed(line.functional_minor, line.side, functional)} {functional}"
    return f"{amount} @@ {format_minor(line.functional_minor, functional)} {functional}"


def _corrects(journal: Journal) -> str:
    """The journal that a correction corrects, as ``, reverses acme-2026-01-1``; empty for other journals."""
    if journal.corrects is None:
        return ""
    return f", {'reissues' if journal.reverses is None else 'reverses'} {journal.corrects}"


def _currencies(journal: Journal) -> list[str]:
    """The currencies of the lines. The functional one is among them if functional amounts are shown."""
    used = {line.currency for line in journal.lines}
    return sorted(used | {journal.functional_currency} if _is_priced(journal) else used)


def _is_priced(journal: Journal) -> bool:
    return any(line.currency != journal.functional_currency for line in journal.lines)


_PRICES_EXPLAINED: Final = (
    "; after @@: the amount in the ledger's currency; postings marked functional-of move nothing in their own"
)


# --- Beancount ------------------------------------------------------------------------------------------------


def beancount_component(text: str) -> str:
    """Returns any id as part of an account name or link: ASCII letters and digits stay, ``-`` doubles, the rest is
    ``-hex-``.

    The result is injective: after a dash comes either a second dash, or the hexadecimal code point and a closing dash.
    """
    return "".join(
        char if char.isascii() and char.isalnum() else "--" if char == "-" else f"-{ord(char):x}-" for char in text
    )


def beancount_account(role: str, customer: str | None = None) -> str:
    """``Liabilities:PrepaidLiability``, and for a customer ``Liabilities:PrepaidLiability:C-cust--42``."""
    root = _ROOTS[ROLE_BY_NAME[role].account_class]
    name = "".join(word.capitalize() for word in role.split("_"))
    return f"{root}:{name}" if customer is None else f"{root}:{name}:C-{beancount_component(customer)}"


def _string(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _trial(journal: Journal) -> str:
    """The mark of a sandbox ledger's journals."""
    return "SANDBOX " if journal.sandbox else ""


def _beancount_head(journal: Journal, title: str) -> str:
    lines = [
        f"; {_trial(journal)}{title} of journal {journal.name}: cuts {journal.from_cut + 1} to {journal.to_cut}, "
        f"account mapping {journal.mapping}{_corrects(journal)}",
        f"; SHA-256 of the journal: {journal.content_hash}",
        f'option "title" {_string(f"{_trial(journal)}{journal.entity} prepaid credits {journal.period}")}',
        f'option "operating_currency" "{journal.functional_currency}"',
    ]
    if _is_priced(journal):
        # The tolerance is far below a minor unit. It allows for the division of a total price.
        functional = journal.functional_currency
        tolerance = Decimal(1).scaleb(-exponent(functional) - 3)
        lines.insert(2, _PRICES_EXPLAINED)
        lines.append(f'option "inferred_tolerance_default" "{functional}:{tolerance:f}"')
    return "\n".join(lines) + "\n"


class _Opened:
    """Accounts and currencies that the file has opened so far. Beancount sorts by date, so opening them anywhere before
    use is enough.
    """

    def __init__(self, on: date) -> None:
        self._on = on.isoformat()
        self._known: set[str] = set()

    def commodity(self, currency: str) -> str:
        return self._once(f"{self._on} commodity {currency}\n")

    def account(self, name: str, *, role: str, customer: str | None = None) -> str:
        about = "" if customer is None else f"  customer: {_string(customer)}\n"
        return self._once(f'{self._on} open {name}\n  role: "{role}"\n{about}')

    def _once(self, directive: str) -> str:
        if directive in self._known:
            return ""
        self._known.add(directive)
        return directive


def beancount_text(journal: Journal) -> str:
    """Returns the summary: one transaction for each currency on the period's last day, one posting for each line."""
    functional = journal.functional_currency
    opened = _Opened(journal.period.first_day)
    pieces = [_beancount_head(journal, "summary"), "\n"]
    currencies = sorted({line.currency for line in journal.lines})
    pieces += [opened.commodity(currency) for currency in _currencies(journal)]
    pieces += [opened.account(beancount_account(line.role), role=line.role) for line in journal.lines]
    for currency in currencies:
        pieces.append(
            f"\n{journal.posting_date} * {_string(journal.ledger)} "
            f"{_string(f'{_trial(journal)}Journal {journal.name}, {currency}{_corrects(journal)}')} "
            f"^{journal.name}{'' if journal.corrects is None else f' ^{journal.corrects}'}\n"
        )
        for line in journal.lines:
            if line.currency != currency:
                continue
            pieces.append(
                f"  {beancount_account(line.role)}  {_amount(line, currency, functional)}\n"
                f"    line: {line.number}\n"
                f"    gl-account: {_string(line.account.number)}\n"
            )
            facts = {
                "product": line.product,
                "credit-kind": line.credit_kind,
                "pool": line.pool,
                "processor": line.processor,
                "refundable": line.refundable,
                **{f"dimension-{name}": value for name, value in pairs_of(line.own)},
                **{f"dim-{name}": value for name, value in line.account.dimensions},
            }
            pieces += [f"    {name}: {_string(value)}\n" for name, value in facts.items() if value]
            pieces += _beancount_functional(line, currency, functional)
    return "".join(pieces)


def _beancount_functional(line: JournalLine | DetailLine, currency: str, functional: str) -> list[str]:
    if currency == functional:
        return []
    pieces = [f"    functional: {_signed(line.functional_minor, line.side, functional)} {functional}\n"]
    return pieces if line.amount_minor else [*pieces, f"    functional-of: {_string(currency)}\n"]


def beancount_detail(journal: Journal, entries: Iterable[DetailEntry]) -> Iterator[str]:
    """Yields every entry as a transaction on its accounting date, each line on its customer's sub-account."""
    functional = journal.functional_currency
    opened = _Opened(journal.period.first_day)
    yield _beancount_head(journal, "every entry")
    for entry in entries:
        names = [beancount_account(line.role, entry.customer) for line in entry.lines]
        priced = entry.currency != functional
        new = opened.commodity(entry.currency) + (opened.commodity(functional) if priced else "")
        new += "".join(
            opened.account(name, role=line.role, customer=entry.customer)
            for name, line in zip(names, entry.lines, strict=True)
        )
        pieces = ["\n", f"{new}\n" if new else ""]
        links = f"^{journal.ledger}/{entry.position}"
        if entry.block_id is not None:
            links += f" ^block/{beancount_component(entry.block_id)}"
        payee = "" if entry.customer is None else f"{_string(entry.customer)} "
        pieces.append(f"{entry.accounting_date} * {payee}{_string(entry.kind)} #{entry.kind} {links}\n")
        pieces += [f"  {name}: {_string(value)}\n" for name, value in _facts(entry)]
        pieces.append(f"  position: {entry.position}\n  number: {entry.number}\n")
        pieces.append(f"  effective-date: {entry.effective_date}\n")
        for name, line in zip(names, entry.lines, strict=True):
            pieces.append(f"  {name}  {_amount(line, entry.currency, functional)}\n")
            pieces.append(f"    gl-account: {_string(line.account.number)}\n")
            pieces += _beancount_functional(line, entry.currency, functional)
        yield "".join(pieces)


def _facts(entry: DetailEntry) -> list[tuple[str, str]]:
    """Facts of an entry for both formats, by name, without empty ones."""
    credits = "" if entry.unit is None or not entry.credits else format_credits(entry.credits)
    facts = (
        ("customer", entry.customer),
        ("block", entry.block_id),
        ("source", entry.source),
        ("event", entry.event_id),
        ("event-type", entry.event_type),
        ("credits", credits),
        ("unit", entry.unit if credits else ""),
        ("product", entry.product),
        ("credit-kind", entry.credit_kind),
        ("pool", entry.pool),
        ("processor", entry.processor),
        ("refundable", entry.refundable),
        *((f"dimension-{name}", value) for name, value in pairs_of(entry.own)),
        *((f"usage-{name}", value) for name, value in pairs_of(entry.usage)),
    )
    return [(name, value) for name, value in facts if value]


# --- hledger --------------------------------------------------------------------------------------------------

# A tag's value ends at a comma or the line's end, and loses the spaces around it. A date in brackets would change a
# posting's date.
_TAG_UNSAFE = re.compile(r"[%,\[\]\s]|[^\x20-\x7e]")


def hledger_account(role: str, customer: str | None = None) -> str:
    """``liabilities:prepaid_liability``, and for a customer ``liabilities:prepaid_liability:cust-42``.

    All characters of the id but letters, digits and ``_.-~`` are percent-encoded, which is injective.
    """
    root = _HLEDGER_ROOTS[_ROOTS[ROLE_BY_NAME[role].account_class]]
    return f"{root}:{role}" if customer is None else f"{root}:{role}:{quote(customer, safe='')}"


def hledger_tag_value(text: str) -> str:
    """Returns a tag's value. Printable ASCII stays, but ``%``, comma, brackets and white space are percent-encoded."""
    return _TAG_UNSAFE.sub(lambda match: quote(match[0], safe=""), text)


def _hledger_head(journal: Journal, title: str) -> str:
    lines = [
        f"; {_trial(journal)}{title} of journal {journal.name}: cuts {journal.from_cut + 1} to {journal.to_cut}, "
        f"account mapping {journal.mapping}{_corrects(journal)}",
        f"; SHA-256 of the journal: {journal.content_hash}",
        "; ids are percent-encoded where they would break a name or a tag",
        "decimal-mark .",
        *(f"account {root}  ; type:{letter}" for root, letter in _HLEDGER_TYPES.items()),
    ]
    if _is_priced(journal):
        lines.insert(2, _PRICES_EXPLAINED)
    return "\n".join(lines) + "\n"


class _Declared:
    """Accounts and commodities that the file has declared so far; hledger's strict checks require declarations."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def commodity(self, currency: str) -> str:
        # hledger requires a decimal mark even if the currency has no decimals.
        return self._once(f"commodity 1000.{'0' * exponent(currency)} {currency}\n")

    def account(self, name: str) -> str:
        return self._once(f"account {name}\n")

    def _once(self, directive: str) -> str:
        if directive in self._known:
            return ""
        self._known.add(directive)
        return directive


def _tags(facts: Iterable[tuple[str, str]], indent: str) -> list[str]:
    return [f"{indent}; {name}: {hledger_tag_value(value)}\n" for name, value in facts if value]


def hledger_text(journal: Journal) -> str:
    """Returns the summary: one transaction for each currency on the period's last day, one posting for each line."""
    functional = journal.functional_currency
    declared = _Declared()
    pieces = [_hledger_head(journal, "summary")]
    currencies = sorted({line.currency for line in journal.lines})
    pieces += [declared.commodity(currency) for currency in _currencies(journal)]
    pieces += [declared.account(hledger_account(line.role)) for line in journal.lines]
    for currency in currencies:
        title = f"{_trial(journal)}Journal {journal.name} {currency}{_corrects(journal)}"
        pieces.append(f"\n{journal.posting_date} * ({journal.name}) {title}\n")
        for line in journal.lines:
            if line.currency != currency:
                continue
            facts = [
                ("line", str(line.number)),
                ("gl-account", line.account.number),
                ("product", line.product),
                ("credit-kind", line.credit_kind),
                ("pool", line.pool),
                ("processor", line.processor),
                ("refundable", line.refundable),
                *((f"dimension-{name}", value) for name, value in pairs_of(line.own)),
                *((f"dim-{name}", value) for name, value in line.account.dimensions),
            ]
            facts += _hledger_functional(line, currency, functional)
            pieces.append(f"    {hledger_account(line.role)}  {_amount(line, currency, functional)}\n")
            pieces += _tags(facts, "    ")
    return "".join(pieces)


def _hledger_functional(line: JournalLine | DetailLine, currency: str, functional: str) -> list[tuple[str, str]]:
    if currency == functional:
        return []
    facts = [("functional", _signed(line.functional_minor, line.side, functional)), ("functional-currency", functional)]
    return facts if line.amount_minor else [*facts, ("functional-of", currency)]


def hledger_detail(journal: Journal, entries: Iterable[DetailEntry]) -> Iterator[str]:
    """Yields every entry as a transaction on its accounting date, each line on its customer's sub-account."""
    functional = journal.functional_currency
    declared = _Declared()
    yield _hledger_head(journal, "every entry")
    for entry in entries:
        names = [hledger_account(line.role, entry.customer) for line in entry.lines]
        priced = entry.currency != functional
        new = declared.commodity(entry.currency) + (declared.commodity(functional) if priced else "")
        new += "".join(declared.account(name) for name in names)
        pieces = ["\n", f"{new}\n" if new else ""]
        pieces.append(f"{entry.accounting_date} * ({journal.ledger}/{entry.position}/{entry.number}) {entry.kind}\n")
        reference = [("position", str(entry.position)), ("number", str(entry.number))]
        pieces += _tags([*_facts(entry), *reference, ("effective", entry.effective_date.isoformat())], "    ")
        for name, line in zip(names, entry.lines, strict=True):
            pieces.append(f"    {name}  {_amount(line, entry.currency, functional)}\n")
            facts = [("gl-account", line.account.number)]
            facts += _hledger_functional(line, entry.currency, functional)
            pieces += _tags(facts, "    ")
        yield "".join(pieces)
