"""Commands on rejected events: storing them before the answer, recording them again, dismissing, reopening.

Owns: these commands. Does not own: the tables (store/rejected), the reading of an event (service).
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread
import msgspec
import structlog

from api import metrics
from subledger.errors import (
    DatabaseUnavailable,
    InvalidInput,
    InvalidValue,
    RejectionCut,
    RejectionsChanged,
    TooLarge,
    Unavailable,
    present,
)
from subledger.events.envelope import check_texts
from subledger.events.rejections import MAX_SENT, as_first_sent, read_rejection
from subledger.persons import NOBODY, kept_name
from subledger.store.database import Database
from subledger.store.rejected import dismissals, rejections
from subledger.store.rejected.keeper import AS_SHIPPED, Bounds, Keeper, Refusal
from subledger.store.writing.batch import REJECTED, Input, Outcome
from subledger.store.writing.gathering import Gatherer
from subledger.text.json_text import loads

log = structlog.get_logger("subledger.rejected")

Done = TypeVar("Done")

MAX_REASON: Final = 2_000
MAX_DISMISSED: Final = 10_000
"""Maximum number of rejections that one call dismisses."""
MAX_RETRIED: Final = 1_000
"""Maximum number of rejections that one call records again."""
RETRY: Final = "retry"
"""The way in (``way``) of events that are recorded again."""
_AT_A_TIME: Final = 4
_RETRIED_AT_ONCE: Final = 500
_RETRIED_BYTES: Final = 8 * 1024 * 1024


def _nothing(_: int) -> None:
    pass


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes of the rejections that were recorded again, by id.

    ``error``: the error that stopped the call. ``not_done``: the number of rejections that it did not reach.
    """

    answers: list[tuple[str, Outcome]]
    not_done: int = 0
    error: Unavailable | None = None


