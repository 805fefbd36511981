"""Shared parts of the general ledgers' formats: their input, a company's settings, and writing CSV, XML and zip.

Numbers, names and dimensions differ from company to company. So they are settings, with defaults that are good enough
for a trial. The rules that a vendor documents are in the format.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final, TypeVar
from xml.etree.ElementTree import Element, indent, tostring

import msgspec

from projections.exports.documents import Document, DocumentLine, TargetLimits, shortened
from projections.journals.division import Division, check_words
from projections.journals.journal import Journal
from projections.journals.pairs import LEVELS, Level
from subledger.accounts import Side
from subledger.errors import InvalidInput
from subledger.money import exponent, format_minor
from subledger.text.visible_text import no_formula, replaced, visible

DateFormat = Annotated[str, msgspec.Meta(pattern="^(?=.*%d)(?=.*%[mb])(?=.*%[Yy])[^\\x00-\\x1f]+$", max_length=40)]
"""Format of a date, by ``strftime``. It must have day, month and year: if a date is missing, imports take today."""


class TargetSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A company's settings of a target.

    ``level``: the key by which lines are summed. ``lines``: the most lines of a document (0: the target's limit).
    ``title``: the description of documents; the month is added. ``native``: the documents that the general ledger or a
    billing connector posts by itself. ``pass_through``: True if documents have what passes through the receivable
    (journals/division says more of both).
    """

    level: Level = "dimension"
    native: tuple[str, ...] = ()
    pass_through: bool = False
    lines: int = 0
    title: str = "Prepaid credits"

    @property
    def division(self) -> Division:
        """The division of work with the general ledger."""
        return Division(native=self.native, pass_through=self.pass_through)

    def check(self) -> None:
        """Checks settings against each other. Raises InvalidInput naming the field."""


