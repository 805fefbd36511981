"""Payment processors: payouts, and changes of their balance without a customer.

Owns: these decisions, and the fees of refunds. Does not own: the fees of payments (payments) and disputes (disputes).
Pure.
"""

from __future__ import annotations

from subledger import errors
from subledger.deciding.context import Context, Dates, decision, is_new_document, minor
from subledger.events.data import PaymentRefunded, PayoutSettled, ProcessorAdjusted
from subledger.events.envelope import Event
from subledger.wallet import Decision, Movement, Wallet


def pay_out(wallet: Wallet, event: Event[PayoutSettled], context: Context, dates: Dates) -> Decision:  # noqa: ARG001 - one shape for all
    """Moves money from a processor to the bank, or back. If the currency changes, the event states both amounts."""
    data = event.data
    is_new_document(event, context)
    amount = minor(data.amount, data.currency, "amount")
    if data.arrived_amount is None or data.arrived_currency is None:
        return decision(context, [_of_processor("payout", amount, data, data.processor, dates)])
    arrived = minor(data.arrived_amount, data.arrived_currency, "arrived_amount")
    paid = exchanged(-amount, data.currency, dates, processor=data.processor)
    return decision(context, [paid, exchanged(arrived, data.arrived_currency, dates)])


def exchanged(amount: int, currency: str, dates: Dates, *, processor: str | None = None) -> Movement:
    """One side of an exchange: the amount that comes into a processor or the bank, or goes out (negative).

    An outgoing amount is relieved at its carrying amount. The two sides differ by the exchange gain or loss.
    """
    return Movement(
        kind="exchange" if processor is None else "exchange_processor",
        amount_minor=amount,
        accounting_date=dates.on(),
        currency=currency,
        processor=processor,
    )


def adjust(wallet: Wallet, event: Event[ProcessorAdjusted], context: Context, dates: Dates) -> Decision:  # noqa: ARG001 - one shape for all
    """Changes a processor's balance by its own fee, the tax on its fees, or an adjustment.

    Entries have the company's view: a reduction of the balance is an expense, so its amount is positive.
    """
    data = event.data
    is_new_document(event, context)
    charged = -minor(data.amount, data.currency, "amount")
    tax = minor(data.tax, data.currency, "tax") if data.kind != "tax" else abs(charged)
    tax = tax if charged > 0 else -tax
    parts = (("processor_adjustment", charged - tax), ("processor_tax", tax))
    return decision(context, [_of_processor(kind, part, data, data.processor, dates) for kind, part in parts if part])


def refund_fee(data: PaymentRefunded, processor: str | None, dates: Dates) -> list[Movement]:
    """The fee that a processor charges for a refund, if the event names one. Raises InvalidValue without a processor.

    ``processor``: the processor that paid the refund, named by the event or by its payment.
    """
    fee = minor(data.fee, data.currency, "fee")
    if not fee:
        return []
    if processor is None:
        raise errors.InvalidValue(
            "data.fee of a refund that no processor paid: the payment came into the bank",
            field="data.fee",
            expected="a processor, or no fee",
            found=str(data.fee),
        )
    return [_of_processor("refund_fee", fee, data, processor, dates)]


def _of_processor(
    kind: str, amount: int, data: PayoutSettled | ProcessorAdjusted | PaymentRefunded, processor: str, dates: Dates
) -> Movement:
    """A movement of a processor's balance, on the day of the event."""
    return Movement(
        kind=kind, amount_minor=amount, accounting_date=dates.on(), currency=data.currency, processor=processor
    )
