"""Posting policies as JSON, and as the text of a policy file."""

from __future__ import annotations

import json

from api.shapes.answers import JsonObject
from projections.configuring.policies import Adoption
from projections.reads.policies import AdoptedPolicy
from subledger.events.envelope import format_time
from subledger.kinds import KINDS, AccountPair, Rules
from subledger.text.visible_text import toml_visible


def adopted_policy(adopted: AdoptedPolicy, *, with_rules: bool = False) -> JsonObject:
    """Returns an adopted posting policy; with its rules, each a list of ``debit / credit`` texts.

    ``inherited`` lists the kinds that are younger than the policy, if there are any. ``content_hash`` is the hash of
    the rules of the other kinds.
    """
    answer: JsonObject = {
        "policy": adopted.number,
        "name": adopted.name,
        "version": adopted.version,
        "description": adopted.description,
        "content_hash": adopted.content_hash,
        "in_force": adopted.in_force,
        "position": adopted.position,
        "occurred_at": format_time(adopted.occurred_at),
        "recorded_at": format_time(adopted.recorded_at),
        "by": adopted.by,
    }
    if with_rules:
        answer["entries"] = {
            kind: [f"{pair.debit} / {pair.credit}" for pair in pairs] for kind, pairs in _in_order(adopted.rules)
        }
        if adopted.inherited:
            answer["inherited"] = sorted(adopted.inherited)
    return answer


def adoption(found: Adoption, adopted: AdoptedPolicy) -> JsonObject:
    """Returns the result of an adoption, with the policy."""
    remarks = []
    if found.left_open:
        one = found.left_open == 1
        blocks = "1 open credit block was" if one else f"{found.left_open} open credit blocks were"
        remarks.append(
            f"{blocks} posted under a policy with another treatment of customer deposits: from now on their "
            "customer_deposits and credits_clearing offset each other, and do not each end at zero"
        )
    return {"status": "adopted" if found.adopted else "unchanged", **adopted_policy(adopted), "remarks": remarks}


def policy_file(adopted: AdoptedPolicy) -> str:
    """Returns a policy as the text of a policy file, which can be edited and adopted as another version."""
    lines = [
        f"name = {_toml(adopted.name)}",
        f"version = {adopted.version}",
        f"description = {_toml(adopted.description or '')}",
        "",
        "[entries]",
    ]
    for kind, pairs in _in_order(adopted.rules):
        texts = [_toml(f"{pair.debit} / {pair.credit}") for pair in pairs]
        short = f"{kind} = [{', '.join(texts)}]"
        lines += [short] if len(texts) < 2 else [f"{kind} = [", *(f"    {text}," for text in texts), "]"]
    return "\n".join(lines) + "\n"


def _in_order(rules: Rules) -> list[tuple[str, tuple[AccountPair, ...]]]:
    """Returns the rules in the order of the entry kinds (in an event they are in the order of their names)."""
    order = {kind.name: index for index, kind in enumerate(KINDS)}
    return sorted(rules.items(), key=lambda rule: (order.get(rule[0], len(order)), rule[0]))


def _toml(text: str) -> str:
    """Returns a TOML basic string: JSON escapes are valid in TOML; terminal control characters are escaped too."""
    return toml_visible(json.dumps(text, ensure_ascii=False))
