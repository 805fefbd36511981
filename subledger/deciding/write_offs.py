"""Write-offs: receivables that will not be collected, of a block or of an invoice.

Owns: this decision. Does not own: the division of a block's loss (disputes), recoveries (receivables). Pure.
"""

from __future__ import annotations

from subledger import errors
from subledger.billing_documents import Invoice
from subledger.deciding.context import Context, Dates, at_most, decision, is_not_disputed, minor
from subledger.deciding.disputes import given_up, tax_in_loss
from subledger.deciding.receivables import receivables_of
from subledger.events.data import ReceivableWrittenOff
from subledger.events.envelope import Event
from subledger.money import format_minor
from subledger.wallet import Decision, Movement, Wallet


def write_off(wallet: Wallet, event: Event[ReceivableWrittenOff], context: Context, dates: Dates) -> Decision:
    """Writes off a receivable: its tax pro rata, then unused value (its credits are cancelled), then used value.

    For an invoice, first its blocks, oldest first, then its overage.
    """
    data = event.data
    receivables = receivables_of(wallet, data, context)
    currency, owed = receivables[0].currency, sum(receivable.open_minor for receivable in receivables)
    for receivable in receivables:
        if receivable.currency != currency:
            raise errors.WrongCurrency(
                f"invoice {data.invoice_id} is in {currency} and {receivable.currency}; write off its blocks",
                field="data.invoice_id",
                expected="an invoice in one currency",
                found=str(data.invoice_id),
            )
    amount = owed if data.amount is None else minor(data.amount, currency, "amount")
    name = f"block {data.block_id}" if data.block_id is not None else f"invoice {data.invoice_id}"
    sentence = f"the write-off exceeds the open receivable of {name}"
    at_most(amount, owed, currency, errors.ExceedsReceivable, sentence)
    if amount <= 0:
        raise errors.ExceedsReceivable(
            f"{name} has no open receivable",
            field="data.block_id" if data.block_id is not None else "data.invoice_id",
            expected="an open receivable",
            found=format_minor(owed, currency),
        )
    tax_kind = "write_off_tax" if data.tax_relief else "write_off_tax_borne"
    movements: list[Movement] = []
    for receivable in receivables:
        part = min(amount, receivable.open_minor)
        if not part:
            continue
        amount -= part
        if isinstance(receivable.of, Invoice):
            movements += _of_overage(receivable.of, part, tax_kind, dates)
        else:
            is_not_disputed(receivable.of)
            kinds = ("write_off_unused", "write_off_used", tax_kind)
            movements += given_up(receivable.of, part, kinds, wallet, event, context, dates)
    return decision(context, movements)


def _of_overage(invoice: Invoice, amount: int, tax_kind: str, dates: Dates) -> list[Movement]:
    """The loss of an invoice of overage: its tax pro rata, and its revenue."""
    tax = tax_in_loss(invoice, amount)
    return [
        Movement(
            kind=kind,
            amount_minor=part,
            accounting_date=dates.on(invoice.invoiced_on),
            currency=invoice.currency,
            invoice_id=invoice.invoice_id,
        )
        for kind, part in (("write_off_overage", amount - tax), (tax_kind, tax))
        if part
    ]
