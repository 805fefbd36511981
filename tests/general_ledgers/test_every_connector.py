"""Every connector fulfils one contract, whatever its general ledger does. A new connector that does not fulfil it fails
here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from api.service import Subledger
from projections.delivery import by_hand, channels
from projections.delivery.channels import Channel
from projections.delivery.connectors import CONNECTORS, connector_named
from projections.delivery.deliveries import Delivery
from projections.delivery.sending import deliver_due
from projections.delivery.states import State
from subledger.errors import InvalidInput
from tests.conftest import NewLedger
from tests.general_ledgers import test_dynamics, test_intacct, test_oracle, test_quickbooks, test_sap, test_sftp
from tests.general_ledgers.every import Way, every_way
from tests.general_ledgers.pace import meeting
from tests.general_ledgers.stand_in import FAULTS, Fault, one_after_another
from tests.general_ledgers.working import states, steps, the_one, work
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("open_borders")

OVER_HTTP = ("netsuite", "intacct", "quickbooks", "sap", "oracle", "dynamics")
FILES = ("folder", "sftp")
REMOVES_NOTHING = ("sap", "oracle")
"""Requests contain a secret only in their headers, which are not stored."""
CLOSED = {
    "netsuite": "The posting period is closed", "intacct": "Periods are closed",
    "quickbooks": "6210 Account Period Closed", "sap": "201(F5) Posting period 01 2026 is not open",
    "oracle": "EP01 This date is not in any open or future enterable period.",
    "dynamics": "Fiscal period for 2026-01-31 is not open.",
}  # fmt: skip
"""The general ledger's message about a closed period."""
Sent = tuple[Channel, Delivery]
BAD_SETTINGS = [
    pytest.param(name, settings, field, id=f"{name} {settings}")
    for name, module in {
        "intacct": test_intacct,
        "quickbooks": test_quickbooks,
        "sap": test_sap,
        "oracle": test_oracle,
        "dynamics": test_dynamics,
        "sftp": test_sftp,
    }.items()
    for settings, field in module.BAD_SETTINGS
]


@pytest.fixture
def ways(tmp_path: Path) -> Iterator[dict[str, Way]]:
    with every_way(tmp_path) as ways:
        yield ways


def there_once(way: Way) -> list[str]:
    """Returns the submissions in the target at the end: one, a document or a file with several."""
    there = way.there()
    assert there
    assert len(set(there)) == len(there)
    assert way.stand_in is None or way.stand_in.taken == 1
    return there


def test_every_connector_has_a_stand_in(ways: dict[str, Way]) -> None:
    assert ways.keys() == CONNECTORS.keys() == {*OVER_HTTP, *FILES}


def test_every_connector_is_tried_with_bad_settings() -> None:
    elsewhere = {"netsuite", "folder"}  # test_channels, test_drop
    assert {str(case.values[0]) for case in BAD_SETTINGS} | elsewhere == CONNECTORS.keys()


@pytest.mark.parametrize("name", CONNECTORS)
def test_a_journal_is_sent_and_there_once(
    service: Subledger, on_its_way: Callable[..., Sent], ways: dict[str, Way], name: str
) -> None:
    channel, delivery = on_its_way(ways[name])
    work(service, channel)
    assert states(service, delivery) == ["built", "rendered", "submitted", "accepted", "posted"]
    assert the_one(service, channel).due_at is None
    there = there_once(ways[name])
    if connector_named(name).by_document:
        assert there == [delivery.reference]


@pytest.mark.campaign
@pytest.mark.parametrize("name", OVER_HTTP)
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_goes_wrong_with_a_submission_it_is_there_once_in_the_end(
    service: Subledger, on_its_way: Callable[..., Sent], ways: dict[str, Way], name: str, fault: Fault
) -> None:
    way = ways[name]
    assert way.stand_in is not None
    channel, _ = on_its_way(way, meeting(fault))
    way.fails(one_after_another([fault]))
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED
    there_once(way)
    assert way.stand_in.met[fault] == 1


