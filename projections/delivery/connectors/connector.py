"""The interface of connectors: submitting a journal to one general ledger, and looking it up there.

A connector decides nothing: it submits, looks up, and returns the target's answer. ``sending`` decides the next step:
sending, waiting or looking again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
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

    ``calls_a_minute``: the limit over all workers (0: no limit). ``timeout_s``: for the answer to one call.
    ``attempts``: failed submissions before a delivery is a dead letter; the default covers half a day. ``first_wait_s``
    and ``longest_wait_s``: the wait between attempts; it doubles each time. ``settle_s``: how long a submission without
    an answer may still take effect in the target. A look-up that finds nothing proves nothing until then, so
    ``settle_s`` must be longer than the target lets a request run. ``posts_within_s``: for so long an accepted journal
    is looked up often, until it is posted; afterwards once a day. ``retired``: no new deliveries; those on their way
    continue.
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

    ``reference``: the name by which the target knows it; for a file, the file's name. ``settings``: those with which
    the export was made; None if the format has none. ``erp_id``: the target's id of the accepted shipment; None if it
    has accepted nothing in this attempt. ``unknown``: the last submission had no clear answer. ``rejections``: how
    often the target has rejected or discarded it. A target may repeat its answer to the same request, so a connector
    can make the request different after a rejection.
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
        """Returns the settings of the connector's own target. Raises IntegrityFault for an export of another target."""
        if not isinstance(self.settings, kind):
            raise IntegrityFault(f"export {self.export_id} was not made with the settings of this connector's target")
        return self.settings

    @property
    def rendering(self) -> Rendering:
        """The input from which the file was written."""
        return Rendering(
            export_id=self.export_id, journal=self.journal, documents=self.documents, settings=self.settings
        )


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The target has accepted the shipment. ``posted``: its answer says that it is in the books; else a look-up must
    find out.
    """

    erp_id: str
    posted: bool = False


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """The target has rejected the shipment, and nothing of it is there. ``reason``: the target's own words."""

    reason: str


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """Totals of a document in the target, in minor units of its currency."""

    debit_minor: int
    credit_minor: int


class Accounts(msgspec.Struct, frozen=True, kw_only=True):
    """Totals of a document by account, sent and found. An account is named as in the target."""

    sent: dict[str, Total]
    found: dict[str, Total]


Movement = tuple[str, bool, int]
"""An account, True for a debit, and an amount in minor units."""


def by_account(movements: Iterable[Movement]) -> dict[str, Total]:
    """Sums movements by account and side. Accounts without an amount are left out."""
    sums: dict[str, list[int]] = {}
    for account, is_debit, amount_minor in movements:
        sums.setdefault(account, [0, 0])[not is_debit] += amount_minor
    return {
        account: Total(debit_minor=debit, credit_minor=credit)
        for account, (debit, credit) in sums.items()
        if debit or credit
    }


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The target's record of a shipment, found by its references.

    ``totals`` and ``accounts``: by the document's reference, as far as the target shows them. For a file with one name
    in the target, there are none. ``discarded``: the target has discarded it, for example an approver declined it;
    ``reason`` says why.
    """

    erp_id: str
    state: Literal["accepted", "posted", "discarded"]
    totals: dict[str, Total] = {}
    accounts: dict[str, Accounts] = {}
    reason: str | None = None


class Connector(ABC):
    """The way into one general ledger. Each attempt makes a new connector, with the calls of that attempt.

    ``session`` lives as long as the worker, across attempts. It has tokens, and ids that were looked up.
    """

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]
    """The formats that it can deliver. The first is the default of a channel."""
    by_document: ClassVar[bool] = True
    """True if each document is delivered by itself; False if the file is delivered as a whole."""
    settings_type: ClassVar[type[ChannelSettings]]
    destination_fields: ClassVar[tuple[str, ...]] = ("url",)
    """The settings that identify the destination; fixed once a channel has delivered."""
    lines_fields: ClassVar[tuple[str, ...]] = ()
    """The settings that may have several lines."""

    def __init__(self, settings: Any, calls: Calls, session: dict[str, Any]) -> None:
        self.settings = settings
        self.calls = calls
        self.session = session

    @abstractmethod
    def look_up(self, shipment: Shipment) -> Found | None:
        """Returns the target's record; None if it has nothing under this reference.

        Raises Unclear, NotSent or Throttled if the target gave no clear answer.
        """

    def prepare(self, shipment: Shipment) -> None:  # noqa: B027  # most have nothing to prepare
        """Prepares a submission: steps that can be repeated without harm. Raises as ``submit``."""

    @abstractmethod
    def submit(self, shipment: Shipment) -> Accepted | Rejected:
        """Submits the shipment. It is called only if a look-up did not find it.

        Raises NotSent, NotAuthorised or Throttled if certainly nothing was done, Unclear if nobody knows.
        """

    def trial_balance(
        self,
        periods: Sequence[Period],  # noqa: ARG002  # for those that can be asked
        currency: str,  # noqa: ARG002  # likewise
        settings: TargetSettings | None,  # noqa: ARG002  # likewise
    ) -> list[Theirs]:
        """Returns the movement of every account in some months, by its number in the account mapping.

        ``settings`` are the target's current ones. Raises NotSupportedYet if a trial balance can only be read from a
        file. Raises NotSent and Unclear as ``look_up`` does.
        """
        raise NotSupportedYet(
            f"{self.name} cannot be asked for its trial balance; give it as a CSV file",
            field="channel",
            found=self.name,
        )


def check_url(url: str, *, field: str = "url", query: bool = False) -> None:
    """Checks an address to which credentials may be sent.

    It is https, or http on this machine, with a host that ``check_host`` allows. It names no user, and has a query only
    if ``query`` allows it. Raises InvalidInput.
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
    """Checks that deliveries may go to a host.

    ``SUBLEDGER_DELIVERY_HOSTS`` lists hosts and .domains between commas. All hosts are allowed if it is not set or has
    a ``*``. The addresses of this machine and its network (loopback, link-local) must be named there. The addresses to
    which a name resolves are checked at each call (``hosts``). Raises InvalidInput.
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
    """Reads an amount of another system, a number or a text, in minor units; None is zero. Raises ValueError.

    JSON numbers are read as binary floats. The shortest decimal form of such a float is the amount that was written
    (``repr``).
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
