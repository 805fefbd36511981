"""QuickBooks Online: ``JournalEntry`` of the Accounting API, one for each document; found by its number or by our
private note.

A company that numbers its transactions itself may drop our number or replace it. So if no entry has our number, the
entries of its day are searched for our private note, which names the journal. Notes cannot be queried. A journal entry
is in the books as soon as it exists; there are no drafts. An entry that is found on another day or in another currency
is a rejection that says so.

QuickBooks answers a request with a repeated ``requestid`` as it answered the first one, and does nothing. This prevents
a second entry. It would also prevent a retry after the first request was refused or its entry was deleted. So the id is
made of the reference, of the content, and of the number of rejections.

Using the refresh token may return a new one, about once a day. The new one is stored in its file before the access
token is used. No other program may use the same refresh token.

Intuit documents:

- addresses, fields and the shape of a fault;
- ``requestid`` (50 characters) and the replay of its answer;
- OAuth 2.0, with an access token for one hour;
- status 429, and a minute's wait after it;
- *ValidationFault* for a refusal, such as 6210 for a closed period.

Not certain, and to be tried in a sandbox:

- Is a fault replayed too?
- Which number does a journal entry get in a company with custom numbers?
- Is a second entry with the same number refused? If so, with code 6140. After 6140 the connector looks up our entry,
  before it treats the delivery as refused.

Sources: developer.intuit.com (api/accounting/all-entities/journalentry, learn/rest-api-features, limits-and-throttles,
develop/authentication-and-authorization), blogs.intuit.com (2015-04-06 on RequestId, 2024-06-03 on tokens), Intuit's
Finance.xsd (intuit/QuickBooks-V3-Java-SDK).
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, ClassVar, Final

import httpx
import msgspec

from projections.delivery.connectors import connector
from projections.delivery.connectors.bearer import BearerCalls, Token, request_token, token_of
from subledger.errors import InvalidInput
from subledger.external import credentials
from subledger.external.calls import NotAuthorised, NotSent, Unclear
from subledger.external.credentials import Credential

_MINOR_VERSION: Final = "75"
_PAGE: Final = 1_000
_PAGES: Final = 50
_DUPLICATE_NUMBER: Final = "6140"
_NOTE: Final = re.compile(r"subledger export=\S+ journal=(\S+)")


class Settings(connector.ChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a channel to QuickBooks.

    ``realm_id``: the company's id. ``client_id``, ``client_secret``: of an app in Intuit's developer portal with the
    accounting scope. ``refresh_token``: names a file, writable for the worker, with the token from connecting the app
    to the company. ``url``: https://sandbox-quickbooks.api.intuit.com for a trial.
    """

    url: str = "https://quickbooks.api.intuit.com"
    token_url: str = "https://oauth.platform.intuit.com/oauth2/v1/tokens/bearer"
    realm_id: Annotated[str, msgspec.Meta(pattern="^[0-9]{1,32}$")]
    client_id: str
    client_secret: Credential
    refresh_token: Credential

    def check(self) -> None:
        connector.check_url(self.url)
        connector.check_url(self.token_url, field="token_url")
        for field in ("client_id", "client_secret"):
            if not getattr(self, field):
                raise InvalidInput(f"{field} is empty", field=field, expected="that of the app")
        if not self.refresh_token.startswith("file:"):
            raise InvalidInput(
                "the refresh token is replaced from time to time",
                field="refresh_token",
                expected="file:/…",
                found=self.refresh_token[:60],
            )


