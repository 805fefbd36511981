"""Evolving documents: the change of a wallet's payments, invoices, disputes and reservations by a decision.

Owns: the facts that later events read of a document, and the amounts that an open dispute holds. Does not own: the
effect of movements on blocks and overages (evolving), the values (billing_documents). Pure and total, like evolving.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from msgspec.structs import replace

from subledger.billing_documents import Dispute, DocumentPart, Invoice, Payment, Reservation
from subledger.blocks import ZERO
from subledger.errors import present
from subledger.events.data import (
    CreditsConsumed,
    CreditsReserved,
    DisputeLost,
    DisputeOpened,
    DisputeWon,
    OverageBilled,
    PaymentApplied,
    PaymentReceived,
    PaymentRefunded,
    ReservationReleased,
)
from subledger.events.envelope import Event
from subledger.events.opened import BalanceOpened
from subledger.kinds import KIND_BY_NAME, Effect
from subledger.money import credits_share
from subledger.reserved import still_needed
from subledger.wallet import Decision, Movement, Wallet
from subledger.written_off import written_off_after


def remember_document(wallet: Wallet, event: Event, decision: Decision, functional_currency: str) -> Wallet:
    """The wallet with the payments, invoices, disputes and reservations that later events may refer to."""
    movements = decision.movements
    match event.data:
        case PaymentReceived() as received if received.payment_id is not None:
            payment = Payment(
                payment_id=received.payment_id,
                currency=received.settles_currency or received.currency,
                processor=received.processor,
                applied=_parts(movements, Effect.APPLIES_PAYMENT),
                open_minor=_sum(movements, Effect.LEAVES_UNAPPLIED) - _applied_later(movements),
                elsewhere_minor=_sum(movements, Effect.PAYS_ELSEWHERE),
                received_on=min(movement.accounting_date for movement in movements),
            )
            wallet = wallet.with_document(payment)
        case PaymentApplied() | PaymentRefunded() as spent if spent.payment_id is not None:
            payment = wallet.state_of_document(Payment, spent.payment_id)
            applied = _parts(movements, Effect.APPLIES_PAYMENT)
            amount = sum(part.amount_minor for part in applied) + _sum(movements, Effect.PAYS_BACK_UNAPPLIED)
            returned = tuple(
                DocumentPart(block_id=m.block_id, invoice_id=m.invoice_id, amount_minor=m.amount_minor)
                for m in movements
                if KIND_BY_NAME[m.kind].debit_role == "refunds_payable" and (m.block_id or m.invoice_id)
            )
            changed = replace(
                payment,
                applied=payment.applied + applied,
                returned=payment.returned + returned,
                open_minor=payment.open_minor - amount,
                elsewhere_minor=payment.elsewhere_minor + _sum(movements, Effect.PAYS_ELSEWHERE),
                paid_back_minor=payment.paid_back_minor
                + _sum(movements, Effect.PAYS_BACK_UNAPPLIED)
                - _sum(movements, Effect.PAYS_ELSEWHERE),
            )
            wallet = wallet.with_document(changed)
            if payment.processor is not None and isinstance(spent, PaymentApplied):
                for part in applied:
                    if part.block_id is not None:
                        block = wallet.state_of_block(part.block_id)
                        paid = block.paid_through(payment.processor, part.amount_minor)
                        wallet = wallet.with_block(paid.charged_through(payment.processor, -part.amount_minor))
        case CreditsReserved() as asked:
            reservation = reservation_of(asked, event.occurred_at)
            still_open = still_needed(wallet.reservations, event.occurred_at)
            wallet = replace(wallet.with_document(reservation), reservations=(*still_open, reservation))
        case ReservationReleased() | CreditsConsumed() as ending if ending.reservation_id is not None:
            wallet = _without_reservation(wallet, event, ending.reservation_id, movements)
        case OverageBilled() as billed:
            invoiced_on = max(movement.accounting_date for movement in movements)
            invoice = Invoice(
                invoice_id=billed.invoice_id, currency=billed.currency, invoiced_on=invoiced_on, due_at=billed.due_at
            )
            wallet = wallet.with_document(invoice)
        case BalanceOpened() as balance if balance.document is not None:
            wallet = wallet.with_document(_opened(balance, movements[0]))
        case DisputeOpened() as opened:
            dispute = Dispute(
                dispute_id=opened.dispute_id,
                currency=movements[0].currency or functional_currency,
                processor=movements[0].processor,
                payment_id=opened.payment_id,
                parts=_parts(movements, Effect.OPENS_DISPUTE),
                from_bank=any(movement.kind == "dispute_opened_cash" for movement in movements),
                opened_on=max(movement.accounting_date for movement in movements if movement.kind != "transfer_out"),
                called_back=tuple(
                    (m.block_id or "", m.customer or wallet.customer, m.credits)
                    for m in movements
                    if m.kind == "transfer_out" and m.credits > 0
                ),
            )
            stated = {m.block_id: m.frozen for m in movements if m.frozen is not None}
            wallet, dispute = _frozen(wallet, dispute, stated)
            wallet = _with_disputed(wallet, dispute, dispute.parts).with_document(dispute)
        case DisputeWon() | DisputeLost() as ended:
            dispute = wallet.state_of_document(Dispute, ended.dispute_id)
            ended_on = max(movement.accounting_date for movement in movements)
            frozen = dict(dispute.frozen)
            for number, part in enumerate(dispute.parts):
                if part.block_id is not None and not part.given_back:
                    block = wallet.state_of_block(part.block_id).breakable_after(ended_on)
                    freed = frozen.get(part.block_id, ZERO)
                    wallet = wallet.with_block(
                        replace(block, disputes=block.disputes - 1, frozen=max(block.frozen - freed, ZERO))
                    )
                if number in dispute.holds:
                    wallet = _with_held_refunds(wallet, part, -1)
                if part.is_unapplied:
                    wallet = _with_held_balance(wallet, dispute.currency, -part.amount_minor)
            won = _parts(movements, Effect.WINS_DISPUTE)
            won = tuple(replace(part, amount_minor=-part.amount_minor) for part in won)
            wallet = _with_disputed(wallet, dispute, won)
            if dispute.payment_id is not None:
                wallet = _without_balance(wallet, dispute.payment_id, movements)
            decided = "won" if isinstance(ended, DisputeWon) else "lost"
            wallet = wallet.with_document(replace(dispute, decided=decided))
    for movement in movements:
        kind = KIND_BY_NAME[movement.kind]
        paid_back = kind.debit_role == "refunds_payable" and kind.credit_role != "disputes_receivable"
        if movement.invoice_id is not None and not paid_back:
            wallet = wallet.with_document(_invoiced(wallet, movement))
    return wallet


def reservation_of(asked: CreditsReserved, at: datetime) -> Reservation:
    """The reservation of an event that happened at a moment."""
    return Reservation(
        reservation_id=asked.reservation_id,
        credits=asked.credits,
        unit=asked.unit,
        product=asked.product,
        reserved_at=at,
        expires_at=asked.expires_at,
    )


def _without_reservation(wallet: Wallet, event: Event, reservation_id: str, movements: tuple[Movement, ...]) -> Wallet:
    """The wallet after a reservation was settled or released; unchanged if it had ended before."""
    if not any(_with_effect(movements, Effect.ENDS_RESERVATION)):
        return wallet
    ended = replace(wallet.state_of_document(Reservation, reservation_id), ended_by=f"{event.type} {event.event_id}")
    others = tuple(r for r in wallet.reservations if r.reservation_id != reservation_id)
    return replace(wallet.with_document(ended), reservations=still_needed(others, event.occurred_at))


def _opened(data: BalanceOpened, movement: Movement) -> Payment | Invoice:
    """The payment or the invoice whose balance was opened. The invoice has no receivable yet."""
    on = movement.accounting_date
    kind, document_id = present(data.document, "the opening makes no document")
    if kind == "payment":
        return Payment(
            payment_id=document_id,
            currency=data.currency,
            processor=data.processor,
            open_minor=movement.amount_minor,
            received_on=on,
        )
    billed = data.minor("price") if data.price is not None else movement.amount_minor - data.minor("tax")
    return Invoice(
        invoice_id=document_id,
        currency=data.currency,
        billed_minor=billed,
        tax_minor=data.minor("tax"),
        conceded_minor=data.minor("conceded"),
        tax_taken_minor=data.minor("conceded_tax"),
        invoiced_on=on,
        due_at=data.due_at,
    )


def _frozen(wallet: Wallet, dispute: Dispute, stated: dict[str | None, Decimal]) -> tuple[Wallet, Dispute]:
    """Freezes the blocks and the refunds of a new dispute. Returns the wallet, and the dispute with the frozen parts.

    ``stated`` has the credits that the decision freezes, by block. Older decisions do not state them. They freeze the
    disputed share of the remaining credits of their block.
    """
    called_back = {block_id for block_id, _, _ in dispute.called_back}
    froze: list[tuple[str, Decimal]] = []
    holds: list[int] = []
    for number, part in enumerate(dispute.parts):
        if part.given_back:
            continue
        owed = sum(r.amount_minor for r in wallet.refunds_owed if (r.block_id, r.invoice_id) == _key(part))
        if owed and not part.elsewhere:
            wallet = _with_held_refunds(wallet, part, 1)
            holds.append(number)
        if part.is_unapplied:
            wallet = _with_held_balance(wallet, dispute.currency, part.amount_minor)
        if part.block_id is None:
            continue
        block, amount = wallet.state_of_block(part.block_id), max(part.amount_minor - owed, 0)
        # If the whole block is disputed, credits that come back to it are frozen too.
        whole = amount >= block.claim_minor
        frozen = block.credits if whole else credits_share(block.remaining, amount, block.claim_minor)
        if not called_back.isdisjoint(block_id for block_id, _ in block.handed):
            frozen = block.credits if whole else block.remaining  # it had too few, so credits were called back
        frozen = stated.get(part.block_id, frozen)
        wallet = wallet.with_block(replace(block, frozen=block.frozen + frozen))
        froze.append((part.block_id, frozen))
    return wallet, replace(dispute, frozen=tuple(froze), holds=tuple(holds))


def _key(part: DocumentPart) -> tuple[str | None, str | None]:
    return (part.block_id, part.invoice_id)


def _with_held_balance(wallet: Wallet, currency: str, change: int) -> Wallet:
    """The wallet after the unapplied money that open disputes hold has changed. Such money is not paid back."""
    held = {**wallet.balance_held, currency: wallet.balance_held.get(currency, 0) + change}
    return replace(wallet, balance_held={name: amount for name, amount in sorted(held.items()) if amount})


def _with_held_refunds(wallet: Wallet, part: DocumentPart, change: int) -> Wallet:
    """The wallet after a dispute holds the refunds of a part (1) or frees them (-1). Held refunds are not paid."""
    refunds = tuple(
        replace(r, disputes=max(r.disputes + change, 0)) if (r.block_id, r.invoice_id) == _key(part) else r
        for r in wallet.refunds_owed
    )
    return wallet if refunds == wallet.refunds_owed else replace(wallet, refunds_owed=refunds)


def _without_balance(wallet: Wallet, payment_id: str, movements: tuple[Movement, ...]) -> Wallet:
    """The wallet after a disputed payment lost an amount of its unapplied part."""
    lost = sum(movement.amount_minor for movement in movements if movement.kind == "dispute_lost_balance")
    if not lost:
        return wallet
    payment = wallet.state_of_document(Payment, payment_id)
    disputed = (*payment.disputed, DocumentPart(amount_minor=-lost))
    return wallet.with_document(replace(payment, disputed=disputed, open_minor=payment.open_minor - lost))


def _with_disputed(wallet: Wallet, dispute: Dispute, parts: tuple[DocumentPart, ...]) -> Wallet:
    """The wallet with these parts added to the disputed payment, if the dispute names one."""
    if dispute.payment_id is None:
        return wallet
    payment = wallet.state_of_document(Payment, dispute.payment_id)
    return wallet.with_document(replace(payment, disputed=payment.disputed + parts))


def _with_effect(movements: tuple[Movement, ...], effect: Effect) -> Iterator[Movement]:
    return (movement for movement in movements if KIND_BY_NAME[movement.kind].effect is effect)


def _parts(movements: tuple[Movement, ...], effect: Effect) -> tuple[DocumentPart, ...]:
    return tuple(
        DocumentPart(
            block_id=m.block_id,
            invoice_id=m.invoice_id,
            amount_minor=m.amount_minor,
            elsewhere=m.elsewhere,
            given_back=m.given_back,
        )
        for m in _with_effect(movements, effect)
    )


def _sum(movements: tuple[Movement, ...], effect: Effect) -> int:
    return sum(movement.amount_minor for movement in _with_effect(movements, effect))


def _applied_later(movements: tuple[Movement, ...]) -> int:
    """The part of a payment that the same event applies on a later day, the day of its invoice."""
    return sum(movement.amount_minor for movement in movements if movement.kind == "payment_applied")


def _invoiced(wallet: Wallet, movement: Movement) -> Invoice:
    """The invoice of billed overage after a movement on it."""
    invoice = wallet.state_of_document(Invoice, movement.invoice_id or "")
    kind, amount = KIND_BY_NAME[movement.kind], movement.amount_minor
    owed = (kind.debit_role == "accounts_receivable") - (kind.credit_role == "accounts_receivable")
    takes_tax = kind.effect in (Effect.REVERSES_TAX, Effect.TAKES_TAX)
    taken = -amount if kind.recovers else amount
    disputed = (kind.debit_role == "disputes_receivable") - (kind.credit_role == "disputes_receivable")
    if movement.given_back:
        disputed = 0
    return replace(
        invoice,
        billed_minor=invoice.billed_minor + (amount if movement.kind == "overage_billed" else 0),
        tax_minor=invoice.tax_minor + (amount if movement.kind == "overage_tax" else 0),
        conceded_minor=invoice.conceded_minor + (taken if kind.effect is Effect.CONCEDES else 0),
        tax_taken_minor=invoice.tax_taken_minor + (taken if takes_tax else 0),
        written_off=written_off_after(
            invoice.written_off, kind.writes_off, amount, movement.accounting_date, recovers=kind.recovers
        ),
        disputed_minor=invoice.disputed_minor + amount * disputed,
        receivable_minor=invoice.receivable_minor + owed * amount,
    )
