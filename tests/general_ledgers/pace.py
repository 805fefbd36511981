"""The pace of channels in tests: quick to look again, and never in a hurry with an answer."""

from __future__ import annotations

from typing import Any

from tests.general_ledgers.stand_in import Fault
from tests.waiting import HANGS_S

QUICK: dict[str, Any] = {
    "calls_a_minute": 0, "timeout_s": 30.0, "first_wait_s": 0.01, "longest_wait_s": 0.05, "settle_s": 0.5,
}  # fmt: skip
UNHURRIED: dict[str, Any] = {**QUICK, "first_wait_s": 0.4, "longest_wait_s": 0.4}
"""So long between attempts that ``deliver_due`` makes one and ends, also on a machine that is busy."""
HIT_AT_RANDOM: dict[str, Any] = {"timeout_s": 1.0, "settle_s": 3.0}
"""Of a channel that all faults happen to: answers come too late, and submissions arrive later than a look-up."""


def meeting(fault: Fault) -> dict[str, Any]:
    """Settings of a channel that meets a fault: what was taken in, or will be, is looked for until it is found.

    However slow the machine is, it is not sent again before.
    """
    is_taken_in = fault in ("drops_after", "times_out_after", "fails_after", "late")
    return {
        **({"settle_s": HANGS_S} if is_taken_in else {}),
        **({"timeout_s": 1.0} if fault == "times_out_after" else {}),
    }
