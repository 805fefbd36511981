"""States of a delivery, and the transitions between them.

    built → rendered → submitted → accepted → posted → reconciled
                 ↑         ├→ unknown ──┘ (looked up: it is there)
                 └─────────┴──────┘ (certainly not there)        rejected, failed, abandoned: the dead letters

``submitted`` is stored before anything is sent. So if a worker dies, the state of its delivery says that the target may
have it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from subledger.errors import IntegrityFault


class State(StrEnum):
    BUILT = "built"
    """In the outbox; not rendered yet."""
    RENDERED = "rendered"
    """Rendered, to be sent. It is certainly not in the target."""
    SUBMITTED = "submitted"
    """On its way, or the worker that sent it has died."""
    UNKNOWN = "unknown"
    """It may be in the target: only a look-up shows it."""
    ACCEPTED = "accepted"
    """In the target, not yet in its books: a draft, waiting for approval, or waiting for a posting run."""
    POSTED = "posted"
    """In the target's books, with the amounts that were sent."""
    RECONCILED = "reconciled"
    """A tie-out found that the target's accounts of its month agree with the sub-ledger's."""
    REJECTED = "rejected"
    """The target has rejected it."""
    FAILED = "failed"
    """It could not be rendered, or all attempts failed."""
    ABANDONED = "abandoned"
    """A person has taken it out."""


S = State
FOLLOWS: Final[dict[State, frozenset[State]]] = {
    S.BUILT: frozenset({S.RENDERED, S.FAILED, S.ABANDONED}),
    # The first look-up may find it: an earlier submission that this database does not know of, for example after a
    # restore.
    S.RENDERED: frozenset({S.SUBMITTED, S.ACCEPTED, S.POSTED, S.REJECTED, S.FAILED, S.ABANDONED}),
    S.SUBMITTED: frozenset({S.ACCEPTED, S.POSTED, S.REJECTED, S.UNKNOWN, S.RENDERED, S.FAILED}),
    S.UNKNOWN: frozenset({S.ACCEPTED, S.POSTED, S.REJECTED, S.RENDERED, S.ABANDONED}),
    S.ACCEPTED: frozenset({S.POSTED, S.REJECTED, S.ABANDONED}),
    S.POSTED: frozenset({S.RECONCILED, S.ABANDONED}),
    S.RECONCILED: frozenset(),
    S.REJECTED: frozenset({S.RENDERED, S.BUILT, S.ABANDONED}),
    S.FAILED: frozenset({S.RENDERED, S.BUILT, S.ABANDONED}),
    S.ABANDONED: frozenset({S.RENDERED, S.BUILT, S.UNKNOWN}),
}

DEAD: Final = frozenset({S.REJECTED, S.FAILED, S.ABANDONED})
"""The dead letters: they stay as they are until a person acts."""
DELIVERED: Final = frozenset({S.ACCEPTED, S.POSTED, S.RECONCILED})
IN_THE_BOOKS: Final = frozenset({S.POSTED, S.RECONCILED})
ON_ITS_WAY: Final = frozenset({S.BUILT, S.RENDERED, S.SUBMITTED, S.UNKNOWN})
WORKED_ON: Final = ON_ITS_WAY | {S.ACCEPTED}
"""The states in which a worker still has something to do."""


def check_step(before: State, after: State) -> None:
    """Checks a transition; a delivery may also keep its state, for example after a put-off attempt. Raises
    IntegrityFault.
    """
    if after is not before and after not in FOLLOWS[before]:
        raise IntegrityFault(f"a delivery that is {before} cannot become {after}")
