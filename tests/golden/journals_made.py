"""Journals for the formats of general ledgers, made of pairs without a database, and what any file of them must say.

A file's reader gives ``Read`` documents: what an independent parser found in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from hypothesis import strategies as st

from projections.journals.formats.target import Rendering, Target, TargetSettings, read_settings
from projections.journals.mapping import Mapping
from projections.journals.pairs import Pair
from projections.journals.postings import Limits, Posting, postings_of
from projections.journals.summary import Journal, JournalLine, check_balanced
from subledger.accounts import Side
from subledger.money import exponent
from subledger.periods import Period

MAPPING = Mapping.from_rows(
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


def _pair(debit: str, credit: str, amounts: str, **more: str) -> Pair:
    currency, amount, functional = amounts.split()
    return Pair(
        debit=debit, credit=credit, currency=currency, amount_minor=int(amount), functional_minor=int(functional),
        entries=1, **{"credit_kind": "paid", **more},
    )  # fmt: skip


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


def journal_of(pairs: Sequence[Pair], functional_currency: str = "USD", ledger: str = "acme-us") -> Journal:
    """The journal whose pairs these are."""
    sums: Counter[tuple[str, str, str, str, str, str, Side]] = Counter()
    functional: Counter[tuple[str, str, str, str, str, str, Side]] = Counter()
    for pair in pairs:
        for role, side in ((pair.debit, Side.DEBIT), (pair.credit, Side.CREDIT)):
            key = (pair.currency, role, pair.product, pair.credit_kind, pair.pool, pair.processor, side)
            sums[key] += pair.amount_minor
            functional[key] += pair.functional_minor
    lines = tuple(
        JournalLine(
            number=number, role=key[1], side=key[6], currency=key[0], amount_minor=sums[key],
            functional_minor=functional[key], account=MAPPING.resolve(key[1], key[2], key[3], key[0]), product=key[2],
            credit_kind=key[3], pool=key[4], processor=key[5],
        )
        for number, key in enumerate(sorted(sums), start=1)
    )  # fmt: skip
    check_balanced(lines)
    return Journal(
        ledger=ledger, entity="US01", functional_currency=functional_currency, period=Period(2026, 1), number=1,
        from_cut=0, to_cut=3, mapping=1, lines=lines,
    )  # fmt: skip


def rendering_of(
    target: Target, pairs: Sequence[Pair] = PAIRS, *, functional_currency: str = "USD", export: str = "export",
    **given: Any,
) -> Rendering:  # fmt: skip
    """An export of the journal of these pairs, with these settings."""
    journal = journal_of(pairs, functional_currency)
    settings: TargetSettings = read_settings(target.settings, given)
    limits = target.limits_for(settings)
    postings = postings_of(journal, pairs, MAPPING, limits=limits, level=settings.level)
    assert_within(postings, pairs, limits, functional_currency)
    return Rendering(export_id=f"{journal.name}-{export}", journal=journal, postings=postings, settings=settings)


def assert_within(postings: Sequence[Posting], pairs: Sequence[Pair], limits: Limits, home: str) -> None:
    """Every document is within the limits; every pair is in one document, and lines are what their pairs add up to."""
    taken: list[int] = []
    for posting in postings:
        assert 2 <= len(posting.lines) <= limits.lines
        assert len(posting.reference) <= limits.reference
        assert limits.two_currencies or posting.currency == home
        for line in posting.lines:
            assert len(line.text) <= limits.text
            assert line.functional_minor == sum(pairs[place].functional_minor for place in line.pairs)
            if limits.two_currencies:
                assert {pairs[place].currency for place in line.pairs} == {posting.currency}
                assert line.amount_minor == sum(pairs[place].amount_minor for place in line.pairs)
            taken += line.pairs
    assert len({posting.reference for posting in postings}) == len(postings)
    moved = [
        place
        for place, pair in enumerate(pairs)
        if pair.functional_minor or (limits.two_currencies and pair.amount_minor)
    ]
    assert sorted(taken) == sorted(moved * 2)


# --- what a file says ---------------------------------------------------------------------------------------------


class ReadLine(NamedTuple):
    """``functional`` is None where the file has one amount."""

    reference: str
    account: str
    debit: bool
    amount: Decimal
    functional: Decimal | None = None


class Read(NamedTuple):
    """A document as an independent parser found it."""

    reference: str
    currency: str
    lines: tuple[ReadLine, ...]


def assert_is_the_journal(documents: Iterable[Read], rendering: Rendering) -> None:
    """Each document balances; all of them are the journal, to the cent, per account and side."""
    home = rendering.journal.functional_currency
    documents = tuple(documents)
    assert [document.reference for document in documents] == [posting.reference for posting in rendering.postings]
    assert [line.reference for document in documents for line in document.lines] == [
        line.reference for posting in rendering.postings for line in posting.lines
    ]
    found: Counter[tuple[str, str, bool]] = Counter()
    found_functional: Counter[tuple[str, bool]] = Counter()
    for document in documents:
        balances = [0, 0]
        for line in document.lines:
            own = _minor(line.amount, document.currency)
            functional = own if line.functional is None else _minor(line.functional, home)
            assert own >= 0 <= functional
            found[document.currency, line.account, line.debit] += own
            found_functional[line.account, line.debit] += functional
            balances[0] += own if line.debit else -own
            balances[1] += functional if line.debit else -functional
        assert balances == [0, 0]
    said: Counter[tuple[str, str, bool]] = Counter()
    said_functional: Counter[tuple[str, bool]] = Counter()
    for each in rendering.journal.lines:
        debit = each.side is Side.DEBIT
        said[each.currency, each.account.number, debit] += each.amount_minor
        said_functional[each.account.number, debit] += each.functional_minor
    assert +found_functional == +said_functional
    if any(document.currency != home for document in documents):
        assert +found == +said


def _minor(amount: Decimal, currency: str) -> int:
    """Raises InvalidOperation where an amount has more digits than its currency."""
    scaled = amount.scaleb(exponent(currency))
    assert scaled == int(scaled)
    places = amount.as_tuple().exponent
    assert isinstance(places, int)
    assert -places == exponent(currency)
    return int(scaled)


# --- any journal --------------------------------------------------------------------------------------------------

_ROLES = ("accounts_receivable", "prepaid_liability", "usage_revenue", "breakage_revenue", "fx_gain_loss")


@st.composite
def journals(draw: st.DrawFn) -> tuple[tuple[Pair, ...], str]:
    """Pairs, and a functional currency; amounts that are nothing in one currency or the other among them."""
    home = draw(st.sampled_from(("USD", "JPY", "KWD")))
    amounts = st.integers(0, 10**9)
    keys = st.tuples(
        st.permutations(_ROLES).map(lambda roles: tuple(roles[:2])), st.sampled_from(("USD", "JPY", "KWD", "EUR")),
        st.sampled_from(("", "api", '=é, "')), st.sampled_from(("paid", "promotional")),
        st.sampled_from(("", "cus-1", 'Ö" & <c>')),
    )  # fmt: skip
    pairs = []
    for (debit, credit), currency, product, credit_kind, customer in draw(st.lists(keys, max_size=25, unique=True)):
        amount = draw(amounts)
        functional = amount if currency == home else draw(amounts)
        if not (amount or functional):
            continue
        pair = Pair(
            debit=debit, credit=credit, currency=currency, amount_minor=amount, functional_minor=functional,
            product=product, credit_kind=credit_kind, customer=customer,
        )  # fmt: skip
        pairs.append(pair)
    return tuple(pairs), home


levels = st.sampled_from(("account", "dimension", "customer", "block"))