class RejectedEvents:
    """Operations on the rejected events of one database."""

    def __init__(
        self, database: Database, gatherer: Gatherer, read: Callable[[bytes], Input], bounds: Bounds = AS_SHIPPED
    ) -> None:
        self._database = database
        self._bounds = bounds
        self._keeper = Keeper(database, bounds)
        self._turns: WeakKeyDictionary[AbstractEventLoop, anyio.CapacityLimiter] = WeakKeyDictionary()
        self._gatherer = gatherer
        self._read = read

    def keep(
        self, ledger: str, outcomes: list[Outcome], sent: Callable[[int], bytes], *, sender: str, way: str
    ) -> list[Outcome]:
        """Stores the rejected outcomes; ``sent`` returns the text of an event by its number. Returns the outcomes with
        the ids of their rejections.

        Every caller must do this before it answers. Without a rejected outcome it costs nothing. Raises Unavailable;
        events that were recorded stay recorded.
        """
        numbers = [number for number, outcome in enumerate(outcomes) if outcome.status == REJECTED]
        if not numbers:
            return outcomes
        refusals = {number: _refusal(outcomes[number], sent(number)) for number in numbers}
        # This follows the commit of the recorded events, in a transaction of its own, so no writer of the ledger waits
        # for it. If it fails, the caller is asked to send all events again. The recorded ones are duplicates then.
        try:
            stored = self._keeper.keep(ledger, list(refusals.values()), sender=sender, way=way)
        except Unavailable as error:
            if len(numbers) == len(outcomes):
                raise
            raise DatabaseUnavailable(
                f"the refused events of this call could not be stored ({error.code}), while its other events are "
                "recorded or wait for approval; send the same events again: what is recorded is a duplicate",
                expected="the same events, later",
            ) from error
        metrics.rejected(each.code for each in refusals.values())
        answered = list(outcomes)
        for number, each in refusals.items():
            rejection_id = each.rejection.rejection_id
            if rejection_id in stored:
                answered[number] = msgspec.structs.replace(outcomes[number], rejection_id=rejection_id)
        return answered

    def keep_unread(self, ledger: str, error: InvalidInput, sent: bytes, *, sender: str, way: str) -> None:
        """Stores a request body that is no list of events, as one rejection."""
        refused = Refusal(rejection=read_rejection(sent), code=error.code, problem=error.as_document())
        self._keeper.keep(ledger, [refused], sender=sender, way=way)
        metrics.rejected([error.code])

    def count_unread(self, ledger: str, error: InvalidInput, *, sender: str) -> None:
        """Counts a call whose body was not read: it was too large, or of another media type.

        The events in it are unknown. So there is only a count, in one row for each day, sender and code. It shows that
        a sender keeps sending unreadable bodies, and it cannot fill the database.
        """
        log.warning("a call was refused before its events were read", ledger=ledger, sender=sender, code=error.code)
        self._keeper.count(ledger, error.code, error.as_document(), sender=sender)
        metrics.rejected([error.code])

    async def in_turn(self, work: Callable[[], Done]) -> Done:
        """Stores rejections in a thread, few at a time, so that a flood of rejections does not delay other calls."""
        loop = get_running_loop()
        if loop not in self._turns:
            self._turns[loop] = anyio.CapacityLimiter(_AT_A_TIME)
        return await anyio.to_thread.run_sync(work, limiter=self._turns[loop])

    def retry(self, ledger: str, rejection_id: str, *, by: str = NOBODY) -> Outcome:
        """Records a rejected event again, as stored. The outcome is recorded, a duplicate, or rejected again with the
        reason.

        Raises UnknownRejection, RejectionSettled if it was dismissed, and RejectionCut if it is not stored in full.
        """
        with self._database.read() as connection:
            found = rejections.rejection(connection, ledger, rejection_id)
        dismissals.check_retriable(found)
        if found.sent is None or not found.whole:
            raise _cut(found, self._bounds)
        sent = found.sent
        outcomes = self._gatherer.record(ledger, [self._read(sent)], by=by)
        [outcome] = self.keep(ledger, outcomes, lambda _: sent, sender=by, way=RETRY)
        return outcome

    def retry_seen(
        self, ledger: str, seen: Sequence[rejections.Open], *, by: str, done: Callable[[int], None] = _nothing
    ) -> Retried:
        """Records open rejections in their order, in groups.

        Rejections that are not stored in full, or were dismissed meanwhile, are left out. ``done`` is called with the
        number of finished ones. An error after the first group ends the run. It is returned with the results of the
        finished groups.

        Raises Unavailable if it fails before anything is known to be recorded.
        """
        answers: list[tuple[str, Outcome]] = []
        chunks = list(_chunks([each for each in seen if each.whole]))
        for number, chunk in enumerate(chunks):
            settled: list[tuple[str, Outcome]] = []
            try:
                with self._database.read() as connection:
                    texts = rejections.texts(connection, ledger, chunk)
                # Each group is read again: another caller may have dismissed some of it meanwhile.
                still = [name for name in chunk if name in texts]
                sent = [texts[name] for name in still]
                outcomes = self._gatherer.record(ledger, [self._read(text) for text in sent], by=by)
                settled = [each for each in zip(still, outcomes, strict=True) if each[1].status != REJECTED]
                outcomes = self.keep(ledger, outcomes, sent.__getitem__, sender=by, way=RETRY)
            except Unavailable as error:
                # The group may have been committed before the error. Recorded events are reported, and never counted
                # among those that were not reached.
                answers += settled
                if not answers:
                    raise
                not_done = sum(len(each) for each in chunks[number:]) - len(settled)
                return Retried(answers=answers, not_done=not_done, error=error)
            answers += zip(still, outcomes, strict=True)
            done(len(answers))
        return Retried(answers=answers)

    def open_ones(
        self, ledger: str, chosen: rejections.Chosen, *, limit: int, expected: int | None = None
    ) -> list[rejections.Open]:
        """Returns the open rejections of a choice, at most ``limit``.

        Raises RejectionsChanged if there are more, or if their number is not ``expected``.
        """
        with self._database.read() as connection:
            seen = rejections.open_rejections(connection, ledger, chosen, limit=limit + 1)
        if len(seen) > limit or (expected is not None and len(seen) != expected):
            found = str(len(seen)) if len(seen) <= limit else f"more than {limit}"
            wanted = expected if expected is not None and expected <= limit else f"at most {limit}"
            raise RejectionsChanged(
                f"{found} open rejected events are chosen, not {wanted}; nothing was done: look at their number again, "
                "or choose fewer",
                field="rejections",
                expected=str(wanted),
                found=found,
            )
        return seen

    def dismiss(self, ledger: str, rejection_id: str, reason: str, *, by: str) -> rejections.Kept:
        """Dismisses a rejected event, with a reason.

        Raises InvalidValue, UnknownRejection, RejectionSettled.
        """
        text = _reason(reason)
        return dismissals.dismiss(self._database, ledger, rejection_id, by=kept_name(by), reason=text)

    def dismiss_seen(self, ledger: str, seen: Sequence[rejections.Open], reason: str, *, by: str) -> set[str]:
        """Dismisses many open rejections, with one reason.

        Returns the ids of the dismissed ones. Rejections that were settled or refused again meanwhile are not
        dismissed. Raises InvalidValue.
        """
        return dismissals.dismiss_seen(self._database, ledger, seen, by=kept_name(by), reason=_reason(reason))

    def reopen(self, ledger: str, rejection_id: str, reason: str, *, by: str) -> rejections.Kept:
        """Reopens a dismissed rejection, with a reason. Raises InvalidValue, UnknownRejection, RejectionSettled."""
        text = _reason(reason)
        return dismissals.reopen(self._database, ledger, rejection_id, by=kept_name(by), reason=text)


