"""Tax at redemption: tax that is due when credits are used, not when they are sold, as for multi-purpose vouchers.

A voucher for supplies with several tax rates is sold without tax (directive 2006/112/EC, articles 30b and 73a). Tax is
due when it is redeemed, and is included in the price. So the tax is a part of the value that usage draws, and the rest
is revenue. Credits that are never redeemed were never supplied, and have no tax.

Owns: the part of a draw that is tax, and its reversal. Does not own: the draws (usage). Pure.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace

from subledger import errors
from subledger.blocks import Block
from subledger.deciding.context import Context, at_most, minor, same_currency
from subledger.events.data import CreditsConsumed
from subledger.events.envelope import Event
from subledger.money import round_half_up, share
from subledger.wallet import Decision, Movement, Wallet

_TAX = "redemption_tax"


def with_redemption_tax(
    movements: list[Movement], wallet: Wallet, event: Event[CreditsConsumed], context: Context
) -> list[Movement]:
    """The draws of usage, divided into revenue and the tax that the event states.

    Each draw has tax in proportion to its value, cumulatively, half up. Raises WrongCurrency, TooManyDecimals,
    ExceedsValue, InvalidValue.
    """
    if event.data.tax is None:
        return movements
    draws = [m for m in movements if m.kind == "consumption" and m.amount_minor]
    blocks = [wallet.state_of_block(draw.block_id or "") for draw in draws]
    currency = blocks[0].currency if blocks else event.data.currency or context.state.functional_currency
    _check_one_currency(blocks, currency)
    same_currency(event.data.currency, currency, "the value that is drawn")
    _check_sold_without_tax(blocks)
    tax, drawn = minor(event.data.tax, currency, "tax"), sum(draw.amount_minor for draw in draws)
    at_most(tax, drawn, currency, errors.ExceedsValue, "the tax exceeds the value that the usage draws", "tax")
    found, cumulated, before = [], 0, 0
    for movement in movements:
        if not (tax and movement.kind == "consumption" and movement.amount_minor):
            found.append(movement)
            continue
        cumulated += movement.amount_minor
        part = round_half_up(tax * cumulated, drawn) - before
        before += part
        found += _split(movement, part)
    return found


def _split(draw: Movement, tax: int) -> list[Movement]:
    """A draw, divided into revenue and tax; in another currency with their shares of its functional amount."""
    if not tax:
        return [draw]
    of_tax = None
    if draw.functional_minor is not None:
        of_tax = round_half_up(draw.functional_minor * tax, draw.amount_minor)
    revenue = None if draw.functional_minor is None or of_tax is None else draw.functional_minor - of_tax
    return [
        replace(draw, amount_minor=draw.amount_minor - tax, functional_minor=revenue),
        replace(draw, kind=_TAX, credits=Decimal(0), amount_minor=tax, functional_minor=of_tax),
    ]


def _check_one_currency(blocks: list[Block], currency: str) -> None:
    """Raises WrongCurrency if usage with tax draws on blocks in two currencies."""
    for block in blocks:
        if block.currency != currency:
            raise errors.WrongCurrency(
                f"usage with tax draws on blocks in {currency} and {block.currency}",
                field="data.tax",
                expected="usage of one currency: name the block",
                found=block.currency,
            )


def _check_sold_without_tax(blocks: list[Block]) -> None:
    """Raises InvalidValue if usage with tax draws on a block that was sold with tax."""
    for block in (block for block in blocks if block.tax_minor or (block.origin is not None and block.taxed_minor)):
        raise errors.InvalidValue(
            f"data.tax of usage that draws on block {block.block_id}, which was sold with tax",
            field="data.tax",
            expected="no tax: it was due with the sale",
            found=block.block_id,
        )


def taxes_by_block(original: Decision) -> dict[str | None, list[Movement]]:
    """The tax of recorded usage, by the block that was drawn."""
    found: dict[str | None, list[Movement]] = {}
    for movement in original.movements:
        if movement.kind == _TAX:
            found.setdefault(movement.block_id, []).append(movement)
    return found


def mirrored_tax(taxes: list[Movement], draw: Movement, mirrored: Movement, restored: Decimal) -> list[Movement]:
    """The mirror of the tax of a draw, in proportion to the reversed credits, cumulatively.

    ``restored``: the credits of the draw that were reversed before.
    """
    found = []
    for taxed in taxes:
        after = restored - mirrored.credits

        def back(amount: int, after: Decimal = after) -> int:
            return share(amount, restored, draw.credits) - share(amount, after, draw.credits)

        functional = None if taxed.functional_minor is None else back(taxed.functional_minor)
        movement = replace(mirrored, kind=_TAX, block_id=draw.block_id, credits=Decimal(0))
        found.append(replace(movement, amount_minor=back(taxed.amount_minor), functional_minor=functional))
    return [movement for movement in found if movement.amount_minor or movement.functional_minor]
