"""The data of every event type: its fields, and the rules that one event must satisfy by itself.

It is longer than other modules because it is one table: one class for each event type, in the order of the contract.

Owns: the event types with their models. Does not own: the types of fields and their checks (fields), the data of an
opening balance (opened), the envelope and reading (envelope), the check against the books (deciding). Type names are in
every log, so they can never change.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from subledger.errors import InvalidValue
from subledger.events.fields import (
    Amount,
    CohortName,
    Credits,
    Currency,
    EventData,
    Identifier,
    Name,
    OwnDimensions,
    Rate,
    Reason,
    Scope,
    Shortfall,
    SignedAmount,
    SignedCredits,
    Time,
    UnitPrice,
    check_absent,
    check_disputed,
    check_elsewhere,
    check_one_of,
    check_other_currency,
    check_positive,
    check_present,
    check_starts_before_expiry,
    minor_units,
    missing_field,
)
from subledger.events.opened import BalanceOpened


class CreditsPurchased(EventData):
    """A customer bought a credit block. Its price is due at ``due_at``, by default at once (ASC 606-10-45-4).

    If it is ``cancellable``, the right to its price is conditional until it is paid (Example 38, Case A).
    """

    block_id: Identifier
    credits: Credits
    unit: Name = "credit"
    price: Amount
    currency: Currency
    tax: Amount | None = None
    starts_at: Time | None = None
    expires_at: Time | None = None
    priority: int = Field(default=50, ge=0, le=1000)
    scope: Scope | None = None
    bonus_credits: Credits | None = None
    refundable: bool = False
    order_id: Identifier | None = None
    invoice_id: Identifier | None = None
    due_at: Time | None = None
    cancellable: bool = False
    pool: Name | None = None
    escheat_class: Name | None = None
    dimensions: OwnDimensions | None = None

    def check(self) -> None:
        price = minor_units(self.price, self.currency, "price")
        if self.refundable:
            check_absent(self.pool is not None, "pool", "a refundable block cannot be pooled")
        if self.tax is not None and minor_units(self.tax, self.currency, "tax") > 0 and price == 0:
            raise InvalidValue(
                "data.tax on a price of 0", field="data.tax", expected="0 or absent", found=str(self.tax)
            )
        check_starts_before_expiry(self.starts_at, self.expires_at)


class CreditsGranted(EventData):
    """Credits given: promotional (no value), goodwill (for past service), or a share of another plan's price."""

    block_id: Identifier
    credits: Credits
    unit: Name = "credit"
    expires_at: Time | None = None
    starts_at: Time | None = None
    priority: int = Field(default=50, ge=0, le=1000)
    scope: Scope | None = None
    reason: Literal["promotional", "goodwill", "allocation"]
    value: Amount | None = None
    currency: Currency | None = None

    def check(self) -> None:
        if self.reason == "promotional":
            check_absent(self.value is not None, "value", "a promotional grant has no value")
        else:
            if self.value is None:
                raise missing_field("value", f"a grant for {self.reason} has a value")
            if self.currency is None:
                raise missing_field("currency", "an amount needs its currency")
            check_positive(minor_units(self.value, self.currency, "value"), "value")
        check_starts_before_expiry(self.starts_at, self.expires_at)


class CreditsConsumed(EventData):
    """Usage: credits are used. ``tax`` is due at redemption, and is a part of the drawn value."""

    credits: Credits
    unit: Name = "credit"
    product: Name | None = None
    block_id: Identifier | None = None
    invoice_id: Identifier | None = None
    overage_price: UnitPrice | None = None
    currency: Currency | None = None
    on_shortfall: Shortfall | None = None
    tax: Amount | None = None
    dimensions: OwnDimensions | None = None
    reservation_id: Identifier | None = None

    def check(self) -> None:
        if self.overage_price is not None:
            check_present(self.currency is not None, "currency", "an overage price needs its currency")
        if self.tax is not None and self.currency is not None:
            minor_units(self.tax, self.currency, "tax")


class CreditsReserved(EventData):
    """Credits are held for future usage, until usage settles the reservation, or it is released or expires."""

    reservation_id: Identifier
    credits: Credits
    unit: Name = "credit"
    product: Name | None = None
    expires_at: Time


class ReservationReleased(EventData):
    """A reservation is released: other usage may draw its credits."""

    reservation_id: Identifier


class CreditsExpired(EventData):
    """A block's remaining credits expired. Recorded by the expiry sweep; occurs at the block's expires_at."""

    block_id: Identifier


