"""The account mapping: the GL account of each role, at export.

A mapping is a list of rows. A row has a role, an account, and optional key columns: product, credit kind,
``refundable``, currency, own dimensions of purchases and usage (``dimension.department``), and attributes of the
customer (``customer.segment``). An empty cell matches any value.

The most specific matching row applies. A match of the product counts most, then the credit kind, then ``refundable``,
then the currency, then own dimensions, then attributes. Among several dimensions or attributes, the first name in
alphabetical order counts most. ``refundable`` true matches the entries of refundable blocks, and false all other
entries. A customer without an attribute, and a line without an own dimension, match only an empty cell.

All other columns are dimensions that go with the account into the journals (department, class, location). In such a
column, ``{customer.region}`` becomes the customer's attribute, and ``{dimension.department}`` the own dimension of the
line (own_dimensions). If there is no value, the line does not have the dimension.

Owns: resolving a role to an account, and the mappings of a ledger. Does not own: adopting one (configuring/
account_mappings), reading and checking rows (rows), the attributes of customers (customer_attributes,
journal_customers), the use of the accounts in journals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from importlib import resources
from typing import Any, Final

import msgspec

from projections.account_mapping.rows import (
    CUSTOMER,
    DIMENSION,
    KEY_COLUMNS,
    NOT_REFUNDABLE,
    attribute_in,
    attributes_in,
    checked_rows,
    dimension_in,
    is_dimension,
    own_dimensions_in,
    read_rows,
)
from subledger.errors import IntegrityFault, UnmappedRole
from subledger.events.envelope import canonical
from subledger.own_dimensions import pairs_of
from subledger.periods import Period
from subledger.store.reading.in_force import EVERYTHING, mapping_rows
from subledger.store.reading.queries import AnyConnection, rows
from subledger.store.reading.views import View

Attributes = tuple[tuple[str, str], ...]
"""The attributes of a customer on which an account mapping depends, in order of name. An empty value means no
attribute.
"""

BY_CUSTOMER: Final = "by customer"


class GLAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Account of the general ledger: its number, its name, the company's own dimensions in order of name."""

    number: str
    name: str
    dimensions: tuple[tuple[str, str], ...] = ()


class _Candidate(msgspec.Struct, frozen=True):
    """A row with its key: the cells of product, credit kind, refundable and currency, own dimensions, attributes."""

    cells: tuple[str, ...]
    own: Attributes
    attributes: Attributes
    row: dict[str, str]


