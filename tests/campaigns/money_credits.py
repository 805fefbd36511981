"""The credits side of the money model: purchases, usage, its reversal, expiry, voids, refunds, escheat, transfers."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta

from tests.campaigns.money_claims import Block, Books, Draw, Event, Refused, Silent, minor, moment


class Credits(Books):
    """The effects of events about credits on the books."""

    # --- purchases and usage --------------------------------------------------------------------------------------

    def _credits_purchased(self, event: Event, data: Event) -> None:
        if data["block_id"] in self.blocks.keys() | self.gone_blocks:
            raise Refused("block_exists")
        day, price, tax = self._day(event), minor(data["price"]), minor(data.get("tax"))
        b = self.blocks[data["block_id"]] = Block(
            id=data["block_id"], family=data["block_id"], holder=event["subject"], payer=event["subject"],
            invoice=data.get("invoice_id", data["block_id"]), currency=data["currency"], credits=int(data["credits"]),
            price=price, starts=moment(data.get("starts_at", event["time"])),
            expires=moment(data["expires_at"]) if "expires_at" in data else None, escheat="escheat_class" in data,
            invoiced_on=day, basis=price, tax=tax, tax_left=tax, open=price + tax,
        )  # fmt: skip
        b.days.append((day, b.credits, b.price))
        self._post(day, "accounts_receivable", "prepaid_liability", price, b)
        self._post(day, "accounts_receivable", "tax_payable", tax, b)

    def _credits_consumed(self, event: Event, data: Event) -> None:
        at, wanted = moment(event["time"]), int(data["credits"])
        mine = [b for b in self.blocks.values() if b.holder == event["subject"]]
        able = [b for b in mine if b.starts <= at and (b.expires is None or b.expires > at) and self._there(b)]
        if "block_id" in data:
            able = [b for b in able if b.id == data["block_id"]]
        able = [b for b in able if not self._frozen(b)]
        far = datetime(9000, 1, 1, tzinfo=UTC)
        able.sort(key=lambda b: (b.expires or far, b.starts, b.id))
        if sum(self._there(b) for b in able) < wanted:
            raise Refused("insufficient_credits")
        draws = []
        for b in able:
            k = min(wanted, self._there(b))
            if k:
                self._reclassify(event, b, k)
                after = self._share(b.price, b.used + k, b.credits)
                value = b.carrying if k == b.left else min(b.carrying, max(0, after - b.drawn))
                day = self._take(b, self._day(event), k, value)
                b.used += k
                b.drawn += value
                self._post(day, "prepaid_liability", "usage_revenue", value, b)
                draws.append(Draw(b.id, k, value, day))
                wanted -= k
        self.draws[event["id"]] = draws
        self.subjects[event["id"]] = event["subject"]

    def _there(self, b: Block) -> int:
        """Returns the credits that usage before the expiry can draw: the remaining ones, and those that have broken
        since.
        """
        if b.swept and b.escheat:
            raise Silent("usage of before an expiry, of a block whose remainder went to the state")
        return b.left + sum(credits for _, credits, _ in b.broken)

    def _reclassify(self, event: Event, b: Block, credits: int) -> None:
        """Mirrors breakage for usage that happened before the expiry: the credits of the usage, at the value that they
        draw.
        """
        if credits <= b.left:
            return
        if b.left or len(b.broken) > 1 or b.conceded:
            raise Silent("which breakage late usage takes back")
        [(day, there, value)] = b.broken
        drawn = max(0, self._share(b.price, b.used + credits, b.credits) - b.drawn)
        part = value if credits == there else min(value, drawn)
        b.broken = [(day, there - credits, value - part)] if there > credits else []
        b.gone -= credits
        b.gone_value -= part
        b.lapsed -= part
        day = max(self._day(event), day)
        b.days.append((day, credits, part))
        self._post(day, "breakage_revenue", "prepaid_liability", part, b)

    def _consumption_reversed(self, event: Event, data: Event) -> None:
        draws = self.draws.get(data["event_id"])
        if draws is None or self.subjects[data["event_id"]] != event["subject"]:
            raise Refused("refused")
        there = sum(d.credits - d.restored for d in draws)
        wanted = int(data.get("credits", there))
        if wanted > there or not wanted:
            raise Refused("refused")
        for d in reversed(draws):
            k = min(wanted, d.credits - d.restored)
            if not k:
                continue
            wanted -= k
            b = self.blocks[d.block]
            value = self._share(d.value, d.restored + k, d.credits) - d.restored_value
            if b.drawn + b.lapsed - value < b.conceded:
                raise Refused("conceded")
            if b.drawn - value < b.conceded:
                raise Silent("whether usage or what lapsed was conceded")
            d.restored += k
            d.restored_value += value
            b.used -= k
            b.drawn -= value
            day = max(self._day(event), d.day)
            b.days.append((day, k, value))
            self._post(day, "usage_revenue", "prepaid_liability", value, b)
            if b.expires and (b.swept or b.expires <= moment(event["time"])) and not self._frozen(b):
                self._expire(b, day)

    # --- endings --------------------------------------------------------------------------------------------------

    def _sweep(self, _: Event, data: Event) -> None:
        through = datetime.fromisoformat(data["through"]).replace(tzinfo=UTC) + timedelta(days=1)
        for b in list(self.blocks.values()):
            if b.left and b.expires and b.expires <= through and not self._frozen(b):
                self._expire(b, None)

    def _close(self, event: Event, data: Event) -> None:
        through = date.fromisoformat(data["through"])
        self._sweep(event, data)
        self.closed = through

    def _expire(self, b: Block, reversed_on: date | None) -> None:
        assert b.expires
        last = (b.expires - timedelta(microseconds=1)).date()
        day = max(d for d in (last, b.freed_on, reversed_on, b.invoiced_on) if d)
        b.swept = True
        if b.escheat:
            self._to_the_state(b, day)
            return
        credits, value = b.left, b.carrying
        day = self._take(b, day, credits, value)
        b.gone += credits
        b.gone_value += value
        b.lapsed += value
        b.broken.append((day, credits, value))
        self._post(day, "prepaid_liability", "breakage_revenue", value, b)

    def _to_the_state(self, b: Block, day: date) -> None:
        """Cancels the open part with its tax. The received part of the value is owed to the state."""
        credits, value = b.left, b.carrying
        tax = min(b.tax_left, self._share(b.tax, value, b.basis))
        still_open = sum(o.open for o in self._siblings(b))
        cancelled = min(still_open, value + tax)
        value_open = self._share(value, cancelled, value + tax)
        day = self._take(b, day, credits, value)
        b.gone += credits
        b.gone_value += value
        b.tax_left -= cancelled - value_open
        self._give_back(b, [("prepaid_liability", value_open, day), ("tax_payable", cancelled - value_open, day)])
        self._move(b, None, value - value_open)
        b.unclaimed += value - value_open
        self._post(day, "prepaid_liability", "unclaimed_property", value - value_open, b)

    def _credits_escheated(self, event: Event, data: Event) -> None:
        b = self._held(event, data["block_id"])
        if not b.escheat:
            raise Silent("escheat of a block without an escheat class")
        if b.contested:
            raise Silent("escheat of a disputed block")
        if not b.left:
            raise Refused("refused")
        self._to_the_state(b, self._day(event))

    def _escheat_reclaimed(self, event: Event, data: Event) -> None:
        b, amount = self._owing(event, data)[0], minor(data["amount"])
        if amount > b.unclaimed:
            raise Refused("refused")
        if b.contested:
            raise Refused("block_disputed")
        b.unclaimed -= amount
        b.owed["reclaimed"] += amount
        self._post(self._day(event), "unclaimed_property", "refunds_payable", amount, b)

    def _escheat_remitted(self, event: Event, data: Event) -> None:
        b, amount = self._owing(event, data)[0], minor(data["amount"])
        if amount > b.unclaimed:
            raise Refused("refused")
        if b.contested:
            raise Refused("block_disputed")
        b.unclaimed -= amount
        self._post(self._day(event), "unclaimed_property", "cash", amount, b)

    def _purchase_voided(self, event: Event, data: Event) -> None:
        self._cancel(event, data, None)

    def _credits_refunded(self, event: Event, data: Event) -> None:
        self._cancel(event, data, minor(data["amount"]) if "amount" in data else None)

    def _cancel(self, event: Event, data: Event, paid_back: int | None) -> None:
        b = self._held(event, data["block_id"])
        if b.disputed:
            self._frozen(b)
            raise Refused("block_disputed")
        credits = int(data.get("credits", b.left))
        if not credits or credits > b.left:
            raise Refused("refused")
        value = self._share(b.carrying, credits, b.left)
        given = value if paid_back is None else paid_back
        if given > value:
            raise Refused("refused")
        cancelled = self._share(b.tax, b.cancelled + given, b.basis)
        tax = min(b.tax_left, max(0, cancelled - b.cancelled_tax))
        day = self._take(b, self._day(event), credits, value)
        b.gone += credits
        b.gone_value += value
        b.lapsed += value - given
        b.cancelled += given
        b.cancelled_tax += tax
        b.tax_left -= tax
        self._post(day, "prepaid_liability", "usage_revenue", value - given, b)
        self._give_back(b, [("prepaid_liability", given, day), ("tax_payable", tax, self._day(event))])

    # --- transfers -------------------------------------------------------------------------------------------------

    def _credits_transferred(self, event: Event, data: Event) -> None:
        b, day = self._held(event, data["block_id"]), self._day(event)
        if data["new_block_id"] in self.blocks.keys() | self.gone_blocks:
            raise Refused("block_exists")
        credits = int(data.get("credits", b.left))
        if not credits or credits > b.left:
            raise Refused("refused")
        if b.contested:
            raise Silent("transfer of a disputed block")
        value = self._share(b.carrying, credits, b.left)
        tax = min(b.tax_left, self._share(b.tax, value, b.basis))
        claim, part = b.standing + b.tax_left, value + tax
        received = Counter({id: self._share(n, part, claim) for id, n in b.received.items()})
        still_open = part - received.total()
        if still_open != self._share(b.open, part, claim):
            raise Silent("a share that needs rounding")
        day = self._take(b, day, credits, value)
        b.gone += credits
        b.gone_value += value
        b.open -= still_open
        b.received -= received
        b.came -= received
        basis_tax = self._share(b.tax, value, b.basis)
        b.basis -= value
        b.tax -= basis_tax
        b.tax_left -= tax
        new = self.blocks[data["new_block_id"]] = Block(
            id=data["new_block_id"], family=b.family, holder=data["to_customer"], payer=b.payer, invoice=b.invoice,
            currency=b.currency, credits=credits, price=value, starts=b.starts, expires=b.expires, escheat=b.escheat,
            invoiced_on=b.invoiced_on, basis=value, tax=basis_tax, tax_left=tax, open=still_open, received=received,
            mixed=b.mixed, came=Counter(received),
        )  # fmt: skip
        new.days.append((day, credits, value))
        self._post(day, "prepaid_liability", "transfer_clearing", value, b)
        self._post(day, "transfer_clearing", "prepaid_liability", value, new)
