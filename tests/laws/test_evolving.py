"""Laws of wallets after any walk: the writer's blocks and documents in memory agree with the entries."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from subledger.accounting_dates import effective_date
from subledger.billing_documents import standing_name
from subledger.blocks import ZERO, Block
from subledger.kinds import KIND_BY_NAME, LEDGER_ROLES
from subledger.money import exponent
from subledger.wallet import Movement
from tests.laws.walk import HOME, Step, Walk, monetary_sides
from tests.laws.walks import for_every_walk


def blocks_of(step: Step) -> Iterator[Block]:
    for wallet in step.wallets.values():
        yield from wallet.blocks


def value(entry: object) -> tuple[Decimal, int, int]:
    """Returns the effect of an entry on its block: credits, money, money in the functional currency."""
    sign = KIND_BY_NAME[entry.kind].sign
    functional = sum(-side for role, side in monetary_sides(entry) if role == "prepaid_liability")
    return sign * entry.credits, sign * entry.amount_minor, functional * entry.functional_minor


# --- blocks ---------------------------------------------------------------------------------------------------


@for_every_walk
def test_a_block_is_what_its_entries_gained_less_what_they_took(ledger: Walk) -> None:
    credits, money, functional = Counter[str](), Counter[str](), Counter[str]()
    for step in ledger.steps:
        for entry in step.entries:
            if entry.block_id is not None:
                gained = value(entry)
                credits[entry.block_id] += gained[0]
                money[entry.block_id] += gained[1]
                functional[entry.block_id] += gained[2]
        for block in blocks_of(step):
            assert block.remaining == credits[block.block_id] >= 0
            assert block.carrying_minor == money[block.block_id] >= 0
            if block.currency != HOME:
                assert block.carrying_functional == functional[block.block_id] >= 0
            if not block.remaining:
                assert (block.carrying_minor, functional[block.block_id]) == (0, 0)


@for_every_walk
def test_in_every_view_a_block_carries_no_less_than_nothing_and_nothing_without_credits(ledger: Walk) -> None:
    """Checks as of every date, and as known after every event."""
    days: dict[str, dict[date, tuple[Decimal, int, int]]] = defaultdict(dict)
    for step in ledger.steps:
        moved = set()
        for entry in step.entries:
            if entry.block_id is not None:
                there = days[entry.block_id].get(entry.accounting_date, (ZERO, 0, 0))
                change = value(entry)
                after = (there[0] + change[0], there[1] + change[1], there[2] + change[2])
                days[entry.block_id][entry.accounting_date] = after
                moved.add(entry.block_id)
        for block_id in moved:
            credits, money, functional = ZERO, 0, 0
            for day in sorted(days[block_id]):
                change = days[block_id][day]
                credits, money, functional = credits + change[0], money + change[1], functional + change[2]
                assert credits >= 0, (block_id, day)
                assert money >= 0, (block_id, day)
                assert credits or (money, functional) == (0, 0), (block_id, day)


@for_every_walk
def test_no_entry_is_dated_before_its_cause(ledger: Walk) -> None:
    opened: dict[str, date] = {}
    for step in ledger.steps:
        day = effective_date(step.event.occurred_at, ZoneInfo("UTC"))
        lapses = step.event.type == "credits.expired"
        for movement, entry in step.moves:
            # Expiry is exclusive: credits that expire at midnight could be used through the day before.
            assert movement.accounting_date >= (day - timedelta(days=1) if lapses else day)
            if entry.block_id is not None:
                first = opened.setdefault(entry.block_id, entry.accounting_date)
                bank = step.event.type in (
                    "payment.refunded", "dispute.opened", "dispute.won", "dispute.lost", "event.reversed",
                )  # fmt: skip
                # Cash has the bank's date, and is remeasured at each month's end from then on.
                is_cash = entry.kind.startswith("fx_") or (bank and KIND_BY_NAME[entry.kind].column is None)
                assert entry.accounting_date >= first or is_cash


@for_every_walk
def test_no_breakage_is_dated_before_the_credits_could_no_longer_be_used(ledger: Walk) -> None:
    """Breakage is also not dated before the change of the expiry, or the end of the dispute, by which the credits
    lapsed. Undone events do not count.

    Late usage may move reinstated breakage from the day of the old expiry to the day on which the expiry was changed.
    """
    freed: dict[str, date] = {}
    disputed: dict[str, set[str]] = {}
    past: list[dict[str, date]] = []
    for step in ledger.steps:
        past.append(dict(freed))
        undone = ledger.undone_by(step)
        for movement in undone.decision.movements if undone is not None else ():
            freed.pop(movement.block_id or "", None)
            if (before := past[undone.position - 1 if undone else 0].get(movement.block_id or "")) is not None:
                freed[movement.block_id or ""] = before
        days = {} if undone is None else {m.block_id: m.accounting_date for m in undone.decision.movements}
        for movement in step.decision.movements:
            block_id = movement.block_id or ""
            if undone is not None and movement.accounting_date == days.get(movement.block_id):
                continue
            if movement.kind in ("dispute_opened", "dispute_opened_cash") and block_id and undone is None:
                disputed.setdefault(step.event.data.dispute_id, set()).add(block_id)
            if movement.kind == "expiry_changed":
                freed[block_id] = max(freed.get(block_id, movement.accounting_date), movement.accounting_date)
            lapses = movement.kind in ("breakage", "pooled_breakage", "escheat") and movement.credits > 0
            if lapses and step.event.type not in ("credits.escheated", "credits.consumed"):
                # Transferred credits go to a state by way of their purchase, at the expiry of their own block.
                given_back = [m.block_id or "" for m in step.decision.movements if m.kind == "transfer_out"]
                of = given_back[0] if movement.kind == "escheat" and given_back else block_id
                block = next(block for block in blocks_of(step) if block.block_id == of)
                assert block.expires_at is not None
                last = effective_date(block.expires_at - timedelta(microseconds=1), ZoneInfo("UTC"))
                assert movement.accounting_date >= max(last, freed.get(of, last))
        if step.event.type in ("dispute.won", "dispute.lost"):
            for block_id in disputed.get(step.event.data.dispute_id, ()):
                ended = max(movement.accounting_date for movement in step.decision.movements)
                freed[block_id] = max(freed.get(block_id, ended), ended)


def _breaks(movement: Movement) -> bool:
    """True if credits broke, or if property that is opened at a cut-over had escheated before."""
    lapsed = movement.kind in ("breakage", "pooled_breakage", "escheat") and movement.credits > 0
    return lapsed or (movement.kind == "opening_unclaimed_property" and movement.amount_minor > 0)


@for_every_walk
def test_a_block_remembers_when_it_was_opened_and_last_broke(ledger: Walk) -> None:
    opened: dict[str, date] = {}
    broken: dict[str, list[date]] = defaultdict(list)
    for step in ledger.steps:
        for movement in step.decision.movements:
            if movement.block_id is None:
                continue
            opened.setdefault(movement.block_id, movement.accounting_date)
            if _breaks(movement):
                broken[movement.block_id].append(movement.accounting_date)
        undone = ledger.undone_by(step)
        for movement in undone.decision.movements if undone is not None else ():
            if _breaks(movement):
                broken[movement.block_id or ""].remove(movement.accounting_date)
        for block in blocks_of(step):
            assert block.opened_on == opened[block.block_id] <= block.losses_from
            assert (block.last_breakage_date is None) == (not broken[block.block_id])
            if block.expired_credits:
                assert block.last_breakage_date in broken[block.block_id]


@for_every_walk
def test_a_block_is_expired_from_its_breakage_until_its_expiry_is_moved(ledger: Walk) -> None:
    expired: set[str] = set()
    past: list[set[str]] = []
    for step in ledger.steps:
        past.append(set(expired))
        undone = ledger.undone_by(step)
        if undone is not None:
            before, after = past[undone.position - 1], past[undone.position]
            expired = (expired - (after - before)) | (before - after)
        for movement in step.decision.movements if undone is None else ():
            broken = movement.kind in ("breakage", "pooled_breakage", "escheat") and movement.credits > 0
            if broken and step.event.type == "consumption.reversed":
                [block] = [block for block in blocks_of(step) if block.block_id == movement.block_id]
                if block.expires_at is not None and block.expires_at <= step.event.occurred_at:
                    expired.add(block.block_id)
            elif broken and step.event.type not in ("credits.escheated", "credits.consumed"):
                # The value of a transferred block escheats at the bought block, which may not have expired.
                # Late usage mirrors breakage of an early day. If that part was reinstated later, it lapses again on the
                # day of the reinstatement.
                expired.add(step.event.data.block_id)
            if movement.kind == "expiry_changed":
                until = step.event.data.expires_at
                if until is None or until > step.event.occurred_at:
                    expired.discard(movement.block_id or "")
        assert {block.block_id for block in blocks_of(step) if block.expired} == expired


@for_every_walk
def test_what_is_still_to_be_paid_is_what_the_receivable_entries_left(ledger: Walk) -> None:
    owed: Counter[tuple[str | None, str | None]] = Counter()
    for step in ledger.steps:
        for movement, entry in step.moves:
            for role, sign in monetary_sides(entry):
                if role == "accounts_receivable":
                    owed[movement.block_id, movement.invoice_id] += sign * entry.amount_minor
        for block in blocks_of(step):
            assert block.receivable_minor == owed[block.block_id, None] >= 0
        for wallet in step.wallets.values():
            for document in wallet.documents:
                if document.document_kind == "invoice":
                    assert document.receivable_minor == owed[None, document.document_id] >= 0


@for_every_walk
def test_no_more_tax_is_taken_back_than_there_was(ledger: Walk) -> None:
    tax: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    for step in ledger.steps:
        for movement, entry in step.moves:
            if movement.block_id is None:
                continue
            if KIND_BY_NAME[entry.kind].opens_block and step.event.type == "balance.opened":
                tax[movement.block_id] += step.event.data.minor("tax")
            if entry.kind in ("purchase_tax", "redemption_tax"):
                tax[movement.block_id] += entry.amount_minor
            elif "tax" in entry.kind and not entry.kind.startswith("fx_"):
                recovered = KIND_BY_NAME[entry.kind].recovers
                taken[movement.block_id] += -entry.amount_minor if recovered else entry.amount_minor
        for block in blocks_of(step):
            assert block.tax_minor + block.redemption_tax_minor == tax[block.block_id]
            assert block.tax_reversed_minor + block.tax_taken_minor == taken[block.block_id]
            assert taken[block.block_id] <= tax[block.block_id]
            assert block.tax_reversed_minor >= 0
            assert block.tax_taken_minor >= 0


@for_every_walk
def test_a_state_holds_what_escheated_and_was_not_claimed(ledger: Walk) -> None:
    held: Counter[str] = Counter()
    for step in ledger.steps:
        for entry in step.entries:
            for role, sign in monetary_sides(entry):
                if role == "unclaimed_property":
                    held[entry.block_id or ""] -= sign * entry.amount_minor
        for block in blocks_of(step):
            assert block.unclaimed_minor == held[block.block_id] >= 0


# --- overage --------------------------------------------------------------------------------------------------


@for_every_walk
def test_open_overage_is_what_is_unbilled(ledger: Walk) -> None:
    unbilled: Counter[tuple[str | None, str]] = Counter()
    for step in ledger.steps:
        for entry in step.entries:
            for role, sign in monetary_sides(entry):
                if role == "unbilled_receivable":
                    unbilled[entry.customer, entry.currency] += sign * entry.amount_minor
        for customer, wallet in step.wallets.items():
            open_minor: Counter[tuple[str | None, str]] = Counter()
            for overage in wallet.overages:
                open_minor[customer, overage.currency] += overage.open_minor
                assert overage.open >= 0
                assert overage.open_minor >= 0
                assert overage.open or not overage.open_minor
            for key in {*open_minor, *(key for key in unbilled if key[0] == customer)}:
                assert open_minor[key] == unbilled[key]


@for_every_walk
def test_the_fraction_carried_is_what_the_price_of_all_overage_exceeds_its_entries_by(ledger: Walk) -> None:
    prices: dict[int, tuple[Decimal, str]] = {}
    exact: defaultdict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for step in ledger.steps:
        for movement, entry in step.moves:
            if entry.kind != "overage":
                continue
            data = step.event.data
            if entry.credits > 0:
                prices[step.position] = (data.overage_price, data.currency)
            price, currency = prices[movement.overage_position or step.position]
            minor = Fraction(entry.credits) * Fraction(price) * 10 ** exponent(currency)
            exact[entry.customer or "", currency] += minor - entry.amount_minor
        for customer, wallet in step.wallets.items():
            for currency, carry in wallet.carry.items():
                assert Fraction(carry) == exact[customer, currency]


# --- references ----------------------------------------------------------------------------------------


@for_every_walk
def test_disputed_money_is_that_of_the_open_disputes_and_freezes_its_blocks(ledger: Walk) -> None:
    disputed: Counter[tuple[str | None, str]] = Counter()
    for step in ledger.steps:
        for entry in step.entries:
            for role, sign in monetary_sides(entry):
                if role == "disputes_receivable":
                    disputed[entry.customer, entry.currency] += sign * entry.amount_minor
        for customer, wallet in step.wallets.items():
            open_minor: Counter[tuple[str | None, str]] = Counter()
            frozen: Counter[str | None] = Counter()
            for document in wallet.documents:
                if document.document_kind == "dispute" and document.decided is None:
                    for part in document.parts:
                        open_minor[customer, document.currency] += part.amount_minor
                        frozen[part.block_id] += not part.given_back
            for key in {*open_minor, *(key for key in disputed if key[0] == customer)}:
                assert open_minor[key] == disputed[key]
            for block in wallet.blocks:
                assert block.disputes == frozen[block.block_id]


@for_every_walk
def test_nobody_is_paid_back_or_applied_more_than_is_owed(ledger: Walk) -> None:
    for step in ledger.steps:
        for wallet in step.wallets.values():
            for key, (amount, _) in wallet.standings.items():
                if key.startswith(("customer_balance", "refunds_payable")):
                    assert amount <= 0, "never a debit"
            for document in wallet.documents:
                if document.document_kind == "payment":
                    assert document.open_minor >= 0


@for_every_walk
def test_a_payment_knows_what_it_was_applied_to_and_what_is_open_of_it(ledger: Walk) -> None:
    received: Counter[str] = Counter()
    applied: Counter[tuple[str, str | None, str | None]] = Counter()
    disputes: dict[str, str] = {}
    for step in ledger.steps:
        event = (ledger.undone_by(step) or step).event
        name = getattr(event.data, "payment_id", None)
        if name is not None and event.type == "dispute.opened":
            disputes[event.data.dispute_id] = name
        for movement in step.decision.movements:
            if movement.kind == "dispute_lost_balance":
                received[disputes[event.data.dispute_id]] -= movement.amount_minor
        if name is not None and step.event.type == "balance.opened":
            received[name] += step.event.data.minor("amount")
        if name is None or not event.type.startswith("payment."):
            continue
        for movement in step.decision.movements:
            match movement.kind:
                case "unapplied_cash" | "unapplied_processor":
                    received[name] += movement.amount_minor
                case "payment_cash" | "payment_processor":
                    applied[name, movement.block_id, movement.invoice_id] += movement.amount_minor
                case "payment_applied":
                    received[name] -= movement.amount_minor
                    applied[name, movement.block_id, movement.invoice_id] += movement.amount_minor
                case "balance_refunded":
                    received[name] -= movement.amount_minor
        [payment] = [
            d
            for w in step.wallets.values()
            for d in w.documents
            if (d.document_kind, d.document_id) == ("payment", name)
        ]
        assert payment.open_minor == received[name]
        found: Counter[tuple[str, str | None, str | None]] = Counter()
        for part in payment.applied:
            found[name, part.block_id, part.invoice_id] += part.amount_minor
        assert found == Counter({key: amount for key, amount in applied.items() if key[0] == name and amount})


# --- balances in currencies ----------------------------------------------------------------------------------


@for_every_walk
def test_positions_of_a_wallet_are_the_sums_of_its_entries(ledger: Walk) -> None:
    amounts: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for step in ledger.steps:
        for movement, entry in step.moves:
            for role, sign in monetary_sides(entry):
                if role in LEDGER_ROLES or role == "prepaid_liability":
                    continue
                if movement.currency is None and role not in ("customer_balance", "refunds_payable"):
                    continue
                held = amounts[entry.customer or "", standing_name(role, entry.currency, entry.block_id)]
                held[0] += sign * entry.amount_minor
                held[1] += sign * entry.functional_minor
        for customer, wallet in step.wallets.items():
            expected = {key: tuple(held) for (whose, key), held in amounts.items() if whose == customer and any(held)}
            assert wallet.standings == expected


@for_every_walk
def test_what_is_settled_in_its_currency_is_settled_in_the_functional_one(ledger: Walk) -> None:
    for step in ledger.steps:
        for wallet in step.wallets.values():
            assert not [key for key, (amount, functional) in wallet.standings.items() if functional and not amount]
        assert not [key for key, (amount, functional) in step.books.standings.items() if functional and not amount]