class QuickBooks(connector.Connector):
    """See the module."""

    name: ClassVar[str] = "quickbooks"
    formats: ClassVar[tuple[str, ...]] = ("quickbooks-json",)
    settings_type: ClassVar[type[connector.ChannelSettings]] = Settings
    destination_fields: ClassVar[tuple[str, ...]] = ("url", "realm_id")

    def look_up(self, shipment: connector.Shipment) -> connector.Found | None:
        [sent] = msgspec.json.decode(shipment.payload)
        entries = self._entries(f"DocNumber = '{shipment.reference}'")
        if not entries:
            journal = _journal_of(sent)
            that_day = self._entries(f"TxnDate = '{sent['TxnDate']}'")
            entries = [entry for entry in that_day if _journal_of(entry) == journal]
        if not entries:
            return None
        if len(entries) > 1:
            ids = ", ".join(sorted(str(entry["Id"]) for entry in entries))
            twice = f"QuickBooks has it {len(entries)} times, as {ids}: delete all but one there"
            return connector.Found(erp_id=str(entries[0]["Id"]), state="discarded", reason=twice)
        return _found(shipment, sent, entries[0])

    def submit(self, shipment: connector.Shipment) -> connector.Accepted | connector.Rejected:
        [record] = msgspec.json.decode(shipment.payload, type=list[msgspec.Raw])
        answer = self._call(
            "POST",
            "journalentry",
            {"requestid": _request_id(shipment)},
            content=bytes(record),
            headers={"Content-Type": "application/json"},
        )
        content = answer.json()
        if "Fault" in content:
            return self._refused(shipment, content["Fault"])
        if answer.status_code != 200:
            raise Unclear(f"QuickBooks answered {answer.status_code}: {answer.text[:500]}")
        return connector.Accepted(erp_id=str(content["JournalEntry"]["Id"]), posted=True)

    def _refused(self, shipment: connector.Shipment, fault: dict[str, Any]) -> connector.Rejected:
        """Reads a fault: only a validation fault proves that nothing was done. Raises NotAuthorised or Unclear for
        others.
        """
        reason, kind = _reason(fault), str(fault.get("type", "")).lower()
        if kind.startswith("auth"):
            raise NotAuthorised(f"QuickBooks does not take the app: {reason}")
        if kind != "validationfault":
            raise Unclear(f"QuickBooks failed: {reason}")
        if any(str(error.get("code")) == _DUPLICATE_NUMBER for error in fault["Error"]):
            self._check_not_there(shipment, reason)
        return connector.Rejected(reason=reason)

    def _check_not_there(self, shipment: connector.Shipment, reason: str) -> None:
        """Looks up if our own entry has the number that is taken. Raises Unclear if so."""
        try:
            found = self.look_up(shipment)
        except NotSent as error:
            raise Unclear(f"QuickBooks refuses it, and does not say whether it has it: {reason}; {error}") from error
        if found is not None:
            raise Unclear(f"QuickBooks refuses it, and has it already: {reason}")

    # --- calls ----------------------------------------------------------------------------------------------------

    def _entries(self, condition: str) -> list[dict[str, Any]]:
        """Returns all journal entries that match a condition, with all fields: an entry read without its note would
        seem to have none.

        Pages may overlap if entries are created meanwhile.
        """
        entries: dict[str, dict[str, Any]] = {}
        start = 1
        for _ in range(_PAGES):
            query = f"select * from JournalEntry where {condition} startposition {start} maxresults {_PAGE}"
            answer = self._call("GET", "query", {"query": query})
            if answer.status_code != 200:
                raise Unclear(f"QuickBooks gave no clear answer: {answer.status_code} {answer.text[:500]}")
            page = answer.json()["QueryResponse"].get("JournalEntry", [])
            entries |= {str(entry["Id"]): entry for entry in page}
            if len(page) < _PAGE:
                return list(entries.values())
            start += _PAGE
        raise Unclear(f"QuickBooks has more than {_PAGES * _PAGE} journal entries where {condition}")

    def _call(self, method: str, path: str, query: dict[str, str], **more: Any) -> httpx.Response:
        settings: Settings = self.settings
        url = httpx.URL(
            f"{settings.url.rstrip('/')}/v3/company/{settings.realm_id}/{path}",
            params={**query, "minorversion": _MINOR_VERSION},
        )
        headers = {**more.pop("headers", {}), "Accept": "application/json"}
        return BearerCalls(self.calls, self.session, self._new_token).send(method, str(url), headers=headers, **more)

    def _new_token(self) -> Token:
        settings: Settings = self.settings
        refresh = self.calls.hide(credentials.read(settings.refresh_token))
        given = request_token(
            self.calls,
            "QuickBooks",
            settings.token_url,
            {"grant_type": "refresh_token", "refresh_token": refresh},
            auth=(settings.client_id, credentials.read(settings.client_secret)),
            advice="connect the app anew",
        )
        newer = str(given["refresh_token"])
        if newer != refresh:
            credentials.replace(settings.refresh_token, newer)
        return token_of(given)


def _request_id(shipment: connector.Shipment) -> str:
    """Returns an id of at most 50 characters, the same for the same request. A reference has 21 characters."""
    return f"{shipment.reference}-{hashlib.sha256(shipment.payload).hexdigest()[:12]}-{shipment.rejections}"


def _journal_of(entry: dict[str, Any]) -> str | None:
    """Returns the journal name in our note on an entry, from whichever export it came."""
    found = _NOTE.search(entry.get("PrivateNote") or "")
    return None if found is None else found[1]


def _found(shipment: connector.Shipment, sent: dict[str, Any], entry: dict[str, Any]) -> connector.Found:
    erp_id, currency = str(entry["Id"]), shipment.documents[0].currency
    for preposition, expected, actual in (
        ("on", sent["TxnDate"], entry["TxnDate"]),
        ("in", currency, entry.get("CurrencyRef", {}).get("value", currency)),
    ):
        if expected != actual:
            return connector.Found(
                erp_id=erp_id, state="discarded", reason=f"QuickBooks has it {preposition} {actual}, not {expected}"
            )
    ours, theirs = _accounts(sent, currency), _accounts(entry, currency)
    total = connector.Total(
        debit_minor=sum(each.debit_minor for each in theirs.values()),
        credit_minor=sum(each.credit_minor for each in theirs.values()),
    )
    return connector.Found(
        erp_id=erp_id,
        state="posted",
        totals={shipment.reference: total},
        accounts={shipment.reference: connector.Accounts(sent=ours, found=theirs)},
    )


def _accounts(entry: dict[str, Any], currency: str) -> dict[str, connector.Total]:
    lines = [line for line in entry.get("Line", []) if line.get("DetailType") == "JournalEntryLineDetail"]
    return connector.by_account(
        (
            str(line["JournalEntryLineDetail"]["AccountRef"]["value"]),
            {"Debit": True, "Credit": False}[line["JournalEntryLineDetail"]["PostingType"]],
            connector.minor_of(line["Amount"], currency),
        )
        for line in lines
    )


def _reason(fault: dict[str, Any]) -> str:
    """Returns QuickBooks' errors, with their codes."""
    messages = (
        f"{error.get('code', '')} {error.get('Message', '')}: {error.get('Detail', '')}" for error in fault["Error"]
    )
    return "; ".join(messages)[:2_000]
