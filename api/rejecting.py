"""Rejected events: kept before whoever sent them is answered, retried, dismissed.

Owns: these commands. Does not own: the table (store/rejections), what an event is (service).
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread
import msgspec

from api import metrics
from subledger.errors import InvalidInput, InvalidValue, RejectionCut
from subledger.events import check_texts
from subledger.json_text import loads
from subledger.persons import NOBODY, kept_name
from subledger.rejections import MAX_SENT, as_first_sent, read_rejection
from subledger.store import rejections
from subledger.store.batch import REJECTED, Input, Outcome
from subledger.store.database import Database
from subledger.store.gathering import Gatherer

Done = TypeVar("Done")

MAX_REASON: Final = 2_000
_AT_A_TIME: Final = 4


class RejectedEvents:
    """Operations on the rejected events of one database."""

    def __init__(self, database: Database, gatherer: Gatherer, read: Callable[[bytes], Input]) -> None:
        self._database = database
        self._keeper = rejections.Keeper(database)
        self._turns: WeakKeyDictionary[AbstractEventLoop, anyio.CapacityLimiter] = WeakKeyDictionary()
        self._gatherer = gatherer
        self._read = read

    def keep(
        self, ledger: str, outcomes: list[Outcome], sent: Callable[[int], bytes], *, sender: str, way: str
    ) -> list[Outcome]:
        """Keeps the rejected among some outcomes, whose texts ``sent`` returns by number; they then have their ids.

        Whoever answers somebody calls this first. Without a rejected one it costs nothing.
        """
        numbers = [number for number, outcome in enumerate(outcomes) if outcome.status == REJECTED]
        if not numbers:
            return outcomes
        refusals = {number: _refusal(outcomes[number], sent(number)) for number in numbers}
        kept = self._keeper.keep(ledger, list(refusals.values()), sender=sender, way=way)
        metrics.rejected(each.code for each in refusals.values())
        answered = list(outcomes)
        for number, each in refusals.items():
            rejection_id = each.rejection.rejection_id
            if rejection_id in kept:
                answered[number] = msgspec.structs.replace(outcomes[number], rejection_id=rejection_id)
        return answered

    def keep_unread(self, ledger: str, error: InvalidInput, sent: bytes, *, sender: str, way: str) -> None:
        """Keeps what was sent and is no list of events at all."""
        refused = rejections.Refusal(rejection=read_rejection(sent), code=error.code, problem=error.as_document())
        self._keeper.keep(ledger, [refused], sender=sender, way=way)
        metrics.rejected([error.code])

    async def in_turn(self, work: Callable[[], Done]) -> Done:
        """Runs what keeps rejections in a thread, few at a time: nobody else waits for a flood of them."""
        loop = get_running_loop()
        if loop not in self._turns:
            self._turns[loop] = anyio.CapacityLimiter(_AT_A_TIME)
        return await anyio.to_thread.run_sync(work, limiter=self._turns[loop])

    def retry(self, ledger: str, rejection_id: str, *, by: str = NOBODY) -> Outcome:
        """Records a rejected event as it is kept: recorded, a duplicate, or rejected once more, with why.

        Raises UnknownRejection, and RejectionCut where not all of it is kept.
        """
        with self._database.read() as connection:
            found = rejections.rejection(connection, ledger, rejection_id)
        if found.sent is None or not found.whole:
            raise RejectionCut(
                f"rejection {rejection_id} was too long to be stored completely; send the event again from its source",
                field="rejection", expected=f"at most {MAX_SENT} bytes", found=f"{found.sent_bytes} bytes",
            )  # fmt: skip
        text = found.sent
        outcomes = self._gatherer.record(ledger, [self._read(text)], by=by)
        [outcome] = self.keep(ledger, outcomes, lambda _: text, sender=by, way="retry")
        return outcome

    def dismiss(self, ledger: str, rejection_id: str, reason: str, *, by: str) -> rejections.Kept:
        """Says of a rejected event that it will never be recorded, and why.

        Raises InvalidValue, UnknownRejection, RejectionSettled.
        """
        if not 1 <= len(reason.strip()) <= MAX_REASON:
            raise InvalidValue(
                "a dismissal needs its reason", field="reason", expected=f"1 to {MAX_REASON} characters",
                found=f"{len(reason)} characters",
            )  # fmt: skip
        check_texts({"reason": reason}, field="reason")
        return rejections.dismiss(self._database, ledger, rejection_id, by=kept_name(by), reason=reason.strip())


def first_sent(text: bytes) -> bytes:
    """The event in a line of FILE.rejected.jsonl, and any other text as it is."""
    try:
        return as_first_sent(loads(text)) or text
    except InvalidInput:
        return text


def _refusal(outcome: Outcome, sent: bytes) -> rejections.Refusal:
    """A rejected outcome with what was sent."""
    error = outcome.error
    assert error is not None
    return rejections.Refusal(
        rejection=read_rejection(first_sent(sent)), code=error.code, problem=error.as_document(),
        position=outcome.decided_at_position,
    )  # fmt: skip
