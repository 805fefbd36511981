"""The meaning of each field of an event, and the possible refusals of each type: reference for callers.

Owns: these words and examples. Does not own: the fields (data), the refusals (deciding). Tests compare the fields with
the models, and the refusals with those of random histories.
"""

from __future__ import annotations

from typing import Final

FIELDS: Final[dict[str, str]] = {
    "add_credits": "credits added to the block's remaining credits, or removed from them",
    "add_price": "amount added to the price, or subtracted from it",
    "add_tax": "tax added with the price, or subtracted with it; absent: in proportion to the block's tax",
    "adjustment_id": "the processor's id of the adjustment; it is recorded once",
    "arrived_amount": "what a payout became in the bank, in another currency",
    "arrived_currency": "the currency of what arrived in the bank",
    "amount": "the amount of money; of processor.adjusted what the processor's balance changed by, of balance.opened "
    "the balance on the side on which the role normally stands",
    "base": "the currency whose rate is set",
    "block_id": "the credit block",
    "bonus_credits": "credits on top, which share the price",
    "cancellable": "whether the customer may cancel as long as the purchase is not paid: its receivable and liability "
    "are shown net until then",
    "carrying_amount": "the value that the block has left; absent: its price less what was drawn",
    "cohort": "the cohort of the estimate or of the opened breakage, or the month in which an opened block was issued; "
    "absent: a rate is for all that have not ended, an amount for the only one, a block is of the month of its opening",
    "cohorts": "the period whose blocks of the pool are one cohort, set by its first estimate; absent: that of its "
    "cohort, else month for a rate, and none (the pool as a whole) for an amount",
    "conceded": "the used, expired or billed value that memos, lost disputes and write-offs conceded before",
    "conceded_tax": "the tax that they took back with it",
    "credit_kind": "how the customer got the credits: bought, or granted for a reason",
    "credits": "the quantity of credits; of an opened block those that its price is for, used ones too",
    "currency": "the currency of the amounts of this event",
    "dimensions": "the company's own dimensions, by the names that the ledger has; usage without them has its block's",
    "dispute_id": "the processor's id of the dispute",
    "drawn": "the part of the price that was used before",
    "due_at": "the moment at which the price is due; absent: at once. Receivables age from it",
    "earlier_drawn": "what was used at another price, before the block was repriced",
    "escheat_class": "the class of unclaimed property that the remainder becomes at expiry, instead of breakage",
    "escheated": "what of the cohort went to a state before",
    "event_id": "the id of the event that is reversed",
    "event_source": "the source of that event; absent: the source of this event",
    "evidence": "the study behind the estimate",
    "expected_breakage": "the amount that is expected to expire, over the life of the pool",
    "expected_breakage_rate": "the part of what is issued that is expected to expire",
    "expected_escheat": "the amount that is expected to go to a state",
    "expected_escheat_rate": "the part of what is issued that is expected to go to a state",
    "expired": "what of the cohort has expired before; of a block what has expired or was kept at a refund",
    "expires_at": "the first moment at which the credits can no longer be used; null or absent: never",
    "elsewhere": "the part for invoices that this ledger does not keep, in the currency in which the payment settles",
    "fee": "the part that the processor keeps, or charges",
    "functional_amount": "the balance in the ledger's functional currency; absent: at the rate of the day",
    "functional_price": "the price in the functional currency; absent: in proportion to the functional amount",
    "invoice_id": "the invoice",
    "kind": "the reason: a fee that the processor charges, recoverable tax on its fees, or any other adjustment",
    "new_block_id": "the id of the block that the other customer gets",
    "on_shortfall": "what to do where the credits do not suffice; absent: the ledger's setting",
    "order_id": "the order, for reference",
    "overage_price": "the price of one credit beyond the credits",
    "payment_id": "the id of the payment, by which later events refer to it",
    "payout_id": "the processor's id of the payout; it is recorded once",
    "pool": "the pool for whose blocks breakage is estimated together",
    "price": "the price of the block without tax",
    "priority": "the order in which blocks are drawn: lower ones first",
    "processor": "the payment processor; absent: the bank",
    "product": "the product that was used",
    "quote": "the ledger's functional currency",
    "rate": "the amount of the quote currency that one unit of the base currency is worth",
    "rate_source": "the publisher of the rate",
    "reason": "the reason, for the record",
    "redeemed": "what of the cohort was redeemed before",
    "redemption_tax": "the tax in what was drawn that was due when credits were used",
    "refund_id": "the id of the refund; it is recorded once",
    "refundable": "whether unused credits are owed back: then the liability is monetary",
    "remaining": "the credits that the block has left; absent: those that were not used",
    "reservation_id": "the id of the reservation; usage that names it settles it",
    "role": "the account role whose balance is opened",
    "scope": "the products that the credits may be used for; absent: any",
    "settles_amount": "what the payment is worth on an invoice in another currency, and is booked as there",
    "settles_currency": "the currency of that invoice",
    "starts_at": "the first moment at which the credits can be used; absent: the time of the event",
    "tax": "tax on top of the amount or price, of the same currency; of processor.adjusted the tax in the amount, of "
    "credits.consumed the tax due at redemption, a part of the value that is drawn",
    "tax_relief": "whether the tax of what is written off is taken back from the tax authority",
    "to_customer": "the customer who gets the credits",
    "unit": "the unit that the credits count",
    "used": "the credits that were used before",
    "value": "the value of the credits: the share of the other plan's price, or what the goodwill is worth",
}

