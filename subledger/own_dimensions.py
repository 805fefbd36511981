"""The company's own dimensions of purchases and usage, such as ``department``: names with texts.

A block has those of its purchase, and usage may have others. So an entry has two sets: ``own``, those of its block, and
``usage``, those of the usage that it recognises. The role of a line decides which set the line has. A balance that
belongs to a block has the set of the block, so that it returns to zero within this set. Revenue, and usage that is not
invoiced, has the set of the usage. A balance that is not carried block by block has none: cash, clearing of a
processor, amounts owed to a customer, the estimated breakage of a pool.

A set is canonical JSON, empty text if there is none. Owns: this text, and the choice of the set for a line. Does not
own: the names that a ledger allows (ledger_settings), their checks (events, deciding/new_bounds).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from subledger.accounts import ROLE_BY_NAME, AccountClass

NO_DIMENSIONS: Final = "{}"
"""The set of an entry whose usage has no dimensions although its block has."""

OF_USAGE: Final = frozenset(
    {"unbilled_receivable", "deferred_revenue"}
    | {
        name
        for name, role in ROLE_BY_NAME.items()
        if role.account_class in (AccountClass.REVENUE, AccountClass.CONTRA_REVENUE, AccountClass.EXPENSE)
    }
)
"""Roles whose lines have the dimensions of the usage. One of them is deferred_revenue: revenue that is released to the
ERP's revenue module. A purchase has no usage, so its line of deferred_revenue has the dimensions of the block.
"""

OF_NOTHING: Final = frozenset(
    {"cash", "processor_clearing", "refunds_payable", "customer_balance", "breakage_recognized"}
)
"""Roles whose lines have no own dimensions, because their balance is not carried block by block."""


def text_of(dimensions: Mapping[str, str] | None) -> str:
    """Returns a set as canonical JSON, names in order; empty text if there is none."""
    return json.dumps(dict(sorted(dimensions.items())), ensure_ascii=False, separators=(",", ":")) if dimensions else ""


@lru_cache(maxsize=1 << 12)
def pairs_of(text: str) -> tuple[tuple[str, str], ...]:
    """Returns the names of a set with their texts, in order of name."""
    return tuple(json.loads(text).items()) if text else ()


@lru_cache(maxsize=1 << 12)
def over(block: str, usage: str) -> str:
    """Returns both sets merged. If both have a name, the text of the usage counts."""
    return text_of(dict(pairs_of(block)) | dict(pairs_of(usage)))


def of_usage_alone(block: str, usage: str) -> str:
    """Returns the set of an entry's usage, from the stated dimensions; empty text if it is the block's set."""
    laid = over(block, usage) if usage else block
    return laid if laid != block else ""


def of_role(role: str, own: str, usage: str) -> str:
    """Returns the set of a line. ``usage`` is empty if it is that of the block."""
    if role in OF_NOTHING:
        return ""
    if role not in OF_USAGE or not usage:
        return own
    return "" if usage == NO_DIMENSIONS else usage
