"""subledger/ERRORS.md: every error with its status, an input that triggers it, and advice.

Owns: the advice, and the inputs of errors that no single event triggers. Code, meaning and ``retryable`` are from
``subledger.errors``, and the status is from ``api``. The messages are from real refusals (``test_error_page.py``).
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from api.http.problems import status_of
from subledger.errors import SubledgerError
from tests.laws.test_errors import ELSEWHERE, GROUPS, all_errors

AGAIN: Final = "Send the same call again after the time in `Retry-After`."

# code · the input, if it is not a refused event · advice
PAGE: Final[dict[str, tuple[str, str]]] = {
    "invalid_json": ('`{"id": `', "Write the text with a JSON library. Each name may occur only once in an object."),
    "invalid_event": ("`[]`", "Send one CloudEvent 1.0, or a list of them with the media type of a list."),
    "missing_field": ("", "Add the field. `missing` names all missing fields."),
    "unknown_field": (
        "",
        "Remove the field, or correct its name. `subledger events --types` lists the fields of each type.",
    ),
    "wrong_type": ("", "Put the value in quotes: amounts and credits are JSON strings."),
    "invalid_value": ("", "Send a value as `expected` describes it."),
    "naive_time": ("", "Add `Z`, or an offset such as `+02:00`."),
    "too_many_decimals": ("", "Round before you send: USD has 2 decimals, JPY none, credits at most 9."),
    "unknown_currency": ("", "Use the three letters of ISO 4217, in upper case."),
    "unknown_event_type": ("", "Use a type of `subledger events --types`."),
    "reserved_event_type": ("", "Use its command: `period.closed` is written by `subledger close`."),
    "not_supported_yet": ("`export --format netsuite-csv --detail`", "Use `--detail` with `beancount` or `hledger`."),
    "invalid_mapping": (
        "an account mapping with the header `role,account` and no rows",
        "Start from the output of `subledger mapping show`. The error names the line or the roles.",
    ),
    "invalid_policy": (
        "the policy `mine`, which does not exist",
        "Start from the output of `subledger policy show`, and change only accounts and `version`.",
    ),
    "unknown_parameter": (
        "`GET …/trial-balance?asof=2026-01-31`",
        "Correct the name: here it is `as_of`. `/docs` lists the parameters of each call.",
    ),
    "repeated_parameter": ("`GET …/trial-balance?as_of=2026-01-31&as_of=2026-02-28`", "Send the parameter once."),
    "too_large": ("a body of `POST …/events` over 32 MiB", "Send smaller batches: at most 10,000 events in one call."),
    "request_timed_out": ("a body that stops arriving", AGAIN),
    "invalid_cursor": ("`?cursor=not-ours`", "Use the cursor of the page before, unchanged, with the same filters."),
    "unsafe_home": ("a home that others can write to", "Run `chmod 700` on the directory that the message names."),
    "not_a_checkout": ("`subledger bench` in an installed package", "Run it in a checkout of the repository."),
    "invalid_request": ("bytes that are not HTTP", "Check the client, and the proxy between client and server."),
    "url_too_long": ("an address of more than 8 KiB", "Use fewer filters in one call."),
    "headers_too_large": ("headers of more than 32 KiB", "Remove cookies and other headers."),
    "unsupported_media_type": (
        "`POST …/events` with `content-type: text/plain`",
        "Use `application/cloudevents+json`, or for a list `application/cloudevents-batch+json`.",
    ),
    "method_not_allowed": ("`DELETE …/trial-balance`", "Use a method that `/docs` lists for this address."),
    "not_authenticated": ("a call without a key", "Add the header `Authorization: Bearer KEY`."),
    "key_expired": ("a call with a key after its expiry", "Ask an admin for a new key (`subledger keys create`)."),
    "key_revoked": (
        "a call with a key that was revoked or rotated",
        "Ask an admin for a new key, or use the rotated one.",
    ),
    "not_allowed": (
        "`POST …/events` with a key of role `reader`",
        "Ask an admin for a key with the role that the message names.",
    ),
    "cross_site": ("a request with the `Origin` of another site", "Call from a program, with a key."),
    "wrong_currency": ("", "Use the currency of the block or document that the event refers to."),
    "exchange_rate_missing": ("", "Record `exchange_rate.set` for the day, then send the event again."),
    "exchange_rate_stale": (
        "",
        "Record `exchange_rate.set` for one of the last days of the month, then close it again.",
    ),
    "overage_price_missing": ("", "Add `overage_price` and `currency`, or record the purchase first."),
    "block_exists": ("", "Use a new `block_id`: an id belongs to one block, whoever bought it."),
    "unknown_block": ("", "Record the purchase first; then send the event again."),
    "block_of_another_customer": ("", "Check the `subject`. Credits move between customers by `credits.transferred`."),
    "unknown_invoice": (
        "",
        "Record the purchase or `overage.billed` with this invoice first; then send the event again. If money must be "
        "in the books before its invoice is, record it without `invoice_id` and with a `payment_id`; `payment.applied` "
        "applies it when the invoice is recorded.",
    ),
    "no_credits_left": ("", "Check `block_id`: the credits of this block were used, expired or cancelled."),
    "insufficient_credits": (
        "",
        "Record the purchase, or set `on_shortfall` to `overage` or `backfill`. `reasons` lists the causes. Credits "
        "that are reserved are free again when the reservation is settled or released, or expires.",
    ),
    "unknown_reservation": ("", "Record `credits.reserved` first; then send the event again."),
    "reservation_ended": ("", "Leave it as it is: `ended_by` names the event that ended the reservation."),
    "reservation_differs": ("", "Send the unit and product of the reservation, or leave out `reservation_id`."),
    "too_many_reservations": ("", "Settle or release open reservations, or let them expire sooner."),
    "not_yet_expired": ("", "Leave expiries to `subledger expire`, `close` or `worker`."),
    "unknown_original": ("", "Record that event first. Add `event_source` if it came from another source."),
    "not_reversible": (
        "",
        "Use `consumption.reversed` for usage, `block.expiry_changed` for an expiry, `event.reversed` for any other "
        "event of this customer.",
    ),
    "already_reversed": ("", "Leave it as it is: `reversed_by` names the event that undid it."),
    "changed_since": ("", "Take back the event in `changed_by` first; then send the event again."),
    "reversal_exceeds_original": ("", "Leave out `credits`: then everything that remains is reversed."),
    "overage_settled": ("", "Use `credit_memo.issued`."),
    "conceded": ("", "Leave it as it is: `conceded_by` names what compensated this value already."),
    "not_a_purchase": ("", "Use `purchase.voided`: nothing was paid for a grant, so nothing is refunded."),
    "block_disputed": ("", "Record `dispute.won` or `dispute.lost` first; then send the event again."),
    "unknown_payment": ("", "Record `payment.received` first; then send the event again."),
    "unknown_dispute": ("", "Record `dispute.opened` first; then send the event again."),
    "document_exists": ("", "Use a new id. If it is the same fact, send it under its first event id."),
    "dispute_decided": (
        "",
        "Check `dispute_id`: this dispute was won or lost. If that is wrong, undo its `dispute.won` or "
        "`dispute.lost` with `event.reversed`, then send the event again.",
    ),
    "exceeds_value": ("", "Send an amount of at most the one in `expected`."),
    "exceeds_receivable": ("", "Send an amount of at most the open receivable in `expected`."),
    "exceeds_payment": ("", "Send at most the unapplied part of the payment, which is in `expected`."),
    "nothing_owed": ("", "Record the refund, void or memo first, or send at most the amount in `expected`."),
    "exceeds_overage": ("", "Send an amount of at most the unbilled overage in `expected`."),
    "unknown_cohort": (
        "an estimate of 2026-01 for a pool whose cohorts are years",
        "Name a cohort of the pool: report `pools` lists them. An amount is of one; a rate may be for all.",
    ),
    "cohorts_fixed": (
        "a second estimate with other `cohorts`",
        "Leave `cohorts` out. To group blocks otherwise, sell into a new pool.",
    ),
    "cannot_be_opened": (
        "`balance.opened` of a receivable of a block that was bought in this ledger",
        "Open balances of blocks that were opened by `balance.opened`, and those of a pool's cohort before anything "
        "else is recorded of it, its rate first.",
    ),
    "estimate_too_low": ("", "Use an estimate that is at least what has expired."),
    "estimate_too_high": ("", "Use a lower estimate: some part of the pool must remain to be redeemed."),
    "same_person": (
        "an approval by the requester",
        "Ask another person, with a key that the requester did not create.",
    ),
    "person_required": ("a request without a key or `--by`", "Use a key with a name, or `--by NAME`."),
    "approval_decided": ("a second approval of the same request", "Do nothing: the decision stands."),
    "effect_changed": (
        "an approval of a change of settings after another change was approved",
        "Refuse the request, and send the event again under another id, so that its effect is shown anew.",
    ),
    "approval_refused": (
        "an event whose request was refused",
        "Send a new event with another id, if it is still wanted.",
    ),
    "in_the_future": ("", "Check the year in `time`, or send the event again when the time has come."),
    "period_not_over": (
        "`close` of a month before its end",
        "Wait for the end of the month in the ledger's time zone.",
    ),
    "clock_backwards": ("`clock set` to an earlier time", "Create another sandbox ledger for an earlier time."),
    "sandbox_ledger": ("`deliver` of a sandbox ledger", "Use a real ledger. `export` works in a sandbox."),
    "rejection_settled": ("`rejected retry` of a dismissed rejection", "Run `subledger rejected reopen` first."),
    "rejection_cut": ("`rejected retry` of an event of more than 256 KiB", "Send the event again from its source."),
    "rejections_changed": ("`POST …/rejected/dismiss` with an old number", "Read the summary again, and decide again."),
    "period_out_of_order": ("`close 2026-03` before 2026-01", "Close the month that `expected` names first."),
    "period_not_closed": ("`reopen` of an open month", "Do nothing: the month is open."),
    "unmapped_role": (
        "`close` of a month with a role that the mapping lacks",
        "Adopt a mapping with the row that the message names (`subledger mapping adopt`).",
    ),
    "journal_not_reversible": (
        "`journals reverse` of a reversal",
        "Reverse the journal in force: `subledger journals list` shows it.",
    ),
    "nothing_to_correct": ("`journals reverse` under the same mapping", "Adopt the right account mapping first."),
    "delivery_in_hand": (
        "`deliveries retry` of a delivery that is not a dead letter",
        "Wait for the worker; `subledger deliveries show` has its steps.",
    ),
    "credential_not_granted": (
        "a channel that names a credential of another ledger",
        "The operator runs `subledger credentials grant`.",
    ),
    "key_ended": ("`keys rotate` of a revoked key", "Create a key: `subledger keys create`."),
    "channel_fixed": (
        "`channel set` with another destination",
        "Create another channel, and set this one to `retired`.",
    ),
    "not_representable": (
        "a journal line with more digits than the target takes",
        "Use a finer `level`, so that lines are smaller.",
    ),
    "known_at_in_future": ("`known_at` of tomorrow", "Leave `known_at` out. The answer is then as known now."),
    "setting_fixed": ("`ledger configure --currency EUR`", "Create another ledger."),
    "citus_missing": ("`distribute` on a plain PostgreSQL", "Install Citus, see SIZING.md."),
    "distributed_otherwise": (
        "`distribute` of a table that is distributed by another column",
        "Undo that distribution first.",
    ),
    "schema_out_of_date": (
        "a new version on a database that is not upgraded yet",
        "Run `subledger init`; send the same call again when it has ended.",
    ),
    "event_conflict": ("", "Use a new id: a correction is another event. `differs` names the fields."),
    "checkpoint_conflict": (
        "`checkpoint` of a log that was rewritten",
        "A person must look. After a restore: `subledger verify --restored REASON`.",
    ),
    "ledger_exists": ("`ledger create` with other settings", "Use `subledger ledger configure`, or another id."),
    "policy_exists": ("a policy with other rules under an adopted version", "Use a new `version`."),
    "delivered_otherwise": ("`deliver` of a journal by a second channel", "Abandon the other deliveries first."),
    "unknown_ledger": ("`GET /v1/ledgers/no-such-ledger`", "Check the spelling: `subledger ledger list`."),
    "unknown_customer": (
        "the balances of a customer without events",
        "Check the spelling. A customer exists from its first event.",
    ),
    "unknown_checkpoint": ("`checkpoint --size` beyond the log", "Use a size that was signed."),
    "unknown_position": ("the event at position 1,000,000", "Use a position up to the last one of `subledger events`."),
    "unknown_export": ("`exports show` of another id", "Use an id of `subledger exports list`."),
    "unknown_approval": ("`approvals approve` of another id", "Use an id of `subledger approvals list`."),
    "unknown_rejection": ("`rejected show` of another id", "Use an id of `subledger rejected list --state all`."),
    "unknown_entity": ("`report trial-balance --entity` of another name", "Use the `entity` of a ledger."),
    "unknown_policy": ("`GET …/policies/9`", "Use a number of `GET …/policies`."),
    "unknown_target": ("`target show` of another name", "Use a name of `subledger target list`."),
    "unknown_channel": ("`deliver --channel` of another name", "Use a name of `subledger channel list`."),
    "unknown_connector": ("a channel with another connector", "Use a name of `subledger channel connectors`."),
    "unknown_delivery": ("`deliveries show` of another id", "Use an id of `subledger deliveries list`."),
    "unknown_report": ("`report` of another name", "Use a name of `subledger report --list`."),
    "unknown_key": ("`keys revoke` of another id", "Use an id of `subledger keys list`."),
    "unknown_format": ("`export --format xls`", "Use a name of `subledger export --formats`."),
    "database_unavailable": (
        "a database that does not answer",
        "Send the same events again: those that were recorded are duplicates.",
    ),
    "not_answered": ("a general ledger that does not answer a tie-out", "Try again when the other system answers."),
    "file_unavailable": (
        "`record` of a file that does not exist",
        "Check the path and its rights. The message has the reason.",
    ),
    "ledger_busy": ("more events than `SUBLEDGER_QUEUE_EVENTS` waiting", AGAIN),
    "ledger_locked": (
        "a call while another session holds the lock",
        f"{AGAIN} The monitor `stuck_writer` shows the holder.",
    ),
    "overloaded": ("a call that waited longer than `SUBLEDGER_WAITING_S`", AGAIN),
    "stopping": ("a call to a server after SIGTERM", f"{AGAIN} Another server may answer at once."),
    "too_many_connections": ("more connections than `SUBLEDGER_CONNECTIONS`", f"{AGAIN} Reuse connections."),
    "embedded_server_failed": ("a home without free disk space", "Read the log that the message names."),
    "integrity_fault": ("a stored row that was changed", "A person must look: run `subledger verify`."),
    "internal_error": ("a defect of the server", "A person must look: the log of the server has the details."),
}

_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT[\d:]+\.\d+Z")
_LEDGER: Final = re.compile(r"\b(?:t|asking)-[0-9a-f]{8,}\b")
_OF_THE_SYSTEM: Final = re.compile(r"(?<=the database did not answer: ).*")
_APPROVAL: Final = re.compile(r"\bapr[-_][0-9a-f]{8,}\b")

HEAD: Final = """# Errors