class AccountMapping(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """An account mapping: rows in a canonical order, without empty cells. Make one with ``from_rows``."""

    rows: tuple[dict[str, str], ...]

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, str]]) -> AccountMapping:
        """Checked rows. Raises InvalidMapping naming the row, counted from 1, and its column."""
        return cls(rows=checked_rows((f"row {number}", row) for number, row in enumerate(rows, start=1)))

    @property
    def content_hash(self) -> str:
        """SHA-256 of the rows in canonical JSON. The event ``mapping.adopted`` contains it."""
        return hashlib.sha256(canonical(list(self.rows)).encode()).hexdigest()

    @cached_property
    def dimensions(self) -> tuple[str, ...]:
        """The names of the company's own dimensions, in order."""
        return tuple(sorted({column for row in self.rows for column in row if is_dimension(column)}))

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """The attributes of customers on which it depends, in order of name; empty for most mappings."""
        return attributes_in(self.rows)

    @cached_property
    def own_dimensions(self) -> tuple[str, ...]:
        """The own dimensions of purchases and usage on which it depends, in order of name."""
        return own_dimensions_in(self.rows)

    @cached_property
    def roles_mapped(self) -> frozenset[str]:
        """The roles that have a row with an empty key, so that every entry on them has an account."""
        return frozenset(
            role
            for role, candidates in self._by_role.items()
            if any(not (any(one.cells) or one.own or one.attributes) for one in candidates)
        )

    @cached_property
    def _by_role(self) -> dict[str, list[_Candidate]]:
        """The rows of each role, the most specific first, so that the first matching row applies."""
        found: dict[str, list[_Candidate]] = {}
        for row in self.rows:
            cells = tuple(row.get(column, "") for column in KEY_COLUMNS[1:])
            own = _named(row, DIMENSION, self.own_dimensions)
            named = _named(row, CUSTOMER, self.attributes)
            found.setdefault(row["role"], []).append(_Candidate(cells, own, named, row))
        for candidates in found.values():
            candidates.sort(key=self._specificity, reverse=True)
        return found

    def _specificity(self, candidate: _Candidate) -> tuple[bool, ...]:
        # Two matching rows never tie: with the same columns and the same values they would have the same key.
        own, named = dict(candidate.own), dict(candidate.attributes)
        return (
            *(bool(cell) for cell in candidate.cells),
            *(name in own for name in self.own_dimensions),
            *(name in named for name in self.attributes),
        )

    def resolve(
        self,
        role: str,
        product: str,
        credit_kind: str,
        currency: str,
        attributes: Attributes = (),
        *,
        refundable: str = "",
        own: str = "",
    ) -> GLAccount:
        """The account of the most specific row that matches. ``own`` are the company's own dimensions of the line.

        Raises UnmappedRole naming the combination.
        """
        values, wanted = dict(attributes), (product, credit_kind, refundable, currency)
        for candidate in self._matching(role, *wanted, own):
            if all(values.get(name) == value for name, value in candidate.attributes):
                return _account(candidate.row, values, dict(pairs_of(own)))
        raise _unmapped((role, *wanted), self.own_for(role, own), self.named_for(role, attributes))

    def resolve_for_all(
        self, role: str, product: str, credit_kind: str, currency: str, *, refundable: str = "", own: str = ""
    ) -> GLAccount:
        """The account for all customers, without dimensions; ``by customer`` if it depends on the customer.

        Raises UnmappedRole.
        """
        found: set[tuple[str, str]] = set()
        wanted = (product, credit_kind, refundable, currency)
        for candidate in self._matching(role, *wanted, own):
            found.add((candidate.row["account"], candidate.row.get("name", "")))
            if not candidate.attributes:
                break
        if not found:
            raise _unmapped((role, *wanted), self.own_for(role, own), ())
        number, name = found.pop() if len(found) == 1 else (BY_CUSTOMER, "")
        return GLAccount(number=number, name=name)

    def _matching(
        self, role: str, product: str, credit_kind: str, refundable: str, currency: str, own: str
    ) -> Iterator[_Candidate]:
        """The rows that match, without regard to attributes, the most specific first."""
        wanted = (product, credit_kind, refundable or NOT_REFUNDABLE, currency)
        texts = dict(pairs_of(own))
        for candidate in self._by_role.get(role, ()):
            if all(cell in ("", value) for cell, value in zip(candidate.cells, wanted, strict=True)) and all(
                texts.get(name) == value for name, value in candidate.own
            ):
                yield candidate

    def own_for(self, role: str, own: str) -> Attributes:
        """The own dimensions of a line that are key columns for this role, with an empty value for a missing one."""
        named = {name for candidate in self._by_role.get(role, ()) for name, _ in candidate.own}
        texts = dict(pairs_of(own))
        return tuple((name, texts.get(name, "")) for name in sorted(named))

    def named_for(self, role: str, attributes: Attributes) -> Attributes:
        """The attributes of a customer that are key columns for this role, so that its account depends on them."""
        named = {name for candidate in self._by_role.get(role, ()) for name, _ in candidate.attributes}
        return tuple(each for each in attributes if each[0] in named)


def _named(row: Mapping[str, str], prefix: str, names: tuple[str, ...]) -> Attributes:
    return tuple((name, row[f"{prefix}{name}"]) for name in names if f"{prefix}{name}" in row)


def _account(row: Mapping[str, str], attributes: Mapping[str, str], texts: Mapping[str, str]) -> GLAccount:
    own = []
    for column, cell in sorted(row.items()):
        if is_dimension(column):
            attribute, dimension = attribute_in(cell), dimension_in(cell)
            if attribute is not None:
                own.append((column, attributes.get(attribute, "")))
            else:
                own.append((column, cell if dimension is None else texts.get(dimension, "")))
    dimensions = tuple((name, value) for name, value in own if value)
    return GLAccount(number=row["account"], name=row.get("name", ""), dimensions=dimensions)


