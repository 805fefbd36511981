"""QuickBooks Online: entries are found by number or by note, a repeated request gets the same answer, tokens are
replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from api.service import Subledger
from projections.delivery import by_hand
from projections.delivery.connectors import quickbooks as connector
from projections.delivery.sending import deliver_due
from projections.delivery.states import State
from projections.exports.presets import PRESETS
from tests.general_ledgers.conftest import OnItsWay
from tests.general_ledgers.every import quickbooks_way
from tests.general_ledgers.quickbooks import QuickBooksStandIn, fault
from tests.general_ledgers.stand_in import Fault, one_after_another, unseen_until_it_is_sent_again
from tests.general_ledgers.working import states, steps, the_one, work

pytestmark = pytest.mark.usefixtures("open_borders")


@pytest.fixture
def quickbooks() -> Iterator[QuickBooksStandIn]:
    stand_in = QuickBooksStandIn()
    yield stand_in
    stand_in.close()


@pytest.fixture
def one(quickbooks: QuickBooksStandIn, on_its_way: OnItsWay, tmp_path: Path) -> OnItsWay:
    """One document in the outbox, with additional settings of the channel."""
    return partial(on_its_way, quickbooks_way(quickbooks, tmp_path))


@pytest.mark.parametrize("numbers", ["dropped", "own"])
@pytest.mark.parametrize("fault", [None, "drops_after", "late"])
def test_an_entry_without_our_number_is_found_by_our_note_on_it(
    service: Subledger, one: OnItsWay, quickbooks: QuickBooksStandIn, numbers: Any, fault: Fault | None
) -> None:
    channel, _ = one()
    quickbooks.numbers = numbers
    quickbooks.fault = one_after_another([fault])
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED
    assert len(quickbooks.journals) == 1


def test_entries_of_other_journals_on_the_same_day_are_not_ours(
    service: Subledger, one: OnItsWay, quickbooks: QuickBooksStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, delivery = one()
    quickbooks.numbers = "dropped"
    monkeypatch.setattr(connector, "_PAGE", 2)
    for number, note in enumerate((None, "rent", f"subledger export=x journal={delivery.name}0", delivery.name)):
        entry = {"Id": f"9{number}", "TxnDate": "2026-01-31", "PrivateNote": note}
        quickbooks.journals.append({"reference": "", "entry": entry})
    work(service, channel)
    after = the_one(service, channel)
    assert (after.state, after.erp_id) == (State.POSTED, "5")


def test_a_request_that_is_sent_again_without_need_is_answered_as_before(
    service: Subledger, one: OnItsWay, quickbooks: QuickBooksStandIn
) -> None:
    channel, delivery = one()
    quickbooks.fault = unseen_until_it_is_sent_again(quickbooks)
    work(service, channel)
    assert states(service, delivery).count("submitted") == 2
    assert the_one(service, channel).state is State.POSTED
    assert len(quickbooks.journals) == 1
    assert len(quickbooks.answered) == 1


def test_a_closed_period_is_a_rejection_and_goes_through_when_it_is_tried_again_later(
    service: Subledger, one: OnItsWay, quickbooks: QuickBooksStandIn
) -> None:
    channel, delivery = one()
    quickbooks.closed.add("2026-01")
    for times in (1, 2):
        work(service, channel)
        rejected = the_one(service, channel)
        assert rejected.state is State.REJECTED
        assert "6210 Account Period Closed" in str(rejected.reason)
        assert len(quickbooks.answered) == times, "each try is another request, as an old one is answered as before"
        if times == 2:
            quickbooks.closed.clear()
        by_hand.retry(service.database, channel.ledger, delivery.delivery_id, by="cfo", reason="January is open again")
    work(service, channel)
    assert states(service, delivery)[-3:] == ["submitted", "accepted", "posted"]


def test_what_somebody_has_deleted_there_is_rejected_and_can_be_sent_again(
    service: Subledger, one: OnItsWay, quickbooks: QuickBooksStandIn
) -> None:
    channel, delivery = one()
    quickbooks.meddle = lambda _: quickbooks.journals.clear()
    work(service, channel)
    assert "deleted" in str(the_one(service, channel).reason)
    quickbooks.meddle = lambda _: None
    by_hand.retry(service.database, channel.ledger, delivery.delivery_id, by="test")
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED
    assert len(quickbooks.journals) == 1


def test_a_number_that_is_taken_by_our_own_entry_is_not_a_rejection(
    service: Subledger, one: OnItsWay, quickbooks: QuickBooksStandIn
) -> None:
    channel, delivery = one()
    quickbooks.warns = True
    quickbooks.fault = unseen_until_it_is_sent_again(quickbooks)
    quickbooks.forgets = True  # the time for which an answer is stored is not documented
    work(service, channel)
    assert any("6140" in str(step.reason) for step in steps(service, delivery))
    assert the_one(service, channel).state is State.POSTED
    assert len(quickbooks.journals) == 1


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (fault("6000", "A business validation error", "no", status=200), State.REJECTED),
        (fault("100", "An application error has occurred", "try later", "SystemFault", 200), State.UNKNOWN),
    ],
)
def test_an_answer_of_200_with_a_fault_is_not_the_books(
    service: Subledger, one: OnItsWay, quickbooks: QuickBooksStandIn, answer: Any, state: State
) -> None:
    channel, _ = one({"first_wait_s": 60.0, "longest_wait_s": 60.0})
    quickbooks.says = answer
    quickbooks.meddle = lambda _: quickbooks.journals.clear()
    deliver_due(service.database, channel)
    after = the_one(service, channel)
    assert after.state is state
    assert "error" in str(after.reason)


def change_amount(journal: dict[str, Any]) -> None:
    journal["entry"]["Line"][0]["Amount"] += 0.01


@pytest.mark.parametrize(
    ("meddle", "reason"),
    [
        (change_amount, "it should be"),
        (lambda journal: journal["entry"].update(Line=[]), "it should be"),
        (lambda journal: journal["entry"].update(TxnDate="2026-02-01"), "on 2026-02-01"),
        (lambda journal: journal["entry"].update(CurrencyRef={"value": "EUR"}), "in EUR"),
    ],
)
def test_other_content_under_our_number_is_a_rejection_that_names_it(
    service: Subledger, one: OnItsWay, quickbooks: QuickBooksStandIn, meddle: Callable[[Any], None], reason: str
) -> None:
    channel, _ = one()
    quickbooks.meddle = meddle
    work(service, channel)
    after = the_one(service, channel)
    assert after.state is State.REJECTED
    assert reason in str(after.reason)


def test_an_entry_that_is_there_twice_is_a_rejection_that_names_both(
    service: Subledger, one: OnItsWay, quickbooks: QuickBooksStandIn
) -> None:
    channel, _ = one()
    quickbooks.meddle = lambda journal: quickbooks.journals.append(
        {**journal, "entry": {**journal["entry"], "Id": "7"}}
    )
    work(service, channel)
    assert "1, 7" in str(the_one(service, channel).reason)


def test_the_refresh_token_is_replaced_before_its_access_token_is_used(
    service: Subledger, one: OnItsWay, quickbooks: QuickBooksStandIn, tmp_path: Path
) -> None:
    channel, _ = one()
    work(service, channel)
    assert quickbooks.tokens == 1
    assert (tmp_path / "quickbooks-refresh").read_text() == "refresh-1"
    deliver_due(service.database, one()[0])
    assert (tmp_path / "quickbooks-refresh").read_text() == quickbooks.refresh_token == "refresh-2"


def test_a_refresh_token_that_is_not_taken_ends_as_a_dead_letter_that_says_so(
    service: Subledger, one: OnItsWay, quickbooks: QuickBooksStandIn, tmp_path: Path
) -> None:
    channel, _ = one({"attempts": 2})
    (tmp_path / "quickbooks-refresh").write_text("refresh-of-long-ago")
    work(service, channel)
    after = the_one(service, channel)
    assert (after.state, after.submitted_at) == (State.FAILED, None)
    assert "connect the app anew" in str(after.reason)


def test_an_access_token_that_has_expired_is_replaced(
    service: Subledger, one: OnItsWay, quickbooks: QuickBooksStandIn
) -> None:
    channel, _ = one()
    quickbooks.fault = one_after_another(["drops_before"])
    expired = quickbooks.answer
    calls = iter(range(10))

    def expires_once(request: Any) -> Any:
        return fault("3200", "", "", "AUTHENTICATION", 401) if next(calls, 10) == 2 else expired(request)

    quickbooks.answer = expires_once  # type: ignore[method-assign]
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED
    assert quickbooks.tokens >= 2


def test_secrets_and_tokens_are_not_kept(service: Subledger, one: OnItsWay) -> None:
    channel, delivery = one()
    work(service, channel)
    exchanges = [exchange for step in steps(service, delivery) for exchange in step.exchanges]
    [sent] = [exchange for exchange in exchanges if "/journalentry" in exchange.url]
    assert f"requestid={delivery.reference}" in sent.url
    assert delivery.reference in sent.body
    kept = repr(exchanges)
    for secret in ("refresh-0", "refresh-1", "access-1", "secret", "Basic"):
        assert secret not in kept
    assert "(removed)" in kept


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"url": "http://quickbooks.api.intuit.com"}, "url"),
    ({"token_url": "ftp://x"}, "token_url"),
    ({"realm_id": "acme"}, "realm_id"),
    ({"client_id": ""}, "client_id"),
    ({"client_secret": "secret"}, "client_secret"),
    ({"refresh_token": "env:QUICKBOOKS_REFRESH"}, "refresh_token"),
    ({"format": "quickbooks-csv"}, "format"),
]


# --- accounts of the type A/R -----------------------------------------------------------------------------------------


def test_a_journal_with_receivables_is_refused_and_one_that_leaves_invoices_and_payments_out_is_taken(
    service: Subledger, one: OnItsWay, quickbooks: QuickBooksStandIn
) -> None:
    quickbooks.receivables = frozenset({"1100"})
    channel, _ = one()
    work(service, channel)
    refused = the_one(service, channel)
    assert refused.state is State.REJECTED
    assert "you must choose a customer" in str(refused.reason)
    channel, _ = one(**PRESETS["invoices_and_payments_native"].settings)
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED
    [journal] = quickbooks.journals
    accounts = {line["JournalEntryLineDetail"]["AccountRef"]["value"] for line in journal["entry"]["Line"][:-1]}
    assert accounts == {"1300", "2000", "2100", "2150", "4000"}


def test_usage_alone_touches_no_receivable_under_any_division(
    service: Subledger, one: OnItsWay, quickbooks: QuickBooksStandIn
) -> None:
    quickbooks.receivables = frozenset({"1100"})
    channel, _ = one(native=["invoices"])
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED
    channel, _ = one(native=["invoices"], pass_through=True)
    work(service, channel)
    assert the_one(service, channel).state is State.REJECTED
