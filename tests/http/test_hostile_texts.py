"""Hostile ids, names and reasons: no reading command prints them raw, and no CSV has a cell that a spreadsheet runs."""

from __future__ import annotations

import csv
import importlib
import io
import json
import sys
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import typer
from fastapi.testclient import TestClient
from hypothesis import example, given, settings
from hypothesis import strategies as st

import api.cli.main
from api.service import Subledger
from api.shapes import reports
from projections.account_mapping import customer_attributes, mapping
from projections.close import close
from projections.configuring import account_mappings
from projections.exports import exporting, exports, targets
from projections.exports.formats import FORMATS
from projections.replay.rebuild import rebuild
from subledger.errors import InvalidInput
from subledger.events.envelope import read_event
from subledger.periods import Period
from subledger.store.writing.batch import Approved, Input, Outcome
from subledger.text.visible_text import (
    ascii_text,
    json_visible,
    replaced,
    spreadsheet_text,
    toml_visible,
    visible,
    visible_lines,
)
from subledger.wallet import Approval
from tests.building import cloud_event
from tests.conftest import NewLedger

JOINERS = "\u200c\u200d"
ACTING = "\x7f\x80\x9b\u061c\u200b\u200e\u202a\u202e\u2028\u2066\u2069\ufeff\U000e0041\ue000\u2800\u3164"
MARKS = "\u0301\u0489\u20e3\ufe0f"
HOSTILE = [
    "=[/eu]\u202e\x9b31m", "＠[bold]x\u2066\u200b", " \ufeff=1],\"", "－a\u200d[/]\u2028", "\u2212x[", "\u3000+1",
    "\u0301@\u20e3[b]",
]  # fmt: skip
texts = st.text(
    st.sampled_from([*"[]/\\=+-@＝＋－＠'\" ab1,;|", *ACTING, *MARKS, *JOINERS]), min_size=1, max_size=12
).filter(str.strip)
READS = [
    ("events",), ("events", "--json"), ("balances",), ("balances", "--json"), ("blocks",), ("blocks", "--json"),
    ("periods",), ("checklist", "2026-01"), ("checklist", "2026-01", "--json"), ("journals", "list", "2026-01"),
    ("exports", "list"), ("mapping", "show"), ("mapping", "show", "--json"), ("policy", "list"), ("policy", "show"),
    ("policy", "show", "--json"), ("channel", "list"), ("deliveries", "list"), ("approvals", "list", "--all"),
    ("approvals", "list", "--json"), ("rejected", "list"), ("rejected", "counts"),
    ("monitor",), ("monitor", "--json"), ("monitor", "thresholds", "show"),
    ("periods", "--history"), ("channel", "list", "--dropped"),
    ("target", "show", "csv"), ("verify",), ("ledger", "list"), ("clock", "show"), ("credentials", "list"),
    ("customer", "erasures"), ("keys", "list"), ("rebuild",),
]  # fmt: skip
ASKED_OF_EACH = {
    "balances",
    "history",
    "spendable",
    "customer show",
    "report",
    "exports show",
    "exports entries",
    "rejected show",
}
"""Commands that read something of the ledger below."""
WITHOUT_TEXTS_OF_OTHERS = {
    # not about a ledger: the program, its formats, the database
    "bench", "channel connectors", "database", "demo", "distribute", "init", "serve", "sizing", "target list",
    "target presets", "worker",
    # prints only its arguments, which the errors check: a change, or an item by its id
    "approvals approve", "approvals refuse", "channel drop", "channel set", "channel show", "checkpoint", "clock set",
    "close", "credentials grant", "credentials revoke", "customer erase", "customer import", "customer set", "deliver",
    "deliveries abandon", "deliveries retry", "deliveries show", "expire", "export", "journals reverse", "keys create",
    "keys revoke", "keys rotate", "ledger configure", "ledger create", "mapping adopt", "monitor thresholds set",
    "policy adopt", "record", "rejected dismiss", "rejected reopen", "rejected retry", "reopen", "target set",
    "tie-out",
}  # fmt: skip


