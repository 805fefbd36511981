"""The formats of journals. A file in any of them has every line of the journal, and no other line.

Owns: the list of formats. Does not own: the content of a journal (journals), the files handed over (exports).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from projections.exports.formats import dynamics, intacct, netsuite, neutral, oracle, plaintext, quickbooks, sap
from projections.exports.formats.target import Render, Target
from projections.journals.detail import DetailEntry
from projections.journals.journal import Journal
from subledger.errors import NotSupportedYet, UnknownFormat

RenderDetail = Callable[[Journal, Iterable[DetailEntry]], Iterator[str]]


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """One format: its name in the contract, the media type and extension of its files, and the function that writes
    one.

    ``target``: its general ledger; None for a file of the journal alone. ``by_block``: its documents are those of the
    customer-deposit pattern, block by block. ``render_detail``: writes every entry of a journal as a stream of text;
    None if the format has no such rendering.
    """

    name: str
    media_type: str
    extension: str
    render: Render
    target: Target | None = None
    by_block: bool = False
    render_detail: RenderDetail | None = None

    @property
    def supports_detail(self) -> bool:
        return self.render_detail is not None


_CSV: Final = ("text/csv", "csv")
_JSON: Final = ("application/json", "json")
_XML: Final = ("text/xml", "xml")
_ZIP: Final = ("application/zip", "zip")
_BEANCOUNT: Final = ("text/plain", "beancount")
_HLEDGER: Final = ("text/plain", "journal")
"""Media types and extensions of files."""


def _of_journal(
    name: str, kind: tuple[str, str], text: Callable[[Journal], str], detail: RenderDetail | None = None
) -> Format:
    """A format of the journal alone."""
    media_type, extension = kind
    return Format(
        name=name,
        media_type=media_type,
        extension=extension,
        render_detail=detail,
        render=lambda rendering: text(rendering.journal).encode(),
    )


def _of_target(name: str, kind: tuple[str, str], render: Render, target: Target, *, by_block: bool = False) -> Format:
    """A format of a general ledger."""
    media_type, extension = kind
    return Format(
        name=name, media_type=media_type, extension=extension, render=render, target=target, by_block=by_block
    )


FORMATS: Final[dict[str, Format]] = {
    form.name: form
    for form in (
        _of_journal("csv", _CSV, neutral.csv_text),
        _of_journal("json", _JSON, neutral.json_text),
        _of_journal("beancount", _BEANCOUNT, plaintext.beancount_text, plaintext.beancount_detail),
        _of_journal("hledger", _HLEDGER, plaintext.hledger_text, plaintext.hledger_detail),
        _of_target("netsuite-csv", _CSV, netsuite.csv_file, netsuite.TARGET),
        _of_target("netsuite-json", _JSON, netsuite.json_file, netsuite.TARGET),
        _of_target("netsuite-deposits", _JSON, netsuite.deposits_file, netsuite.TARGET, by_block=True),
        _of_target("intacct-csv", _CSV, intacct.csv_file, intacct.TARGET),
        _of_target("intacct-xml", _XML, intacct.xml_file, intacct.TARGET),
        _of_target("quickbooks-csv", _CSV, quickbooks.csv_file, quickbooks.TARGET),
        _of_target("quickbooks-json", _JSON, quickbooks.json_file, quickbooks.TARGET),
        _of_target("sap-csv", _CSV, sap.csv_file, sap.TARGET),
        _of_target("sap-xml", _XML, sap.xml_file, sap.TARGET),
        _of_target("oracle-fbdi", _ZIP, oracle.zip_file, oracle.TARGET),
        _of_target("dynamics-csv", _ZIP, dynamics.zip_file, dynamics.TARGET),
        _of_target("dynamics-json", _JSON, dynamics.json_file, dynamics.TARGET),
    )
}

TARGETS: Final = {form.target.name: form.target for form in FORMATS.values() if form.target is not None}
"""The general ledgers that have formats, by name."""


def format_named(name: str, *, detail: bool = False) -> Format:
    """Returns the format of this name. Raises UnknownFormat.

    With ``detail``, raises NotSupportedYet if the format has no rendering of single entries.
    """
    if name not in FORMATS:
        raise UnknownFormat(
            f"there is no format {name[:60]}", field="format", expected=", ".join(FORMATS), found=name[:60]
        )
    form = FORMATS[name]
    if detail and not form.supports_detail:
        raise NotSupportedYet(
            f"the format {name} has no detail rendering",
            field="detail",
            expected=", ".join(other.name for other in FORMATS.values() if other.supports_detail),
            found=name,
        )
    return form
