"""The interface of connectors: submitting a journal to one general ledger, and looking it up there.

A connector decides nothing: it submits, looks up, and returns the target's answer. ``sending`` decides what to do next:
to send, to wait or to look again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar, Literal, TypeVar

import httpx
import msgspec

from projections.delivery.tie_out import Theirs
from projections.exports.documents import Document
from projections.exports.formats.target import Rendering, TargetSettings
from projections.journals.journal import Journal
from subledger.errors import IntegrityFault, InvalidInput, NotSupportedYet
from subledger.external.calls import Calls
from subledger.external.hosts import HOSTS, allowed_hosts, is_near
from subledger.money import exponent
from subledger.periods import Period


class ChannelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings that every channel has.

    ``calls_a_minute``: no more, whoever delivers (0: no limit). ``timeout_s``: for an answer to one call. ``attempts``:
    submissions that may come to nothing before a delivery is a dead letter; as they ship, half a day's.
    ``first_wait_s`` and ``longest_wait_s``: between attempts, doubled each time. ``settle_s``: how long a submission
    without an answer may still take effect in the target; a look-up that finds nothing is believed after that alone,
    so let it be longer than the target lets a request run. ``posts_within_s``: an accepted journal is looked up for so
    long, until it is posted; after that once a day. ``retired``: nothing more is delivered, what is on its way goes on.
    """

    calls_a_minute: int = 60
    timeout_s: float = 60.0
    attempts: int = 24
    first_wait_s: float = 5.0
    longest_wait_s: float = 3_600.0
    settle_s: float = 900.0
    posts_within_s: float = 14 * 86_400.0
    retired: bool = False

    def check(self) -> None:
        """Checks settings against each other. Raises InvalidInput naming the field."""


_Settings = TypeVar("_Settings", bound=TargetSettings)


