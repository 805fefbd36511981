"""Exports, journals and target settings as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from api.shapes import answers
from api.shapes.answers import JsonObject
from projections.delivery.checklist import Checklist
from projections.delivery.deliveries import Delivery
from projections.delivery.tie_out import TieOut, TieOutDifference
from projections.exports import exports
from projections.exports.documents import Document, DocumentLine
from projections.exports.exports import DocumentSet, Export, MonthState
from projections.exports.formats import FORMATS
from projections.exports.formats.target import Target, TargetSettings
from projections.exports.presets import PRESETS, Preset
from projections.journals.corrections import reversal_of
from projections.journals.division import LeftOut
from projections.journals.drill_down import EntryBehind
from projections.journals.journal import Journal, JournalLine
from projections.journals.reversing import Reversed
from projections.reads.last_change import LastChange
from subledger.events.envelope import format_time
from subledger.money import format_minor
from subledger.own_dimensions import pairs_of
from subledger.store.reading.queries import AnyConnection


def export(made: Export) -> JsonObject:
    return {
        "id": made.export_id,
        "ledger": made.ledger,
        "period": str(made.period),
        "number": made.number,
        "format": made.format,
        "detail": made.detail,
        "filename": made.filename,
        "media_type": made.media_type,
        "content_hash": made.content_hash,
        "created_at": format_time(made.created_at),
        "created_by": made.created_by,
    }


def standing(found: MonthState) -> JsonObject:
    """Returns the state of the month of exported journals: open or closed, interim, sandbox, due expiries, notices."""
    return {
        "period_state": "open" if found.interim else "closed",
        "interim": found.interim,
        "sandbox": found.sandbox,
        **answers.due(found.due),
        "notices": list(found.notices),
    }


def exported_line(line: JournalLine, functional_currency: str) -> JsonObject:
    return {
        "line": line.number,
        "role": line.role,
        "account": line.account.number,
        "account_name": line.account.name,
        "dimensions": dict(line.account.dimensions),
        "side": line.side.value,
        **answers.sides(line.side, line.amount_minor, line.currency),
        "currency": line.currency,
        "functional": {
            "currency": functional_currency,
            **answers.sides(line.side, line.functional_minor, functional_currency),
        },
        "product": line.product or None,
        "credit_kind": line.credit_kind or None,
        "pool": line.pool or None,
        "processor": line.processor or None,
        "refundable": bool(line.refundable),
        "own_dimensions": dict(pairs_of(line.own)),
        "entries": line.entries,
    }


def export_with_lines(connection: AnyConnection, made: Export) -> JsonObject:
    """Returns an export with its lines. In a general ledger's format they are the lines of its documents."""
    journal = exports.journal_behind(connection, made)
    functional_currency, posted = journal.functional_currency, exports.document_set_of(connection, made)
    of_export = {**export(made), "reverses": journal.reverses, "reissues": journal.reissues}
    if posted is None:
        return {**of_export, "lines": [exported_line(line, functional_currency) for line in journal.lines]}
    return {
        **of_export,
        "level": posted.level,
        "settings": posted.settings,
        "documents": [_document(document) for document in posted.documents],
        "left_out": [_left_out(each, functional_currency) for each in posted.left_out],
        "lines": [
            _line(posted, document, line, functional_currency)
            for document in posted.documents
            for line in document.lines
        ],
    }


HandedOver = Mapping[int, tuple[str | None, datetime]]
"""Number of a journal → user and time of its first export."""


def journal(found: Journal, journals: Sequence[Journal], handed_over: HandedOver | None = None) -> JsonObject:
    """Returns a journal, with its place among the journals of its period.

    ``by`` is the user who made a reversal or re-issue, otherwise the user who exported the journal first.
    """
    made_by, made_at = (handed_over or {}).get(found.number, (None, None))
    if found.correction is not None:
        made_by, made_at = found.correction.made_by, found.correction.made_at
    correction, reversal = found.correction, reversal_of(journals, found)
    return {
        "journal": found.name,
        "period": str(found.period),
        "number": found.number,
        "posting_date": found.posting_date.isoformat(),
        "from_cut": found.from_cut,
        "to_cut": found.to_cut,
        "mapping": found.mapping,
        "lines": len(found.lines),
        "journal_hash": found.content_hash,
        "in_force": found.reverses is None and reversal is None,
        "reverses": found.reverses,
        "reissues": found.reissues,
        "reversed_by": reversal and reversal.number,
        "reason": correction and correction.reason,
        "made_by": made_by,
        "made_at": made_at and format_time(made_at),
    }


