"""The text of a decision: its hashed and stored form, and the text that is made from the entries of a plain draw.

If usage draws on blocks of one customer, its decision follows from its entries. The log omits the decision if, and only
if, its text is exactly the text from ``text_of_plain_draw``. A reader of the log makes the text again, here or in SQL.
The log's hashes cover the text, so the forms below can never change.

Owns: the forms, filled in by Python and by SQL. Does not own: the view ``recorded_events``, which makes the same text
for people and is in a released migration (a test compares them), and decisions (``subledger/wallet.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Final, Protocol

import msgspec

from subledger.money import format_credits
from subledger.wallet import Decision

_encoder = msgspec.json.Encoder(order="sorted")

_DECISION: Final = '{"movements":[%s],"policy":%s}'
_MOVEMENT: Final = '{%s"block":"%s","credits":"%s","kind":"%s","on":"%s"}'
_AMOUNT: Final = '"amount":%s,'
"""The first member of a movement. A movement without an amount does not have it."""


class DrawnEntry(Protocol):
    """The fields of an entry that a decision repeats. Entries and rows of entries have them."""

    @property
    def kind(self) -> str: ...
    @property
    def block_id(self) -> str | None: ...
    @property
    def credits(self) -> Decimal: ...
    @property
    def amount_minor(self) -> int: ...
    @property
    def accounting_date(self) -> date: ...


def decision_text(decision: Decision) -> str:
    """Returns a decision in its stored and hashed form: canonical JSON."""
    return _encoder.encode(decision).decode()


def text_of_plain_draw(policy: int, entries: Iterable[DrawnEntry]) -> str:
    """Returns the decision that follows from these entries alone: draws on one customer's blocks, under one policy."""
    movements = [
        _MOVEMENT
        % (
            _AMOUNT % n.amount_minor if n.amount_minor else "",
            n.block_id,
            format_credits(n.credits),
            n.kind,
            n.accounting_date,
        )
        for n in entries
    ]
    return _DECISION % (",".join(movements), policy)


def decision_sql(ledger: str) -> str:
    """Returns SQL: the decision of the event ``e``, stored or made from its entries.

    ``ledger`` is the parameter that names the ledger. The view uses the event's ledger instead. Here this is not
    possible, because a Citus cluster cannot derive the server from every such statement.
    """
    amount = f"CASE WHEN n.amount_minor <> 0 THEN {_filled(_AMOUNT, 'n.amount_minor')} ELSE '' END"
    movement = _filled(
        _MOVEMENT, amount, "n.block_id", "trim_scale(n.credits)", "n.kind", "to_char(n.accounting_date, 'YYYY-MM-DD')"
    )
    decision = _filled(_DECISION, f"string_agg({movement}, ',' ORDER BY n.number)", "min(n.policy)")
    return f"""coalesce(e.decision, (
           SELECT {decision}
           FROM entries n WHERE n.ledger = {ledger} AND n.position = e.position
       ))"""


def _filled(form: str, *expressions: str) -> str:
    """Returns SQL: a form with these expressions in its places, one after the other."""
    first, *others = (f"'{text}'" for text in form.split("%s"))
    return " || ".join([first, *(f"{value} || {text}" for value, text in zip(expressions, others, strict=True))])