@pytest.mark.parametrize("name", OVER_HTTP)
def test_a_closed_period_is_a_rejection_and_goes_through_when_it_is_tried_again_later(
    service: Subledger, on_its_way: Callable[..., Sent], ways: dict[str, Way], name: str
) -> None:
    way = ways[name]
    assert way.stand_in is not None
    channel, delivery = on_its_way(way)
    way.stand_in.closed.add("2026-01")
    work(service, channel)
    rejected = the_one(service, channel)
    assert rejected.state is State.REJECTED
    assert CLOSED[name] in str(rejected.reason)
    way.stand_in.reopen("2026-01")
    by_hand.retry(service.database, channel.ledger, delivery.delivery_id, by="cfo", reason="January is open again")
    work(service, channel)
    assert states(service, delivery)[-3:] == ["submitted", "accepted", "posted"]
    assert [step.by for step in steps(service, delivery) if step.reason == "January is open again"] == ["cfo"]
    assert len(way.there()) == len(set(way.there())) >= 1


MOVED: dict[str, Callable[[Any], None]] = {
    "netsuite": lambda it: it.journals[0]["record"]["line"]["items"][0]["account"].update(id="999"),
    "intacct": lambda it: it.journals[0]["entries"].__setitem__(
        0, re.sub("<ACCOUNTNO>.*</ACCOUNTNO>", "<ACCOUNTNO>999</ACCOUNTNO>", it.journals[0]["entries"][0])
    ),
    "quickbooks": lambda it: it.journals[0]["entry"]["Line"][0]["JournalEntryLineDetail"]["AccountRef"].update(
        value="999"
    ),
    "sap": lambda it: it.journals[0]["items"][0].update(GLAccount="0000000999"),
    "dynamics": lambda it: it.journals[0]["lines"][0].update(AccountDisplayValue="999"),
}
"""A person moves the first line of a journal to account 999. Oracle shows sums of journals only."""


@pytest.mark.parametrize("name", MOVED)
def test_the_same_sums_on_another_account_are_a_rejection_that_names_both_accounts(
    service: Subledger, on_its_way: Callable[..., Sent], ways: dict[str, Way], name: str
) -> None:
    way = ways[name]
    stand_in: Any = way.stand_in
    unhurried = {"first_wait_s": 0.4, "longest_wait_s": 0.4}
    channel, _ = on_its_way(way, unhurried, **(ids_of_all_accounts() if name == "netsuite" else {}))
    way.fails(one_after_another(["drops_after"]))
    stand_in.posts = False  # Dynamics imports later, and its journal would be found posted in the same round

    def arrived() -> bool:
        deliver_due(service.database, channel)
        return bool(stand_in.journals)

    until(arrived, "the journal's arrival")
    MOVED[name](stand_in)
    work(service, channel)
    rejected = the_one(service, channel)
    assert rejected.state is State.REJECTED
    assert "on other accounts: account " in str(rejected.reason)
    assert "account 999 with" in str(rejected.reason)


def ids_of_all_accounts() -> dict[str, Any]:
    """Internal ids of all accounts, without which NetSuite's answers cannot be compared by account."""
    return {"accounts": {str(number): f"1{number}" for number in range(1_000, 10_000)}}


@pytest.mark.parametrize("name", OVER_HTTP)
def test_calls_are_kept_without_secrets(
    service: Subledger, on_its_way: Callable[..., Sent], ways: dict[str, Way], name: str
) -> None:
    channel, delivery = on_its_way(ways[name])
    work(service, channel)
    kept = repr([exchange for step in steps(service, delivery) for exchange in step.exchanges])
    assert "(removed)" in kept or name in REMOVES_NOTHING
    assert [secret for secret in ways[name].secrets if secret in kept] == []


@pytest.mark.parametrize(("name", "settings", "field"), BAD_SETTINGS)
def test_settings_that_could_not_work_are_refused_naming_the_field(
    service: Subledger, new_ledger: NewLedger, ways: dict[str, Way], name: str, settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        channels.set_channel(service.database, new_ledger(), name, {**ways[name].settings, **settings}, by="test")
    assert refused.value.field == field


@pytest.mark.parametrize("name", CONNECTORS)
def test_no_text_of_a_channel_has_a_line_break(
    service: Subledger, new_ledger: NewLedger, ways: dict[str, Way], name: str
) -> None:
    ledger, given = new_ledger(), ways[name].settings
    free = given.keys() - {"connector", *connector_named(name).lines_fields}
    for field in sorted(field for field in free if isinstance(given[field], str)):
        with pytest.raises(InvalidInput) as refused:
            channels.set_channel(service.database, ledger, name, {**given, field: f"{given[field]}\n"}, by="test")
        assert refused.value.field == field
        assert "has a line break" in refused.value.message