class ConsumptionReversed(EventData):
    """Usage is reversed, whole or in part: the last draw is restored first."""

    event_id: Identifier
    event_source: Identifier | None = None
    credits: Credits | None = None
    reason: Reason


class EventReversed(EventData):
    """A recorded event is undone: its entries are mirrored, and its changes are restored.

    Usage, expiries, reservations and the ledger's own events have other ways back. All other events can be undone, by
    their customer, as long as no later event builds on them.
    """

    event_id: Identifier
    event_source: Identifier | None = None
    reason: Reason


class PurchaseVoided(EventData):
    """Unused credits of a block are cancelled, all or some, with their tax pro rata; also goodwill and allocations."""

    block_id: Identifier
    credits: Credits | None = None
    reason: Reason


class BlockExpiryChanged(EventData):
    """A block's expiry is moved; null means never. Credits that had expired before are restored."""

    block_id: Identifier
    expires_at: Time | None
    reason: Reason


class PaymentReceived(EventData):
    """Money was received for a block, for an invoice, or unapplied.

    If the invoice is in another currency, the payment settles ``settles_amount`` in ``settles_currency``. ``elsewhere``
    is the part for invoices that this ledger does not keep, in the currency in which it settles them.
    """

    amount: Amount
    currency: Currency
    block_id: Identifier | None = None
    invoice_id: Identifier | None = None
    processor: Name | None = None
    fee: Amount | None = None
    payment_id: Identifier | None = None
    settles_amount: Amount | None = None
    settles_currency: Currency | None = None
    elsewhere: Amount | None = None

    def check(self) -> None:
        check_positive(minor_units(self.amount, self.currency, "amount"), "amount")
        check_other_currency(self, "settles_amount", "settles_currency")
        if self.settles_amount is not None:
            check_positive(self.settles_amount, "settles_amount")
        check_elsewhere(self.elsewhere, self.settles_amount or self.amount, self.settles_currency or self.currency)
        if self.fee is not None:
            minor_units(self.fee, self.currency, "fee")
            check_present(self.processor is not None, "processor", "a fee is kept by a processor")


class CreditsRefunded(EventData):
    """Unused credits are taken back. The part of their value that is not paid back is revenue."""

    block_id: Identifier
    credits: Credits | None = None
    amount: Amount | None = None
    currency: Currency | None = None
    reason: Reason | None = None

    def check(self) -> None:
        if self.amount is not None and self.currency is not None:
            minor_units(self.amount, self.currency, "amount")


class BlockRepriced(EventData):
    """Credits, price or tax are added to the rest of a block, from now on (ASC 606-10-25-13(a))."""

    block_id: Identifier
    add_credits: SignedCredits | None = None
    add_price: SignedAmount | None = None
    add_tax: SignedAmount | None = None
    reason: Reason

    def check(self) -> None:
        added = bool(self.add_credits or self.add_price or self.add_tax)
        check_present(added, "add_credits", "credits, a price or tax are added")


class CreditsTransferred(EventData):
    """Credits are transferred to another customer at their carrying amount: no profit, no loss."""

    block_id: Identifier
    to_customer: Identifier
    new_block_id: Identifier
    credits: Credits | None = None

    def check(self) -> None:
        if self.to_customer == "-":
            raise InvalidValue(
                "data.to_customer is no customer", field="data.to_customer", expected="a customer id", found="-"
            )


class PaymentApplied(EventData):
    """An unapplied payment, or a part of it, is applied to a block or an invoice."""

    payment_id: Identifier
    block_id: Identifier | None = None
    invoice_id: Identifier | None = None
    amount: Amount
    currency: Currency

    def check(self) -> None:
        check_positive(minor_units(self.amount, self.currency, "amount"), "amount")
        check_one_of(self, "block_id", "invoice_id")


class PayoutSettled(EventData):
    """A processor paid money into the bank; a negative amount was taken from the bank.

    ``arrived_amount`` in ``arrived_currency`` is the amount that arrived in the bank, if the currency is another one.
    """

    amount: SignedAmount
    currency: Currency
    processor: Name
    payout_id: Identifier
    arrived_amount: SignedAmount | None = None
    arrived_currency: Currency | None = None

    def check(self) -> None:
        check_positive(abs(minor_units(self.amount, self.currency, "amount")), "amount")
        check_other_currency(self, "arrived_amount", "arrived_currency")
        if self.arrived_amount is not None and self.arrived_amount * self.amount <= 0:
            raise InvalidValue(
                "data.arrived_amount has another sign than data.amount",
                field="data.arrived_amount",
                expected="the sign of data.amount",
                found=str(self.arrived_amount),
            )