class Rendering(msgspec.Struct, frozen=True, kw_only=True):
    """Input of a format: a journal, its documents, and the company's settings of the target.

    ``others``: the other documents to which a single document may refer.
    """

    export_id: str
    journal: Journal
    documents: tuple[Document, ...]
    settings: Any
    others: tuple[Document, ...] = ()

    @property
    def subject(self) -> str:
        """Subject of the documents: the month, or the journal that they reverse or re-issue."""
        journal = self.journal
        if journal.correction is None:
            return str(journal.period)
        does = "reissues" if journal.reverses is None else "reverses"
        return f"{does} {journal.period}-{journal.correction.number}"

    @property
    def title(self) -> str:
        return f"{self.settings.title} {self.subject}"

    def title_within(self, limit: int) -> str:
        """Returns the title in at most ``limit`` characters. If it is too long, the subject stays whole."""
        return text_within(limit, self.settings.title, f" {self.subject}")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A general ledger: its limits, and the settings of a company."""

    name: str
    limits: TargetLimits
    settings: type[TargetSettings]

    def limits_for(self, settings: TargetSettings) -> TargetLimits:
        if settings.lines <= 0:
            return self.limits
        return msgspec.structs.replace(self.limits, lines=min(settings.lines, self.limits.lines))


Settings = TypeVar("Settings", bound=TargetSettings)
Render = Callable[[Rendering], bytes]

_FEWEST_LINES: Final = 2
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)
_BREAK: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def new_settings(type: type[Settings], given: Mapping[str, Any]) -> Settings:
    """Reads settings that a person gives. Raises InvalidInput as ``read_settings``, and for a line break in a text.

    Stored settings are read without this check, so an export that was made before the check can still be delivered.
    """
    check_lines(given, field="settings")
    return read_settings(type, given)


def check_lines(root: Any, *, field: str) -> None:
    """Checks that no text or name in some settings has a line break or another control character.

    Texts of settings go into files and queries. Their readers, such as Oracle's SQL*Loader, take a line break for the
    end of a record. Raises InvalidInput naming the member.
    """
    pending: list[tuple[str, Any]] = [(field, root)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, str):
            found = _BREAK.search(value)
            if found is not None:
                raise InvalidInput(
                    f"{path} has a line break or another control character",
                    field=path,
                    expected="text in one line",
                    found=visible(value[:60]),
                )
        elif isinstance(value, Mapping):
            for name, item in value.items():
                inner = name if value is root else path
                pending += [(path, name), (inner, item)]
        elif isinstance(value, list | tuple):
            pending += [(path, item) for item in value]


def read_settings(type: type[Settings], given: Mapping[str, Any]) -> Settings:
    """Reads settings from a JSON object. Raises InvalidInput naming the field."""
    try:
        settings = msgspec.convert(dict(given), type)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise InvalidInput(
            f"the settings cannot be read: {message}",
            field=path.rstrip("`") or "settings",
            expected=", ".join(type.__struct_fields__),
        ) from None
    if settings.lines and settings.lines < _FEWEST_LINES:
        raise InvalidInput(
            "a document has at least two lines", field="lines", expected="0, or 2 or more", found=str(settings.lines)
        )
    if settings.level not in LEVELS:
        raise InvalidInput("unknown level", field="level", expected=", ".join(LEVELS), found=str(settings.level))
    check_words(settings.native)
    settings.check()
    return settings


def id_of(ids: Mapping[str, str], ours: str, *, field: str) -> str:
    """Returns the target's id for one of our values. If no ids are set, our value is the id: that is for a trial.

    Raises InvalidInput if other values have an id: our value could be the target's id of something else.
    """
    if ids and ours not in ids:
        raise InvalidInput(
            f"the settings have ids, but none for {ours[:60]}",
            field=field,
            expected=f"an id for {ours[:60]}",
            found=", ".join(sorted(ids))[:100],
        )
    return ids.get(ours, ours)


def customer_of(ids: Mapping[str, str], customer: str, *, field: str) -> str:
    """Returns the target's id or name of a line's customer; empty if the line has no customer, or if no ids are set.

    Raises InvalidInput if other customers have one: a receivable without its customer would be refused, or unowned.
    """
    return id_of(ids, customer, field=field) if ids and customer else ""


def check_one_to_one(dimensions: Mapping[str, str]) -> None:
    """Checks that no two dimensions of ours have the same target: one would hide the other. Raises InvalidInput."""
    for theirs in dimensions.values():
        ours = sorted(name for name, value in dimensions.items() if value == theirs)
        if len(ours) > 1:
            raise InvalidInput(
                f"{' and '.join(ours)} have the same target dimension {theirs}",
                field="dimensions",
                expected="one dimension each",
                found=theirs,
            )


# --- writing ------------------------------------------------------------------------------------------------------


def amount_of(document: Document, line: DocumentLine, *, decimals: int | None = None) -> str:
    """Returns a line's amount in its document's currency: ``1250.00``.

    With ``decimals``, at most so many are written. Further ones are zeros, which ``documents_of`` ensures.
    """
    text = format_minor(line.amount_minor, document.currency)
    beyond = 0 if decimals is None else exponent(document.currency) - decimals
    return text[:-beyond].rstrip(".") if beyond > 0 else text


def debit_and_credit(document: Document, line: DocumentLine, *, decimals: int | None = None) -> tuple[str, str]:
    """Returns a line's amount as two columns, debit and credit; one of them is empty."""
    amount = amount_of(document, line, decimals=decimals)
    return (amount, "") if line.side is Side.DEBIT else ("", amount)


def text_within(limit: int, text: str, end: str) -> str:
    """Joins a text and its end in at most ``limit`` characters. The text is shortened, and the end stays whole."""
    return shortened(text, limit - len(end)) + end


def csv_bytes(
    rows: Iterable[Iterable[str]], *, line_end: str = "\r\n", encoding: str = "utf-8", delimiter: str = ","
) -> bytes:
    """Writes rows by RFC 4180. Every text is made safe for spreadsheets, also if ``cell`` was forgotten; numbers
    stay.
    """
    file = io.StringIO()
    guarded = ([text if _NUMBER.fullmatch(text) else cell(text) for text in row] for row in rows)
    csv.writer(file, lineterminator=line_end, delimiter=delimiter).writerows(guarded)
    return file.getvalue().encode(encoding)


def cell(text: str) -> str:
    """Makes a text safe for a file that a person may open with a spreadsheet. It becomes at most one character
    longer.
    """
    return no_formula(replaced(text))


def functional_of(rendering: Rendering, line: DocumentLine) -> str:
    """Returns a line's amount in the functional currency."""
    return format_minor(line.functional_minor, rendering.journal.functional_currency)


def xml_bytes(root: Element, *, line_end: str = "\n") -> bytes:
    """Returns an XML 1.0 document in UTF-8, indented. Characters that XML does not allow become question marks."""
    indent(root)
    text = _NOT_XML.sub("?", tostring(root, encoding="unicode"))
    content = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'
    return content.replace("\n", line_end).encode()


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """Returns a zip of these files, always with the same bytes: its members have a fixed time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            archive.writestr(member, content)
    return buffer.getvalue()
