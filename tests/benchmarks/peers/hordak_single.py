"""django-hordak: double entry on Django's ORM. ``hordak_single.py URL CUSTOMERS EVENTS PAIRS``

With PAIRS = 3 it does: look up the remaining balance of the customer, and write one transaction with the six legs that
usage has here. Its triggers check that they balance. Each event has its own durable commit. With PAIRS = 1 it writes
two legs without a look-up.

It does not: look up if an event was recorded before, know blocks, prices or expiry, hash, store totals.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from urllib.parse import urlsplit

import django
from django.conf import settings
from in_turns import answer


def main(url: str, customers: int, events: int, pairs: int) -> None:
    parts = urlsplit(url)
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": parts.path.lstrip("/"),
                "HOST": parts.hostname,
                "PORT": parts.port,
                "USER": parts.username,
                "PASSWORD": parts.password,
            }
        },
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "mptt", "hordak"],
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        DEFAULT_CURRENCY="USD",
        CURRENCIES=["USD"],
        HORDAK_DECIMAL_PLACES=2,
    )
    django.setup()
    from django.core.management import call_command
    from django.db import transaction
    from hordak.models import Account, AccountType, Leg, Transaction
    from moneyed import Money

    call_command("migrate", verbosity=0)
    revenue = Account.objects.create(name="usage revenue", type=AccountType.income, currencies=["USD"])
    receivable, clearing = (
        Account.objects.create(name=name, type=AccountType.asset, currencies=["USD"])
        for name in ("receivable", "clearing")
    )
    theirs = [
        tuple(
            Account.objects.create(name=f"{name} {n}", type=AccountType.liability, currencies=["USD"])
            for name in ("liability", "deposits")
        )
        for n in range(customers)
    ]
    bought = Money("5000", "USD")
    for liability, _ in theirs:
        with transaction.atomic():
            purchase = Transaction.objects.create(description="purchase", date="2026-01-01")
            Leg.objects.create(transaction=purchase, account=receivable, debit=bought)
            Leg.objects.create(transaction=purchase, account=liability, credit=bought)
    amount, done = Money("0.06", "USD"), 0

    def work() -> Callable[[], object]:
        nonlocal done
        numbers = range(done, done + events)
        done += events

        def do() -> None:
            for n in numbers:
                liability, deposits = theirs[n * 7919 % customers]
                with transaction.atomic():
                    if pairs == 3 and liability.get_balance()["USD"] < amount:
                        raise RuntimeError("nothing left")
                    usage = Transaction.objects.create(description=f"use-{n}", date="2026-01-02")
                    moved = ((liability, clearing), (receivable, revenue), (deposits, receivable))
                    for debit, credit in moved[:pairs]:
                        Leg.objects.create(transaction=usage, account=debit, debit=amount)
                        Leg.objects.create(transaction=usage, account=credit, credit=amount)

        return do

    answer(work)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