class ProcessorAdjusted(EventData):
    """A processor's balance changed without a customer: a separate fee, tax on its fees, or an adjustment.

    ``amount`` is the change of the balance: a fee is negative. ``tax`` is the recoverable tax in it.
    """

    amount: SignedAmount
    currency: Currency
    processor: Name
    adjustment_id: Identifier
    kind: Literal["fee", "tax", "adjustment"]
    tax: Amount | None = None

    def check(self) -> None:
        amount = abs(minor_units(self.amount, self.currency, "amount"))
        check_positive(amount, "amount")
        if self.tax is not None:
            check_absent(self.kind == "tax", "tax", "all of the amount is tax")
            if minor_units(self.tax, self.currency, "tax") > amount:
                raise InvalidValue(
                    "data.tax is more than the amount that it is a part of",
                    field="data.tax",
                    expected=f"at most {abs(self.amount)}",
                    found=str(self.tax),
                )


class PaymentRefunded(EventData):
    """Money was paid back: a refund owed to the customer, an unapplied payment, or money for invoices kept elsewhere.

    ``elsewhere`` is the part that had been paid for invoices that this ledger does not keep.
    """

    amount: Amount
    currency: Currency
    block_id: Identifier | None = None
    payment_id: Identifier | None = None
    processor: Name | None = None
    refund_id: Identifier | None = None
    fee: Amount | None = None
    elsewhere: Amount | None = None

    def check(self) -> None:
        check_positive(minor_units(self.amount, self.currency, "amount"), "amount")
        check_elsewhere(self.elsewhere, self.amount, self.currency)
        if self.elsewhere is not None:
            check_present(self.payment_id is not None, "payment_id", "the payment that brought in what goes back")
        if self.fee is not None:
            minor_units(self.fee, self.currency, "fee")
            named = self.processor is not None or self.payment_id is not None
            check_present(named, "processor", "a fee is kept by a processor")


class DisputeOpened(EventData):
    """A payment is disputed: the processor withdraws it until the dispute is decided.

    ``processor`` names the processor, if several processors received money for the block.
    """

    dispute_id: Identifier
    payment_id: Identifier | None = None
    block_id: Identifier | None = None
    processor: Name | None = None
    amount: Amount | None = None
    currency: Currency | None = None
    fee: Amount | None = None

    def check(self) -> None:
        if self.payment_id is not None:
            check_absent(self.processor is not None, "processor", "the payment says it already")
        check_one_of(self, "payment_id", "block_id")
        check_disputed(self.amount, self.fee, self.currency)


class _DisputeClosed(EventData):
    """A dispute is decided, for one side or in parts."""

    dispute_id: Identifier
    payment_id: Identifier | None = None
    block_id: Identifier | None = None
    amount: Amount | None = None
    currency: Currency | None = None
    fee: Amount | None = None

    def check(self) -> None:
        check_disputed(self.amount, self.fee, self.currency)


class DisputeWon(_DisputeClosed):
    """A dispute is won: the processor returns ``amount``, or the whole disputed amount; the rest is lost."""


class DisputeLost(_DisputeClosed):
    """A dispute is lost: the customer keeps ``amount``, or the whole disputed amount; the rest is won."""


class ReceivableWrittenOff(EventData):
    """A receivable of a block or an invoice is written off: its tax, its unused and its used value, in this order."""

    block_id: Identifier | None = None
    invoice_id: Identifier | None = None
    amount: Amount | None = None
    tax_relief: bool = True
    reason: Reason

    def check(self) -> None:
        check_one_of(self, "block_id", "invoice_id")


class CreditMemoIssued(EventData):
    """A price concession on consumed value (ASC 606-10-32-6); the liability is untouched."""

    block_id: Identifier | None = None
    invoice_id: Identifier | None = None
    amount: Amount
    currency: Currency
    tax: Amount | None = None
    reason: Reason

    def check(self) -> None:
        check_positive(minor_units(self.amount, self.currency, "amount"), "amount")
        if self.tax is not None:
            minor_units(self.tax, self.currency, "tax")
        if self.block_id is not None:
            check_absent(self.invoice_id is not None, "invoice_id", "the block says it already")


