"""NetSuite: REST records, one for each document, found by their external id.

The records are ``journalEntry``. The customer-deposit pattern also has ``customerDeposit`` and ``depositApplication``;
an application waits until its deposit is there. The external id is unique among records of a type, so NetSuite refuses
a second record. It is looked up first nevertheless, because synchronous calls ignore the idempotency header.

A journal is posted if it is approved and its ``postingPeriod`` is the requested one. NetSuite may silently move a
journal to the next open period, so a journal that is found in another period is a rejection that names the period.

Documented: addresses, ``eid:``, the fields, the OAuth 2.0 client credentials with their signed assertion. To be tried
in a sandbox: the wording of a refused external id (nothing depends on it: the record is looked up); if an approved
journal is in the books at once; the names in the query for the trial balance.

Sources: NetSuite help, REST journal entry (section_159886587653), external ids (section_156334828635), OAuth 2.0
client credentials (section_162790605110), idempotency
(subsect_164494900632), SuiteQL (section_158394344595).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar, Final, Literal

import httpx
import msgspec

from projections.delivery.connectors import connector
from projections.delivery.connectors.bearer import ASSERTION_TYPE, BearerCalls, Token, request_token, signed, token_of
from projections.delivery.tie_out import Theirs
from projections.exports.deposits import APPLICATION, DEPOSIT
from projections.exports.formats.target import TargetSettings
from subledger.errors import InvalidInput
from subledger.external.calls import NotSent, Unclear
from subledger.external.credentials import Credential
from subledger.periods import Period

_RECORDS: Final = "/services/rest/record/v1"
_TOKEN: Final = "/services/rest/auth/oauth2/v1/token"
_JOURNAL, _DEPOSIT, _APPLICATION = "journalEntry", "customerDeposit", "depositApplication"
_QUERY: Final = "/services/rest/query/v1/suiteql"
_PAGE: Final = 1_000
_PAGES: Final = 50
# Movements of accounts in periods that begin within some days, in the primary book, whose amounts are in the
# subsidiary's currency. A flag tells adjustment periods from months.
_TRIAL_BALANCE: Final = (
    "SELECT a.acctnumber AS account, TO_CHAR(p.startdate, 'YYYY-MM') AS period, SUM(NVL(tal.debit, 0)) AS debit, "
    "SUM(NVL(tal.credit, 0)) AS credit FROM transactionaccountingline tal "
    "JOIN transactionline tl ON tl.transaction = tal.transaction AND tl.id = tal.transactionline "
    "JOIN transaction t ON t.id = tal.transaction JOIN account a ON a.id = tal.account "
    "JOIN accountingperiod p ON p.id = t.postingperiod WHERE tal.posting = 'T' AND p.isadjust = 'F' "
    "AND p.startdate BETWEEN TO_DATE('{first}', 'YYYY-MM-DD') AND TO_DATE('{last}', 'YYYY-MM-DD') {subsidiary} "
    "GROUP BY a.acctnumber, TO_CHAR(p.startdate, 'YYYY-MM') ORDER BY 1, 2"
)
_APPROVED: Final = "2"
_REFUSED_BY_APPROVER: Final = "3"


class Settings(connector.ChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a channel to NetSuite.

    ``url``: of the account's REST services. ``client_id``, ``certificate_id``, ``private_key``: of an integration
    record with OAuth 2.0 client credentials; ``private_key`` names a PEM. ``algorithm``: of the certificate's key.
    """

    url: str
    client_id: str
    certificate_id: str
    private_key: Credential
    algorithm: Literal["PS256", "PS384", "PS512", "ES256", "ES384", "ES512"] = "PS256"

    def check(self) -> None:
        connector.check_url(self.url)
        for field in ("client_id", "certificate_id", "private_key"):
            if not getattr(self, field):
                raise InvalidInput(f"{field} is empty", field=field, expected="that of the integration record")


class NetSuite(connector.Connector):
    """See the module."""

    name: ClassVar[str] = "netsuite"
    formats: ClassVar[tuple[str, ...]] = ("netsuite-json", "netsuite-deposits")
    settings_type: ClassVar[type[connector.ChannelSettings]] = Settings

    def look_up(self, shipment: connector.Shipment) -> connector.Found | None:
        kind, sent = _record(shipment)
        record = self._get(kind, shipment.reference)
        return None if record is None else _found(shipment, kind, sent, record)

    def prepare(self, shipment: connector.Shipment) -> None:
        kind, sent = _record(shipment)
        if kind == _APPLICATION:
            deposit = sent["deposit"]["externalId"]
            if self._get(_DEPOSIT, deposit) is None:
                raise NotSent(f"its deposit {deposit} is not in NetSuite yet")

    def submit(self, shipment: connector.Shipment) -> connector.Accepted | connector.Rejected:
        kind, sent = _record(shipment)
        answer = self._call(
            "POST",
            f"{_RECORDS}/{kind}",
            content=_body(shipment),
            headers={"Content-Type": "application/json", "X-NetSuite-PropertyNameValidation": "Error"},
        )
        if answer.status_code >= 400:
            return connector.Rejected(reason=_refusal(answer))
        return connector.Accepted(
            erp_id=answer.headers.get("Location", "").rsplit("/", 1)[-1], posted=sent.get("approved", True)
        )

    def _get(self, kind: str, reference: str) -> dict[str, Any] | None:
        answer = self._call("GET", f"{_RECORDS}/{kind}/eid:{reference}?expandSubResources=true")
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise Unclear(f"NetSuite gave no clear answer: {_refusal(answer)}")
        record: dict[str, Any] = answer.json()
        return record

    def trial_balance(self, periods: Sequence[Period], currency: str, settings: TargetSettings | None) -> list[Theirs]:
        subsidiary = getattr(settings, "subsidiary_id", "")
        query = _TRIAL_BALANCE.format(
            first=min(periods).first_day,
            last=max(periods).last_day,
            subsidiary=f"AND tl.subsidiary = {int(subsidiary)}" if subsidiary else "",
        )
        found: list[Theirs] = []
        for _ in range(_PAGES):
            answer = self._call(
                "POST",
                f"{_QUERY}?limit={_PAGE}&offset={len(found)}",
                json={"q": query},
                headers={"Prefer": "transient"},
            )
            if answer.status_code != 200:
                raise Unclear(f"NetSuite gave no clear answer: {_refusal(answer)}")
            page = answer.json()
            found += [_moved(row, currency) for row in page["items"]]
            if not page["hasMore"]:
                return [row for row in found if row.period in periods]
        raise Unclear(f"NetSuite has more than {_PAGES} pages of its trial balance: ask for fewer months")

    def _call(self, method: str, path: str, **more: Any) -> httpx.Response:
        calls = BearerCalls(self.calls, self.session, self._new_token)
        return calls.send(method, self.settings.url.rstrip("/") + path, **more)

    def _new_token(self) -> Token:
        settings: Settings = self.settings
        url = settings.url.rstrip("/") + _TOKEN
        now = int(time.time())
        claims = {"iss": settings.client_id, "scope": "rest_webservices", "aud": url, "iat": now, "exp": now + 300}
        kid = {"kid": settings.certificate_id}
        assertion = signed(self.calls, claims, settings.private_key, algorithm=settings.algorithm, headers=kid)
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion,
        }
        return token_of(request_token(self.calls, "NetSuite", url, form))


