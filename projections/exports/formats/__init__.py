"""The formats a journal can be written down in. A rendering adds nothing and leaves nothing out.

Owns: the list of formats. Does not own: what a journal says (summary), what was handed over (exports).
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
    """One format: its name in the contract, how its files are labelled, how a journal becomes a file.

    ``target`` is the general ledger that it is for; without one, a file is of the journal alone. ``by_block``: its
    documents are those of the customer-deposit pattern, block by block. ``render_detail``
    writes every entry of a journal, as a stream of pieces of text; None where the format has no such rendering.
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


def _of_journal(text: Callable[[Journal], str]) -> Render:
    return lambda rendering: text(rendering.journal).encode()


FORMATS: Final[dict[str, Format]] = {
    form.name: form
    for form in (
        Format(name="csv", media_type="text/csv", extension="csv", render=_of_journal(neutral.csv_text)),
        Format(name="json", media_type="application/json", extension="json", render=_of_journal(neutral.json_text)),
        Format(
            name="beancount",
            media_type="text/plain",
            extension="beancount",
            render=_of_journal(plaintext.beancount_text),
            render_detail=plaintext.beancount_detail,
        ),
        Format(
            name="hledger",
            media_type="text/plain",
            extension="journal",
            render=_of_journal(plaintext.hledger_text),
            render_detail=plaintext.hledger_detail,
        ),
        Format(
            name="netsuite-csv", media_type="text/csv", extension="csv",
            render=netsuite.csv_file, target=netsuite.TARGET,
        ),
        Format(
            name="netsuite-json", media_type="application/json", extension="json",
            render=netsuite.json_file, target=netsuite.TARGET,
        ),
        Format(
            name="netsuite-deposits", media_type="application/json", extension="json",
            render=netsuite.deposits_file, target=netsuite.TARGET, by_block=True,
        ),
        Format(
            name="intacct-csv", media_type="text/csv", extension="csv",
            render=intacct.csv_file, target=intacct.TARGET,
        ),
        Format(
            name="intacct-xml", media_type="text/xml", extension="xml",
            render=intacct.xml_file, target=intacct.TARGET,
        ),
        Format(
            name="quickbooks-csv", media_type="text/csv", extension="csv",
            render=quickbooks.csv_file, target=quickbooks.TARGET,
        ),
        Format(
            name="quickbooks-json", media_type="application/json", extension="json",
            render=quickbooks.json_file, target=quickbooks.TARGET,
        ),
        Format(name="sap-csv", media_type="text/csv", extension="csv", render=sap.csv_file, target=sap.TARGET),
        Format(name="sap-xml", media_type="text/xml", extension="xml", render=sap.xml_file, target=sap.TARGET),
        Format(
            name="oracle-fbdi", media_type="application/zip", extension="zip",
            render=oracle.zip_file, target=oracle.TARGET,
        ),
        Format(
            name="dynamics-csv", media_type="application/zip", extension="zip",
            render=dynamics.zip_file, target=dynamics.TARGET,
        ),
        Format(
            name="dynamics-json", media_type="application/json", extension="json",
            render=dynamics.json_file, target=dynamics.TARGET,
        ),
    )
}  # fmt: skip

TARGETS: Final = {form.target.name: form.target for form in FORMATS.values() if form.target is not None}
"""The general ledgers that there are formats for."""


def format_named(name: str, *, detail: bool = False) -> Format:
    """The format of this name. Raises UnknownFormat.

    With ``detail``, raises NotSupportedYet where the format has no rendering of single entries.
    """
    if name not in FORMATS:
        raise UnknownFormat(
            f"there is no format {name[:60]}", field="format",
            expected=", ".join(FORMATS), found=name[:60],
        )  # fmt: skip
    form = FORMATS[name]
    if detail and not form.supports_detail:
        raise NotSupportedYet(
            f"the format {name} has no detail rendering",
            field="detail",
            expected=", ".join(other.name for other in FORMATS.values() if other.supports_detail),
            found=name,
        )
    return form
