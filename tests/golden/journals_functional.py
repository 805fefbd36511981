"""Journals for general ledgers that take one currency: February's, with texts that are unusual, and any at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from projections.account_mapping.mapping import AccountMapping
from projections.exports.formats.target import Rendering, Target
from projections.journals.journal import Journal, JournalPair
from subledger.periods import Period
from tests.golden import contract

GOLDEN = Path(__file__).parent
EXPORT_ID = "acme-us-2026-02-2-test"
LONG_NAME = f"Prepaid credits of {'plans sold before the merger and not used, ' * 4}net"
LONG_PRODUCT = f"storage, {'replicated in three regions, ' * 3}cold"
MULLER = 'Müller & Söhne, "GmbH"'

# What is unusual about each: a quote and a comma, a formula, a name of nearly 200 characters, letters beyond ASCII.
MAPPING = AccountMapping.from_rows(
    [
        {"role": "cash", "account": "1000", "name": 'Cash "operating", main'},
        {"role": "accounts_receivable", "account": "1100", "name": "=SUM(A1:A9)", "department": "-R&D, EMEA"},
        {"role": "prepaid_liability", "account": "2150", "name": LONG_NAME, "location": "US01"},
        {"role": "usage_revenue", "account": "4000", "name": "Erlöse <Süd>", "class": "Größe L", "location": "W"},
        {"role": "breakage_revenue", "account": "-4100", "name": "@Breakage", "class": "PLATFORM"},
        {"role": "fx_gain_loss", "account": "6200"},
    ]
)  # fmt: skip


def _pair(debit: str, credit: str, amounts: str, **more: str) -> JournalPair:
    currency, amount, functional = amounts.split()
    return JournalPair(
        debit=debit,
        credit=credit,
        currency=currency,
        amount_minor=int(amount),
        functional_minor=int(functional),
        entries=1,
        **more,
    )


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
"""The movements of a month with two currencies, by block: 13 lines. The exchange gain is only functional."""


journal_of = partial(
    contract.journal_of, mapping=MAPPING, period=Period(2026, 2), number=2, cuts=(3, 5), mapping_number=4
)
"""The journal that has these pairs: the second one of February."""


def rendering_of(
    target: Target,
    settings: Mapping[str, Any],
    pairs: Sequence[JournalPair] = PAIRS,
    *,
    journal: Journal | None = None,
    mapping: AccountMapping = MAPPING,
) -> Rendering:
    """An export of these pairs to a target, as the exports make it."""
    journal = journal or journal_of(pairs, mapping=mapping)
    return contract.rendering_of(target, settings, journal, pairs, mapping, EXPORT_ID)


GOLDENS: dict[str, tuple[dict[str, Any], Sequence[JournalPair]]] = {
    "": ({"level": "block"}, PAIRS),
    "empty-": ({}, ()),
    "split-": ({"level": "block", "lines": 3}, PAIRS),
}
"""The exports that were agreed on, by the beginning of their files' names."""


OVERLONG = AccountMapping(
    rows=({"role": "cash", "account": "1", "name": "=" * 5000}, {"role": "tax_payable", "account": "2"})
)
"""A name that is longer than any target takes, and than a mapping that was checked has."""


def overlong(target: Target) -> Rendering:
    """An export of one pair whose debit has a text that is too long, and looks like a formula."""
    pair = _pair("cash", "tax_payable", "USD 1 1")
    return rendering_of(target, {}, (pair,), mapping=OVERLONG)


def cases(target: Target) -> dict[str, Callable[[], Rendering]]:
    """The agreed exports to a target."""
    return {name: partial(rendering_of, target, settings, pairs) for name, (settings, pairs) in GOLDENS.items()}


def is_debit(debit: str, credit: str) -> tuple[bool, Decimal]:
    """Of two columns, of which exactly one is filled."""
    assert bool(debit) != bool(credit)
    return bool(debit), Decimal(debit or credit)


# --- at random ----------------------------------------------------------------------------------------------------

_ROLES = ("cash", "accounts_receivable", "prepaid_liability", "usage_revenue", "breakage_revenue", "fx_gain_loss")
# What an id may be made of: anything but control characters of ASCII.
_CONTROL = "".join(map(chr, (*range(32), 127)))
_TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters=_CONTROL), max_size=200)


@st.composite
def journals(draw: st.DrawFn) -> tuple[Journal, tuple[JournalPair, ...]]:
    """A journal and its pairs, in a functional currency of 0, 2 or 3 decimals and up to three others.

    In dinars the functional amounts have no thousandths, as general ledgers of two decimals refuse them.
    """
    home = draw(st.sampled_from(("USD", "JPY", "KWD")))
    names = draw(st.lists(_TEXTS, min_size=1, max_size=3))
    keys = draw(
        st.sets(
            st.tuples(
                st.sampled_from(_ROLES),
                st.sampled_from(_ROLES),
                st.sampled_from(("EUR", "JPY", "KWD", home)),
                *(st.sampled_from(("", *names)) for _ in range(3)),
            ).filter(lambda key: key[0] != key[1]),
            max_size=14,
        )
    )
    pairs = []
    for debit, credit, currency, product, customer, block_id in sorted(keys):
        functional = draw(st.integers(0, 10**9)) * (10 if home == "KWD" else 1)
        own = functional if currency == home else draw(st.integers(0, 10**9))
        pairs.append(
            JournalPair(
                debit=debit,
                credit=credit,
                currency=currency,
                amount_minor=own,
                functional_minor=functional,
                entries=1,
                product=product,
                customer=customer,
                block_id=block_id,
            )
        )
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


def renderings(target: Target) -> st.SearchStrategy[Rendering]:
    """Exports of any journal to a target."""
    return st.builds(
        lambda made, settings: rendering_of(target, settings, made[1], journal=made[0]), journals(), random_settings()
    )