def _body(shipment: connector.Shipment) -> bytes:
    """Returns the record's text as the format wrote it, without the lines around it in a file of many records."""
    if shipment.payload.lstrip().startswith(b"["):
        [record] = msgspec.json.decode(shipment.payload, type=list[msgspec.Raw])
    else:
        by_kind = msgspec.json.decode(shipment.payload, type=dict[str, list[msgspec.Raw]])
        [record] = [record for records in by_kind.values() for record in records]
    return bytes(record)


def _record(shipment: connector.Shipment) -> tuple[str, dict[str, Any]]:
    """Returns the type of the record, and its fields."""
    kind = {DEPOSIT: _DEPOSIT, APPLICATION: _APPLICATION}.get(shipment.documents[0].kind, _JOURNAL)
    return kind, msgspec.json.decode(_body(shipment))


def _found(shipment: connector.Shipment, kind: str, sent: dict[str, Any], record: dict[str, Any]) -> connector.Found:
    erp_id = str(record["id"])
    period = str(record.get("postingPeriod", {}).get("id", ""))
    requested = sent.get("postingPeriod", {}).get("id", period)
    status = str(record.get("approvalStatus", {}).get("id", ""))
    if period != requested:
        name = record["postingPeriod"].get("refName", period)
        return connector.Found(
            erp_id=erp_id, state="discarded", reason=f"NetSuite has put it into period {name}: delete or move it there"
        )
    if status == _REFUSED_BY_APPROVER:
        return connector.Found(erp_id=erp_id, state="discarded", reason="an approver has refused it")
    currency = shipment.documents[0].currency
    accounts = _accounts(sent, record, currency) if kind == _JOURNAL else None
    # Deposits and applications are in the books as soon as they exist.
    approved = kind != _JOURNAL or record.get("approved") is True or status == _APPROVED
    return connector.Found(
        erp_id=erp_id,
        state="posted" if approved else "accepted",
        totals={shipment.reference: _total(kind, record, currency)},
        accounts={} if accounts is None else {shipment.reference: accounts},
        reason=None if approved else "it waits for approval",
    )


def _total(kind: str, record: dict[str, Any], currency: str) -> connector.Total:
    if kind == _DEPOSIT:
        debit = credit = connector.minor_of(record["payment"], currency)
    elif kind == _APPLICATION:
        debit = credit = sum(connector.minor_of(item["amount"], currency) for item in record["apply"]["items"])
    else:
        items = record["line"]["items"]
        debit = sum(connector.minor_of(item.get("debit"), currency) for item in items)
        credit = sum(connector.minor_of(item.get("credit"), currency) for item in items)
    return connector.Total(debit_minor=debit, credit_minor=credit)


def _accounts(sent: dict[str, Any], record: dict[str, Any], currency: str) -> connector.Accounts | None:
    """Returns the sums by account; None if an account was sent by its external id, which NetSuite does not show."""

    def moved(journal: dict[str, Any]) -> dict[str, connector.Total]:
        return connector.by_account(
            (str(item["account"]["id"]), side == "debit", connector.minor_of(item.get(side), currency))
            for item in journal["line"]["items"]
            for side in ("debit", "credit")
        )

    if not all("id" in item.get("account", {}) for item in (*sent["line"]["items"], *record["line"]["items"])):
        return None
    return connector.Accounts(sent=moved(sent), found=moved(record))


def _moved(row: dict[str, Any], currency: str) -> Theirs:
    moved = connector.minor_of(row["debit"], currency) - connector.minor_of(row["credit"], currency)
    return Theirs(account=str(row["account"]), period=Period.parse(row["period"]), moved=moved)


def _refusal(answer: httpx.Response) -> str:
    """Returns NetSuite's error: ``o:errorDetails`` of a problem document."""
    try:
        details = answer.json()["o:errorDetails"]
        message = "; ".join(f"{detail.get('o:errorCode', '')}: {detail.get('detail', '')}" for detail in details)
    except (ValueError, KeyError, TypeError, AttributeError):
        message = answer.text[:500]
    return f"{answer.status_code} {message}"
