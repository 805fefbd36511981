"""The shipped policies, for laws that hold under each of them."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from subledger.kinds import KINDS, Rules
from subledger.posting import SHIPPED_POLICIES, shipped_policy

RULES: dict[str, Rules] = {name: shipped_policy(name).rules for name in SHIPPED_POLICIES}
PLAIN, DEPOSITS, ARM = (RULES[name] for name in SHIPPED_POLICIES)
NAMES = [kind.name for kind in KINDS]
AMOUNTS = st.integers(-(10**15), 10**15)

all_policies = pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
