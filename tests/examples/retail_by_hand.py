"""The retail replay by hand: the same rules in a small program that knows nothing of ours.

Sales draw what the customer has left, oldest expiry first, then open a block of their own for 90 days. Cancellations
void the newest undrawn block of equal amount, else take back the newest usage; the rest is an orphan. Pence throughout.
"""

from __future__ import annotations

import csv
import gzip
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path


@dataclass
class Block:
    name: str
    amount: int
    left: int
    opened: datetime
    expires: datetime
    broken: bool = False


@dataclass
class Usage:
    draws: list[tuple[Block, int]]

    @property
    def open(self) -> int:
        return sum(amount for _, amount in self.draws)


@dataclass
class Totals:
    """By month: what was sold, used (net of what was taken back), voided, and broke."""

    sold: Counter[str] = field(default_factory=Counter)
    used: Counter[str] = field(default_factory=Counter)
    voided: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)


def month_of(moment: datetime) -> str:
    return f"{moment:%Y-%m}"


def totals(path: Path) -> Totals:
    result = Totals()
    blocks: dict[str, list[Block]] = defaultdict(list)
    usage: dict[str, list[Usage]] = defaultdict(list)
    with gzip.open(path, "rt", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["first_at"])
    for row in rows:
        customer, kind, text = row["customer_id"], row["kind"], row["amount_gbp"]
        now = datetime.fromisoformat(row["first_at"])
        _expire(blocks[customer], now, result)
        whole, _, fraction = text.lstrip("-").partition(".")
        if kind == "adjustment":
            result.rejected["not_a_sale_or_cancellation"] += 1
        elif not customer:
            result.rejected["no_customer"] += 1
        elif not int(whole + fraction):
            result.rejected["zero_amount"] += 1
        elif fraction[2:].strip("0"):
            result.rejected["sub_penny_amount"] += 1
        else:
            pence = int(whole) * 100 + int(fraction[:2])
            if kind == "sale":
                _sell(row["invoice_no"], blocks[customer], usage[customer], pence, now, result)
            else:
                _cancel(blocks[customer], usage[customer], pence, now, result)
    for owned in blocks.values():
        _expire(owned, datetime(9999, 1, 1), result)  # noqa: DTZ001 - wall-clock times throughout, as in the file
    return result


def _expire(owned: list[Block], now: datetime, result: Totals) -> None:
    for block in owned:
        if not block.broken and block.expires <= now:
            block.broken = True
            result.broken[month_of(block.expires - timedelta(microseconds=1))] += block.left  # the last usable moment
            block.left = 0


def _sell(name: str, owned: list[Block], used: list[Usage], pence: int, now: datetime, result: Totals) -> None:
    need, draws = pence, []
    for block in sorted(owned, key=lambda block: (block.expires, block.opened, block.name)):
        part = min(block.left, need)
        if part and not block.broken:
            block.left -= part
            need -= part
            draws.append((block, part))
    if draws:
        used.append(Usage(draws))
        result.used[month_of(now)] += pence - need
    owned.append(Block(f"OR-{name}", pence, pence, now, now + timedelta(days=90)))
    result.sold[month_of(now)] += pence


def _cancel(owned: list[Block], used: list[Usage], pence: int, now: datetime, result: Totals) -> None:
    for block in reversed(owned):
        if block.left == block.amount == pence and not block.broken:
            block.left = 0
            result.voided[month_of(now)] += pence
            return
    for one in reversed(used):
        while pence and one.draws:
            block, drawn = one.draws.pop()
            part = min(drawn, pence)
            pence -= part
            result.used[month_of(now)] -= part
            if block.broken:
                result.broken[month_of(now)] += part
            else:
                block.left += part
            if drawn > part:
                one.draws.append((block, drawn - part))
    if pence:
        result.rejected["orphan_cancellation"] += 1