def _commands(found: Any, *names: str) -> Iterator[str]:
    if getattr(found, "invoke_without_command", False) and names:
        yield " ".join(names)
    if hasattr(found, "commands"):
        for name, below in found.commands.items():
            yield from _commands(below, *names, name)
    else:
        yield " ".join(names)


def test_every_command_is_asked_with_hostile_texts_or_has_none() -> None:
    asked = {" ".join(word for word in command if word[0] not in "-2" and word != "csv") for command in READS}
    every = set(_commands(typer.main.get_command(api.cli.main.app)))
    assert asked | ASKED_OF_EACH <= every
    assert every - asked - ASKED_OF_EACH == WITHOUT_TEXTS_OF_OTHERS


def _raw(text: str, *, lines: str = "\n") -> list[str]:
    """Returns the characters of a text that act on a terminal or hide (without its line ends), and marks that follow no
    character.
    """
    hidden = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    acting = [
        letter
        for letter in text
        if letter in "\u2800\u3164" or (letter not in lines + JOINERS and unicodedata.category(letter) in hidden)
    ]
    pairs = zip(" " + text, text, strict=False)
    return acting + [mark for before, mark in pairs if mark in MARKS and before in " \n\"'=+-@[],;|│┃/\\"]


def _runs(cell: str) -> bool:
    """True if a spreadsheet may run a cell as a formula; a plain number is harmless."""
    with suppress(ValueError):
        float(cell)
        return False
    start = unicodedata.normalize("NFKC", cell.lstrip()[:1])
    return start in ("=", "+", "-", "@", "\u2212")


def _check_csv(text: str, delimiter: str = ",") -> None:
    assert _raw(text, lines="\r\n") == []
    cells = [cell for row in csv.reader(io.StringIO(text), delimiter=delimiter) for cell in row]
    assert [cell for cell in cells if _runs(cell)] == []
    assert [cell for cell in cells if "\r" in cell or "\n" in cell] == []


