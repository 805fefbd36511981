"""Wallets with many open blocks or overages: the same books, but each part has its own row, and an event writes few
rows.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from api.service import Subledger
from projections.reads.blocks import BlockView, customer_blocks, one_block
from projections.replay import log_stream
from projections.replay.rebuild import rebuild
from subledger.ledger_settings import LedgerSettings
from subledger.store.writing import rows
from tests.building import Document, cloud_event, payment, purchase, recorded, reversal, usage
from tests.laws.walks import long_walk
from tests.store.tampering import LEDGER, differences, dump
from tests.store.walked import WALKED, in_batches

MOVED_BY = importlib.import_module("migrations.versions.0036_parts_of_wallets")


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the number of open blocks from which the parts of a wallet have their own rows; at first it is two."""

    def more_than(number: int) -> None:
        monkeypatch.setattr(rows, "MANY", number)

    more_than(1)
    return more_than


def parts(service: Subledger, ledger: str) -> list[str]:
    return dump(service, ledger)["wallet_parts"]


def blocks_of(service: Subledger, ledger: str) -> list[BlockView]:
    with service.view(ledger) as view:
        return customer_blocks(view, limit=1_000)[0]


# --- the same books -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_random_history_leaves_the_same_books_whether_or_not_parts_have_rows(
    seed: int,
    service: Subledger,
    new_ledger: Callable[..., str],
    left_behind: Callable[[int], None],
    many: Callable[[int], None],
) -> None:
    chance = random.Random(seed)
    events = [step.event for step in long_walk(seed, 150).steps if step.event.type != "policy.adopted"]
    settings = WALKED | {"late_usage": ("new", "reclassify")[seed % 2]}
    apart, whole = new_ledger(**settings), new_ledger(**settings)
    had_parts, writer = False, service
    for batch in in_batches(events, chance):
        left_behind(chance.choice((0, 1_000)))
        if chance.random() < 0.2:  # another writer, which knows only the tables
            writer = Subledger(service.database)
        many(1)
        one = writer.recorder.transact(apart, lambda _connection, _state, _position, batch=batch: batch)
        had_parts |= bool(parts(service, apart))
        many(1_000)
        two = service.recorder.transact(whole, lambda _connection, _state, _position, batch=batch: batch)
        assert [(o.status, o.position) for o in one] == [(o.status, o.position) for o in two]
        if chance.random() < 0.2:
            many(1)
            assert differences(service, apart) == []
    assert had_parts
    assert [(b.customer, b.block) for b in blocks_of(service, apart)] == [
        (b.customer, b.block) for b in blocks_of(service, whole)
    ]
    many(1)
    with service.view(apart) as view:
        pages = list[BlockView]()
        after: str | None = ""
        while after is not None:
            page, after = customer_blocks(view, after=after, limit=3)
            pages += page
        assert pages == customer_blocks(view, limit=1_000)[0]
        assert pages == [one_block(view, found.block.block_id) for found in pages]
    counts = rebuild(service.database, apart)
    assert differences(service, apart) == []
    assert not counts.written["wallet_parts"] or counts.written["wallets"], "a healthy ledger stays as it is"
    many(1_000)
    rebuild(service.database, whole)
    tables = (dump(service, apart), dump(service, whole))
    assert tables[0]["blocks"] == tables[1]["blocks"]
    assert tables[0]["documents"] == tables[1]["documents"]


def test_a_wallet_that_grows_and_shrinks_has_rows_for_its_parts_while_they_are_many(own_service: Subledger) -> None:
    service = own_service
    service.create_ledger(LEDGER, LedgerSettings(currency="USD"))
    for number in range(rows.MANY):
        recorded(service, LEDGER, purchase(f"b{number:03}", "1"))
    assert not parts(service, LEDGER)
    recorded(service, LEDGER, purchase("last", "1"))
    assert len(parts(service, LEDGER)) == rows.MANY + 1
    recorded(service, LEDGER, usage("half", "0.5"))
    assert differences(service) == []
    recorded(service, LEDGER, usage("one", "0.5"))
    assert not parts(service, LEDGER), "one block less, and the wallet's row has all of them"
    assert differences(service) == []
    recorded(Subledger(service.database), LEDGER, reversal("back", "one"))
    assert len(parts(service, LEDGER)) == rows.MANY + 1
    assert differences(service) == []
    recorded(Subledger(service.database), LEDGER, usage("all", str(rows.MANY)))
    assert len(blocks_of(service, LEDGER)) == rows.MANY + 1
    assert differences(service) == []


def test_parts_that_are_changed_or_missing_are_found_and_made_anew(
    own: tuple[Subledger, str], many: Callable[[int], None]
) -> None:
    service, url = own
    recorded(service, LEDGER, *(purchase(f"p{n}", "3", "eve") for n in range(5)))
    rebuild(service.database, LEDGER)
    healthy = parts(service, LEDGER)
    assert healthy
    for statement in (
        "UPDATE wallet_parts SET state = state || ' ' WHERE part_id = 'p1'",
        "DELETE FROM wallet_parts WHERE part_id = 'p1'",
        "INSERT INTO wallet_parts SELECT ledger, customer, kind, 'p9', state FROM wallet_parts WHERE part_id = 'p1'",
    ):
        with psycopg.connect(url) as connection:
            assert connection.execute(statement).rowcount == 1, statement
        [found] = differences(service)
        assert (found.check, found.subject) == ("wallet_parts", f"eve, block, {'p9' if 'p9' in statement else 'p1'}")
        rebuild(service.database, LEDGER)
        assert parts(service, LEDGER) == healthy
        recorded(service, LEDGER, usage(f"u-{statement}"[:40], "0.1", "eve"))
        rebuild(service.database, LEDGER)
        healthy = parts(service, LEDGER)


