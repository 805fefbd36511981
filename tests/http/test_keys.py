"""Keys: listed, named, expired, rotated, revoked, and still in the list after their end."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from alembic import command
from fastapi.testclient import TestClient

from api import keys
from api.access import KeyDesk, any_key_exists, hash_of
from api.http.app import create_app
from api.keys import create_key, list_keys, makers_of, revoke_key, rotate_key
from api.service import Subledger, upgrade_database
from subledger.errors import InvalidValue, KeyEnded, SamePerson, UnknownKey
from subledger.events.own_data import Approvals
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database
from subledger.store.migrate import _config
from tests.building import cloud_event, grant
from tests.scratch_database import scratch_database
from tests.store.tampering import past_triggers
from tests.waiting import until


@pytest.fixture
def own(server_url: str) -> Iterator[tuple[Subledger, str]]:
    """A service on its own database with the ledgers acme and other, and the owner's URL."""
    with scratch_database(server_url) as url:
        database = Database(url)
        service = Subledger(database)
        for ledger in ("acme", "other"):
            asking = Approvals.model_validate({"grant_credits_above": "1"})
            service.create_ledger(ledger, LedgerSettings(currency="USD", approvals=asking))
        yield service, url
        database.close()


def _client(service: Subledger, secret: str) -> TestClient:
    return TestClient(create_app(service), headers={"Authorization": f"Bearer {secret}"})


def _change(url: str, sql: str, *parameters: object) -> None:
    """Makes, as the owner, a change that normally only time makes."""
    with past_triggers(url, "api_keys") as connection:
        connection.execute(sql, parameters)


def _insert(url: str, sql: str, *parameters: object) -> None:
    """Writes, as the owner, a row of an older version."""
    with psycopg.connect(url) as connection:
        connection.execute(sql, parameters)


def _insert_old_key(url: str, name: str) -> str:
    """Stores a key as it was possible before names were checked. Returns its secret."""
    secret = f"sl_{uuid.uuid4().hex}"
    _insert(
        url,
        "INSERT INTO api_keys (key_hash, key_id, ledger, role, name, created_at)"
        " VALUES (%s, %s, '*', 'admin', %s, now())",
        hash_of(secret),
        f"key_{uuid.uuid4().hex[:20]}",
        name,
    )
    return secret


def test_keys_are_listed_with_whose_they_are_and_without_their_secret_or_its_hash(own: tuple[Subledger, str]) -> None:
    service, _ = own
    made = create_key(service.database, ledger="*", role="admin", name="ann", by="root")
    client = _client(service, made.secret)
    answer = client.post("/v1/keys", json={"ledger": "acme", "role": "writer", "name": "billing"})
    assert answer.status_code == 201
    [first, second] = client.get("/v1/keys").json()["items"]
    assert (first["key_id"], first["name"], first["created_by"], first["state"]) == (
        made.key.key_id,
        "ann",
        "root",
        "active",
    )
    assert (second["ledger"], second["role"], second["created_by"]) == ("acme", "writer", "ann")
    text = client.get("/v1/keys").text
    for secret in (made.secret, answer.json()["key"]):
        assert secret not in text
        assert hash_of(secret).hex()[:12] not in text
    assert _client(service, answer.json()["key"]).post("/v1/ledgers/acme/events", json=[]).status_code == 200


def test_a_key_without_a_name_is_in_the_name_of_who_makes_it(own: tuple[Subledger, str]) -> None:
    service, _ = own
    ann = _client(service, create_key(service.database, ledger="*", role="admin", name="ann").secret)
    answer = ann.post("/v1/keys", json={"ledger": "acme", "role": "reader"})
    assert (answer.status_code, answer.json()["name"], answer.json()["created_by"]) == (201, "ann", "ann")


def test_the_open_server_makes_no_key_without_a_name(own: tuple[Subledger, str]) -> None:
    service, _ = own
    here = TestClient(
        create_app(service, open_on_loopback=True), base_url="http://127.0.0.1", client=("127.0.0.1", 50_000)
    )
    answer = here.post("/v1/keys", json={"ledger": "acme", "role": "reader"})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "invalid_value", "name")


