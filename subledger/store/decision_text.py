"""The text of a decision: as it is hashed, as it is stored, and as the entries of a plain draw stand for it.

The decision of usage that draws on blocks of one customer follows from its entries. It is left out of the log if, and
only if, its text is letter by letter the one that ``text_of_plain_draw`` makes; a reader of the log makes it again,
here or in SQL. The log's hashes cover the text, so not a letter of the forms below can ever change.

Owns: the forms, filled in by Python and by SQL. Does not own: the view ``recorded_events``, which says the same for
people and is in a released migration (a test compares them), and decisions (``subledger/wallet.py``).
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
"""The first member of a movement, which a movement of no amount lacks."""


class DrawnEntry(Protocol):
    """The fields of an entry that a decision repeats: an entry has them, and so has a row of entries."""

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
    """A decision as it is stored and hashed: canonical JSON."""
    return _encoder.encode(decision).decode()


def text_of_plain_draw(policy: int, entries: Iterable[DrawnEntry]) -> str:
    """The decision that these entries alone make: draws of one customer's blocks, under one policy."""
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
    """SQL: the decision of the event ``e``, stored or made of its entries.

    ``ledger`` is the parameter that names the ledger. The view has the event's ledger in its place, which is of no use
    here: a Citus cluster cannot tell from every statement which server has that ledger.
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
    """SQL: a form with these expressions in its places, one after the other."""
    first, *others = (f"'{text}'" for text in form.split("%s"))
    return " || ".join([first, *(f"{value} || {text}" for value, text in zip(expressions, others, strict=True))])