def test_the_migration_gives_rows_to_the_parts_of_existing_wallets(
    own: tuple[Subledger, str], many: Callable[[int], None]
) -> None:
    """The rows are equal to the byte, so that a verification after it is clean."""
    service, url = own
    many(1_000)
    quoted = '"b\\ü'
    service.record(LEDGER, [purchase(f'{quoted}{n}"', "3", f"c{n % 3}", invoice_id="i,") for n in range(20)])
    rebuild(service.database, LEDGER)
    assert not parts(service, LEDGER)
    many(3)
    with psycopg.connect(url) as connection:
        for kind, (member, name) in MOVED_BY.KINDS.items():
            before, after = ("''", "','") if kind == "block" else ("','", "''")
            connection.execute(MOVED_BY.MOVE.format(kind=kind, id=name, member=member, many=3))
            connection.execute(MOVED_BY.TAKE_OUT.format(member=member, many=3, before=before, after=after))
    assert {text.split(", ")[1] for text in parts(service, LEDGER)} == {"'block'", "'overage'"}
    assert differences(service) == []


# --- the costs of an event ------------------------------------------------------------------------------------------


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length of every wallet, block and document that is encoded for a row."""
    found: list[int] = []
    encode = rows.encode_state

    def counted(value: Any) -> str:
        text = encode(value)
        found.append(len(text))
        return text

    monkeypatch.setattr(rows, "encode_state", counted)
    return found


def bought(count: int, first: int = 0) -> list[Document]:
    start = datetime(2027, 1, 1, tzinfo=UTC)
    return [
        purchase(f"b{n}", "10", price="10.00", invoice_id=f"i{n}", expires_at=start + timedelta(minutes=n * 37 % 1_000))
        for n in range(first, first + count)
    ]


def unpaid(count: int) -> Iterator[Document]:
    terms = {"unit": "call", "overage_price": "0.10", "currency": "USD", "on_shortfall": "overage"}
    return (usage(f"o{n}", "2", **terms) for n in range(count))


def test_an_event_writes_as_much_for_ten_times_as_many_blocks(
    service: Subledger, new_ledger: Callable[..., str], encoded: list[int]
) -> None:
    written: list[list[int]] = []
    for size in (100, 1_000):
        ledger = new_ledger(currency="USD")
        recorded(service, ledger, *bought(size), *unpaid(size))
        steps: list[list[Document]] = [
            [usage("one", "1")],
            [usage("twelve", "12")],
            [reversal("back", "twelve")],
            bought(1, first=size),
            [payment("paid", "1.00", invoice_id="i7", payment_id="p7")],
            [usage("more", "1", unit="call", overage_price="0.10", currency="USD", on_shortfall="overage")],
            [reversal("less", "o5")],
            [cloud_event("bill", "overage.billed", "ann", "2026-01-21T00:00:00Z",
                         invoice_id="bill", amount="0.30", currency="USD")],
        ]  # fmt: skip
        counts = []
        for events in steps:
            encoded.clear()
            recorded(service, ledger, *events)
            counts += [len(encoded), sum(encoded) // 100]
        written.append(counts)
        assert differences(service, ledger) == []
    assert written[0] == written[1]
    assert max(written[1]) < 20


def test_a_draw_over_half_of_the_blocks_and_its_reversal_write_each_block_once(
    service: Subledger, new_ledger: Callable[..., str], encoded: list[int]
) -> None:
    ledger, size = new_ledger(currency="USD"), 2_000
    recorded(service, ledger, *bought(size))
    encoded.clear()
    recorded(service, ledger, usage("half", str(5 * size - 1)))
    assert size // 2 <= len(encoded) <= size // 2 + 2
    encoded.clear()
    recorded(service, ledger, reversal("back", "half"))
    assert size // 2 <= len(encoded) <= size // 2 + 3
    recorded(Subledger(service.database), ledger, usage("again", str(5 * size - 1)))
    assert differences(service, ledger) == []


def test_verifying_reads_the_texts_of_an_event_once_however_many_entries_it_has(
    service: Subledger, new_ledger: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a reversal over 5,000 blocks would be read as 5,000 times half a megabyte."""
    ledger, size = new_ledger(currency="USD"), 300
    recorded(service, ledger, *bought(size))
    recorded(service, ledger, usage("all", str(10 * size)))
    recorded(service, ledger, reversal("back", "all"))
    read: list[int] = []
    stream = log_stream.stream

    def counted(*arguments: Any) -> Iterator[list[tuple[Any, ...]]]:
        for found in stream(*arguments):
            read.extend(len(value) for row in found for value in row if isinstance(value, str))
            yield found

    monkeypatch.setattr(log_stream, "stream", counted)
    assert differences(service, ledger) == []
    decision = size * len('{"block":"b1","credits":"-10","kind":"consumption","on":"2026-01-20"},')
    assert len([length for length in read if length > decision]) == 1
    rebuild(service.database, ledger)
    assert len([length for length in read if length > decision]) == 2


def test_a_page_reads_the_rows_of_its_own_blocks_whatever_the_server_knows_of_the_table(own_service: Subledger) -> None:
    """The tables of a new database have no statistics, so a plan could compare each block with every other."""
    own_service.create_ledger(LEDGER, LedgerSettings(currency="USD"))
    recorded(own_service, LEDGER, *(purchase(f"b{number:03}", "1", "c", "2026-01-01") for number in range(300)))
    assert len(parts(own_service, LEDGER)) == 300
    counted = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'wallet_parts'"
    with own_service.view(LEDGER) as view:
        after: str | None = ""
        while after is not None:
            _, after = customer_blocks(view, "c", after=after, limit=20)
        assert 300 <= view.connection.exec_driver_sql(counted).scalar_one() <= 600