def _cut(found: rejections.Kept, bounds: Bounds) -> RejectionCut:
    """The error for a rejection that is not stored in full, with the limit that its text exceeded."""
    name = found.rejection_id
    if found.sent is None:
        return RejectionCut(
            f"rejection {name} only counts events that were not stored one by one; send them again from their source",
            field="rejection",
            expected="a rejection that is stored one by one",
            found=f"{found.attempts} refusals",
        )
    if found.sent_bytes > MAX_SENT:
        return RejectionCut(
            f"rejection {name} was too long to be stored completely; send the event again from its source",
            field="rejection",
            expected=f"at most {MAX_SENT} bytes",
            found=f"{found.sent_bytes} bytes",
        )
    return RejectionCut(
        f"the text of rejection {name} is not stored: the texts of the events that were refused on that day had "
        f"reached the bound of {bounds.text_bytes} bytes; send the event again from its source, and if it is refused "
        "again, its text is stored as soon as there is room",
        field="rejection",
        expected="a rejection whose text is stored",
        found=f"{len(found.sent)} of {found.sent_bytes} bytes",
    )


def _reason(reason: str) -> str:
    if not 1 <= len(reason.strip()) <= MAX_REASON:
        raise InvalidValue(
            "the reason is missing or too long; say why in a sentence",
            field="reason",
            expected=f"1 to {MAX_REASON} characters",
            found=f"{len(reason)} characters",
        )
    check_texts({"reason": reason}, field="reason")
    return reason.strip()


def _chunks(seen: Sequence[rejections.Open]) -> Iterator[list[str]]:
    """Yields the ids of rejections in groups, limited by number and by bytes."""
    chunk: list[str] = []
    size = 0
    for each in seen:
        if chunk and (len(chunk) >= _RETRIED_AT_ONCE or size + each.sent_bytes > _RETRIED_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(each.rejection_id)
        size += each.sent_bytes
    if chunk:
        yield chunk


def first_sent(text: bytes) -> bytes:
    """Returns the event in a line of FILE.rejected.jsonl; any other text unchanged."""
    try:
        return as_first_sent(loads(text)) or text
    except InvalidInput:
        return text


def _refusal(outcome: Outcome, sent: bytes) -> Refusal:
    """Returns a rejected outcome, with its event as it was sent."""
    error = present(outcome.error, "a rejected event has no error")
    # A text that was too large to be decoded is not decoded here either.
    rejection = read_rejection(first_sent(sent), decoded=not isinstance(error, TooLarge))
    return Refusal(
        rejection=rejection, code=error.code, problem=error.as_document(), position=outcome.decided_at_position
    )
