"""Attributes of customers: set, removed, read from a file, erased; not part of the log."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api.cli.main import app
from api.http.app import create_app
from api.service import Subledger
from projections.account_mapping.customer_attributes import (
    attributes_of,
    change_attributes,
    erase_attributes,
    import_attributes,
    replace_attributes,
)
from projections.integrity import verify
from subledger.errors import InvalidInput, UnknownLedger
from subledger.store.database import Database
from tests.conftest import NewLedger
from tests.together import together


def said(database: Database, ledger: str, customer: str = "c") -> dict[str, str]:
    with database.read() as connection:
        return attributes_of(connection, ledger, customer).attributes


def test_a_change_leaves_the_others_an_empty_value_takes_one_away_and_a_replacement_leaves_none(
    database: Database, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    assert said(database, ledger) == {}
    change_attributes(database, ledger, "c", {"segment": " enterprise ", "region": "emea"}, by="ann")
    change_attributes(database, ledger, "c", {"region": "", "tier": "Größe XL"}, by="bob")
    assert said(database, ledger) == {"segment": "enterprise", "tier": "Größe XL"}
    with database.read() as connection:
        found = attributes_of(connection, ledger, "c")
    assert found.changed_by == "bob"
    assert found.changed_at is not None
    replace_attributes(database, ledger, "c", {"region": "apac"}, by="ann")
    assert said(database, ledger) == {"region": "apac"}
    assert said(database, new_ledger()) == {}, "another ledger's are its own"


def test_erasing_leaves_nothing_of_a_customer_and_no_other_customer_loses_any(
    service: Subledger, database: Database, owner_url: str, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    for customer in ("c", "d"):
        change_attributes(database, ledger, customer, {"segment": "smb"}, by="ann")
    assert erase_attributes(database, ledger, "c", by="ann") is True
    assert erase_attributes(database, ledger, "c", by="ann") is False
    with psycopg.connect(owner_url) as connection:
        left = connection.execute("SELECT customer FROM customer_attributes WHERE ledger = %s", (ledger,)).fetchall()
    assert left == [("d",)]
    assert verify(service.database, ledger).differences == []


def test_what_two_say_at_once_is_both_said(database: Database, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    names = [f"a{number}" for number in range(8)]
    start = threading.Barrier(len(names))

    def say(name: str) -> None:
        start.wait()
        change_attributes(database, ledger, "c", {name: "x"}, by=name)

    together(say, names)
    assert said(database, ledger) == dict.fromkeys(names, "x")


def test_a_file_changes_the_attributes_it_has_columns_for_of_all_its_customers_or_none(
    database: Database, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    change_attributes(database, ledger, "c", {"tier": "1", "region": "emea"}, by="ann")
    file = '\ufeffregion,customer,segment\n,c,enterprise\n\nemea,"d, e",smb\n'
    assert import_attributes(database, ledger, file, by="crm") == 2
    assert said(database, ledger) == {"segment": "enterprise", "tier": "1"}
    assert said(database, ledger, "d, e") == {"region": "emea", "segment": "smb"}
    with pytest.raises(InvalidInput):
        import_attributes(database, ledger, f"customer,segment\nc,other\nd,{'x' * 101}\n", by="crm")
    assert said(database, ledger)["segment"] == "enterprise"
    many = "customer,segment\n" + "".join(f"m{number},s{number}\n" for number in range(5_001))
    assert import_attributes(database, ledger, many, by="crm") == 5_001
    assert said(database, ledger, "m5000") == {"segment": "s5000"}


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        ("", "customer", "line 1: the column customer is missing"),
        ("customer,Segment\n", "Segment", "line 1: 'Segment' is not an attribute's name"),
        ("customer,a,a\n", "a", "line 1: the column a stands twice"),
        ("customer,a\nc,1,2\n", "line 2", "line 2: 3 cells under 2 columns"),
        ("customer,a\n,1\n", "customer", "line 2: this is not a customer id"),
        ("customer,a\nc,1\n\nc,2\n", "line 4", "line 2 and line 4 are both about c"),
        ('customer,a\nc,"1\n2"\n', "a", "line 3: a is not a short text"),
        ('customer,a\nc,"1\n', "line 2", "not CSV"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_right_is_refused_with_its_line(
    database: Database, new_ledger: NewLedger, text: str, field: str, says: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        import_attributes(database, new_ledger(), text, by="crm")
    assert says in caught.value.message
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"Segment": "x"}, "Segment"), ({"": "x"}, "attributes"), ({"a" * 41: "x"}, "a" * 41), ({"a": "x" * 101}, "a"),
        ({"a": "x\ny"}, "a"), ({"a": 1}, "a"), ({f"a{n}": "x" for n in range(51)}, "attributes"),
    ],
)  # fmt: skip
def test_names_and_values_have_bounds(
    database: Database, new_ledger: NewLedger, given: dict[str, Any], field: str
) -> None:
    for change in (change_attributes, replace_attributes):
        with pytest.raises(InvalidInput) as caught:
            change(database, new_ledger(), "c", given, by="ann")
        assert caught.value.field == field


def test_of_a_ledger_that_does_not_exist_nothing_is_said(database: Database) -> None:
    for act in (
        lambda: change_attributes(database, "nowhere", "c", {"a": "x"}, by="ann"),
        lambda: erase_attributes(database, "nowhere", "c", by="ann"),
        lambda: import_attributes(database, "nowhere", "customer,a\nc,x\n", by="ann"),
    ):
        with pytest.raises(UnknownLedger):
            act()


def test_the_command_line_and_http_say_the_same(
    service: Subledger, owner_url: str, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ledger = new_ledger()
    client = TestClient(
        create_app(service, open_on_loopback=True), base_url="http://127.0.0.1", client=("127.0.0.1", 50_000)
    )
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", owner_url)

    def run(*arguments: str) -> Any:
        ran = CliRunner().invoke(app, ["customer", *arguments, "--ledger", ledger, "--json"])
        assert ran.exit_code == 0, ran.output
        return json.loads(ran.stdout)

    address = f"/v1/ledgers/{ledger}/customers/a%2Fb/attributes"
    assert client.get(address).json()["attributes"] == {}
    assert run("set", "a/b", "segment=enterprise", "region=emea=1", "--by", "ann")["changed_by"] == "ann"
    assert client.get(address).json() == run("show", "a/b")
    assert client.get(address).json()["attributes"] == {"region": "emea=1", "segment": "enterprise"}
    put = client.put(address, json={"segment": "smb"})
    assert (put.status_code, put.json()["attributes"]) == (200, {"segment": "smb"})
    assert run("show", "a/b")["attributes"] == {"segment": "smb"}
    assert client.put(address, json={"Segment": "x"}).json()["code"] == "invalid_input"
    assert client.put(address, json={"segment": 1}).status_code == 422
    (tmp_path / "customers.csv").write_text("customer,region\na/b,emea\n")
    assert run("import", str(tmp_path / "customers.csv")) == {"ledger": ledger, "customers": 1}
    assert client.get(address).json()["attributes"] == {"region": "emea", "segment": "smb"}
    assert client.delete(address).json()["erased"] is True
    assert run("erase", "a/b")["erased"] is False
    assert client.get("/v1/ledgers/nowhere/customers/c/attributes").status_code == 404
    wrong = CliRunner().invoke(app, ["customer", "set", "c", "segment", "--ledger", ledger])
    assert isinstance(wrong.exception, InvalidInput) or wrong.exit_code == 2
