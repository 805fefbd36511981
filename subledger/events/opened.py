"""The data of an opening balance: the balance of a role at a cut-over from another system.

Owns: the fields of each role, and their checks. Does not own: the other event types (data), the check against the books
(deciding/openings).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, Literal, NamedTuple

from pydantic import Field

from subledger.errors import InvalidValue, present
from subledger.events.fields import (
    Amount,
    CohortName,
    Credits,
    Currency,
    EventData,
    Identifier,
    Name,
    OwnDimensions,
    Quantity,
    Scope,
    SignedAmount,
    Time,
    check_absent,
    check_one_of,
    check_positive,
    check_present,
    check_starts_before_expiry,
    minor_units,
    missing_field,
)
from subledger.money import format_credits, format_minor

OpeningRole = Literal[
    "prepaid_liability",
    "accounts_receivable",
    "customer_balance",
    "unbilled_receivable",
    "tax_payable",
    "refunds_payable",
    "unclaimed_property",
    "breakage_recognized",
    "processor_clearing",
]

_BLOCK: Final = (
    "block_id", "credit_kind", "unit", "credits", "used", "remaining", "price", "drawn", "carrying_amount",
    "earlier_drawn", "expired", "functional_price", "tax", "redemption_tax", "conceded", "conceded_tax", "starts_at",
    "expires_at", "priority", "scope", "refundable", "order_id", "invoice_id", "pool", "cohort", "escheat_class",
    "processor", "due_at", "dimensions",
)  # fmt: skip


class _Fields(NamedTuple):
    """The required fields of a role, and all its fields besides the currency and the functional amount."""

    required: tuple[str, ...]
    allowed: tuple[str, ...]


_FIELDS: Final[dict[str, _Fields]] = {
    "prepaid_liability": _Fields(("block_id", "credits"), _BLOCK),
    "accounts_receivable": _Fields(
        ("amount",), ("amount", "block_id", "invoice_id", "price", "tax", "conceded", "conceded_tax", "due_at")
    ),
    "customer_balance": _Fields(("amount",), ("amount", "payment_id", "processor")),
    "unbilled_receivable": _Fields(
        ("amount", "credits"), ("amount", "credits", "unit", "product", "on_shortfall", "dimensions")
    ),
    "tax_payable": _Fields(("amount",), ("amount",)),
    "refunds_payable": _Fields(("amount",), ("amount", "block_id", "invoice_id")),
    "unclaimed_property": _Fields(("amount", "block_id"), ("amount", "block_id")),
    "breakage_recognized": _Fields(
        ("amount", "pool"), ("amount", "pool", "cohort", "redeemed", "expired", "escheated")
    ),
    "processor_clearing": _Fields(("amount", "processor"), ("amount", "processor")),
}
_SIGNED: Final = ("tax_payable", "processor_clearing")
_MAY_BE_NOTHING: Final = ("breakage_recognized", "accounts_receivable", "unbilled_receivable")
"""Roles that may be opened with an amount of zero: for redemption, a paid invoice, usage without a price."""
_AMOUNTS: Final = (
    "amount", "price", "drawn", "carrying_amount", "earlier_drawn", "tax", "redemption_tax", "conceded",
    "conceded_tax", "redeemed", "expired", "escheated",
)  # fmt: skip
_OF_THE_LEDGER: Final = (*_SIGNED, "breakage_recognized")


class Left(NamedTuple):
    """The credits and the value that a block has at its opening, in minor units of its currency."""

    credits: Decimal
    amount_minor: int


class BalanceOpened(EventData):
    """A balance at the cut-over from another system, against opening_balances; never revenue.

    ``role`` is the account, and decides which fields are allowed. A block (prepaid_liability) has its figures of the
    cut-over: ``used`` of its ``credits`` and ``drawn`` of its ``price``. Its next draws continue from them.
    ``remaining`` and ``carrying_amount`` are less than the rest if credits left the block otherwise. For a repriced
    block these are the figures since the repricing, and ``earlier_drawn`` is the value of the draws before it.
    ``expired`` is the value that was recognised for unused credits.
    """

    currency: Currency
    role: OpeningRole
    amount: SignedAmount | None = None
    functional_amount: SignedAmount | None = None
    block_id: Identifier | None = None
    credit_kind: Literal["paid", "promotional", "goodwill", "allocation"] = "paid"
    unit: Name = "credit"
    credits: Credits | None = None
    used: Quantity | None = None
    remaining: Quantity | None = None
    price: Amount | None = None
    drawn: Amount | None = None
    carrying_amount: Amount | None = None
    earlier_drawn: Amount | None = None
    functional_price: Amount | None = None
    tax: Amount | None = None
    redemption_tax: Amount | None = None
    conceded: Amount | None = None
    conceded_tax: Amount | None = None
    starts_at: Time | None = None
    expires_at: Time | None = None
    priority: int = Field(default=50, ge=0, le=1000)
    scope: Scope | None = None
    refundable: bool = False
    order_id: Identifier | None = None
    invoice_id: Identifier | None = None
    pool: Name | None = None
    cohort: CohortName | None = None
    escheat_class: Name | None = None
    processor: Name | None = None
    due_at: Time | None = None
    dimensions: OwnDimensions | None = None
    payment_id: Identifier | None = None
    product: Name | None = None
    on_shortfall: Literal["overage", "backfill"] | None = None
    redeemed: Amount | None = None
    expired: Amount | None = None
    escheated: Amount | None = None

    @property
    def is_of_the_ledger(self) -> bool:
        """True for a balance of the ledger as a whole, of no customer."""
        return self.role in _OF_THE_LEDGER

    @property
    def document(self) -> tuple[str, str] | None:
        """The kind and the id of the billing document that the opening makes: a payment, or an invoice of overage."""
        if self.role == "customer_balance" and self.payment_id is not None:
            return "payment", self.payment_id
        if self.role == "accounts_receivable" and self.invoice_id is not None:
            return "invoice", self.invoice_id
        return None

    def minor(self, name: str) -> int:
        """An amount of the event in minor units of its currency; 0 if it is absent."""
        amount: Decimal | None = getattr(self, name)
        return 0 if amount is None else minor_units(amount, self.currency, name)

    @property
    def credits_used(self) -> Decimal:
        """The credits of a block that were used before."""
        return self.used or Decimal(0)

    @property
    def left(self) -> Left:
        """The credits and the value of a block: as stated, or the part that was not used and drawn."""
        credits = present(self.credits, "a block has credits")
        remaining = credits - self.credits_used if self.remaining is None else self.remaining
        rest = self.minor("price") - self.minor("drawn")
        return Left(remaining, rest if self.carrying_amount is None else self.minor("carrying_amount"))

    def check(self) -> None:
        required, allowed = _FIELDS[self.role]
        for name in required:
            check_present(getattr(self, name) is not None, name, f"an opening of {self.role} has it")
        for name in sorted(self.model_fields_set - {"role", "currency", "functional_amount", *allowed}):
            check_absent(getattr(self, name) is not None, name, f"an opening of {self.role} has no {name}")
        for name in _AMOUNTS:
            self.minor(name)
        if self.role == "prepaid_liability":
            self._check_block()
        elif self.role == "accounts_receivable":
            self._check_receivable()
        elif self.role == "refunds_payable" and self.block_id is not None:
            check_absent(self.invoice_id is not None, "invoice_id", "the block says it already")
        if self.role in _SIGNED:
            check_positive(abs(self.minor("amount")), "amount")
        elif self.role in _MAY_BE_NOTHING and self.block_id is None:
            if self.minor("amount") < 0:
                raise InvalidValue(
                    "data.amount must be 0 or more", field="data.amount", expected="0 or more", found=str(self.amount)
                )
        elif self.role != "prepaid_liability":
            check_positive(self.minor("amount"), "amount", str(self.amount))
        self._check_functional()

    def _check_functional(self) -> None:
        if self.functional_amount is None:
            return
        stated = self.left.amount_minor if self.role == "prepaid_liability" else self.minor("amount")
        if stated * self.functional_amount < 0 or (not stated and self.functional_amount):
            raise InvalidValue(
                "data.functional_amount has another sign than the amount",
                field="data.functional_amount",
                expected="the same sign, and 0 for an amount of 0",
                found=str(self.functional_amount),
            )

    def _check_receivable(self) -> None:
        check_one_of(self, "block_id", "invoice_id")
        if self.block_id is not None:
            for name in ("price", "tax", "conceded", "conceded_tax", "due_at"):
                check_absent(getattr(self, name) is not None, name, "the block has its own")
            return
        if not self.minor("amount"):
            check_present(self.price is not None, "price", "of an invoice that is paid, only what it billed is left")
        for name, of in (("conceded", "price"), ("conceded_tax", "tax")):
            if self.minor(name) > self.minor(of):
                most = format_minor(self.minor(of), self.currency)
                raise _beyond(name, f"at most data.{of} ({most})", str(getattr(self, name)))
        billed = self.minor("price") + self.minor("tax") - self.minor("conceded") - self.minor("conceded_tax")
        if self.price is not None and self.minor("amount") > billed:
            most = format_minor(billed, self.currency)
            raise _beyond(
                "amount", f"what the invoice billed with its tax, less what was conceded ({most})", str(self.amount)
            )
        if self.price is None and self.tax is not None and self.minor("tax") >= self.minor("amount"):
            raise _beyond("tax", f"less than the amount ({self.amount}), or a price", str(self.tax))

    def _check_block(self) -> None:
        price, drawn = self.minor("price"), self.minor("drawn")
        credits = present(self.credits, "a block has credits")
        bought = self.credit_kind == "paid"
        if not bought:
            names = ("tax", "conceded", "conceded_tax", "due_at", "pool", "escheat_class", "order_id", "invoice_id")
            for name in names:
                check_absent(getattr(self, name) is not None, name, "nobody bought the block")
            check_absent(self.refundable, "refundable", "nobody bought the block")
        if self.credit_kind == "promotional":
            for name in ("price", "drawn", "earlier_drawn", "expired"):
                check_absent(bool(self.minor(name)), name, "promotional credits have no value")
        elif self.price is None:
            raise missing_field("price", f"credits of the kind {self.credit_kind} have a value")
        if (used := self.credits_used) > credits:
            raise _beyond("used", f"at most data.credits ({format_credits(credits)})", format_credits(used))
        if drawn > price:
            raise _beyond("drawn", f"at most data.price ({self.price or 0})", str(self.drawn or 0))
        self._check_left(credits)
        redeemed = drawn + self.minor("earlier_drawn")
        if self.minor("conceded") > (recognised := redeemed + self.minor("expired")):
            most = format_minor(recognised, self.currency)
            raise _beyond("conceded", f"at most what was drawn or has expired ({most})", str(self.conceded))
        if self.minor("redemption_tax") > redeemed:
            most = format_minor(redeemed, self.currency)
            raise _beyond("redemption_tax", f"at most what was drawn ({most})", str(self.redemption_tax))
        taxes = self.minor("tax") + self.minor("redemption_tax")
        if self.minor("conceded_tax") > taxes:
            most = format_minor(taxes, self.currency)
            raise _beyond("conceded_tax", f"at most the tax ({most})", str(self.conceded_tax))
        if self.refundable:
            check_absent(self.pool is not None, "pool", "a refundable block cannot be pooled")
        if self.cohort is not None:
            check_present(self.pool is not None, "pool", "a cohort is one of a pool")
            if len(self.cohort) != len("2026-01") or "Q" in self.cohort:
                raise _beyond("cohort", "the month of issue, such as 2026-01", self.cohort)
        check_starts_before_expiry(self.starts_at, self.expires_at)

    def _check_left(self, credits: Decimal) -> None:
        """Checks the remaining credits and value: at most the unused part, and no value without credits."""
        remaining, carrying = self.left
        if remaining > credits - self.credits_used:
            most = format_credits(credits - self.credits_used)
            raise _beyond("remaining", f"at most credits less used ({most})", format_credits(remaining))
        rest = self.minor("price") - self.minor("drawn")
        if carrying > rest:
            most = format_minor(rest, self.currency)
            raise _beyond("carrying_amount", f"at most price less drawn ({most})", str(self.carrying_amount))
        if not remaining and carrying:
            if self.carrying_amount is not None:
                raise _beyond("carrying_amount", "0: no credits are left", str(self.carrying_amount))
            raise _beyond(
                "drawn",
                f"data.price ({self.price}), as the last credit draws all that is left; or data.carrying_amount 0, if "
                "the rest left the block otherwise",
                str(self.drawn or 0),
            )


def _beyond(name: str, expected: str, found: str) -> InvalidValue:
    return InvalidValue(
        f"data.{name} does not fit the other fields: expected {expected}",
        field=f"data.{name}",
        expected=expected,
        found=found,
    )
