"""Rows of wallets, blocks and documents.

Owns: their encoding, the rows of a change, reading them. Does not own: the time of writing (working_set).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final, TypeVar

import msgspec

from subledger.balance_days import DayAmounts
from subledger.billing_documents import (
    BillingDocument,
    Dispute,
    Invoice,
    Overage,
    Payment,
    RefundsOwed,
    Reservation,
    ReversedUsage,
    Standing,
    Standings,
)
from subledger.blocks import Block
from subledger.books import Books, Rates
from subledger.pooling import Pools
from subledger.pools import Cohort, Pool
from subledger.store.database import WriteConnection
from subledger.store.writing.append_batch import Parameters, rows_as_parameters
from subledger.wallet import Decision, Wallet
from subledger.wallet_parts import Blocks, Overages


class StoredWallet(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, rename={"standings": "positions"}
):
    """A wallet as its row stores it. The row has blocks, or overages, only if there are at most ``MANY`` open ones."""

    customer: str
    blocks: tuple[Block, ...] = ()
    overages: tuple[Overage, ...] = ()
    carry: dict[str, Decimal] = {}
    standings: Standings = {}
    refunds_owed: RefundsOwed = ()
    balance_held: dict[str, int] = {}
    balance_days: dict[str, DayAmounts] = {}
    reservations: tuple[Reservation, ...] = ()


_wallet = msgspec.json.Decoder(StoredWallet)
_block = msgspec.json.Decoder(Block)
_overage = msgspec.json.Decoder(Overage)
_correction = msgspec.json.Decoder(ReversedUsage)
_documents: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    "payment": msgspec.json.Decoder(Payment),
    "invoice": msgspec.json.Decoder(Invoice),
    "dispute": msgspec.json.Decoder(Dispute),
    "reservation": msgspec.json.Decoder(Reservation),
}
_pool = msgspec.json.Decoder(Pool)
_cohort = msgspec.json.Decoder(Cohort)
_rates = msgspec.json.Decoder(Rates)
_position = msgspec.json.Decoder(Standing)
_decision = msgspec.json.Decoder(Decision)
_encoder = msgspec.json.Encoder(order="sorted")

FIND_BOOKS = """
-- The ledger's own documents.
SELECT kind, document_id, state FROM documents WHERE ledger = %s AND kind IN ('pool', 'cohort', 'rates', 'positions')
"""


MANY: Final = 64
"""A wallet with more open blocks than this has a row for each of them, so that an event writes only the changed ones.
The same holds for overages. Up to this number they are in the wallet's row, because one row is written faster than
two.
"""


def parts_sql(ledger: str, table: str = "wallet_parts") -> str:
    """SQL columns for a query of wallets ``w``: the states of blocks and overages for ``decode_wallet``.

    ``ledger`` is the placeholder of the ledger, used twice.
    """
    of = f"ARRAY(SELECT p.state FROM {table} p WHERE p.ledger = {ledger} AND p.customer = w.customer AND p.kind ="
    return f"{of} 'block') AS blocks, {of} 'overage') AS overages"


def has_rows(parts: Blocks | Overages) -> bool:
    """Returns True if these parts of a wallet have rows of their own."""
    return len(parts) > MANY


def encode_state(value: msgspec.Struct | Standing) -> str:
    """A wallet, block or document as stored text. The same value always gives the same text."""
    return _encoder.encode(_stored_wallet(value) if isinstance(value, Wallet) else value).decode()


def _stored_wallet(wallet: Wallet) -> StoredWallet:
    return StoredWallet(
        customer=wallet.customer,
        blocks=() if has_rows(wallet.blocks) else tuple(wallet.blocks),
        overages=() if has_rows(wallet.overages) else tuple(wallet.overages),
        carry=wallet.carry,
        standings=wallet.standings,
        refunds_owed=wallet.refunds_owed,
        balance_held=wallet.balance_held,
        balance_days=wallet.balance_days,
        reservations=wallet.reservations,
    )


def decode_decision(text: str) -> Decision:
    return _decision.decode(text)


def decode_block(text: str) -> Block:
    return _block.decode(text)


def decode_pool(text: str) -> Pool:
    return _pool.decode(text)


def decode_cohort(text: str) -> Cohort:
    return _cohort.decode(text)


def decode_wallet(text: str, blocks: Iterable[str] = (), overages: Iterable[str] = ()) -> Wallet:
    """A wallet from its row, and from the rows of its blocks and overages, if there are any."""
    stored = _wallet.decode(text)
    return Wallet(
        customer=stored.customer,
        blocks=Blocks(stored.blocks or map(decode_block, blocks)),
        overages=Overages(stored.overages or map(_overage.decode, overages)),
        carry=stored.carry,
        standings=stored.standings,
        refunds_owed=stored.refunds_owed,
        balance_held=stored.balance_held,
        balance_days=stored.balance_days,
        reservations=stored.reservations,
    )


def decode_document(kind: str, text: str) -> BillingDocument | Overage | ReversedUsage:
    decoder = _overage if kind == "overage" else _correction if kind == "correction" else _documents[kind]
    found: BillingDocument | Overage | ReversedUsage = decoder.decode(text)
    return found


DocumentRow = tuple[str, str, str | None, str]
"""Kind, id, customer (None for the ledger's own), state."""


_Parts = TypeVar("_Parts", Blocks, Overages)

PartKey = tuple[str, str, str]
"""Customer, kind, id."""


class PartRows(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of parts of a wallet to write, and those to delete."""

    written: tuple[tuple[str, str, str, str], ...] = ()
    """Customer, kind, id, state."""
    gone: tuple[PartKey, ...] = ()


def rows_of_parts(before: Wallet, after: Wallet) -> PartRows:
    """The rows of parts that differ between two stored states of a wallet."""
    written: list[tuple[str, str, str, str]] = []
    gone: list[PartKey] = []
    _add_part_rows(after.customer, before.blocks, after.blocks, written, gone)
    _add_part_rows(after.customer, before.overages, after.overages, written, gone)
    return PartRows(written=tuple(written), gone=tuple(gone))


def _add_part_rows(
    customer: str, before: _Parts, after: _Parts, written: list[tuple[str, str, str, str]], gone: list[PartKey]
) -> None:
    had, has = has_rows(before), has_rows(after)
    if not (had or has):
        return
    kind = after.kind
    if had and has:
        changes = after.changes_since(before)
        written += [(customer, kind, str(after.name(now)), encode_state(now)) for _, now in changes if now is not None]
        gone += [(customer, kind, str(after.name(was))) for was, now in changes if was is not None and now is None]
    elif has:
        written += [(customer, kind, str(after.name(part)), encode_state(part)) for part in after]
    else:
        gone += [(customer, kind, str(after.name(part))) for part in before]


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of blocks and documents to write after a wallet has changed, besides the wallet's own."""

    blocks: tuple[tuple[str, Block], ...]
    documents: tuple[DocumentRow, ...]


def rows_of_change(before: Wallet, after: Wallet) -> Rows:
    """The rows of blocks and documents that differ between two states of a wallet.

    An open block is written when it opens, reopens or gets another expiry. A finished block is written when it has
    changed. The used credits of an open block are only in its wallet, so that the rows do not depend on the batches.
    """
    blocks = [
        (after.customer, block)
        for known, block in after.blocks.changes_since(before.blocks)
        if block is not None
        and (known is None or not (block.remaining and known.remaining) or known.expiry_due_at != block.expiry_due_at)
    ]
    documents: list[DocumentRow] = [
        ("overage", str(overage.position), after.customer, encode_state(overage))
        for _, overage in after.overages.changes_since(before.overages)
        if overage is not None and not overage.open
    ]
    documents += [
        ("correction", str(correction.position), after.customer, encode_state(correction))
        for _, correction in after.reversed_usages.changes_since(before.reversed_usages)
        if correction is not None
    ]
    documents += [
        (document.document_kind, document.document_id, after.customer, encode_state(document))
        for _, document in after.documents.changes_since(before.documents)
        if document is not None
    ]
    return Rows(blocks=tuple(blocks), documents=tuple(documents))


def rows_of_books(before: Books, after: Books) -> list[DocumentRow]:
    """The rows that differ between two states of a ledger's own books."""
    rows: list[DocumentRow] = []
    if after.rates is not before.rates:
        rows += [("rates", c, None, encode_state(r)) for c, r in after.rates.items() if before.rates.get(c) is not r]
    if after.pools is not before.pools:
        rows += _rows_of_pools(before.pools, after.pools)
    if after.standings is not before.standings:
        rows += [
            ("positions", key, None, encode_state(position))
            for key, position in sorted(after.standings.items())
            if before.standings.get(key) != position
        ]
    return rows


def _rows_of_pools(before: Pools, after: Pools) -> list[DocumentRow]:
    rows: list[DocumentRow] = []
    if after.by_name is not before.by_name:
        rows += [("pool", n, None, encode_state(p)) for n, p in after.by_name.items() if before.by_name.get(n) is not p]
    for name, cohorts in after.cohorts.items():
        known = before.cohorts.get(name, {})
        if cohorts is not known:
            rows += [
                ("cohort", f"{cohort.cohort or '-'} {name}", None, encode_state(cohort))
                for cohort in cohorts.values()
                if known.get(cohort.cohort) is not cohort
            ]
    return rows


def load_books(connection: WriteConnection, ledger: str) -> Books:
    """The ledger's own books, as stored."""
    rates, pools, positions = {}, {}, {}
    cohorts: dict[str, dict[str, Cohort]] = {}
    for kind, document_id, state in connection.execute(FIND_BOOKS, (ledger,)):
        if kind == "rates":
            rates[document_id] = _rates.decode(state)
        elif kind == "pool":
            pools[document_id] = _pool.decode(state)
        elif kind == "cohort":
            cohort = _cohort.decode(state)
            cohorts.setdefault(cohort.pool, {})[cohort.cohort] = cohort
        else:
            positions[document_id] = _position.decode(state)
    return Books(rates=rates, pools=Pools(by_name=pools, cohorts=cohorts), standings=positions)


class WalletRow(msgspec.Struct, frozen=True, gc=False):
    """A wallet to write, the position of its last event, and the wallet in its present rows."""

    position: int
    wallet: Wallet
    before: Wallet


def parameters_of(
    wallets: Sequence[WalletRow], changes: Iterable[Rows], of_books: Sequence[DocumentRow] = ()
) -> Parameters:
    """Wallets, blocks and documents, as parameters of a batch."""
    parts = [rows_of_parts(row.before, row.wallet) for row in wallets]
    changes = list(changes)
    documents = [row for change in changes for row in change.documents] + list(of_books)
    blocks = [
        (
            block.block_id,
            customer,
            block.invoice_id,
            block.opened_at_position,
            block.expiry_due_at,
            bool(block.remaining),
            None if block.remaining else encode_state(block),
        )
        for change in changes
        for customer, block in change.blocks
    ]
    return {
        **rows_as_parameters("wallet", [(w.wallet.customer, w.position, encode_state(w.wallet)) for w in wallets]),
        **rows_as_parameters("part", [row for of_wallet in parts for row in of_wallet.written]),
        **rows_as_parameters("gone", [key for of_wallet in parts for key in of_wallet.gone]),
        **rows_as_parameters("block", blocks),
        **rows_as_parameters("document", documents),
    }
