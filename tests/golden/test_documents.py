"""Documents within limits: references, texts, amounts that do not fit."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.account_mapping.mapping import default_mapping
from projections.exports.documents import TargetLimits, ascii_text, documents_of, short_name
from projections.journals.journal import Journal, JournalPair
from subledger.errors import NotRepresentable
from subledger.periods import Period

LIMITS = TargetLimits(lines=100, text=40, reference=16)


def journal(home: str = "USD") -> Journal:
    return Journal(
        ledger="acme",
        entity="US01",
        functional_currency=home,
        period=Period.parse("2026-01"),
        number=1,
        from_cut=0,
        to_cut=1,
        mapping=1,
        lines=(),
    )


def pair(amount: int, currency: str = "USD", functional: int | None = None) -> JournalPair:
    return JournalPair(
        debit="accounts_receivable",
        credit="prepaid_liability",
        currency=currency,
        amount_minor=amount,
        functional_minor=amount if functional is None else functional,
        entries=1,
        credit_kind="paid",
    )


@given(st.lists(st.text(min_size=1, max_size=80), min_size=2, max_size=20, unique=True), st.integers(8, 40))
def test_names_that_differ_have_references_that_differ(names: list[str], length: int) -> None:
    limits = msgspec.structs.replace(LIMITS, reference=length)
    found = [short_name(name, limits) for name in names]
    assert len(set(found)) == len(found)
    assert all(0 < len(name) <= length and name.isascii() and set(name) <= set(ALLOWED) for name in found)


ALLOWED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"


def test_a_name_that_fits_is_left_as_it_is_and_a_longer_one_keeps_its_end() -> None:
    assert short_name("acme-2026-01-1", LIMITS) == "acme-2026-01-1"
    short = short_name("a-very-long-ledger-name-2026-01-1", LIMITS)
    assert short.startswith("026-01-1")
    assert len(short) <= 16


@pytest.mark.parametrize(
    ("home", "amount", "limits"),
    [
        ("KWD", 1234, LIMITS),
        ("USD", 10**17, msgspec.structs.replace(LIMITS, digits=10)),
        ("USD", 10**12, msgspec.structs.replace(LIMITS, digits=10)),
    ],
)
def test_an_amount_that_does_not_fit_is_refused_and_never_rounded(home: str, amount: int, limits: TargetLimits) -> None:
    with pytest.raises(NotRepresentable) as caught:
        documents_of(journal(home), [pair(amount, home)], default_mapping(), limits=limits)
    assert caught.value.field == "amount"


def test_what_fits_is_taken_at_the_edge() -> None:
    limits = msgspec.structs.replace(LIMITS, digits=10)
    [document] = documents_of(journal(), [pair(10**12 - 1)], default_mapping(), limits=limits)
    assert document.total_minor == 10**12 - 1
    [document] = documents_of(journal("KWD"), [pair(1230, "KWD")], default_mapping(), limits=LIMITS)
    assert document.total_minor == 1230


def test_what_is_nothing_in_the_documents_currency_is_left_out_whole() -> None:
    pairs = [pair(3, "JPY", 0), pair(500)]
    [document] = documents_of(journal(), pairs, default_mapping(), limits=LIMITS)
    assert [line.pairs for line in document.lines] == [(1,), (1,)]
    both = msgspec.structs.replace(LIMITS, two_currencies=True)
    documents = documents_of(journal(), pairs, default_mapping(), limits=both)
    assert [(document.currency, document.total_minor) for document in documents] == [("USD", 500), ("JPY", 3)]


def test_a_text_in_ascii_keeps_its_letters() -> None:
    assert ascii_text("Größe é – ß…") == "Grosse e ? ss..."
