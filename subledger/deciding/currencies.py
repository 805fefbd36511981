"""Several currencies: the functional amount of every movement, settlement differences, remeasurement.

The price of credits stays at the rate of the day of purchase: a liability to provide service is not monetary (ASC
830-10-45-18). Money owed or owned is monetary. Its standing grows at the rate of the day and is relieved at its
carrying amount. The difference to the other side of the entry is an exchange gain or loss in the same event. At a
period's end the standing is remeasured (ASC 830-20-35-1, IAS 21.23).

Owns: that arithmetic. Does not own: the movements (the other modules of deciding). Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal

from msgspec.structs import replace

from subledger import errors
from subledger.availability import days_of
from subledger.billing_documents import NO_STANDING, Standing
from subledger.blocks import NO_PORTION, Block
from subledger.books import Books, apply_to_standings
from subledger.events.envelope import Event
from subledger.evolving import apply_movement
from subledger.kinds import GAINS, KIND_BY_NAME, LEDGER_ROLES, REMEASUREMENT_OF, SETTLEMENT_OF, Kind, Relieves
from subledger.money import exponent, round_half_up
from subledger.wallet import Decision, Movement, Wallet

StandingKey = tuple[str, str, str]
"""Role, currency, and the block or processor by which the role is divided (or "")."""


def convert(amount_minor: int, rate: Decimal, currency: str, functional_currency: str) -> int:
    """An amount of ``currency`` in minor units of the functional currency, half up; sign kept."""
    numerator, denominator = rate.as_integer_ratio()
    there: int = 10 ** exponent(functional_currency)
    here: int = 10 ** exponent(currency)
    return round_half_up(amount_minor * numerator * there, denominator * here)


def rate_on(books: Books, currency: str, day: date, functional_currency: str) -> Decimal:
    """Raises ExchangeRateMissing: a missing rate is never 1."""
    rate = books.rate(currency, day)
    if rate is None:
        raise errors.ExchangeRateMissing(
            f"no exchange rate from {currency} to {functional_currency} is known on {day}",
            field="data.currency",
            expected=f"an exchange_rate.set of base {currency} on or before {day}",
            found=currency,
        )
    return rate


def measure(
    wallet: Wallet,
    books: Books,
    event: Event,
    draft: Decision,
    *,
    effective: date,
    functional_currency: str,
    wallet_of: Callable[[str], Wallet],
) -> Decision:
    """A decision with the functional amounts of its movements, and the resulting settlement differences."""
    meter = _Meter(wallet, books, event, draft, effective, functional_currency, wallet_of)
    for movement in draft.movements:
        meter.take(movement)
    return replace(draft, movements=tuple(meter.movements), rate=meter.rate)


class _Meter:
    """The wallets and the books, changed movement by movement within one decision."""

    def __init__(
        self,
        wallet: Wallet,
        books: Books,
        event: Event,
        draft: Decision,
        effective: date,
        functional_currency: str,
        wallet_of: Callable[[str], Wallet],
    ) -> None:
        self._wallets, self._wallet_of = {wallet.customer: wallet}, wallet_of
        self._own, self._books, self._event, self._draft = wallet.customer, books, event, draft
        self._effective, self._functional_currency = effective, functional_currency
        self._basis: dict[int | None, int] = {}
        self._rates: dict[str, Decimal] = {}
        self.movements: list[Movement] = []

    def take(self, movement: Movement) -> None:
        currency = movement.currency
        if currency is None:
            self._add(movement)
            return
        kind = KIND_BY_NAME[movement.kind]
        functional = movement.functional_minor
        if functional is None:
            functional = self._functional(movement, currency, kind)
        settlements = [
            self._settlement(movement, currency, kind, role, sign, functional)
            for role, sign in ((kind.debit_role, 1), (kind.credit_role, -1))
            if role is not None and not (kind.is_exchange or kind.opens_balance)
        ]
        self._add(replace(movement, functional_minor=functional))
        for settlement in settlements:
            if settlement is not None:
                self._add(settlement)

    def _add(self, movement: Movement) -> None:
        self.movements.append(movement)
        draft = replace(self._draft, rate=self.rate)
        # Later amounts do not depend on the block that a transfer or an opening makes.
        if KIND_BY_NAME[movement.kind].column not in ("transferred_in", "opened"):
            wallet = self._wallet(movement)
            self._wallets[wallet.customer] = apply_movement(
                wallet, self._event, draft, movement, self._functional_currency
            )
        self._books = apply_to_standings(self._books, movement)

    def _spot(self, amount: int, currency: str) -> int:
        if currency not in self._rates:
            self._rates[currency] = rate_on(self._books, currency, self._effective, self._functional_currency)
        return convert(amount, self._rates[currency], currency, self._functional_currency)

    @property
    def rate(self) -> Decimal | None:
        """The exchange rate that was used first. Money that changes its currency uses two."""
        return next(iter(self._rates.values()), None)

    # --- the amount of the entry ------------------------------------------------------------------------------

    def _functional(self, movement: Movement, currency: str, kind: Kind) -> int:
        if kind.name == "overage_backfilled":
            return self._backfilled(movement)
        if kind.name == "repricing" and movement.amount_minor < 0:
            # A reduction of a block's price is measured at the block's own rate, not today's.
            return -self._block(movement).functional_part(movement.credits, -movement.amount_minor)
        if kind.name == "backfill_difference":
            return self._basis.pop(movement.overage_position)
        if kind.name == "transfer_in":
            return next(m.functional_minor or 0 for m in reversed(self.movements) if m.kind == "transfer_out")
        if kind.column is not None and kind.column not in GAINS:
            return _of_block(self._block(movement), movement, kind)
        measured = _measured(kind)
        if measured is not None:
            role, sign = measured
            return sign * self._moves(movement, currency, role, sign, lambda part: self._spot(part, currency))
        if not movement.amount_minor and (kind.column in (None, "repriced") or not kind.has_amount):
            return 0  # only credits, or a date: no rate is needed
        return self._spot(movement.amount_minor, currency)

    def _wallet(self, movement: Movement) -> Wallet:
        """The wallet of a movement's customer."""
        customer = self._own if movement.customer is None else movement.customer
        found = self._wallets.get(customer)
        return self._wallet_of(customer) if found is None else found

    def _block(self, movement: Movement) -> Block:
        return self._wallet(movement).state_of_block(movement.block_id or "")

    def _backfilled(self, movement: Movement) -> int:
        """The functional amount of a block's part that pays for overage; the backfill_difference gets the rest."""
        block = self._block(movement)
        others = [
            m
            for m in self._draft.movements
            if (m.overage_position, m.block_id) == (movement.overage_position, movement.block_id)
        ]
        drawn = sum(m.amount_minor for m in others)  # the overage's price and the difference
        basis = block.functional_drawn(movement.credits, drawn)
        # In proportion to the amounts, so that each part has the sign of its amount.
        amount = movement.amount_minor
        owed = round_half_up(basis * amount, drawn) if drawn else self._spot(amount, block.currency)
        self._basis[movement.overage_position] = basis - owed
        return owed if len(others) > 1 else basis

    # --- the carrying amounts of the two sides ----------------------------------------------------------------

    def _settlement(
        self, movement: Movement, currency: str, kind: Kind, role: str, sign: int, functional: int
    ) -> Movement | None:
        """The exchange difference between a role's carrying amount and the entry's functional amount, if any."""

        carried_over = kind.relieves in (Relieves.DEBIT, Relieves.CREDIT) and _measured(kind) != (role, sign)

        def grown(part: int) -> int:
            if carried_over or kind.column in GAINS:
                share = round_half_up(functional * abs(part), abs(movement.amount_minor))
                return share if (part > 0) == (movement.amount_minor > 0) else -share
            return self._spot(part, currency)

        difference = self._moves(movement, currency, role, sign, grown) - sign * functional
        if not difference:
            return None
        return Movement(
            kind=SETTLEMENT_OF[role],
            accounting_date=movement.accounting_date,
            block_id=movement.block_id,
            customer=movement.customer,
            currency=currency,
            functional_minor=difference,
            processor=movement.processor,
            invoice_id=movement.invoice_id,
            dimensions=movement.dimensions,
        )

    def _moves(self, movement: Movement, currency: str, role: str, sign: int, grown: Callable[[int], int]) -> int:
        """The functional amount by which a role moves: the carrying amount if it is relieved, ``grown`` if it grows."""
        amount = sign * movement.amount_minor
        current, carried = self._current(movement, currency, role)
        if not amount:
            return 0
        if not current or (current > 0) == (amount > 0):
            return grown(amount)
        if abs(amount) < abs(current):
            return -round_half_up(carried * abs(amount), abs(current))
        rest = amount + current
        return -carried + (grown(rest) if rest else 0)

    def _current(self, movement: Movement, currency: str, role: str) -> Standing:
        if role in LEDGER_ROLES:
            return self._books.standing(role, currency, movement.processor)
        return self._wallet(movement).standing(role, currency, movement.block_id)


