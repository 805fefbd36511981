"""The neutral formats: CSV for people and spreadsheets, canonical JSON for programs.

Amounts are decimals with exactly their currency's places; in JSON they are strings. ``debit`` and ``credit`` are in the
line's currency, ``functional_debit`` and ``functional_credit`` in the ledger's.
"""

from __future__ import annotations

import csv
import hashlib
import io
from typing import Any, Final

from projections.journals.journal import Journal, JournalLine
from subledger.accounts import Side
from subledger.events.envelope import canonical
from subledger.money import format_minor
from subledger.own_dimensions import pairs_of
from subledger.text.visible_text import spreadsheet_text

JSON_SCHEMA: Final = "subledger.journal/1"
COLUMNS: Final = (
    "journal", "ledger", "entity", "period", "number", "posting_date", "line", "account", "account_name", "role",
    "currency", "debit", "credit", "functional_currency", "functional_debit", "functional_credit", "product",
    "credit_kind", "pool", "processor", "entries",
)  # fmt: skip


def _sides(line: JournalLine, journal: Journal) -> dict[str, str]:
    debit = line.side is Side.DEBIT
    amounts = (
        ("", line.amount_minor, line.currency),
        ("functional_", line.functional_minor, journal.functional_currency),
    )
    return {
        f"{prefix}{side}": format_minor(amount if here else 0, currency)
        for prefix, amount, currency in amounts
        for side, here in (("debit", debit), ("credit", not debit))
    }


def csv_text(journal: Journal) -> str:
    """Returns RFC 4180 text with a header and LF line ends. The dimensions of the accounts are the last columns,
    ``dim_…``.

    After the fixed columns there are ``refundable`` and ``dimension.…``, the company's own, if a line has them. A
    reversal has ``reverses`` and a re-issue has ``reissues``, with the name of the other journal. A journal of a
    sandbox ledger has ``sandbox``.
    """
    corrects = _corrects(journal) | ({"sandbox": "SANDBOX"} if journal.sandbox else {})
    refundable = ("refundable",) if any(line.refundable for line in journal.lines) else ()
    added = sorted({name for line in journal.lines for name, _ in line.account.dimensions})
    own = sorted({name for line in journal.lines for name, _ in pairs_of(line.own)})
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        (*COLUMNS, *refundable, *(f"dimension.{name}" for name in own), *corrects, *(f"dim_{name}" for name in added))
    )
    for line in journal.lines:
        texts = {
            "journal": journal.name,
            "ledger": journal.ledger,
            "entity": journal.entity,
            "account": line.account.number,
            "account_name": line.account.name,
            "role": line.role,
            "product": line.product,
            "credit_kind": line.credit_kind,
            "pool": line.pool,
            "processor": line.processor,
            "refundable": line.refundable,
        }
        cells: dict[str, object] = {name: spreadsheet_text(value) for name, value in texts.items()}
        cells |= {
            "period": str(journal.period),
            "number": journal.number,
            "posting_date": journal.posting_date.isoformat(),
            "line": line.number,
            "currency": line.currency,
            "functional_currency": journal.functional_currency,
            "entries": line.entries,
            **_sides(line, journal),
        }
        dimensions, texts = dict(line.account.dimensions), dict(pairs_of(line.own))
        writer.writerow(
            (
                *(cells[name] for name in COLUMNS),
                *(cells[name] for name in refundable),
                *(spreadsheet_text(texts.get(name, "")) for name in own),
                *map(spreadsheet_text, corrects.values()),
                *(spreadsheet_text(dimensions.get(name, "")) for name in added),
            )
        )
    return file.getvalue()


def _corrects(journal: Journal) -> dict[str, str]:
    """The journal that a correction corrects, under the key ``reverses`` or ``reissues``; empty for other journals."""
    if journal.corrects is None:
        return {}
    return {"reissues" if journal.reverses is None else "reverses": journal.corrects}


def json_text(journal: Journal) -> str:
    """Returns one document in canonical JSON (RFC 8785) and a final line end.

    ``content_hash`` is the SHA-256 of the document in canonical JSON without this member. ``journal_hash`` is the hash
    of the journal itself, the same in every format.
    """
    document: dict[str, Any] = {
        "schema": JSON_SCHEMA,
        "journal": journal.name,
        "ledger": journal.ledger,
        "entity": journal.entity,
        "period": str(journal.period),
        "number": journal.number,
        "kind": _kind(journal),
        **_corrects(journal),
        **({"sandbox": True} if journal.sandbox else {}),
        "posting_date": journal.posting_date.isoformat(),
        "from_cut": journal.from_cut,
        "to_cut": journal.to_cut,
        "mapping": journal.mapping,
        "functional_currency": journal.functional_currency,
        "lines": [_line(line, journal) for line in journal.lines],
        "totals": _totals(journal),
        "journal_hash": journal.content_hash,
    }
    document["content_hash"] = hashlib.sha256(canonical(document).encode()).hexdigest()
    return canonical(document) + "\n"


def _kind(journal: Journal) -> str:
    if journal.correction is not None:
        return "reissue" if journal.reverses is None else "reversal"
    return "period" if journal.number == 1 else "adjustment"


def _line(line: JournalLine, journal: Journal) -> dict[str, Any]:
    return {
        "line": line.number,
        "account": line.account.number,
        "account_name": line.account.name,
        "role": line.role,
        "side": line.side.value,
        "currency": line.currency,
        **_sides(line, journal),
        "product": line.product,
        "credit_kind": line.credit_kind,
        "pool": line.pool,
        "processor": line.processor,
        **({"refundable": True} if line.refundable else {}),
        **({"own_dimensions": dict(pairs_of(line.own))} if line.own else {}),
        "dimensions": dict(line.account.dimensions),
        "entries": line.entries,
    }


def _totals(journal: Journal) -> list[dict[str, str]]:
    totals: dict[str, dict[Side, int]] = {}
    for line in journal.lines:
        total = totals.setdefault(line.currency, dict.fromkeys(Side, 0))
        total[line.side] += line.amount_minor
    return [
        {
            "currency": currency,
            "debit": format_minor(total[Side.DEBIT], currency),
            "credit": format_minor(total[Side.CREDIT], currency),
        }
        for currency, total in sorted(totals.items())
    ]