def reversed_journal(made: Reversed, handed_over: HandedOver) -> JsonObject:
    """Returns a reversed journal, its reversal, and its re-issue."""
    three = (made.journal, made.reversal, made.reissue)
    names = ("journal", "reversal", "reissue")
    return {name: journal(each, three, handed_over) for name, each in zip(names, three, strict=True)}


def _document(document: Document) -> JsonObject:
    return {
        "name": document.name,
        "reference": document.reference,
        "part": document.part,
        "parts": document.parts,
        "currency": document.currency,
        "total": format_minor(document.total_minor, document.currency),
        "lines": [line.number for line in document.lines],
    }


def _left_out(found: LeftOut, functional_currency: str) -> JsonObject:
    return {
        "document": found.word,
        "debit": found.debit,
        "credit": found.credit,
        "amount": format_minor(found.amount_minor, found.currency),
        "currency": found.currency,
        "functional": answers.money(found.functional_minor, functional_currency),
    }


def _line(posted: DocumentSet, document: Document, line: DocumentLine, functional_currency: str) -> JsonObject:
    return {
        "line": line.number,
        "document": document.reference,
        "reference": line.reference,
        "role": line.role or None,
        "account": line.account.number,
        "account_name": line.account.name,
        "dimensions": dict(line.account.dimensions),
        "text": line.text,
        "side": line.side.value,
        **answers.sides(line.side, line.amount_minor, document.currency),
        "currency": document.currency,
        "functional": {
            "currency": functional_currency,
            **answers.sides(line.side, line.functional_minor, functional_currency),
        },
        "product": line.product or None,
        "credit_kind": line.credit_kind or None,
        "pool": line.pool or None,
        "processor": line.processor or None,
        "refundable": bool(line.refundable),
        "own_dimensions": dict(pairs_of(line.own)),
        "customer": line.customer or None,
        "block_id": line.block_id or None,
        "entries": sum(posted.pairs[index].entries for index in line.pairs),
    }


def target(found: Target, settings: TargetSettings, change: LastChange | None = None) -> JsonObject:
    limits: dict[str, Any] = msgspec.to_builtins(found.limits)
    return {
        "target": found.name,
        "formats": [form.name for form in FORMATS.values() if form.target is found],
        "limits": limits,
        "settings": msgspec.to_builtins(settings),
        "presets": [name for name, each in PRESETS.items() if each.is_for(found)],
        **answers.last_change(change),
    }


def preset(found: Preset) -> JsonObject:
    return {
        "preset": found.name,
        "meaning": found.meaning,
        "accounts": found.accounts,
        "settings": found.settings,
        "targets": list(found.targets) or None,
        "policy": found.policy or None,
        "format": found.format or None,
    }


def checklist(found: Checklist) -> JsonObject:
    return {
        "ledger": found.ledger,
        "period": str(found.period),
        "position": found.position,
        "ready": found.ready,
        "done": found.done,
        "steps": [msgspec.to_builtins(step) for step in found.steps],
    }


def tie_out(found: TieOut, reconciled: Sequence[Delivery] = ()) -> JsonObject:
    """Returns a tie-out. ``reconciled``: the deliveries that the tie-out set to the state reconciled."""
    return {
        "ledger": found.ledger,
        "currency": found.currency,
        "tied": found.tied,
        "compared": found.compared,
        "differences": [_difference(each, found.currency) for each in found.differences],
        "not_ours": list(found.not_ours),
        "not_handed_over": [str(period) for period in found.not_handed_over],
        "reconciled": [delivery.delivery_id for delivery in reconciled],
    }


def _difference(found: TieOutDifference, currency: str) -> JsonObject:
    return {
        "account": found.account,
        "account_name": found.name,
        "period": str(found.period),
        "measure": found.measure,
        "sub_ledger": format_minor(found.ours, currency),
        "general_ledger": None if found.theirs is None else format_minor(found.theirs, currency),
        "difference": format_minor(found.difference, currency),
        "behind": [
            {
                "journal": share.journal,
                "number": share.number,
                "lines": list(share.lines),
                "debit": format_minor(share.debit_minor, currency),
                "credit": format_minor(share.credit_minor, currency),
            }
            for share in found.behind
        ],
    }


def entry_behind(entry: EntryBehind, functional_currency: str) -> JsonObject:
    return {
        "position": entry.position,
        "entry": entry.number,
        "source": entry.source,
        "event_id": entry.event_id,
        "event_type": entry.event_type,
        "kind": entry.kind,
        "customer": entry.customer,
        "block_id": entry.block_id,
        "accounting_date": entry.accounting_date.isoformat(),
        "effective_date": entry.effective_date.isoformat(),
        "amount": format_minor(int(entry.amount_minor), entry.currency),
        "currency": entry.currency,
        "functional": answers.money(int(entry.functional_minor), functional_currency),
    }