def _unmapped(wanted: tuple[str, str, str, str, str], own: Attributes, attributes: Attributes) -> UnmappedRole:
    shown = [f"{name} {value}" for name, value in zip(KEY_COLUMNS, wanted, strict=True) if value]
    for prefix, pairs in ((DIMENSION, own), (CUSTOMER, attributes)):
        shown += [f"{prefix}{name} {value}" if value else f"no {prefix}{name}" for name, value in pairs]
    role, product, credit_kind, refundable, currency = wanted
    facts: dict[str, Any] = {"refundable": refundable} if refundable else {}
    if own:
        facts["dimensions"] = dict(own)
    if attributes:
        facts["attributes"] = dict(attributes)
    return UnmappedRole(
        f"the account mapping has no row for {', '.join(shown)}",
        field="role",
        expected="a row",
        found=role,
        product=product,
        credit_kind=credit_kind,
        currency=currency,
        **facts,
    )


def parse_mapping(csv_text: str) -> AccountMapping:
    """A mapping file: CSV with the header ``role,product,credit_kind,currency,account,name``, and further columns.

    These are ``refundable``, attributes and dimensions. Raises InvalidMapping naming the line, counted from 1 with the
    header, and the column.
    """
    return AccountMapping(rows=read_rows(csv_text))


def default_mapping() -> AccountMapping:
    """The chart that ships: one account for every role."""
    text = (resources.files("projections.account_mapping") / "default_chart.csv").read_text("utf-8")
    return parse_mapping(text)


# --- the mappings of a ledger ---------------------------------------------------------------------------------

MAPPING_ROWS: Final = """
-- One adopted mapping of a ledger.
SELECT rows FROM account_mappings WHERE ledger = %(ledger)s AND mapping = %(mapping)s
"""
ADOPTED: Final = """
-- When a mapping was adopted, and by whom.
SELECT e.data::jsonb ->> 'by', e.data::jsonb ->> 'valid_from', b.recorded_at
FROM account_mappings m
JOIN events e ON e.ledger = m.ledger AND e.position = m.position
JOIN LATERAL (SELECT recorded_at FROM batches b WHERE b.ledger = %(ledger)s AND b.last_position >= m.position
              ORDER BY b.last_position LIMIT 1) b ON true
WHERE m.ledger = %(ledger)s AND m.mapping = %(mapping)s
"""


class MappingAdoption(msgspec.Struct, frozen=True, kw_only=True):
    """The adoption of a mapping: its number, time, first month and person; ``by`` is None if nobody was named."""

    number: int
    by: str | None
    valid_from: str | None
    adopted_at: datetime


def adoption_of(connection: AnyConnection, ledger: str, number: int) -> MappingAdoption:
    """The adoption of one of a ledger's mappings."""
    [(by, valid_from, at)] = rows(connection, ADOPTED, {"ledger": ledger, "mapping": number})
    return MappingAdoption(number=number, by=by, valid_from=valid_from, adopted_at=at)


def mapping_of(connection: AnyConnection, ledger: str, number: int) -> AccountMapping:
    """The mapping that a ledger adopted under this number."""
    found = rows(connection, MAPPING_ROWS, {"ledger": ledger, "mapping": number})
    if not found:
        raise IntegrityFault(f"ledger {ledger} has no account mapping {number}", ledger=ledger, mapping=number)
    return _mapping(found[0][0])


def _mapping(text: str) -> AccountMapping:
    return AccountMapping(rows=tuple(msgspec.json.decode(text, type=list[dict[str, str]])))


def mapping_for(
    connection: AnyConnection, ledger: str, period: Period, *, through: int = EVERYTHING
) -> tuple[int, AccountMapping]:
    """The mapping for the next journal of a period, from those adopted through a position, and its number."""
    found = mapping_rows(connection, ledger, str(period), through=through)
    if found is None:
        raise IntegrityFault(f"ledger {ledger} has no account mapping for {period}", ledger=ledger)
    return found[0], _mapping(found[1])


def mapping_at(view: View, period: Period) -> AccountMapping:
    """The mapping for a journal of a period, as known at a view."""
    return mapping_for(view.connection, view.ledger, period, through=view.position)[1]


VALID_FROM: Final = """
-- The months after one from which on mappings hold.
SELECT DISTINCT valid_from FROM account_mappings WHERE ledger = %(ledger)s AND valid_from > %(period)s
"""


def mappings_from(connection: AnyConnection, ledger: str, first: Period) -> list[tuple[int, AccountMapping]]:
    """The mappings for the next journals of a month and of all later months, with their numbers."""
    later = rows(connection, VALID_FROM, {"ledger": ledger, "period": str(first)})
    months = (first, *(Period.parse(name) for (name,) in later))
    found = dict(mapping_for(connection, ledger, month) for month in months)
    return sorted(found.items())