class OverageBilled(EventData):
    """Overage is invoiced. It is due at ``due_at``, by default at once."""

    invoice_id: Identifier
    amount: Amount
    currency: Currency
    tax: Amount | None = None
    due_at: Time | None = None

    def check(self) -> None:
        check_positive(minor_units(self.amount, self.currency, "amount"), "amount")
        if self.tax is not None:
            minor_units(self.tax, self.currency, "tax")


class BreakageEstimated(EventData):
    """The expected breakage of a pool's cohorts over their life, with its evidence (ASC 606-10-55-48, IFRS 15 B46)."""

    pool: Name
    cohort: CohortName | None = None
    cohorts: Literal["month", "quarter", "year", "none"] | None = None
    expected_breakage: Amount | None = None
    expected_breakage_rate: Rate | None = None
    expected_escheat: Amount | None = None
    expected_escheat_rate: Rate | None = None
    currency: Currency
    evidence: Reason

    def check(self) -> None:
        check_one_of(self, "expected_breakage", "expected_breakage_rate")
        if self.expected_breakage is not None:
            minor_units(self.expected_breakage, self.currency, "expected_breakage")
        if self.expected_escheat is not None:
            minor_units(self.expected_escheat, self.currency, "expected_escheat")
            check_absent(self.expected_escheat_rate is not None, "expected_escheat_rate", "an amount is given")


class CreditsEscheated(EventData):
    """The remainder of a block goes to a state as unclaimed property."""

    block_id: Identifier


class _EscheatPaid(EventData):
    """An escheated amount is paid."""

    block_id: Identifier
    amount: Amount
    currency: Currency

    def check(self) -> None:
        check_positive(minor_units(self.amount, self.currency, "amount"), "amount")


class EscheatReclaimed(_EscheatPaid):
    """An escheated amount is claimed back by the customer."""


class EscheatRemitted(_EscheatPaid):
    """An escheated amount is paid to the state."""


class ExchangeRateSet(EventData):
    """The price of one unit of ``base`` in ``quote``, the ledger's functional currency, from this day on."""

    base: Currency
    quote: Currency
    rate: UnitPrice
    rate_source: Name

    def check(self) -> None:
        if not self.rate:
            raise InvalidValue("data.rate must be more than 0", field="data.rate", expected="more than 0", found="0")
        if self.base == self.quote:
            raise InvalidValue(
                "data.quote is data.base", field="data.quote", expected="another currency", found=self.quote
            )


EVENT_TYPES: Final[dict[str, type[EventData]]] = {
    "credits.purchased": CreditsPurchased,
    "credits.granted": CreditsGranted,
    "credits.consumed": CreditsConsumed,
    "credits.reserved": CreditsReserved,
    "reservation.released": ReservationReleased,
    "credits.expired": CreditsExpired,
    "consumption.reversed": ConsumptionReversed,
    "event.reversed": EventReversed,
    "purchase.voided": PurchaseVoided,
    "credits.refunded": CreditsRefunded,
    "block.expiry_changed": BlockExpiryChanged,
    "block.repriced": BlockRepriced,
    "credits.transferred": CreditsTransferred,
    "payment.received": PaymentReceived,
    "payment.applied": PaymentApplied,
    "payout.settled": PayoutSettled,
    "processor.adjusted": ProcessorAdjusted,
    "payment.refunded": PaymentRefunded,
    "dispute.opened": DisputeOpened,
    "dispute.won": DisputeWon,
    "dispute.lost": DisputeLost,
    "receivable.written_off": ReceivableWrittenOff,
    "credit_memo.issued": CreditMemoIssued,
    "overage.billed": OverageBilled,
    "breakage.estimated": BreakageEstimated,
    "credits.escheated": CreditsEscheated,
    "escheat.reclaimed": EscheatReclaimed,
    "escheat.remitted": EscheatRemitted,
    "exchange_rate.set": ExchangeRateSet,
    "balance.opened": BalanceOpened,
}

LEDGER_WIDE: Final = frozenset({"payout.settled", "processor.adjusted", "breakage.estimated", "exchange_rate.set"})
"""Events of the ledger as a whole: they have no customer."""

SUBJECT_OPTIONAL: Final = {
    "event.reversed": "the customer of the other event; absent, or -, if that one has none",
    "balance.opened": "the customer; absent, or -, for a balance of the ledger as a whole",
}
"""Events that may have a customer or none, depending on their data; with their subject in words."""


def is_ledger_wide(type: str, data: EventData) -> bool:
    """True if an event with these data belongs to the ledger as a whole."""
    return type in LEDGER_WIDE or (isinstance(data, BalanceOpened) and data.is_of_the_ledger)
