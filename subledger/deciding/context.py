"""The context of a decision, its dates, and the checks that decisions share.

Owns: ``Context``, and the refusals of references, currencies and amounts. Does not own: any rule of an event type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from subledger import errors
from subledger.accounting_dates import accounting_date
from subledger.billing_documents import AnyDocument, Invoice, Standing
from subledger.blocks import PAID, PROMOTIONAL, Block
from subledger.books import Books
from subledger.deciding.currencies import StandingKey
from subledger.events.data import CreditsGranted, CreditsPurchased
from subledger.events.envelope import Event, format_time
from subledger.events.opened import BalanceOpened
from subledger.events.references import OnceKey, once_key
from subledger.ledger import LedgerState
from subledger.money import MAX_CREDITS, format_credits, format_minor, round_half_up, to_minor
from subledger.wallet import Decision, Movement, Wallet


class First(msgspec.Struct, frozen=True, gc=False):
    """Reference to an event: the first one that recorded a document, or the one that undid another event."""

    position: int
    source: str
    event_id: str


class Around(msgspec.Struct, frozen=True, gc=False):
    """A customer's wallet before and after an event."""

    before: Wallet
    after: Wallet


class OtherRate(msgspec.Struct, frozen=True, gc=False):
    """Another event that set the exchange rate of the same day, and was not undone."""

    by: First
    rate: Decimal