EXAMPLES: Final[dict[str, str]] = {
    "arrived_amount": "156.00",
    "settles_amount": "130.00",
    "settles_currency": "EUR",
    "adjustment_id": "txn_1Nv0",
    "base": "EUR",
    "block_id": "blk-7",
    "cohort": "2026-01",
    "dispute_id": "dp_1Nv0",
    "escheat_class": "US-DE",
    "event_id": "use-2026-01-15-0042",
    "event_source": "metering",
    "evidence": "expiries of 2024 and 2025, reviewed in December",
    "id": "evt-1001",
    "invoice_id": "inv-2026-031",
    "new_block_id": "blk-8",
    "order_id": "ord-118",
    "payment_id": "pay-553",
    "payout_id": "po_1Nv0",
    "pool": "starter-2026",
    "processor": "stripe",
    "product": "api",
    "quote": "USD",
    "rate": "1.0842",
    "rate_source": "ECB",
    "refund_id": "re_1Nv0",
    "reservation_id": "job-7781",
    "scope": "api",
    "source": "billing",
    "subject": "cust-42",
    "tax": "19.00",
    "fee": "3.20",
    "to_customer": "cust-43",
    "type": "credits.purchased",
    "unit": "credit",
}
"""Examples of field values, for fields for which the example of their kind would be misleading."""

_BLOCK: Final = ("unknown_block", "block_of_another_customer")
_LIVE: Final = ("no_credits_left", "block_disputed")
_INVOICE: Final = (*_BLOCK, "unknown_invoice")

