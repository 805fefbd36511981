"""A journal, its reversal and its re-issue each arrive in a general ledger once, and its balances are correct."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from api.service import Subledger
from projections.configuring.account_mappings import adopt_mapping
from projections.delivery import outbox
from projections.delivery.channels import Channel
from projections.delivery.states import State
from projections.journals.making import ensure_journals
from projections.journals.reversing import reverse_journal
from subledger.accounts import Side
from subledger.errors import NothingToCorrect
from tests.charts import another_chart
from tests.general_ledgers.conftest import MONTH, deliveries
from tests.general_ledgers.netsuite import NetSuiteStandIn
from tests.general_ledgers.pace import HIT_AT_RANDOM
from tests.general_ledgers.stand_in import at_random
from tests.general_ledgers.working import work

pytestmark = pytest.mark.usefixtures("open_borders")


def test_a_journal_its_reversal_and_what_takes_its_place_arrive_once_each_whatever_goes_wrong(
    service: Subledger,
    sold: Callable[..., str],
    exported: Callable[..., object],
    netsuite_channel: Callable[..., Channel],
    netsuite: NetSuiteStandIn,
) -> None:
    ledger = sold(blocks=3)
    exported(ledger, approved=True, lines=4)
    channel = netsuite_channel(ledger, **HIT_AT_RANDOM)
    before = outbox.add_period(service.recorder, service.database, channel, MONTH, by="ann")
    netsuite.fault = at_random(5, 0.5)
    work(service, channel)
    right = another_chart(7000)
    adopt_mapping(service.recorder, ledger, right)
    reverse_journal(service.recorder, ledger, MONTH, 1, "the wrong chart", by="ann")
    after = outbox.add_period(service.recorder, service.database, channel, MONTH, by="ann")
    assert len(before) > 1
    assert len(after) >= 3 * len(before) - 2
    assert [d.delivery_id for d in after[: len(before)]] == [d.delivery_id for d in before]
    work(service, channel)
    assert {delivery.state for delivery in deliveries(service, ledger)} == {State.POSTED}
    assert sorted(journal["reference"] for journal in netsuite.journals) == sorted(d.reference for d in after)
    booked = Counter[str]()
    for journal in netsuite.journals:
        for item in journal["record"]["line"]["items"]:
            booked[item["account"]["externalId"]] += round(item.get("debit", 0) * 100)
            booked[item["account"]["externalId"]] -= round(item.get("credit", 0) * 100)
    expected = Counter[str]()
    for line in ensure_journals(service.recorder, service.database, ledger, MONTH)[-1].lines:
        expected[line.account.number] += line.functional_minor * (1 if line.side is Side.DEBIT else -1)
    assert {n: a for n, a in booked.items() if a} == {n: a for n, a in expected.items() if a}
    assert {number for number, amount in booked.items() if amount} <= {row["account"] for row in right.rows}
    memos = Counter(journal["record"]["memo"].split(", ")[0] for journal in netsuite.journals)
    assert memos["Prepaid credits reverses 2026-01-1"] == memos["Prepaid credits 2026-01"] == len(before)
    assert memos["Prepaid credits reissues 2026-01-1"] == len(after) - 2 * len(before)


def test_the_customer_deposit_pattern_is_taken_back_by_journals_and_keeps_its_deposits(
    service: Subledger,
    sold: Callable[..., str],
    exported: Callable[..., object],
    netsuite_channel: Callable[..., Channel],
    netsuite: NetSuiteStandIn,
) -> None:
    """NetSuite posts deposits and applications itself: account 2000 has customer deposits, and 1100 receivables."""
    ledger = sold(blocks=2)
    exported(ledger, form="netsuite-deposits", approved=True)
    channel = netsuite_channel(ledger, format="netsuite-deposits")
    outbox.add_period(service.recorder, service.database, channel, MONTH, by="ann")
    work(service, channel)
    before = Counter(journal["kind"] for journal in netsuite.journals)
    adopt_mapping(service.recorder, ledger, another_chart(7000))
    reverse_journal(service.recorder, ledger, MONTH, 1, "the wrong chart")
    after = outbox.add_period(service.recorder, service.database, channel, MONTH, by="ann")
    work(service, channel)
    assert {delivery.state for delivery in deliveries(service, ledger)} == {State.POSTED}
    assert sorted(journal["reference"] for journal in netsuite.journals) == sorted(d.reference for d in after)
    kinds = Counter(journal["kind"] for journal in netsuite.journals)
    assert {kind: kinds[kind] - before[kind] for kind in kinds} == {
        "customerDeposit": 0,
        "depositApplication": 0,
        "journalEntry": sum(before.values()) + before["customerDeposit"],
    }
    booked = Counter[str]()
    for journal in netsuite.journals:
        record, amount = journal["record"], journal["debit"]
        if journal["kind"] == "customerDeposit":
            booked.update({record["account"]["externalId"]: amount, "2000": -amount})
        elif journal["kind"] == "depositApplication":
            booked.update({"2000": amount, "1100": -amount})
        else:
            for item in record["line"]["items"]:
                booked[item["account"]["externalId"]] += round((item.get("debit", 0) - item.get("credit", 0)) * 100)
    expected = Counter[str]()
    for line in ensure_journals(service.recorder, service.database, ledger, MONTH)[-1].lines:
        expected[line.account.number] += line.functional_minor * (1 if line.side is Side.DEBIT else -1)
    assert {n: a for n, a in booked.items() if a} == {n: a for n, a in expected.items() if a}


def test_delivering_a_month_again_after_a_reversal_that_was_refused_adds_nothing(
    service: Subledger,
    sold: Callable[..., str],
    exported: Callable[..., object],
    netsuite_channel: Callable[..., Channel],
    netsuite: NetSuiteStandIn,
) -> None:
    ledger = sold()
    exported(ledger, approved=True)
    channel = netsuite_channel(ledger, **HIT_AT_RANDOM)
    before = outbox.add_period(service.recorder, service.database, channel, MONTH, by="ann")
    with pytest.raises(NothingToCorrect):
        reverse_journal(service.recorder, ledger, MONTH, 1, "no reason at all")
    assert outbox.add_period(service.recorder, service.database, channel, MONTH, by="ann") == before
