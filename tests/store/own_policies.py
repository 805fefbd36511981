"""A company's own posting policies: made from a shipped one, and written as a policy file."""

from __future__ import annotations

import msgspec

from subledger.kinds import AccountPair
from subledger.posting import Policy, shipped_policy


def of_name(name: str, *, version: int = 1, based_on: str = "contract_liability", **rules: str) -> Policy:
    """A company's own policy: a shipped one, with other pairs for some kinds (``debit / credit, …``)."""
    pairs = {
        kind: tuple(
            AccountPair(*(role.strip() for role in pair.split("/"))) for pair in text.split(",") if pair.strip()
        )
        for kind, text in rules.items()
    }
    base = shipped_policy(based_on)
    return msgspec.structs.replace(base, name=name, version=version, rules={**base.rules, **pairs})


def file_of(policy: Policy) -> str:
    """Returns a policy as a company's policy file, in syntax that JSON and TOML share."""
    lines = [f'name = "{policy.name}"', f"version = {policy.version}", 'description = "of our own"', "[entries]"]
    for kind, pairs in policy.rules.items():
        lines.append(f"{kind} = {[f'{pair.debit} / {pair.credit}' for pair in pairs]}")
    return "\n".join(lines) + "\n"