@pytest.fixture(scope="module")
def run(service: Subledger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """The command line in this process, on the tests' database. Returns what it printed, on both outputs."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SUBLEDGER_HOME", str(tmp_path_factory.mktemp("home")))
    for name in set(api.cli.main.COMMANDS.values()):
        module = importlib.import_module(f"api.cli.commands.{name}")
        if hasattr(module, "connect"):
            patch.setattr(module, "connect", lambda: service)

    def call(*arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        stdout, stderr = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as outputs:
            outputs.setattr(sys, "argv", ["subledger", *arguments])
            outputs.setattr(sys, "stdout", stdout)
            outputs.setattr(sys, "stderr", stderr)
            with pytest.raises(SystemExit) as ended:
                api.cli.main.main()
        said = stdout.getvalue() + stderr.getvalue()
        assert ended.value.code in codes, said
        return said

    yield call
    patch.undo()


def _history(found: list[str]) -> list[dict[str, Any]]:
    """Returns events in which every text from outside is one of these texts, in turn."""
    events: list[dict[str, Any]] = []

    def add(type: str, customer: str | None, /, **data: Any) -> None:
        number = len(events)
        text = found[number % len(found)]
        events.append(
            {
                **cloud_event(f"{text}{number}", type, customer, f"2026-01-{number + 1:02}T12:00:00Z", **data),
                "source": text,
                "dept": text,
            }
        )

    for text in found[:4]:
        ours = {"currency": "USD"}
        add(
            "credits.purchased",
            text,
            block_id=text,
            credits="100",
            price="100.00",
            invoice_id=text,
            order_id=text,
            unit=text,
            scope=[text],
            pool=text,
            **ours,
        )
        add("credits.consumed", text, credits="10", product=text, unit=text)
        add("payment.received", text, amount="50.00", invoice_id=text, payment_id=text, processor=text, **ours)
        add("block.expiry_changed", text, block_id=text, expires_at="2026-03-01T00:00:00Z", reason=f"{text}\n{text}")
        add("credits.granted", text, block_id=f"{text}g", credits="5", reason="promotional")
        add("purchase.voided", text, block_id=text, reason=text)
    return events


# Texts that are not allowed as identifiers may still be in the mapping, in attributes and in refused events.
@pytest.mark.campaign
@example(found=HOSTILE)
@settings(max_examples=2)
@given(found=st.lists(texts, min_size=4, max_size=8, unique=True))
def test_no_text_of_others_acts_on_a_terminal_or_a_spreadsheet(
    run: Callable[..., str], service: Subledger, new_ledger: NewLedger, found: list[str]
) -> None:
    for at in range(0, len(found), 4):
        _check_everything(run, service, new_ledger(on_shortfall="overage"), found[at:] + found[:at])


def _record_as_before(service: Subledger, ledger: str, documents: list[dict[str, Any]]) -> list[Outcome]:
    """Records events with hostile ids, as earlier versions allowed: old requests can be approved now. The events are
    also sent directly and refused, so that there are rejected events.
    """
    service.record(ledger, documents)
    inputs: list[Input] = []
    for document in documents:
        try:
            approval = Approval(approval_id=str(document["id"]), maker="ann", checker="bob")
            inputs.append(Approved(read_event(document), approval))
        except InvalidInput as error:
            inputs.append(error)
    return service.recorder.transact(ledger, lambda *_: inputs)


def _check_everything(run: Callable[..., str], service: Subledger, ledger: str, found: list[str]) -> None:
    outcomes = _record_as_before(service, ledger, _history(found))
    [*rejected] = [outcome.error for outcome in outcomes if outcome.error is not None]
    kept = [text for text in found[:4] if "\x7f" not in text]
    bought = [
        event["subject"]
        for event, outcome in zip(_history(found), outcomes, strict=True)
        if outcome.error is None and event["type"] == "credits.purchased"
    ]
    assert set(bought) <= set(kept), rejected
    segment = found[0].replace("\x7f", "") or "none"  # an attribute may not contain an ASCII control character
    for customer in bought:
        customer_attributes.replace_attributes(service.database, ledger, customer, {"segment": segment}, by="who")
    rows = [
        {**row, "name": replaced(found[0]), "segment": "{customer.segment}"} if row["role"] == "usage_revenue" else row
        for row in mapping.default_mapping().rows
    ]
    account_mappings.adopt_mapping(service.recorder, ledger, mapping.AccountMapping.from_rows(rows))
    close.close_period(service.recorder, ledger, Period.parse("2026-01"))

    asked = [(*command, *(() if command[0] == "ledger" else ("--ledger", ledger))) for command in READS]
    for customer in bought:
        asked += [
            ("balances", "--ledger", ledger, f"--customer={customer}"),
            ("history", "--ledger", ledger, f"--block={customer}"),
            ("spendable", "--ledger", ledger, f"--customer={customer}"),
            ("spendable", "--ledger", ledger, f"--customer={customer}", f"--product={customer}"),
            ("customer", "show", "--ledger", ledger, "--", customer),
            ("report", "statement", "--ledger", ledger, f"--customer={customer}"),
            ("report", "statement", "--ledger", ledger, f"--customer={customer}", "--json"),
            ("report", "statement", "--ledger", ledger, f"--customer={customer}", "--html"),
            ("balances", "--ledger", ledger, f"--customer={customer}nobody", "--json"),
        ]
    for name, offered in reports.REPORTS.items():
        if not offered.needs:
            asked += [("report", name, "--ledger", ledger), ("report", name, "--ledger", ledger, "--html")]
    exported = json.loads(run("exports", "list", "--ledger", ledger, "--json"))["items"]
    for export in exported[:1]:
        asked += [("exports", "show", export["export_id"]), ("exports", "entries", export["export_id"], "1")]
    kept = json.loads(run("rejected", "list", "--ledger", ledger, "--json"))["items"]
    asked += [("rejected", "show", rejection["id"]) for rejection in kept[:2]]
    for arguments in asked:
        if "--ledger" not in arguments and arguments[0] in ("exports", "rejected"):
            arguments = (*arguments, "--ledger", ledger)
        assert _raw(run(*arguments, codes=(0, 1, 2, 3))) == [], arguments
    if bought:
        assert visible(bought[0]) in run("events", "--ledger", ledger, "--limit", "10000")
    _check_every_csv(run, service, ledger, bought)


def _check_every_csv(run: Callable[..., str], service: Subledger, ledger: str, bought: list[str]) -> None:
    for name, offered in reports.REPORTS.items():
        for customer in bought if offered.needs else ["ours"]:
            question = reports.ReportQuery(customer=customer if offered.needs else None)
            with reports.answer(service, ledger, name, question) as (report, _, _):
                for table in report.tables:
                    _check_csv("".join(reports.csv_lines(table, "USD")))
    for form in FORMATS.values():
        if form.target is not None:
            targets.set_settings(service.database, ledger, form.target, {"level": "block"}, by="who")
    for name, form in FORMATS.items():
        if form.by_block or form.extension not in ("csv", "zip"):
            continue
        for export in exporting.export(service.recorder, service.database, ledger, Period.parse("2026-01"), name):
            content = b"".join(exports.content_of(service.database, export))
            if form.extension == "csv":
                _check_csv(content.decode())
                continue
            archive = zipfile.ZipFile(io.BytesIO(content))
            for member in archive.namelist():
                if member.endswith(".csv"):
                    content = archive.read(member)
                    _check_csv(content.decode("utf-16" if content[:2] == b"\xff\xfe" else "utf-8-sig"))


def test_a_bracket_in_an_id_is_printed_as_it_is(
    run: Callable[..., str], service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    for customer, block in (("team[/eu]", "b1"), ("team[eu]", "b2"), ("x\u202ey", "b3")):
        _record_as_before(
            service,
            ledger,
            [
                cloud_event(
                    block,
                    "credits.purchased",
                    customer,
                    "2026-01-05T12:00:00Z",
                    block_id=block,
                    credits="1",
                    price="1.00",
                    currency="USD",
                )
            ],
        )
    printed = run("events", "--ledger", ledger)
    assert "credits.purchased team[/eu] b1" in printed
    assert "credits.purchased team[eu] b2" in printed
    assert r"credits.purchased x\u202ey b3" in printed


@given(text=st.text(st.characters(exclude_categories=()), max_size=20))
def test_what_is_visible_acts_on_nothing_and_says_the_same(text: str) -> None:
    assert _raw(visible(text), lines="") == []
    assert _raw(replaced(text), lines="") == []
    assert len(replaced(text)) == len(text)
    assert not _runs(spreadsheet_text(text)) or spreadsheet_text(text) == text
    written = json.dumps(text, ensure_ascii=False)
    assert json.loads(json_visible(written)) == json.loads(written)
    assert _raw(json_visible(written)) == []
    assert _raw(toml_visible(written)) == []


def test_a_page_and_the_csv_over_http_hold_nothing_that_acts(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    history = _history(["＝1\u202e", "[/x]", "c", "d"])[:2]
    assert all(outcome.error is None for outcome in _record_as_before(service, ledger, history))
    for name in reports.REPORTS:
        asked = {"customer": "＝1\u202e"} if reports.REPORTS[name].needs else {}
        path = f"/v1/ledgers/{ledger}/reports/{name}"
        _check_csv(client.get(path, params={**asked, "format": "csv"}).text)
        assert _raw(client.get(path, params={**asked, "format": "html"}).text) == []


def test_a_rejected_line_is_kept_but_not_printed_raw(
    run: Callable[..., str], new_ledger: NewLedger, tmp_path: Path
) -> None:
    file = tmp_path / "e.jsonl"
    file.write_text(json.dumps({"id": "\u202ex", "\x9b[/x]": 1}, ensure_ascii=False) + "\n", "utf-8")
    assert _raw(run("record", str(file), "--ledger", new_ledger(), codes=(3,))) == []


@pytest.mark.campaign
@pytest.mark.parametrize("text", HOSTILE)
def test_no_error_of_the_command_line_shows_what_was_typed_raw(run: Callable[..., str], text: str) -> None:
    for arguments in (
        (text,),
        ("events", f"--{text}"),
        ("events", "--ledger", text),
        ("events", "--limit", text),
        ("record", text, "--ledger", text),
        ("approvals", "approve", f"a{text}", "--ledger", text),
        ("deliveries", "retry", f"a{text}", "--ledger", text, "--reason", text),
        ("report", f"a{text}", "--ledger", "l"),
        ("ledger", "create", f"a{text}", "--currency", text),
        ("keys", "revoke", f"a{text}", "--by", text),
        ("keys", "create", "--ledger", text, "--role", text),
        ("channel", "show", f"a{text}", "--ledger", text),
        ("target", "show", f"a{text}", "--ledger", text),
        ("close", f"a{text}", "--ledger", text),
        ("customer", "set", f"a{text}", f"{text}={text}", "--ledger", text),
        ("clock", "set", f"a{text}", "-l", text),
    ):
        said = run(*arguments, codes=(2, 3))
        assert _raw(said) == [], arguments


def test_the_lines_of_another_programs_message_stay_and_act_on_nothing() -> None:
    assert visible_lines("a\nb\x1b\u0301") == "a\nb\\x1b\\u0301"
    assert visible("a\nb") == "a\\nb"
    assert ascii_text("аlice\x9b") == "\\u0430lice\\x9b"


@pytest.mark.parametrize(
    "text",
    [
        "José",
        "é e\u0301",
        "#\ufe0f\u20e3",
        "👩\u200d🚀",
        "नमस्ते",
        "می\u200cخواهم",
        "김철수",
        "葛\U000e0100",
        "a\u00a0b",
        "№ 7",
    ],
)
def test_texts_as_people_write_them_stay_as_they_are(text: str) -> None:
    assert visible(text) == text


OLD = "a\u202eb"


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("id", {"id": OLD}), ("subject", {"subject": "c\x9b1m"}), ("data.block_id", {"block_id": "\u2066x"}),
        ("data.invoice_id", {"invoice_id": "x\u2028"}),
    ],
)  # fmt: skip
def test_a_new_id_that_acts_is_refused(
    field: str, changes: dict[str, str], service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    bought = {"block_id": "B", "credits": "1", "price": "1.00", "currency": "USD"}
    document = cloud_event("e", "credits.purchased", "ann", "2026-01-05T12:00:00Z", **bought)
    of_data = {name: text for name, text in changes.items() if f"data.{name}" == field}
    document["data"] |= of_data
    document |= {name: text for name, text in changes.items() if name not in of_data}
    [outcome] = service.record(ledger, [document])
    assert isinstance(outcome.error, InvalidInput)
    assert (outcome.error.code, outcome.error.field) == ("invalid_value", field)
    assert _raw(str(outcome.error.as_document())) == []


def test_an_id_from_before_the_rule_goes_on_working_to_the_end_of_its_life(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger, ours = new_ledger(), {"currency": "USD"}
    at = "2026-01-0{}T12:00:00Z".format
    before = [
        cloud_event(
            OLD, "credits.purchased", OLD, at(1), block_id=OLD, credits="9", price="9.00", invoice_id=OLD, **ours
        ),
        cloud_event(f"{OLD}u", "credits.consumed", OLD, at(2), credits="1", product=OLD),
        cloud_event(f"{OLD}p", "payment.received", OLD, at(3), amount="4.00", payment_id=OLD, **ours),
    ]
    assert {outcome.status for outcome in _record_as_before(service, ledger, before)} == {"recorded"}
    assert {outcome.status for outcome in service.record(ledger, before)} == {"duplicate"}
    after = [
        cloud_event("1", "credits.consumed", OLD, at(4), credits="1", product=OLD, block_id=OLD),
        cloud_event("2", "consumption.reversed", OLD, at(5), event_id=f"{OLD}u", reason=OLD),
        cloud_event("3", "payment.applied", OLD, at(6), payment_id=OLD, block_id=OLD, amount="1.00", **ours),
        cloud_event("4", "payment.received", OLD, at(6), invoice_id=OLD, amount="1.00", **ours),
        cloud_event("5", "dispute.opened", OLD, at(7), dispute_id="d", payment_id=OLD, amount="1.00"),
        cloud_event("6", "dispute.won", OLD, at(8), dispute_id="d", payment_id=OLD),
        cloud_event("7", "purchase.voided", OLD, at(9), block_id=OLD, reason="r"),
    ]
    outcomes = service.record(ledger, after)
    assert [(outcome.status, outcome.error) for outcome in outcomes] == [("recorded", None)] * len(after)
    rebuild(service.database, ledger)


def test_an_invoice_from_before_the_rule_can_be_paid_applied_to_conceded_and_bought_on(
    service: Subledger, new_ledger: NewLedger
) -> None:
    """A field that refers to an id, or is a label, creates no id. An invoice of a purchase is looked up."""
    ledger, ours, ids = new_ledger(), {"currency": "USD"}, count()

    def add(type: str, day: int, id: str | None = None, **data: Any) -> dict[str, Any]:
        return cloud_event(id or f"e{next(ids)}", type, "ann", f"2026-01-{day:02}T12:00:00Z", **data)

    bought = {"block_id": "B", "credits": "9", "price": "90.00", "invoice_id": OLD, "order_id": OLD, **ours}
    before = [
        add("credits.purchased", 1, OLD, **bought),
        add("payment.received", 2, f"{OLD}p", amount="10.00", payment_id=OLD, **ours),
    ]
    assert {outcome.status for outcome in _record_as_before(service, ledger, before)} == {"recorded"}
    after = [
        add("payment.received", 3, amount="10.00", invoice_id=OLD, **ours),
        add("payment.applied", 4, amount="5.00", payment_id=OLD, invoice_id=OLD, **ours),
        add("credits.consumed", 6, credits="1", invoice_id=OLD),
        add("credits.consumed", 6, credits="1", invoice_id="used\u200e"),
        add("credit_memo.issued", 6, amount="5.00", invoice_id=OLD, reason="r", **ours),
        add("credits.purchased", 7, **{**bought, "block_id": "B2"}),
        add("credits.purchased", 7, **{**bought, "block_id": "B3", "order_id": "new\u200e"}),
    ]
    outcomes = service.record(ledger, after)
    assert [(outcome.status, outcome.error) for outcome in outcomes] == [("recorded", None)] * len(after)
    [refused] = service.record(ledger, [add("credits.purchased", 8, **{**bought, "invoice_id": "new\u200e"})])
    assert refused.error is not None
    assert refused.error.field == "data.invoice_id"
    [other] = service.record(ledger, [add("payment.received", 8, amount="1.00", payment_id="B", **ours)])
    assert other.status == "recorded", "an id of another kind is no known one"


@pytest.mark.parametrize("kind", ["payment", "dispute", "invoice", "block", "customer"])
def test_a_known_id_is_known_as_what_it_is(kind: str, service: Subledger, new_ledger: NewLedger) -> None:
    """A payment with the name of an old block is new, and is refused like any new hostile id."""
    ledger, ours, at = new_ledger(), {"currency": "USD"}, "2026-01-05T12:00:00Z"
    bought = {"block_id": "B", "credits": "9", "price": "90.00", **ours}
    before = [cloud_event("b", "credits.purchased", "ann", at, **{**bought, "block_id": OLD})]
    if kind == "block":
        before = [cloud_event("b", "credits.purchased", OLD, at, **bought)]
    assert {outcome.status for outcome in _record_as_before(service, ledger, before)} == {"recorded"}
    event = {
        "payment": cloud_event("e", "payment.received", "ann", at, amount="1.00", payment_id=OLD, **ours),
        "dispute": cloud_event("e", "dispute.opened", "ann", at, dispute_id=OLD, block_id=OLD, amount="1.00"),
        "invoice": cloud_event("e", "credits.purchased", "ann", at, **bought, invoice_id=OLD),
        "block": cloud_event("e", "credits.purchased", OLD, at, **{**bought, "block_id": OLD}),
        "customer": cloud_event("e", "credits.purchased", OLD, at, **bought),
    }[kind]
    [outcome] = service.record(ledger, [event])
    assert outcome.error is not None
    assert outcome.error.field == ("subject" if kind == "customer" else f"data.{kind}_id")
