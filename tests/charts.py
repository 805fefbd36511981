"""Account mappings to change to: another account for every role, and a department by class of account."""

from __future__ import annotations

from projections.journals.mapping import Mapping
from subledger.accounts import ROLES


def another_chart(first: int) -> Mapping:
    """Accounts numbered from ``first`` on, in the order of the chart of accounts."""
    return Mapping.from_rows(
        {
            "role": role.name, "account": str(first + place), "name": f"{role.name} of {first}",
            "department": role.account_class.value,
        }
        for place, role in enumerate(ROLES)
    )  # fmt: skip
