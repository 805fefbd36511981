"""Journals for general ledgers that take one currency, and what every file of them is held to.

A format's tests read its files with a parser that knows nothing of ours, into ``ReadDocument``; the rest is here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping as Map
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from projections.journals.formats.target import Rendering, Target, read_settings
from projections.journals.mapping import Mapping
from projections.journals.pairs import Pair
from projections.journals.postings import Limits, Posting, postings_of
from projections.journals.summary import Journal, JournalLine
from subledger.accounts import Side
from subledger.money import exponent
from subledger.periods import Period

GOLDEN = Path(__file__).parent
EXPORT_ID = "acme-us-2026-02-2-test"
LONG_NAME = f"Prepaid credits of {'plans sold before the merger and not used, ' * 4}net"
LONG_PRODUCT = f"storage, {'replicated in three regions, ' * 3}cold"
MULLER = 'Müller & Söhne, "GmbH"'

# What is unusual about each: a quote and a comma, a formula, a name of nearly 200 characters, letters beyond ASCII.
MAPPING = Mapping.from_rows(
    [
        {"role": "cash", "account": "1000", "name": 'Cash "operating", main'},
        {"role": "accounts_receivable", "account": "1100", "name": "=SUM(A1:A9)", "department": "-R&D, EMEA"},
        {"role": "prepaid_liability", "account": "2150", "name": LONG_NAME, "location": "US01"},
        {"role": "usage_revenue", "account": "4000", "name": "Erlöse <Süd>", "class": "Größe L", "location": "W"},
        {"role": "breakage_revenue", "account": "-4100", "name": "@Breakage", "class": "PLATFORM"},
        {"role": "fx_gain_loss", "account": "6200"},
    ]
)  # fmt: skip


def _pair(debit: str, credit: str, amounts: str, **more: str) -> Pair:
    currency, amount, functional = amounts.split()
    return Pair(
        debit=debit, credit=credit, currency=currency, amount_minor=int(amount), functional_minor=int(functional),
        entries=1, **more,
    )  # fmt: skip


PAIRS = (
    _pair("accounts_receivable", "prepaid_liability", "EUR 100000 120000", customer=MULLER, block_id="b-1"),
    _pair("accounts_receivable", "fx_gain_loss", "EUR 0 3300", customer=MULLER, block_id="b-1"),
    _pair("prepaid_liability", "usage_revenue", "EUR 5000 6000", customer=MULLER, block_id="b-1", product="+api"),
    _pair("cash", "prepaid_liability", "USD 500000 500000", customer="cus-42", block_id="blk/7:é", processor="stripe"),
    _pair("prepaid_liability", "usage_revenue", "USD 110000 110000", customer="cus-42", block_id="blk/7:é",
          product=LONG_PRODUCT, pool="p-1"),
    _pair("prepaid_liability", "breakage_revenue", "USD 15000 15000", customer="cus-42", block_id="blk/7:é",
          credit_kind="promotional"),
    _pair("usage_revenue", "prepaid_liability", "USD 250 250", customer="cus-42", block_id="blk/7:é", product="api"),
)  # fmt: skip
"""What a month of two currencies moves, by block: 13 lines. The exchange gain is of functional currency alone."""


def journal_of(
    pairs: Sequence[Pair], mapping: Mapping = MAPPING, *, home: str = "USD", ledger: str = "acme-us"
) -> Journal:
    """The journal that has these pairs."""
    sums: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for pair in pairs:
        for role, side in ((pair.debit, Side.DEBIT), (pair.credit, Side.CREDIT)):
            key = (pair.currency, role, pair.product, pair.credit_kind, pair.pool, pair.processor, side)
            for place, amount in enumerate((pair.amount_minor, pair.functional_minor, pair.entries)):
                sums[key][place] += amount
    lines = tuple(
        JournalLine(
            number=number, currency=key[0], role=key[1], product=key[2], credit_kind=key[3], pool=key[4],
            processor=key[5], side=key[6], account=mapping.resolve(key[1], key[2], key[3], key[0]), amount_minor=amount,
            functional_minor=functional, entries=entries,
        )
        for number, (key, (amount, functional, entries)) in enumerate(sorted(sums.items()), start=1)
    )  # fmt: skip
    return Journal(
        ledger=ledger, entity="US01", functional_currency=home, period=Period(2026, 2), number=2, from_cut=3, to_cut=5,
        mapping=4, lines=lines,
    )  # fmt: skip


def rendering_of(
    target: Target, settings: Map[str, Any], pairs: Sequence[Pair] = PAIRS, *, journal: Journal | None = None,
    mapping: Mapping = MAPPING,
) -> Rendering:  # fmt: skip
    """An export of these pairs to a target, as the exports make it."""
    journal = journal or journal_of(pairs, mapping)
    read = read_settings(target.settings, settings)
    postings = postings_of(journal, pairs, mapping, limits=target.limits_for(read), level=read.level)
    return Rendering(export_id=EXPORT_ID, journal=journal, postings=postings, settings=read)


GOLDENS: dict[str, tuple[dict[str, Any], Sequence[Pair]]] = {
    "": ({"level": "block"}, PAIRS),
    "empty-": ({}, ()),
    "split-": ({"level": "block", "lines": 3}, PAIRS),
}
"""The exports that were agreed on, by the beginning of their files' names."""


OVERLONG = Mapping(rows=({"role": "cash", "account": "1", "name": "=" * 5000}, {"role": "tax_payable", "account": "2"}))
"""A name that is longer than any target takes, and than a mapping that was checked has."""


def overlong(target: Target) -> Rendering:
    """An export of one pair whose debit has a text that is too long, and looks like a formula."""
    pair = _pair("cash", "tax_payable", "USD 1 1")
    return rendering_of(target, {}, (pair,), mapping=OVERLONG)


