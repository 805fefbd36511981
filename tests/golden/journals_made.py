"""Journals for the general ledgers that take two currencies or count in their own: January's, and any at all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from hypothesis import strategies as st

from projections.account_mapping.mapping import AccountMapping
from projections.exports.formats.target import Rendering, Target
from projections.journals.journal import JournalPair
from subledger.periods import Period
from tests.golden import contract

MAPPING = AccountMapping.from_rows(
    (
        {"role": "accounts_receivable", "account": "1100", "name": "Accounts receivable"},
        {"role": "processor_clearing", "account": "1050", "name": '=HYPERLINK("http://x.example","Clearing")'},
        {
            "role": "prepaid_liability", "account": "2450", "name": "Verkaufte Guthaben – Größe „XL“, kündbar",
            "department": "Ops",
        },
        {
            "role": "prepaid_liability", "account": "2451", "name": "Promotional", "credit_kind": "promotional",
            "department": "Ops",
        },
        {
            "role": "usage_revenue", "account": "4010", "name": 'Usage, "metered"', "department": "Sales",
            "class": "Platform",
        },
        {"role": "breakage_revenue", "account": "4090", "name": "Breakage & <rest>", "class": "Platform"},
        {"role": "contra_revenue", "account": "4900", "name": "Contra revenue"},
        {"role": "fx_gain_loss", "account": "7100", "name": "Exchange gains and losses"},
    )
)  # fmt: skip


def _pair(debit: str, credit: str, amounts: str, **more: str) -> JournalPair:
    currency, amount, functional = amounts.split()
    return JournalPair(
        debit=debit,
        credit=credit,
        currency=currency,
        amount_minor=int(amount),
        functional_minor=int(functional),
        entries=0,
        **{"credit_kind": "paid", **more},
    )


PAIRS = (
    _pair("accounts_receivable", "prepaid_liability", "EUR 100000 123300", customer="cus_1", block_id="blk-1"),
    _pair("accounts_receivable", "fx_gain_loss", "EUR 0 3300", customer="cus_1", block_id="blk-1"),
    _pair("prepaid_liability", "usage_revenue", "EUR 45050 55547", product="+api", customer="cus_1", block_id="blk-1"),
    _pair(
        "processor_clearing", "prepaid_liability", "USD 5000000 5000000", processor="stripe",
        customer="Müller & Söhne, “Größtes” Haus für Überlange Namen <und> mehr GmbH & Co. KG", block_id="blk/7:é",
    ),
    _pair("prepaid_liability", "usage_revenue", "USD 110000 110000", product="api, v2", customer="@c", block_id="b-2"),
    _pair("usage_revenue", "prepaid_liability", "USD 7 7", product="api, v2", customer="@c", block_id="b-2"),
    _pair("prepaid_liability", "breakage_revenue", "USD 15000 15000", pool="p-1", customer="@c", block_id="b-2"),
    _pair(
        "contra_revenue", "prepaid_liability", "USD 2500 2500", credit_kind="promotional", customer="@c",
        block_id="b-3",
    ),
)  # fmt: skip
"""A month in euros and dollars: a purchase, its remeasurement and its use; texts that formats must take care of."""


journal_of = partial(
    contract.journal_of, mapping=MAPPING, period=Period(2026, 1), number=1, cuts=(0, 3), mapping_number=1
)
"""The journal whose pairs these are: the first one of January."""


def rendering_of(
    target: Target,
    pairs: Sequence[JournalPair] = PAIRS,
    *,
    functional_currency: str = "USD",
    export: str = "export",
    **given: Any,
) -> Rendering:
    """An export of the journal of these pairs, with these settings."""
    journal = journal_of(pairs, home=functional_currency)
    return contract.rendering_of(target, given, journal, pairs, MAPPING, f"{journal.name}-{export}")


# --- any journal --------------------------------------------------------------------------------------------------

_ROLES = ("accounts_receivable", "prepaid_liability", "usage_revenue", "breakage_revenue", "fx_gain_loss")


@st.composite
def journals(draw: st.DrawFn) -> tuple[tuple[JournalPair, ...], str]:
    """Pairs, and a functional currency; amounts that are nothing in one currency or the other among them."""
    home = draw(st.sampled_from(("USD", "JPY", "KWD")))
    amounts = st.integers(0, 10**9)
    keys = st.tuples(
        st.permutations(_ROLES).map(lambda roles: tuple(roles[:2])),
        st.sampled_from(("USD", "JPY", "KWD", "EUR")),
        st.sampled_from(("", "api", '=é, "')),
        st.sampled_from(("paid", "promotional")),
        st.sampled_from(("", "cus-1", 'Ö" & <c>')),
    )
    pairs = []
    for (debit, credit), currency, product, credit_kind, customer in draw(st.lists(keys, max_size=25, unique=True)):
        amount = draw(amounts)
        functional = amount if currency == home else draw(amounts)
        if not (amount or functional):
            continue
        pair = JournalPair(
            debit=debit,
            credit=credit,
            currency=currency,
            amount_minor=amount,
            functional_minor=functional,
            product=product,
            credit_kind=credit_kind,
            customer=customer,
        )
        pairs.append(pair)
    return tuple(pairs), home


levels = st.sampled_from(("account", "dimension", "customer", "block"))


def renderings(target: Target, **given: Any) -> st.SearchStrategy[Rendering]:
    """Exports of any journal to a target, at any level, with few lines a document."""
    return st.builds(
        lambda journal, level, lines: rendering_of(
            target, journal[0], functional_currency=journal[1], level=level, lines=lines, **given
        ),
        journals(),
        levels,
        st.integers(2, 6),
    )