def _measured(kind: Kind) -> tuple[str, int] | None:
    """The role whose carrying amount measures an entry between two monetary roles, and its sign.

    It is the debit side if both are relieved, else the relieved side.
    """
    if kind.relieves is Relieves.NEITHER:
        return None
    debit = kind.relieves is not Relieves.CREDIT
    role = kind.debit_role if debit else kind.credit_role
    return errors.present(role, f"entry kind {kind.name} has no role to measure by"), 1 if debit else -1


def _of_block(block: Block, movement: Movement, kind: Kind) -> int:
    """The functional amount of a loss of a block, at the block's own rate; the last loss takes the rest."""
    amount = movement.amount_minor
    if amount < 0 or kind.sign > 0:  # a reversed loss has the functional amount of the loss
        credits, lost, functional = block.disposed.get(kind.column or "", NO_PORTION)
        back = abs(amount)
        whole = back == lost and abs(movement.credits) == credits
        returned = functional if whole or not lost else round_half_up(functional * back, lost)
        return returned if amount >= 0 else -returned
    if kind.column == "consumed":
        return block.functional_drawn(movement.credits, amount)
    return block.functional_part(movement.credits, amount)


# --- a period's end -------------------------------------------------------------------------------------------


def remeasure(
    standings: Mapping[StandingKey, Standing],
    now: Callable[[StandingKey], Standing],
    books: Books,
    *,
    on: date,
    following: date,
    functional_currency: str,
) -> list[Movement]:
    """Remeasures standings at a period's end, at the rate of that day.

    ``standings``: those of the books through ``on``. ``now`` returns those of the head, which may include later days. A
    part that was settled after ``on`` was settled at the old carrying amount. Its settlement is corrected on
    ``following``. So the part that remains at the head is carried at the new rate, and each period has its share of the
    difference. No rest remains, even if several months are closed late.
    """
    movements = []
    for key, (amount, carried) in sorted(standings.items()):
        currency = key[1]
        rate = rate_on(books, currency, on, functional_currency) if amount else None
        target = 0 if rate is None else convert(amount, rate, currency, functional_currency)
        difference = target - carried
        if not difference:
            continue
        movements.append(_adjustment(REMEASUREMENT_OF, key, on, difference))
        remaining, remaining_functional = _remaining(amount, now(key))
        if not remaining or rate is None:
            back = -difference
        elif abs(remaining) >= abs(amount):
            back = 0
        else:
            back = convert(remaining, rate, currency, functional_currency) - remaining_functional - difference
        if back:
            movements.append(_adjustment(SETTLEMENT_OF, key, following, back))
    return movements


def carried_at_nothing(block: Block, since: date) -> list[Movement]:
    """The settlements after which a block is carried at nothing on days since its remeasurement without credits.

    Such days are known if a block was used up and got credits back before its month was closed.
    """
    movements: list[Movement] = []
    settled = 0
    for on, left in days_of(block.changes, block.left):
        due = -left.functional_minor if not left.credits and on > since else 0
        if due != settled:
            key = ("prepaid_liability", block.currency, block.block_id)
            movements.append(_adjustment(SETTLEMENT_OF, key, on, settled - due))
            settled = due
    return movements


def _adjustment(kind_of: Mapping[str, str], key: StandingKey, on: date, functional: int) -> Movement:
    role, currency, subaccount = key
    of_ledger = role in LEDGER_ROLES
    return Movement(
        kind=kind_of[role],
        accounting_date=on,
        currency=currency,
        functional_minor=functional,
        block_id=None if of_ledger else subaccount or None,
        processor=subaccount or None if of_ledger else None,
    )


def _remaining(amount: int, now: Standing) -> Standing:
    """The part of a standing that remains now; zero if it was settled and its sign has changed."""
    return now if (now[0] > 0) == (amount > 0) else NO_STANDING
