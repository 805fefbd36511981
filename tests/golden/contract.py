"""The contract of the formats of general ledgers: what every file of every target is held to.

A format's own module reads its files with a parser that knows nothing of ours, into ``Read`` documents, and states its
``CONTRACTS``; ``test_every_format.py`` asks the same of all of them. What a vendor asks beyond that stays there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from projections.account_mapping.mapping import AccountMapping
from projections.exports.documents import Document, TargetLimits, documents_of
from projections.exports.formats import FORMATS
from projections.exports.formats.target import Rendering, Target, read_settings
from projections.journals.journal import Journal, JournalLine, JournalPair, check_balanced
from subledger.accounts import Side
from subledger.money import exponent
from subledger.periods import Period

GOLDEN = Path(__file__).parent


# --- journals without a database ----------------------------------------------------------------------------------


def journal_of(
    pairs: Sequence[JournalPair],
    mapping: AccountMapping,
    *,
    period: Period,
    number: int,
    cuts: tuple[int, int],
    mapping_number: int,
    home: str = "USD",
    ledger: str = "acme-us",
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
            number=place,
            currency=key[0],
            role=key[1],
            product=key[2],
            credit_kind=key[3],
            pool=key[4],
            processor=key[5],
            side=key[6],
            account=mapping.resolve(key[1], key[2], key[3], key[0]),
            amount_minor=amount,
            functional_minor=functional,
            entries=entries,
        )
        for place, (key, (amount, functional, entries)) in enumerate(sorted(sums.items()), start=1)
    )
    check_balanced(lines)
    return Journal(
        ledger=ledger,
        entity="US01",
        functional_currency=home,
        period=period,
        number=number,
        from_cut=cuts[0],
        to_cut=cuts[1],
        mapping=mapping_number,
        lines=lines,
    )


def rendering_of(
    target: Target,
    settings: Mapping[str, Any],
    journal: Journal,
    pairs: Sequence[JournalPair],
    mapping: AccountMapping,
    export_id: str,
) -> Rendering:
    """An export of these pairs to a target, as the exports make it; its documents are within the target's limits."""
    read = read_settings(target.settings, settings)
    limits = target.limits_for(read)
    documents = documents_of(journal, pairs, mapping, limits=limits, level=read.level)
    assert_within_limits(documents, pairs, limits, journal.functional_currency)
    return Rendering(export_id=export_id, journal=journal, documents=documents, settings=read)


def assert_within_limits(
    documents: Sequence[Document], pairs: Sequence[JournalPair], limits: TargetLimits, home: str
) -> None:
    """Documents are within what the target takes; each line is what its pairs add up to, and no pair is left out."""
    seen: Counter[tuple[int, Side]] = Counter()
    assert len({document.reference for document in documents}) == len(documents)
    for document in documents:
        assert 2 <= len(document.lines) <= limits.lines
        assert 1 <= len(document.reference) <= limits.reference
        assert document.reference[0].isalnum()  # no formula in any spreadsheet
        assert document.currency == home or limits.two_currencies
        debits, functional = Counter[Side](), Counter[Side]()
        for line in document.lines:
            assert len(line.text) <= limits.text
            moved = [pairs[place] for place in line.pairs]
            assert line.functional_minor == sum(pair.functional_minor for pair in moved)
            if limits.two_currencies:
                assert {pair.currency for pair in moved} == {document.currency}
            own = sum(pair.amount_minor for pair in moved)
            assert line.amount_minor == (own if limits.two_currencies else line.functional_minor)
            debits[line.side] += line.amount_minor
            functional[line.side] += line.functional_minor
            seen.update((place, line.side) for place in line.pairs)
        assert debits[Side.DEBIT] == debits[Side.CREDIT] == document.total_minor
        assert functional[Side.DEBIT] == functional[Side.CREDIT]
    moving = [
        place
        for place, pair in enumerate(pairs)
        if pair.functional_minor or (limits.two_currencies and pair.amount_minor)
    ]
    assert seen == {(place, side): 1 for place in moving for side in Side}


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


def assert_is_the_journal(documents: Iterable[Read], rendering: Rendering, *, all_decimals: bool = True) -> None:
    """Each document balances; all of them are the journal, to the cent, per account and side; every line is named.

    With ``all_decimals`` an amount is written with as many decimals as its currency has.
    """
    home = rendering.journal.functional_currency
    documents = tuple(documents)
    assert [document.reference for document in documents] == [document.reference for document in rendering.documents]
    assert [[line.reference for line in document.lines] for document in documents] == [
        [line.reference for line in document.lines] for document in rendering.documents
    ]
    references = [line.reference for document in documents for line in document.lines]
    assert references == [f"L{number}" for number in range(1, len(references) + 1)]
    found: Counter[tuple[str, str, bool]] = Counter()
    found_functional: Counter[tuple[str, bool]] = Counter()
    for document in documents:
        assert len(document.lines) >= 2
        balances = [0, 0]
        for line in document.lines:
            own = _minor(line.amount, document.currency, all_decimals)
            functional = own if line.functional is None else _minor(line.functional, home, all_decimals)
            assert own >= 0 <= functional
            assert own or functional
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


def _minor(amount: Decimal, currency: str, all_decimals: bool) -> int:
    """In minor units; an amount with more digits than its currency fails."""
    scaled = amount.scaleb(exponent(currency))
    assert scaled == int(scaled)
    places = amount.as_tuple().exponent
    assert isinstance(places, int)
    assert not all_decimals or -places == exponent(currency)
    return int(scaled)


# --- the contract -------------------------------------------------------------------------------------------------


class Contract(NamedTuple):
    """One format: the renderings whose files were agreed on, a reader of its files, and renderings of any journal.

    ``cases`` are made when they are asked for. ``golden`` names the agreed file of a case, of an archive that of a
    member. ``also``: what else holds of any rendering.
    """

    form: str
    cases: Mapping[str, Callable[[], Rendering]]
    golden: Callable[[str, str], str]
    read: Callable[[bytes, Rendering], Iterable[Read]]
    renderings: st.SearchStrategy[Rendering]
    all_decimals: bool = True
    also: Callable[[Rendering], None] = lambda _: None


def file_of(contract: Contract, rendering: Rendering) -> bytes:
    """The file of a rendering, which is the same each time."""
    file = FORMATS[contract.form].render(rendering)
    assert file == FORMATS[contract.form].render(rendering)
    return file


def assert_fulfils(contract: Contract, rendering: Rendering) -> None:
    """The file of a rendering says the journal."""
    documents = contract.read(file_of(contract, rendering), rendering)
    assert_is_the_journal(documents, rendering, all_decimals=contract.all_decimals)
    contract.also(rendering)
