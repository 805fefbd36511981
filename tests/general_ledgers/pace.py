"""The pace of channels in tests."""

from __future__ import annotations

from typing import Any

QUICK: dict[str, Any] = {
    "calls_a_minute": 0, "timeout_s": 1.0, "first_wait_s": 0.01, "longest_wait_s": 0.05, "settle_s": 0.5,
}  # fmt: skip
UNHURRIED: dict[str, Any] = {**QUICK, "first_wait_s": 0.4, "longest_wait_s": 0.4}
"""So long between attempts that ``deliver_due`` makes one and ends, also on a machine that is busy."""
