"""The pace of channels in tests: short waits between look-ups, and long time-outs for answers."""

from __future__ import annotations

from typing import Any

from tests.general_ledgers.stand_in import Fault
from tests.waiting import HANGS_S

QUICK: dict[str, Any] = {
    "calls_a_minute": 0, "timeout_s": 30.0, "first_wait_s": 0.01, "longest_wait_s": 0.05, "settle_s": 0.5,
}  # fmt: skip
UNHURRIED: dict[str, Any] = {**QUICK, "first_wait_s": 0.4, "longest_wait_s": 0.4}
"""The wait between attempts is so long that ``deliver_due`` makes one attempt and ends, even on a busy machine."""
HIT_AT_RANDOM: dict[str, Any] = {"timeout_s": 1.0, "settle_s": 3.0}
"""The pace of a channel with all faults: answers come too late, and submissions arrive after a look-up."""


def meeting(fault: Fault) -> dict[str, Any]:
    """Returns the settings of a channel that meets a fault. A submission that arrived, or will arrive, is looked up
    until it is found.

    It is not sent again before that, however slow the machine is.
    """
    is_taken_in = fault in ("drops_after", "times_out_after", "fails_after", "late")
    return {
        **({"settle_s": HANGS_S} if is_taken_in else {}),
        **({"timeout_s": 1.0} if fault == "times_out_after" else {}),
    }
