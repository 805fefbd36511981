"""Tampering: a small busy ledger, and a superuser's changes that bypass the triggers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import sqlalchemy as sa

from api.service import Subledger
from projections.integrity import Difference, verify
from projections.replay.derived_tables import DERIVED
from tests import building
from tests.building import cloud_event

LEDGER = "acme"


def history(seed: int, size: int) -> list[dict[str, Any]]:
    """Returns a small busy history of seven customers: purchases, grants, usage, reversals, voids, payments, new
    expiries.
    """
    chance = random.Random(seed)
    events: list[dict[str, Any]] = []
    used: list[tuple[str, str]] = []
    for number in range(size):
        customer = f"c{chance.randrange(7)}"
        time = f"2026-0{chance.randint(1, 3)}-{chance.randint(10, 27)}T10:00:00Z"
        pick = chance.random()
        if number < 7 or pick < 0.15:
            customer = f"c{number}" if number < 7 else customer
            events.append(
                cloud_event(
                    f"e{number}",
                    "credits.purchased",
                    customer,
                    "2026-01-02T00:00:00Z",
                    block_id=f"b{number}",
                    credits=str(chance.randint(3, 90)),
                    price=f"{chance.randint(1, 99)}.37",
                    tax="1.11",
                    currency="USD",
                    invoice_id=f"i{number}",
                    expires_at=f"2026-0{chance.randint(2, 6)}-01T00:00:00Z",
                )
            )
        elif pick < 0.6:
            used.append((f"e{number}", customer))
            events.append(
                cloud_event(
                    f"e{number}",
                    "credits.consumed",
                    customer,
                    time,
                    credits=f"{chance.randint(1, 60)}.{chance.randint(0, 99):02}",
                    currency="USD",
                    product=chance.choice(("api", "batch")),
                    overage_price="0.0371",
                    on_shortfall=chance.choice(("overage", "backfill")),
                )
            )
        elif pick < 0.75 and used:
            event_id, customer = chance.choice(used)
            events.append(
                cloud_event(
                    f"e{number}", "consumption.reversed", customer, time, event_id=event_id, credits="0.7", reason="r"
                )
            )
        elif pick < 0.8:
            events.append(
                cloud_event(f"e{number}", "purchase.voided", customer, time, block_id=f"b{number % 7}", reason="r")
            )
        elif pick < 0.83:
            block = chance.randrange(7)
            events.append(
                cloud_event(
                    f"e{number}",
                    "block.expiry_changed",
                    f"c{block}",
                    time,
                    block_id=f"b{block}",
                    reason="r",
                    expires_at=chance.choice((None, "2026-03-28T00:00:00Z", "2026-07-01T00:00:00Z")),
                )
            )
        elif pick < 0.9:
            events.append(
                cloud_event(
                    f"e{number}",
                    "payment.received",
                    customer,
                    time,
                    amount="40.00",
                    currency="USD",
                    invoice_id=f"i{customer[1:]}",
                )
            )
        else:
            events.append(
                cloud_event(
                    f"e{number}",
                    "credits.granted",
                    customer,
                    time,
                    block_id=f"g{number}",
                    credits="5",
                    reason="promotional",
                )
            )
    return events


@contextmanager
def past_triggers(url: str, *tables: str) -> Iterator[psycopg.Connection[Any]]:
    """Yields a superuser's connection that bypasses the triggers, in one transaction. The triggers are restored at the
    end.
    """
    with psycopg.connect(url) as connection:
        for table in tables:
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        yield connection
        for table in tables:
            triggers = connection.execute(TRIGGERS, (table,)).fetchall()
            for (trigger,) in triggers:
                connection.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")


TRIGGERS = "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal"


def tamper(url: str, table: str, statement: str) -> None:
    """Makes one change as a superuser, bypassing the triggers."""
    with past_triggers(url, table) as connection:
        assert connection.execute(statement).rowcount >= 1


def differences(service: Subledger, ledger: str = LEDGER) -> list[Difference]:
    """Returns the differences that a verification finds, without those of the schema, because tests disable parts of
    it.
    """
    return [found for found in verify(service.database, ledger).differences if found.check != "schema"]


grant = partial(building.grant, credits="1", customer="c1", time="2026-03-01")


def dump(service: Subledger, ledger: str) -> dict[str, list[str]]:
    with service.database.read() as connection:
        return {
            derived.name: sorted(
                str(tuple(row)) for row in connection.execute(sa.text(derived.query), {"ledger": ledger})
            )
            for derived in DERIVED
        }


def lag(service: Subledger, ledger: str) -> int:
    """Returns the number of events since the last position at which every wallet's row was up to date."""
    with service.database.read() as connection:
        query = "SELECT position - wallets_through FROM ledgers WHERE ledger = %s"
        found: int = connection.exec_driver_sql(query, (ledger,)).scalar_one()
        return found


def all_of(url: str) -> dict[str, list[str]]:
    """Returns every table of the database, byte for byte, with the place on disk of every row."""
    with psycopg.connect(url) as connection:
        tables = [
            name
            for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        ]
        return {
            table: [row for (row,) in connection.execute(f"SELECT ctid::text || t::text FROM {table} t ORDER BY 1")]
            for table in tables
        }