Generated from `subledger/errors/` by `tests/http/error_page.py`; a test keeps it equal. Programs branch on the code,
which never changes.

- **retryable**: the same event or call may succeed later without a change: after another fact has arrived, or when the
  service answers again.
- **Several faults**: an event reports the first in this order: JSON, envelope, type, fields, references, currency,
  amounts and dates, credits, exchange rate. All missing and unknown fields are named.
- **Status** is the status of the HTTP answer. A command ends with exit code 3 for a rejected event, 2 for wrong usage,
  4 if a service is unavailable.
- **Message** is the message for the shown input. Moments and random ids in it are replaced by `…`.
"""


def input_of(document: dict[str, Any], field: str | None) -> str:
    """Returns an event as the page shows it: its type and data, and its time if the time is at fault."""
    data = f"`{orjson.dumps(document['data']).decode()}`"
    return f"`{document['type']}` {data}" + (f", time `{document['time']}`" if field == "time" else "")


def steady(message: str) -> str:
    """Returns a message without the parts that differ between runs."""
    return _OF_THE_SYSTEM.sub("…", _APPROVAL.sub("…", _LEDGER.sub("acme", _MOMENT.sub("…", message))))


def page(found: dict[str, tuple[str | None, SubledgerError]]) -> str:
    """Returns the page. ``found`` has by code the shown input (None: that of PAGE), and the resulting error."""
    lines = [HEAD]
    for error in all_errors():
        if error in GROUPS:
            if error is not SubledgerError:
                lines.append(f"## {error.__name__}\n\n{error('').title}\n")
            continue
        if error.__bases__[0] is SubledgerError:
            lines.append(f"## {error.__name__}\n")
        lines.append(section(error, found.get(error.code)))
    return "\n".join(lines)


def section(error: type[SubledgerError], met: tuple[str | None, SubledgerError] | None) -> str:
    """Returns the lines of one error."""
    shown, advice = PAGE[error.code]
    facts = [str(status_of(error(""))), "retryable" if error.retryable else "not retryable"]
    if met is not None:
        shown = met[0] or shown
        facts += [f"field `{met[1].field}`"] if met[1].field else []
    lines = [f"### {error.code}", "", f"{' · '.join(facts)} · {error('').title}", "", f"- Input: {shown}"]
    if met is not None:
        lines.append(f"- Message: {steady(met[1].message)}")
    else:
        lines.append(f"- Test: `{ELSEWHERE[error]}`")
    return "\n".join([*lines, f"- Advice: {advice}", ""])