def test_a_page_of_keys_goes_on_where_the_last_one_ended(own: tuple[Subledger, str]) -> None:
    service, _ = own
    made = [create_key(service.database, ledger="*", role="admin", name="ann") for _ in range(5)]
    client, found, cursor = _client(service, made[0].secret), [], ""
    while True:
        page = client.get(f"/v1/keys?limit=2{cursor}").json()
        found += [item["key_id"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert found == [key.key.key_id for key in made]


def test_a_revoked_key_is_refused_at_once_and_stays_with_who_revoked_it(own: tuple[Subledger, str]) -> None:
    service, _ = own
    admin = _client(service, create_key(service.database, ledger="*", role="admin", name="ann").secret)
    made = create_key(service.database, ledger="acme", role="reader", name="bob")
    reader = _client(service, made.secret)
    assert reader.get("/v1/ledgers/acme").status_code == 200
    revoked = admin.delete(f"/v1/keys/{made.key.key_id}")
    assert (revoked.json()["state"], revoked.json()["revoked_by"]) == ("revoked", "ann")
    assert reader.get("/v1/ledgers/acme").json()["code"] == "key_revoked"
    assert revoke_key(service.database, made.key.key_id, by="eve").revoked_by == "ann", "once is enough"


def test_revoking_the_last_key_does_not_open_the_server_again(own: tuple[Subledger, str]) -> None:
    service, _ = own
    made = create_key(service.database, ledger="*", role="admin", name="ann")
    revoke_key(service.database, made.key.key_id, by="ann")
    here = TestClient(
        create_app(service, open_on_loopback=True), base_url="http://127.0.0.1", client=("127.0.0.1", 50_000)
    )
    assert here.get("/v1/ledgers/acme").status_code == 401
    assert any_key_exists(service.database)
    assert not keys.any_key_in_force(service.database)


def test_a_key_works_until_it_expires(own: tuple[Subledger, str]) -> None:
    service, url = own
    soon = datetime.now(UTC) + timedelta(days=1)
    made = create_key(service.database, ledger="acme", role="reader", name="bob", expires_at=soon)
    client = _client(service, made.secret)
    assert client.get("/v1/ledgers/acme").status_code == 200
    _change(url, "UPDATE api_keys SET expires_at = now() WHERE key_id = %s", made.key.key_id)
    assert client.get("/v1/ledgers/acme").json()["code"] == "key_expired"
    assert [key.state for key in list_keys(service.database)] == ["expired"]
    with pytest.raises(KeyEnded):
        rotate_key(service.database, made.key.key_id, by="ann")
    with pytest.raises(InvalidValue):
        create_key(service.database, ledger="acme", role="reader", name="bob", expires_at=soon - timedelta(days=2))


def test_a_rotated_key_ends_at_once_or_after_the_grace(own: tuple[Subledger, str]) -> None:
    service, url = own
    first = create_key(service.database, ledger="*", role="admin", name="ann")
    answer = _client(service, first.secret).post(f"/v1/keys/{first.key.key_id}/rotate")
    second = answer.json()
    assert answer.status_code == 201
    assert (second["replaces"], second["role"], second["ledger"], second["name"]) == (
        first.key.key_id,
        "admin",
        "*",
        "ann",
    )
    assert _client(service, first.secret).get("/v1/keys").json()["code"] == "key_revoked"
    third = _client(service, second["key"]).post(f"/v1/keys/{second['key_id']}/rotate", json={"grace_s": 3600}).json()
    for secret in (second["key"], third["key"]):
        assert _client(service, secret).get("/v1/keys").status_code == 200
    assert [key.state for key in list_keys(service.database)] == ["revoked", "ending", "active"]
    _change(url, "UPDATE api_keys SET revoked_at = now() WHERE key_id = %s", second["key_id"])
    assert _client(service, second["key"]).get("/v1/keys").json()["code"] == "key_revoked"
    assert _client(service, third["key"]).get("/v1/keys").status_code == 200
    with pytest.raises(InvalidValue):
        rotate_key(service.database, third["key_id"], by="ann", grace_s=keys.LONGEST_GRACE_S + 1)


def test_an_admin_of_a_ledger_has_the_keys_of_that_ledger_alone(own: tuple[Subledger, str]) -> None:
    service, _ = own
    ours = create_key(service.database, ledger="acme", role="admin", name="ann")
    others = [create_key(service.database, ledger=ledger, role="reader", name="bob") for ledger in ("other", "*")]
    client = _client(service, ours.secret)
    assert [item["key_id"] for item in client.get("/v1/keys").json()["items"]] == [ours.key.key_id]
    for ledger in ("other", "*"):
        answer = client.post("/v1/keys", json={"ledger": ledger, "role": "reader", "name": "eve"})
        assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
    for other in others:
        assert client.delete(f"/v1/keys/{other.key.key_id}").json()["code"] == "unknown_key"
        assert client.post(f"/v1/keys/{other.key.key_id}/rotate").status_code == 404
    made = client.post("/v1/keys", json={"ledger": "acme", "role": "admin", "name": "bob"}).json()
    assert client.delete(f"/v1/keys/{made['key_id']}").status_code == 200
    everywhere = _client(service, create_key(service.database, ledger="*", role="admin", name="ann").secret)
    assert everywhere.post("/v1/keys", json={"ledger": "none", "role": "reader", "name": "bob"}).status_code == 404


@pytest.mark.parametrize("name", ["", "  ", "nobody", "Nobody", "key-0123456789ab", "аlice", "alice\u200b", "x" * 101])
def test_a_key_needs_a_persons_name(name: str, service: Subledger) -> None:
    with pytest.raises(InvalidValue) as caught:
        create_key(service.database, ledger="*", role="reader", name=name)
    assert caught.value.field == "name"


@pytest.mark.parametrize("spelling", ["Alice", "ALICE", "aIice"])
def test_another_spelling_of_a_name_with_a_key_is_refused(spelling: str, own: tuple[Subledger, str]) -> None:
    service, _ = own
    create_key(service.database, ledger="acme", role="reader", name="alice")
    with pytest.raises(InvalidValue) as caught:
        create_key(service.database, ledger="other", role="reader", name=spelling)
    assert caught.value.expected == "alice"
    assert create_key(service.database, ledger="other", role="reader", name=" alice ").key.name == "alice"


def test_a_name_of_another_ledgers_key_is_not_told(own: tuple[Subledger, str]) -> None:
    service, _ = own
    for ledger, name in (("other", "secretperson"), ("acme", "ann"), ("*", "root")):
        create_key(service.database, ledger=ledger, role="reader", name=name)
    admin = _client(service, create_key(service.database, ledger="acme", role="admin", name="ann").secret)

    def make(name: str) -> Any:
        answer = admin.post("/v1/keys", json={"ledger": "acme", "role": "reader", "name": name})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_value")
        return answer

    assert "secretperson" not in make("SecretPerson").text
    assert (make("Ann").json()["expected"], make("Root").json()["expected"]) == ("ann", "root")


@pytest.mark.parametrize(
    ("maker", "checker"),
    [
        *(("alice", spelling) for spelling in ("Alice", "alice ", " alice", "аlice", "alice\u200b", "alice")),
        ("key-0123456789ab", "key-ba9876543210"),
        ("alice", "nobody"),
    ],
)
def test_keys_that_may_be_one_persons_are_no_second_person(
    maker: str, checker: str, own: tuple[Subledger, str]
) -> None:
    """The keys are from before names were checked."""
    service, url = own
    asking, deciding = (_client(service, _insert_old_key(url, name)) for name in (maker, checker))
    approval = asking.post("/v1/ledgers/acme/events", json=grant("g", "2", "cust", "2026-01-15T12:00:00Z")).json()[
        "results"
    ][0]["approval_id"]
    answer = deciding.post(f"/v1/ledgers/acme/approvals/{approval}/approve")
    assert answer.status_code == 422
    assert answer.json()["code"] in ("same_person", "person_required")
    bob = _client(service, create_key(service.database, ledger="acme", role="controller", name="bob").secret)
    assert bob.post(f"/v1/ledgers/acme/approvals/{approval}/approve").status_code == 200


@pytest.mark.parametrize("steps", ["made", "rotated", "made by a made one", "rotated by a made one"])
def test_a_key_that_the_maker_made_is_no_second_person(steps: str, own: tuple[Subledger, str]) -> None:
    service, _ = own
    ann = _client(service, create_key(service.database, ledger="acme", role="admin", name="ann", by="root").secret)
    asked = {"ledger": "acme", "role": "admin", "name": "bob"}
    if steps == "rotated":
        bob = create_key(service.database, ledger="acme", role="admin", name="bob", by="root")
        made = ann.post(f"/v1/keys/{bob.key.key_id}/rotate").json()
    else:
        made = ann.post("/v1/keys", json=asked).json()
    if steps == "made by a made one":
        made = _client(service, made["key"]).post("/v1/keys", json={**asked, "name": "carl"}).json()
    elif steps == "rotated by a made one":
        made = _client(service, made["key"]).post(f"/v1/keys/{made['key_id']}/rotate").json()
    approval = ann.post("/v1/ledgers/acme/events", json=grant("g", "2", "cust", "2026-01-15T12:00:00Z")).json()[
        "results"
    ][0]["approval_id"]
    second = _client(service, made["key"])
    for decision in ("approve", "refuse"):
        answer = second.post(f"/v1/ledgers/acme/approvals/{approval}/{decision}")
        assert (answer.status_code, answer.json()["code"]) == (422, "same_person")
        assert "ann made request" in answer.json()["detail"]
    dora = create_key(service.database, ledger="acme", role="controller", name="dora", by="root")
    assert _client(service, dora.secret).post(f"/v1/ledgers/acme/approvals/{approval}/approve").status_code == 200


def test_a_maker_is_known_however_an_old_key_on_the_way_was_written(own: tuple[Subledger, str]) -> None:
    """Mallory rotates an old key of ``Alice ``, and makes another key with it. That key is Mallory's, whatever its name
    is.
    """
    service, url = own
    _insert_old_key(url, "Alice ")
    mallory = _client(service, create_key(service.database, ledger="*", role="admin", name="mallory", by="root").secret)
    [key_id] = [key.key_id for key in list_keys(service.database) if key.name == "Alice "]
    alice = _client(service, mallory.post(f"/v1/keys/{key_id}/rotate").json()["key"])
    made = alice.post("/v1/keys", json={"ledger": "*", "role": "admin", "name": "carl"}).json()
    assert "mallory" in makers_of(service.database, made["key_id"])


def test_a_key_decides_about_what_others_than_its_maker_asked_for(own: tuple[Subledger, str]) -> None:
    service, _ = own
    ann = _client(service, create_key(service.database, ledger="acme", role="admin", name="ann", by="root").secret)
    bob, carl = (
        _client(
            service, ann.post("/v1/keys", json={"ledger": "acme", "role": "controller", "name": name}).json()["key"]
        )
        for name in ("bob", "carl")
    )
    approval = bob.post("/v1/ledgers/acme/events", json=grant("g", "2", "cust", "2026-01-15T12:00:00Z")).json()[
        "results"
    ][0]["approval_id"]
    assert carl.post(f"/v1/ledgers/acme/approvals/{approval}/approve").status_code == 200


@pytest.mark.parametrize("name", ["\u0430lice", "alice\u200b", "alice\tb", "x" * 150, "key-0123456789ab", "\u200b"])
def test_a_key_with_a_name_from_before_the_rules_goes_on_working(name: str, own: tuple[Subledger, str]) -> None:
    service, url = own
    client = _client(service, _insert_old_key(url, name))
    sandbox = {"ledger": "trial", "currency": "USD", "sandbox": True, "clock": "2031-01-31T12:00:00Z"}
    assert client.post("/v1/ledgers", json=sandbox).status_code == 201
    moved = client.put("/v1/ledgers/trial/clock", json={"clock": "2031-02-01T00:00:00Z"})
    assert moved.status_code == 200, moved.text
    assert client.post("/v1/ledgers/trial/periods/2031-01/close").status_code == 200
    assert client.patch("/v1/ledgers/trial", json={"future_tolerance": "1h"}).status_code == 200
    use = cloud_event("use", "credits.consumed", "ann", "2026-01-15T12:00:00Z", credits="1")
    client.post("/v1/ledgers/acme/events", json=use)
    [rejection] = client.get("/v1/ledgers/acme/rejected").json()["items"]
    path = f"/v1/ledgers/acme/rejected/{rejection['rejection_id']}/dismiss"
    assert client.post(path, json={"reason": "a test"}).status_code == 200


def test_the_last_use_is_kept_and_written_at_most_once_a_minute(own: tuple[Subledger, str]) -> None:
    service, url = own
    made = create_key(service.database, ledger="acme", role="reader", name="bob")

    def last_use() -> datetime | None:
        return list_keys(service.database)[0].last_used_at

    assert last_use() is None
    with _client(service, made.secret) as client:
        assert client.get("/v1/ledgers/acme").status_code == 200
        until(lambda: last_use() is not None)
        _change(url, "UPDATE api_keys SET last_used_at = now() - interval '50 seconds'")
        before = last_use()
        KeyDesk(service.database)._write_use([made.key.key_id])
        assert last_use() == before
        _change(url, "UPDATE api_keys SET last_used_at = now() - interval '61 seconds'")
        before = last_use()
        assert client.get("/v1/ledgers/acme").status_code == 200
        until(lambda: last_use() != before)


def test_a_key_that_is_not_there_is_named(service: Subledger) -> None:
    for act in (revoke_key, rotate_key):
        with pytest.raises(UnknownKey) as caught:
            act(service.database, "key_none", by="ann")
        assert caught.value.found == "key_none"


def test_keys_of_an_older_version_work_on_and_have_an_id(fresh_database_url: str) -> None:
    upgrade_database(fresh_database_url)
    command.downgrade(_config(fresh_database_url), "0016")
    secret = "sl_old"
    _insert(
        fresh_database_url,
        "INSERT INTO api_keys (key_hash, ledger, role, name, created_at) VALUES (%s, '*', 'admin', 'ann', now())",
        hash_of(secret),
    )
    upgrade_database(fresh_database_url)
    database = Database(fresh_database_url)
    try:
        [key] = list_keys(database)
        assert (key.state, key.created_by) == ("active", None)
        assert hash_of(secret).hex()[:8] not in key.key_id
        assert _client(Subledger(database), secret).get("/v1/keys").json()["items"][0]["key_id"] == key.key_id
        assert revoke_key(database, key.key_id, by="ann").state == "revoked"
    finally:
        database.close()


def _asked(service: Subledger, secret: str) -> str:
    event = cloud_event(
        uuid.uuid4().hex,
        "credits.granted",
        "cust",
        "2026-01-15T12:00:00Z",
        block_id=uuid.uuid4().hex,
        credits="2",
        reason="promotional",
    )
    return str(_client(service, secret).post("/v1/ledgers/acme/events", json=event).json()["results"][0]["approval_id"])


def test_who_made_the_key_of_who_asks_is_no_second_person(own: tuple[Subledger, str]) -> None:
    service, _ = own
    database = service.database
    ann, bob, cay = (create_key(database, ledger="*", role="admin", name=name, by="root") for name in "abc")
    puppet = _client(service, ann.secret).post("/v1/keys", json={"ledger": "*", "role": "admin", "name": "p"}).json()
    deeper = (
        _client(service, puppet["key"]).post("/v1/keys", json={"ledger": "*", "role": "writer", "name": "q"}).json()
    )
    rotated = _client(service, puppet["key"]).post(f"/v1/keys/{puppet['key_id']}/rotate").json()
    for secret in (deeper["key"], rotated["key"]):
        path = f"/v1/ledgers/acme/approvals/{_asked(service, secret)}/approve"
        problem = _client(service, ann.secret).post(path).json()
        assert (problem["code"], problem["expected"][:25]) == ("same_person", "somebody who made no key ")
        assert _client(service, bob.secret).post(path).status_code == 200
    assert (
        _client(service, bob.secret)
        .post(f"/v1/ledgers/acme/approvals/{_asked(service, cay.secret)}/approve")
        .status_code
        == 200
    ), "the same person made both keys at the command line, and is neither of them"
    with pytest.raises(SamePerson):
        service.decide_approval("acme", _asked(service, cay.secret), by="Root", allow=True)


def test_a_key_that_was_made_for_the_asker_later_or_had_ended_before_is_not_the_one_that_asked(
    own: tuple[Subledger, str],
) -> None:
    service, _ = own
    database = service.database
    old = create_key(database, ledger="*", role="writer", name="cay", by="ann")
    revoke_key(database, old.key.key_id, by="ann")
    cay = create_key(database, ledger="*", role="writer", name="cay", by="root")
    approval = _asked(service, cay.secret)
    create_key(database, ledger="*", role="writer", name="cay", by="ann")
    assert service.decide_approval("acme", approval, by="ann", allow=True).error is None