class Original(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The recorded event that another one refers to.

    The following fields are read if it is to be undone.
    - ``around``: the wallets that it changed, by customer.
    - ``undone_by``: the event that has undone it.
    - ``rates``: if it set a rate, all rates of the same day and currency, oldest first.
    - ``version``: if it is an estimate, its number in its pool.
    - ``estimates_after``: the later estimates of this pool.
    """

    position: int
    event: Event
    decision: Decision
    around: Mapping[str, Around] = {}
    undone_by: First | None = None
    rates: tuple[OtherRate, ...] = ()
    version: int = 0
    estimates_after: tuple[First, ...] = ()


def _no_other_wallet(customer: str) -> Wallet:
    raise errors.IntegrityFault(f"the wallet of {customer} was not loaded for another customer's event")


class Context(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The facts that a decision may depend on besides the wallet.

    - ``owners``: the customer of each block id that the event names, if the ledger has the block.
    - ``document_owners``: the customer of each payment, invoice and dispute that it names, by kind and id.
    - ``first``: the event that recorded a payout, a refund or an adjustment of that id, by ``references.OnceKey``. It
      may be missing for payments, invoices and disputes.
    - ``standings``: those in other currencies at the end of the period that is remeasured.
    - ``wallet_of``: the wallets of other customers that are parties to a transfer: payers of the customer's blocks, and
      holders of credits that the customer bought.
    """

    state: LedgerState
    owners: Mapping[str, str] = {}
    document_owners: Mapping[tuple[str, str], str | None] = {}
    first: Mapping[OnceKey, First] = {}
    original: Original | None = None
    books: Books = Books()
    standings: Mapping[StandingKey, Standing] = {}
    wallet_of: Callable[[str], Wallet] = _no_other_wallet


class Dates(msgspec.Struct, frozen=True, gc=False):
    """Accounting dates for one event: its effective date, or later: the first open day, or the date of an earlier fact.

    Entries of cash, receivables, tax and fees are dated by the event and by the entries that they mirror or depend on.
    Only an entry that takes credits or value of a block also waits until the block has them.
    """

    effective: date
    closed_through: date | None

    @classmethod
    def of(cls, event: Event, state: LedgerState) -> Dates:
        return cls(state.effective_date_of(event), state.closed_through)

    def on(self, *others: date | None) -> date:
        """The date of an entry that depends on facts of these other dates."""
        return accounting_date(self.effective, self.closed_through, *others)

    def of_loss(self, block: Block, credits: Decimal, amount_minor: int, *others: date | None) -> date:
        """The date of an entry that takes credits and value of a block: a day from which the block has them."""
        return block.loss_day(self.on(*others), credits, amount_minor)


def decision(
    context: Context, movements: list[Movement], *, original_position: int | None = None, new_block: Block | None = None
) -> Decision:
    """A decision under the policy in force."""
    return Decision(
        policy=context.state.policy,
        movements=tuple(movements),
        original_position=original_position,
        new_block=new_block,
    )


def minor(amount: Decimal | None, currency: str, field: str) -> int:
    """An amount of an event in minor units of a currency; 0 if the event names none. Raises TooManyDecimals."""
    return 0 if amount is None else to_minor(amount, currency, field=f"data.{field}")


def any_wallet(customer: str, wallet: Wallet, context: Context) -> Wallet:
    """The wallet of the event's customer, or of another one."""
    return wallet if customer == wallet.customer else context.wallet_of(customer)


def own_block(wallet: Wallet, block_id: str, context: Context) -> Block:
    """The block an event names. Raises UnknownBlock, BlockOfAnotherCustomer."""
    owner = context.owners.get(block_id)
    if owner is None:
        raise _unknown_block(f"no credit block {block_id}", block_id)
    if owner != wallet.customer:
        raise errors.BlockOfAnotherCustomer(
            f"block {block_id} belongs to another customer than {wallet.customer}",
            field="data.block_id",
            expected=f"a block of {wallet.customer}",
            found=block_id,
        )
    return is_no_undone_block(wallet.state_of_block(block_id))


def is_no_undone_block(block: Block) -> Block:
    """Returns the block. Raises UnknownBlock if its opening was undone."""
    if block.undone:
        raise _unknown_block(f"the event that opened block {block.block_id} was undone", block.block_id)
    return block


def _unknown_block(message: str, block_id: str) -> errors.UnknownBlock:
    return errors.UnknownBlock(message, field="data.block_id", expected="a recorded block", found=block_id)


def new_block_id(wallet: Wallet, context: Context, block_id: str, field: str = "block_id") -> None:
    """Raises BlockExists if the id is taken. The id of an undone block stays taken."""
    if block_id not in context.owners:
        return
    block = wallet.block(block_id)
    undone = block is not None and block.undone
    raise errors.BlockExists(
        f"a credit block {block_id} is already in the ledger"
        + ("; the event that opened it was undone, but its id stays taken, so use another id" if undone else ""),
        field=f"data.{field}",
        expected="a new block id",
        found=block_id,
    )


_UNKNOWN: Final[dict[str, type[errors.Refused]]] = {
    "payment": errors.UnknownPayment,
    "invoice": errors.UnknownInvoice,
    "dispute": errors.UnknownDispute,
    "reservation": errors.UnknownReservation,
}


def own_document(wallet: Wallet, type: type[AnyDocument], document_id: str, context: Context) -> AnyDocument:
    """The document that an event names.

    Raises UnknownPayment, UnknownInvoice, UnknownDispute, UnknownReservation.
    """
    kind, document = type.document_kind, wallet.document(type, document_id)
    if document is None or context.document_owners.get((kind, document_id)) != wallet.customer:
        raise _UNKNOWN[kind](
            f"{wallet.customer} has no {kind} {document_id}",
            field=f"data.{kind}_id",
            expected=f"a recorded {kind} of this customer",
            found=document_id,
        )
    return document


def is_new_document(event: Event, context: Context) -> None:
    """Raises DocumentExists if the document of an event is recorded already, such as a payment or a reservation."""
    key = once_key(event.type, event.data)
    if key is not None and (key in context.first or (key[0], key[2]) in context.document_owners):
        raise document_exists(key, context.first.get(key))


def document_exists(key: OnceKey, first: First | None) -> errors.DocumentExists:
    """The refusal of a document that another event sends again; it names the first event if known."""
    kind, processor, document_id = key
    of = f" of {processor}" if processor else ""
    facts: dict[str, Any] = {}  # facts of an error may be anything that JSON can hold
    by = ""
    if first is not None:
        by = f": event {first.event_id} from {first.source} recorded it at position {first.position}"
        facts = {"first": {"source": first.source, "id": first.event_id, "position": first.position}}
    return errors.DocumentExists(
        f"the {kind} {document_id}{of} is already in the ledger{by}",
        field=f"data.{kind}_id",
        expected=f"a new {kind} id",
        found=document_id,
        **facts,
    )


def same_currency(found: str | None, expected: str, what: str) -> None:
    """Raises WrongCurrency. An event that names no currency (None) means the expected one."""
    if found is not None and found != expected:
        raise errors.WrongCurrency(f"{what} is in {expected}", field="data.currency", expected=expected, found=found)


def has_credits_left(block: Block) -> None:
    """Raises NoCreditsLeft."""
    if not block.remaining:
        raise errors.NoCreditsLeft(
            f"block {block.block_id} has no credits left",
            field="data.block_id",
            expected="a block with credits left",
            found=block.block_id,
        )


def was_bought(block: Block) -> None:
    """Raises NotAPurchase for goodwill and allocations: they were not paid, so they are not paid back."""
    if block.credit_kind not in (PAID, PROMOTIONAL):
        raise errors.NotAPurchase(
            f"block {block.block_id} was granted for {block.credit_kind}, not bought",
            field="data.block_id",
            expected="a bought block",
            found=block.credit_kind,
        )


def is_live(block: Block, event: Event) -> None:
    """Raises NoCreditsLeft. A block expires at its expiry, even if the sweep has not recorded it yet."""
    has_credits_left(block)
    if block.expiry_due_at is not None and block.expiry_due_at <= event.occurred_at:
        raise errors.NoCreditsLeft(
            f"block {block.block_id} expired {format_time(block.expiry_due_at)}",
            field="data.block_id",
            expected="a block that has not expired; block.expiry_changed moves an expiry",
            found=block.block_id,
        )


def has_free_credits(block: Block) -> None:
    """Raises BlockDisputed if disputes freeze all remaining credits of a block."""
    if block.available <= 0:
        is_not_disputed(block)


def is_not_disputed(of: Block | Invoice) -> None:
    """Raises BlockDisputed for a disputed block or invoice: it is frozen until the dispute ends."""
    if isinstance(of, Invoice):
        if of.disputed_minor:
            raise errors.BlockDisputed(
                f"invoice {of.invoice_id} is disputed, and frozen until the dispute ends",
                field="data.invoice_id",
                expected="an invoice without a dispute",
                found=of.invoice_id,
            )
        return
    block = of
    if block.disputes:
        raise errors.BlockDisputed(
            f"block {block.block_id} is disputed, and frozen until the dispute ends",
            field="data.block_id",
            expected="a block without a dispute",
            found=block.block_id,
        )


def is_not_conceded(block: Block, amount: int, field: str, found: str, *, tax: int = 0) -> None:
    """Raises Conceded if value that comes back to a block was conceded: it would be compensated twice.

    ``tax``: the part of the value that is tax at redemption. A memo may have taken back more of this tax than of the
    value.
    """
    free = block.recognised_minor - block.conceded_minor
    twice = not block.tax_minor and tax > block.redemption_tax_remaining
    if (amount > max(free, 0) or twice) and block.conceded_by is not None:
        raise errors.Conceded(
            f"{format_minor(block.conceded_minor, block.currency)} {block.currency} of block {block.block_id} were "
            f"conceded, last by {block.conceded_by}; take that back first",
            field=field,
            expected=f"at most {format_minor(max(free, 0), block.currency)} {block.currency} of value",
            found=found,
            conceded_by=block.conceded_by,
        )


def at_most(
    amount: int, limit: int, currency: str, error: type[errors.Refused], sentence: str, field: str = "amount"
) -> None:
    """Raises ``error`` if an amount is above a limit; ``sentence`` says which limit, and gets its amount."""
    if amount > limit:
        raise error(
            f"{sentence} ({format_minor(limit, currency)} {currency})",
            field=f"data.{field}",
            expected=f"at most {format_minor(limit, currency)}",
            found=format_minor(amount, currency),
        )


def not_too_many(credits: Decimal, field: str) -> None:
    """Raises InvalidValue if a block would have more credits than exact decimal arithmetic allows."""
    if credits > MAX_CREDITS:
        raise errors.InvalidValue(
            f"{field} makes too many credits",
            field=field,
            expected=f"together at most {MAX_CREDITS:f}",
            found=format_credits(credits),
        )


def credits_of(block: Block, wanted: Decimal | None) -> Decimal:
    """The credits that an event takes of a block: the stated credits, or all credits that no dispute freezes.

    Raises BlockDisputed, InsufficientCredits.
    """
    has_free_credits(block)
    available = block.available
    if wanted is None:
        return available
    if wanted > available:
        frozen = " that no dispute freezes" if block.disputes else ""
        raise errors.InsufficientCredits(
            f"block {block.block_id} has {format_credits(available)} credits left{frozen}",
            field="data.credits",
            expected=f"at most {format_credits(available)}",
            found=format_credits(wanted),
            available=format_credits(available),
        )
    return wanted


def starts_before_it_expires(data: CreditsPurchased | CreditsGranted | BalanceOpened, occurred_at: datetime) -> None:
    """Raises InvalidValue for a new block that expires before it starts."""
    starts_at = data.starts_at or occurred_at
    if data.expires_at is not None and data.expires_at <= starts_at:
        raise errors.InvalidValue(
            "data.expires_at is not after the block's start",
            field="data.expires_at",
            expected=f"later than {format_time(starts_at)}",
            found=format_time(data.expires_at),
        )


def tax_of(block: Block, value: int) -> int:
    """The tax of a part of a block's value that is cancelled: cumulative, and never more than the remaining tax."""
    if not value or not block.tax_minor:
        return 0
    cancelled = min(block.cancelled_minor + value, block.taxed_minor)
    due = round_half_up(block.tax_minor * cancelled, block.taxed_minor) - block.tax_reversed_minor
    return min(max(due, 0), block.tax_remaining_minor)