# --- what every file is held to -----------------------------------------------------------------------------------


class ReadLine(NamedTuple):
    account: str
    side: Side
    amount: Decimal
    reference: str


class ReadDocument(NamedTuple):
    reference: str
    lines: list[ReadLine]


def side_of(debit: str, credit: str) -> tuple[Side, Decimal]:
    """Of two columns, of which exactly one is filled."""
    assert bool(debit) != bool(credit)
    return (Side.DEBIT, Decimal(debit)) if debit else (Side.CREDIT, Decimal(credit))


def totals(journal: Journal) -> dict[tuple[str, Side], Decimal]:
    """What a journal moves, by account number and side, in the functional currency."""
    result: Counter[tuple[str, Side]] = Counter()
    for line in journal.lines:
        result[(line.account.number, line.side)] += line.functional_minor
    scale = Decimal(10) ** exponent(journal.functional_currency)
    return {key: amount / scale for key, amount in result.items() if amount}


def assert_says_the_journal(documents: Sequence[ReadDocument], rendering: Rendering) -> None:
    """A file that was read back: its documents balance and are, together, the journal, and every line says which."""
    assert [document.reference for document in documents] == [posting.reference for posting in rendering.postings]
    assert len({document.reference for document in documents}) == len(documents)
    sums: dict[tuple[str, Side], Decimal] = defaultdict(Decimal)
    for document, posting in zip(documents, rendering.postings, strict=True):
        assert len(document.lines) == len(posting.lines) >= 2
        assert all(line.amount > 0 for line in document.lines)
        assert sum(line.amount if line.side is Side.DEBIT else -line.amount for line in document.lines) == 0
        assert [line.reference for line in document.lines] == [line.reference for line in posting.lines]
        for line in document.lines:
            sums[(line.account, line.side)] += line.amount
    assert sums == totals(rendering.journal)
    references = [line.reference for document in documents for line in document.lines]
    assert references == [f"L{number}" for number in range(1, len(references) + 1)]


def assert_within_limits(postings: Sequence[Posting], pairs: Sequence[Pair], limits: Limits, home: str) -> None:
    """Documents are within what the target takes; each line is what its pairs add up to, and no pair is left out."""
    seen: Counter[tuple[int, Side]] = Counter()
    for posting in postings:
        assert 2 <= len(posting.lines) <= limits.lines
        assert 1 <= len(posting.reference) <= limits.reference
        assert posting.reference[0].isalnum()  # no formula in any spreadsheet
        assert posting.currency == home or limits.two_currencies
        debits = Counter[Side]()
        functional = Counter[Side]()
        for line in posting.lines:
            assert len(line.text) <= limits.text
            moved = [pairs[place] for place in line.pairs]
            assert line.functional_minor == sum(pair.functional_minor for pair in moved)
            own = sum(pair.amount_minor for pair in moved)
            assert line.amount_minor == (own if limits.two_currencies else line.functional_minor)
            debits[line.side] += line.amount_minor
            functional[line.side] += line.functional_minor
            seen.update((place, line.side) for place in line.pairs)
        assert debits[Side.DEBIT] == debits[Side.CREDIT] == posting.total_minor
        assert functional[Side.DEBIT] == functional[Side.CREDIT]
    moving = [
        place for place, pair in enumerate(pairs)
        if pair.functional_minor or (limits.two_currencies and pair.amount_minor)
    ]  # fmt: skip
    assert seen == {(place, side): 1 for place in moving for side in Side}


# --- at random ----------------------------------------------------------------------------------------------------

_ROLES = ("cash", "accounts_receivable", "prepaid_liability", "usage_revenue", "breakage_revenue", "fx_gain_loss")
# What an id may be made of: anything but control characters of ASCII.
_CONTROL = "".join(map(chr, (*range(32), 127)))
_TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters=_CONTROL), max_size=200)


@st.composite
def journals(draw: st.DrawFn) -> tuple[Journal, tuple[Pair, ...]]:
    """A journal and its pairs, in a functional currency of 0, 2 or 3 decimals and up to three others.

    In dinars the functional amounts have no thousandths, as general ledgers of two decimals refuse them.
    """
    home = draw(st.sampled_from(("USD", "JPY", "KWD")))
    names = draw(st.lists(_TEXTS, min_size=1, max_size=3))
    keys = draw(
        st.sets(
            st.tuples(
                st.sampled_from(_ROLES), st.sampled_from(_ROLES), st.sampled_from(("EUR", "JPY", "KWD", home)),
                *(st.sampled_from(("", *names)) for _ in range(3)),
            ).filter(lambda key: key[0] != key[1]),
            max_size=14,
        )
    )  # fmt: skip
    pairs = []
    for debit, credit, currency, product, customer, block_id in sorted(keys):
        functional = draw(st.integers(0, 10**9)) * (10 if home == "KWD" else 1)
        own = functional if currency == home else draw(st.integers(0, 10**9))
        pairs.append(
            Pair(
                debit=debit, credit=credit, currency=currency, amount_minor=own, functional_minor=functional, entries=1,
                product=product, customer=customer, block_id=block_id,
            )
        )  # fmt: skip
    ledger = draw(st.one_of(st.sampled_from(("acme-us", "-acme")), _TEXTS.filter(bool)))
    return journal_of(pairs, home=home, ledger=ledger), tuple(pairs)


def random_settings() -> st.SearchStrategy[dict[str, Any]]:
    """A level, and a few lines a document or as many as the target takes."""
    return st.fixed_dictionaries(
        {
            "level": st.sampled_from(("account", "dimension", "customer", "block")),
            "lines": st.sampled_from((0, 2, 3, 5)),
        }
    )
