"""A copy of the product with an additional event type and its own entry kind: the files and the edits.

``credits.forfeited``: the rest of a block is forfeited because of a breach of the terms; it is revenue like breakage.
``EDITS`` lists the files that such a type touches, with the new text (also in subledger/README.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from subledger.kinds import KINDS
from tests.store.edited_copy import Edits, edited_copy

TYPE, KIND = "credits.forfeited", "forfeiture"

_EVENT: Final = '''class CreditsForfeited(EventData):
    """The remaining credits of a block are forfeited, for a breach of the terms."""

    block_id: Identifier
    reason: Reason


'''
_DECIDES: Final = '''

def forfeit(wallet: Wallet, event: Event[CreditsForfeited], context: Context, dates: Dates) -> Decision:
    """Forfeits the remaining credits of a block: revenue now."""
    block = own_block(wallet, event.data.block_id, context)
    is_live(block, event)
    movement = Movement(
        kind="forfeiture", block_id=block.block_id, credits=block.remaining, amount_minor=block.carrying_minor,
        accounting_date=dates.on(block.losses_from),
    )
    return decision(context, [movement])
'''
_NEXT: Final = max(kind.since for kind in KINDS) + 1
_ROW: Final = f"""    _kind("forfeiture", "credits forfeited for a breach of the terms", since={_NEXT}, loses="expired",
          result=Result.REVENUE, recognised=((BLOCK, BREAKAGE, 1),), words=("forfeited", "brought back")),
"""

EDITS: Final[Edits] = {
    "subledger/events/data.py": (
        ("class CreditsEscheated(EventData):", _EVENT + "class CreditsEscheated(EventData):"),
        ('    "credits.escheated": CreditsEscheated,\n',
         '    "credits.escheated": CreditsEscheated,\n    "credits.forfeited": CreditsForfeited,\n'),
    ),
    "subledger/events/meanings.py": (
        ('    "exchange_rate.set": ("wrong_currency",),\n',
         '    "exchange_rate.set": ("wrong_currency",),\n    "credits.forfeited": _LIVE,\n'),
    ),
    "subledger/kinds.py": (
        ('    _kind("expiry_changed"', _ROW + '    _kind("expiry_changed"'),
    ),
    "subledger/deciding/cancellations.py": (
        ("    CreditsEscheated,\n", "    CreditsEscheated,\n    CreditsForfeited,\n"),
        ("\n\n# --- unclaimed property", _DECIDES + "\n\n# --- unclaimed property"),
    ),
    "subledger/deciding/decide.py": (
        ('        _row(of_others.EscheatReclaimed,',
         '        _row(of_others.CreditsForfeited, cancellations.forfeit, "forfeiture"),\n'
         '        _row(of_others.EscheatReclaimed,'),
    ),
}  # fmt: skip

_PLAIN: Final = 'forfeiture = ["prepaid_liability / breakage_revenue"]\n'
_DEPOSITS: Final = 'forfeiture = ["prepaid_liability / {}", "customer_deposits / credits_clearing"]\n'
POLICIES: Final = {
    "subledger/policies/contract_liability.toml": _PLAIN,
    "subledger/policies/customer_deposits.toml": _DEPOSITS.format("breakage_revenue"),
    "subledger/policies/customer_deposits_arm.toml": _DEPOSITS.format("deferred_revenue"),
}
"""By shipped policy: the line at its end."""


def copy_with_the_new_kind(directory: Path) -> Path:
    """Copies the product, adds the event type, and returns the copy's directory."""
    edited_copy(directory, EDITS)
    for name, line in POLICIES.items():
        with (directory / name).open("a", encoding="utf-8") as file:
            file.write(line)
    return directory