class Shipment(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery's content: a document of a journal, or the journal's file with all of them.

    ``reference`` is what the target knows it by; of a file, its name. ``settings`` are those that the export was made
    with; None for a format that has none. ``erp_id``: what the target calls what it has accepted; None as long as it
    has accepted nothing of this attempt. ``unknown``: its last submission had no clear answer. ``rejections``: how
    often the target has said no to it, or has thrown it away, so that a request may be another one for a target that
    answers the same one as it did before.
    """

    journal: Journal
    export_id: str
    reference: str
    payload: bytes
    content_type: str
    documents: tuple[Document, ...]
    settings: TargetSettings | None
    erp_id: str | None = None
    unknown: bool = False
    rejections: int = 0

    def settings_as(self, kind: type[_Settings]) -> _Settings:
        """The settings of a connector's own target. Raises IntegrityFault for an export made for another one."""
        if not isinstance(self.settings, kind):
            raise IntegrityFault(f"export {self.export_id} was not made with the settings of this connector's target")
        return self.settings

    @property
    def rendering(self) -> Rendering:
        """The input that its file was written from."""
        return Rendering(
            export_id=self.export_id, journal=self.journal, documents=self.documents, settings=self.settings
        )


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The target has taken it. ``posted``: into its books, as its answer says by itself; else a look-up will tell."""

    erp_id: str
    posted: bool = False


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """The target will not have it as it is, and nothing of it is there. ``reason`` in the target's own words."""

    reason: str


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """Totals of a document in the target, in minor units of its currency."""

    debit_minor: int
    credit_minor: int


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The target's record of a shipment, found by its references.

    ``totals`` by document's reference, as far as the target says; a file that has one name there has none.
    ``discarded``: the target has thrown it away, as an approver does; then the reason.
    """

    erp_id: str
    state: Literal["accepted", "posted", "discarded"]
    totals: dict[str, Total] = {}
    reason: str | None = None


class Connector(ABC):
    """The way into one general ledger. Made anew for each attempt, with the calls of that attempt.

    ``session`` is kept from one attempt to the next, as long as the worker goes on: tokens, ids that were looked up.
    """

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]
    """The formats that it can deliver; the first unless the channel says otherwise."""
    by_document: ClassVar[bool] = True
    """Each document by itself; else the file as a whole."""
    settings_type: ClassVar[type[ChannelSettings]]
    destination_fields: ClassVar[tuple[str, ...]] = ("url",)
    """The settings that identify the destination; fixed once a channel has delivered."""

    def __init__(self, settings: Any, calls: Calls, session: dict[str, Any]) -> None:
        self.settings = settings
        self.calls = calls
        self.session = session

    @abstractmethod
    def look_up(self, shipment: Shipment) -> Found | None:
        """The target's record; None if it has nothing under this reference.

        Raises Unclear, NotSent, Throttled if it did not say.
        """

    def prepare(self, shipment: Shipment) -> None:  # noqa: B027  # most have nothing to prepare
        """Prepares a submission: steps that can be repeated without harm. Raises as ``submit``."""

    @abstractmethod
    def submit(self, shipment: Shipment) -> Accepted | Rejected:
        """Puts it in. Called only for what a look-up did not find.

        Raises NotSent, NotAuthorised or Throttled if certainly nothing was done, Unclear if nobody knows.
        """

    def trial_balance(
        self,
        periods: Sequence[Period],  # noqa: ARG002  # for those that can be asked
        currency: str,  # noqa: ARG002  # likewise
        settings: TargetSettings | None,  # noqa: ARG002  # likewise
    ) -> list[Theirs]:
        """The movement of every account in some months, by its number in the account mapping.

        ``settings`` are the target's, as they are now. Raises NotSupportedYet if only a file is read, NotSent and
        Unclear as ``look_up``.
        """
        raise NotSupportedYet(
            f"{self.name} is not asked for its trial balance: give it as a CSV file", field="channel", found=self.name
        )


def check_url(url: str, *, field: str = "url", query: bool = False) -> None:
    """An address that credentials may be sent to: https, or http on this machine; its host is one that ``check_host``
    allows. It names no user, and has a query only where that is asked for. Raises InvalidInput.
    """
    try:
        parsed = httpx.URL(url)
        here = parsed.scheme == "http" and parsed.host in ("127.0.0.1", "localhost", "::1")
        safe = bool(parsed.host) and (parsed.scheme == "https" or here) and 0 < (parsed.port or 443) < 65_536
        bare = not (parsed.userinfo or parsed.fragment or (parsed.query and not query))
    except (httpx.InvalidURL, TypeError, ValueError):
        safe = bare = False
    if not safe or not bare:
        raise InvalidInput(
            f"{field} must be an https address, without user, query or fragment",
            field=field,
            expected="https://…",
            found=url[:200] if bare else "one with more",
        )
    check_host(parsed.host, field=field)


def check_host(host: str, *, field: str = "host") -> None:
    """A host that deliveries may go to: one of ``SUBLEDGER_DELIVERY_HOSTS``, hosts and .domains between commas; any, if
    that is not set or has a ``*``. This machine and its network's own addresses (loopback, link-local) are to be named
    there; the addresses that a name resolves to are checked as it is called (``hosts``). Raises InvalidInput.
    """
    plain = host.lower().rstrip(".")
    allowed = allowed_hosts()
    if any(plain == name or (name.startswith(".") and plain.endswith(name)) for name in allowed):
        return
    if is_near(plain):
        raise InvalidInput(
            f"{field} names this machine or its local network, which {HOSTS} does not allow; use another host, or ask "
            f"the operator to add it to {HOSTS}",
            field=field,
            expected=", ".join(allowed) or "another host",
            found=host[:200],
        )
    if allowed and "*" not in allowed:
        raise InvalidInput(
            f"{field} names a host that {HOSTS} does not allow; use one of the allowed hosts, or ask the operator to "
            f"add it to {HOSTS}",
            field=field,
            expected=", ".join(allowed),
            found=host[:200],
        )


def minor_of(amount: object, currency: str) -> int:
    """An amount as a system writes it, a number or a text, in minor units; none is zero. Raises ValueError.

    JSON's numbers are read as binary fractions, whose shortest form is the amount again: see PEP 3101's ``repr``.
    """
    if amount is None or amount == "":
        return 0
    try:
        scaled = Decimal(str(amount)).scaleb(exponent(currency))
    except InvalidOperation:
        raise ValueError(f"{amount!r} is no amount") from None
    if not scaled.is_finite() or scaled != scaled.to_integral_value():
        raise ValueError(f"{amount!r} is no amount in {currency}")
    return int(scaled)