REFUSALS: Final[dict[str, tuple[str, ...]]] = {
    "credits.purchased": ("unknown_field", "block_exists", "wrong_currency", "exchange_rate_missing"),
    "credits.granted": ("block_exists", "exchange_rate_missing"),
    "credits.consumed": (
        "unknown_field", *_BLOCK, "unknown_reservation", "reservation_differs", "wrong_currency", "too_many_decimals",
        "exceeds_value", "insufficient_credits", "overage_price_missing", "exchange_rate_missing",
    ),
    "credits.reserved": ("document_exists", "insufficient_credits", "too_many_reservations"),
    "reservation.released": ("unknown_reservation", "reservation_ended"),
    "credits.expired": (*_BLOCK, "not_yet_expired", "no_credits_left"),
    "consumption.reversed": (
        "unknown_original", "not_reversible", "reversal_exceeds_original", "overage_settled", "conceded",
        "exchange_rate_missing",
    ),
    "event.reversed": ("unknown_original", "not_reversible", "already_reversed", "changed_since"),
    "purchase.voided": (*_BLOCK, *_LIVE, "insufficient_credits", "exchange_rate_missing"),
    "credits.refunded": (
        *_BLOCK, "not_a_purchase", "wrong_currency", "too_many_decimals", "exceeds_value", *_LIVE,
        "insufficient_credits", "exchange_rate_missing",
    ),
    "block.expiry_changed": (*_BLOCK, "conceded", "exchange_rate_missing"),
    "block.repriced": (
        *_BLOCK, "not_a_purchase", "too_many_decimals", "exceeds_value", "exceeds_receivable", *_LIVE,
        "insufficient_credits", "conceded", "exchange_rate_missing",
    ),
    "credits.transferred": (*_BLOCK, "block_exists", *_LIVE, "insufficient_credits", "exchange_rate_missing"),
    "payment.received": (*_INVOICE, "document_exists", "wrong_currency", "exchange_rate_missing"),
    "payment.applied": (
        "unknown_payment", *_INVOICE, "wrong_currency", "exceeds_payment", "exceeds_receivable",
        "exchange_rate_missing",
    ),
    "payout.settled": ("document_exists", "exchange_rate_missing"),
    "processor.adjusted": ("document_exists", "exchange_rate_missing"),
    "payment.refunded": (
        "unknown_payment", *_BLOCK, "document_exists", "wrong_currency", "nothing_owed", "exchange_rate_missing",
    ),
    "dispute.opened": (
        "unknown_payment", *_BLOCK, "not_a_purchase", "document_exists", "wrong_currency", "exceeds_payment",
        "too_many_decimals", "exchange_rate_missing",
    ),
    "dispute.won": (
        "unknown_dispute", "dispute_decided", "wrong_currency", "exceeds_payment", "too_many_decimals",
        "exchange_rate_missing",
    ),
    "dispute.lost": (
        "unknown_dispute", "dispute_decided", "wrong_currency", "exceeds_payment", "too_many_decimals",
        "exchange_rate_missing",
    ),
    "receivable.written_off": (
        *_INVOICE, "wrong_currency", "too_many_decimals", "exceeds_receivable", "block_disputed",
        "exchange_rate_missing",
    ),
    "credit_memo.issued": (
        "missing_field", *_INVOICE, "not_a_purchase", "wrong_currency", "exceeds_value", "block_disputed",
        "exchange_rate_missing",
    ),
    "overage.billed": ("document_exists", "exceeds_overage", "exchange_rate_missing"),
    "breakage.estimated": (
        "unknown_cohort", "cohorts_fixed", "wrong_currency", "estimate_too_high", "estimate_too_low",
        "exchange_rate_missing",
    ),
    "credits.escheated": (*_BLOCK, "not_a_purchase", *_LIVE, "exchange_rate_missing"),
    "escheat.reclaimed": (*_BLOCK, "wrong_currency", "exceeds_value", "block_disputed", "exchange_rate_missing"),
    "escheat.remitted": (*_BLOCK, "wrong_currency", "exceeds_value", "block_disputed", "exchange_rate_missing"),
    "exchange_rate.set": ("wrong_currency",),
    "balance.opened": (
        "unknown_field", *_BLOCK, "unknown_invoice", "block_exists", "not_a_purchase", "document_exists",
        "unknown_cohort", "cannot_be_opened", "wrong_currency", "too_many_decimals", "exceeds_value",
        "exchange_rate_missing",
    ),
}  # fmt: skip
"""The codes of refusals by event type, besides those of every event; in the order of the classes of ``errors``:
references, currency, amounts, credits, a missing exchange rate.
"""

OF_EVERY_EVENT: Final = ("invalid_value", "event_conflict", "in_the_future", "approval_refused")
"""The possible refusals of any readable event."""
