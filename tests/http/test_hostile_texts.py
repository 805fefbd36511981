"""Ids, names and reasons of others that mean to act: no reading command prints one raw, no CSV holds one that runs."""

from __future__ import annotations

import csv
import io
import json
import sys
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import example, given, settings
from hypothesis import strategies as st

import api.cli
from api import reports
from api.service import Subledger
from projections.journals import close, customer_attributes, exports, mapping, targets
from projections.journals.formats import FORMATS
from subledger.periods import Period
from subledger.visible_text import json_visible, replaced, spreadsheet_text, toml_visible, visible
from tests.conftest import NewLedger, cloud_event

JOINERS = "\u200c\u200d"
ACTING = "\x7f\x80\x9b\u061c\u200b\u200e\u202a\u202e\u2028\u2066\u2069\ufeff\U000e0041"
HOSTILE = [
    "=[/eu]\u202e\x9b31m", "＠[bold]x\u2066\u200b", " \ufeff=1],\"", "－a\u200d[/]\u2028", "\u2212x[", "\u3000+1",
]  # fmt: skip
texts = st.text(st.sampled_from([*"[]/\\=+-@＝＋－＠'\" ab1,;|", *ACTING, *JOINERS]), min_size=1, max_size=12).filter(
    str.strip
)
READS = [
    ("events",), ("events", "--json"), ("balances",), ("balances", "--json"), ("blocks",), ("blocks", "--json"),
    ("periods",), ("checklist", "2026-01"), ("checklist", "2026-01", "--json"), ("journals", "list", "2026-01"),
    ("exports", "list"), ("mapping", "show"), ("mapping", "show", "--json"), ("policy", "list"), ("policy", "show"),
    ("policy", "show", "--json"), ("channel", "list"), ("deliveries", "list"), ("approvals", "list", "--all"),
    ("approvals", "list", "--json"), ("rejected", "list"), ("rejected", "counts"),
    ("monitor",), ("monitor", "--json"), ("monitor", "thresholds", "show"),
    ("target", "show", "csv"), ("verify",), ("ledger", "list"),
]  # fmt: skip


def _raw(text: str, *, lines: str = "\n") -> list[str]:
    """The characters of a text that act on a terminal, or hide, but for its line ends."""
    return [
        letter for letter in text
        if letter not in lines + JOINERS and unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    ]  # fmt: skip


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
    for name, module in list(sys.modules.items()):
        if name.startswith(("api.cli", "api.commands.")) and hasattr(module, "connect"):
            patch.setattr(module, "connect", lambda: service)

    def call(*arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        stdout, stderr = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as outputs:
            outputs.setattr(sys, "argv", ["subledger", *arguments])
            outputs.setattr(sys, "stdout", stdout)
            outputs.setattr(sys, "stderr", stderr)
            with pytest.raises(SystemExit) as ended:
                api.cli.main()
        said = stdout.getvalue() + stderr.getvalue()
        assert ended.value.code in codes, said
        return said

    yield call
    patch.undo()


def _history(found: list[str]) -> list[dict[str, Any]]:
    """Every place in which an event has a text of somebody's, filled with these texts in turn."""
    events: list[dict[str, Any]] = []

    def add(type: str, customer: str | None, /, **data: Any) -> None:
        number = len(events)
        text = found[number % len(found)]
        events.append(
            {
                **cloud_event(f"{text}{number}", type, customer, f"2026-01-{number + 1:02}T12:00:00Z", **data),
                "source": text, "dept": text,
            }
        )  # fmt: skip

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


# Texts that no identifier may be are still texts of the mapping, of attributes and of what is refused.
@example(found=HOSTILE)
@settings(max_examples=2)
@given(found=st.lists(texts, min_size=4, max_size=8, unique=True))
def test_no_text_of_others_acts_on_a_terminal_or_a_spreadsheet(
    run: Callable[..., str], service: Subledger, new_ledger: NewLedger, found: list[str]
) -> None:
    for at in range(0, len(found), 4):
        _check_everything(run, service, new_ledger(on_shortfall="overage"), found[at:] + found[:at])


def _check_everything(run: Callable[..., str], service: Subledger, ledger: str, found: list[str]) -> None:
    outcomes = service.record(ledger, _history(found))
    [*rejected] = [outcome.error for outcome in outcomes if outcome.error is not None]
    kept = [text for text in found[:4] if "\x7f" not in text]
    bought = [event["subject"] for event, outcome in zip(_history(found), outcomes, strict=True)
              if outcome.error is None and event["type"] == "credits.purchased"]  # fmt: skip
    assert set(bought) <= set(kept), rejected
    segment = found[0].replace("\x7f", "") or "none"  # an attribute may not hold a control character of ASCII
    for customer in bought:
        customer_attributes.replace_attributes(service.database, ledger, customer, {"segment": segment}, by="who")
    rows = [
        {**row, "name": replaced(found[0]), "segment": "{customer.segment}"} if row["role"] == "usage_revenue" else row
        for row in mapping.default_mapping().rows
    ]
    mapping.adopt_mapping(service.recorder, ledger, mapping.Mapping.from_rows(rows))
    close.close_period(service.recorder, ledger, Period.parse("2026-01"))

    asked = [(*command, *(() if command[0] == "ledger" else ("--ledger", ledger))) for command in READS]
    for customer in bought:
        asked += [
            ("balances", "--ledger", ledger, f"--customer={customer}"),
            ("history", "--ledger", ledger, f"--block={customer}"),
            ("customer", "show", "--ledger", ledger, "--", customer),
            ("report", "statement", "--ledger", ledger, f"--customer={customer}"),
            ("report", "statement", "--ledger", ledger, f"--customer={customer}", "--json"),
            ("report", "statement", "--ledger", ledger, f"--customer={customer}", "--html"),
            ("balances", "--ledger", ledger, f"--customer={customer}nobody", "--json"),
        ]
    for name, offered in reports.REPORTS.items():
        if not offered.needs:
            asked += [("report", name, "--ledger", ledger), ("report", name, "--ledger", ledger, "--html")]
    for arguments in asked:
        assert _raw(run(*arguments, codes=(0, 1, 2, 3))) == [], arguments
    if bought:
        assert visible(bought[0]) in run("events", "--ledger", ledger, "--limit", "10000")
    _check_every_csv(run, service, ledger, bought)


def _check_every_csv(run: Callable[..., str], service: Subledger, ledger: str, bought: list[str]) -> None:
    for name, offered in reports.REPORTS.items():
        for customer in bought if offered.needs else ["ours"]:
            question = reports.Question(customer=customer if offered.needs else None)
            with reports.answer(service, ledger, name, question) as (report, _, _):
                for table in report.tables:
                    _check_csv("".join(reports.csv_lines(table, "USD")))
    for form in FORMATS.values():
        if form.target is not None:
            targets.set_settings(service.database, ledger, form.target, {"level": "block"}, by="who")
    for name, form in FORMATS.items():
        if form.by_block or form.extension not in ("csv", "zip"):
            continue
        for export in exports.export(service.recorder, service.database, ledger, Period.parse("2026-01"), name):
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
        service.record(
            ledger,
            [cloud_event(block, "credits.purchased", customer, "2026-01-05T12:00:00Z", block_id=block, credits="1",
                         price="1.00", currency="USD")],
        )  # fmt: skip
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
    assert all(
        outcome.error is None for outcome in service.record(ledger, _history(["＝1\u202e", "[/x]", "c", "d"])[:2])
    )
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
