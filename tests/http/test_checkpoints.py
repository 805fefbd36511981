"""Checkpoints are stored, and prove that nothing was changed since: a rewritten log is found, even a consistent one.

This module has its own verifiers of signatures and proofs, written from RFC 6962, RFC 9162 and the C2SP formats.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api.checkpoint import checkpoint_of, consistency, earlier_checkpoint
from api.cli.main import app as command_line
from api.http.app import create_app
from api.service import Subledger
from projections.replay.derived_tables import DERIVED
from subledger.errors import CheckpointConflict, IntegrityFault, InvalidValue, UnknownCheckpoint, UnknownLedger
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database
from subledger.store.tables import APPEND_ONLY
from tests.store.tampering import LEDGER, all_of, grant, past_triggers

OWNED = (*APPEND_ONLY, *(derived.name for derived in DERIVED), "ledgers")


class Installation:
    """A ledger in its own database, with a home, a server and a command line."""

    def __init__(self, url: str, home: Path) -> None:
        self.url, self.home = url, home
        self.service = Subledger(Database(url))
        self.client = TestClient(
            create_app(self.service, open_on_loopback=True), base_url="http://127.0.0.1", client=("127.0.0.1", 50_000)
        )
        self.begin()

    def begin(self) -> None:
        self.service.create_ledger(LEDGER, LedgerSettings(currency="USD"))

    def record(self, *names: str, **data: Any) -> None:
        self.service.record(LEDGER, [grant(name, **data) for name in names])

    def rewrite(self, *names: str, **data: Any) -> None:
        """Writes another history as the owner of the database, with the program itself, so that everything is
        consistent.
        """
        with past_triggers(self.url, *OWNED) as connection:
            for table in OWNED:
                connection.execute(f"DELETE FROM {table}")
        self.service = Subledger(self.service.database)
        self.begin()
        self.record(*names, **data)

    def run(self, *arguments: str) -> tuple[int, str]:
        ran = CliRunner().invoke(command_line, [*arguments, "--ledger", LEDGER])
        return ran.exit_code, ran.output

    def sizes(self) -> int:
        with self.service.database.read() as connection:
            return int(connection.execute(sa.text("SELECT position FROM ledgers")).scalar_one())

    def leaves(self) -> list[bytes]:
        with self.service.database.read() as connection:
            leaves = connection.execute(sa.text("SELECT leaf FROM events ORDER BY position"))
            return [bytes(leaf) for leaf in leaves.scalars()]


@pytest.fixture
def ours(scratch_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    monkeypatch.setenv("SUBLEDGER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", scratch_url)
    monkeypatch.delenv("SUBLEDGER_SIGNING_KEY", raising=False)
    installation = Installation(scratch_url, tmp_path / "home")
    yield installation
    installation.service.database.close()


# --- independent verifiers ----------------------------------------------------------------------------


def tree_hash(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, over leaf hashes."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def consistent(first: int, second: int, first_hash: bytes, second_hash: bytes, path: list[bytes]) -> bool:
    """RFC 9162, 2.1.4.2, step by step."""
    if first == second:
        return not path and first_hash == second_hash
    if not path:
        return False
    if first & (first - 1) == 0:
        path = [first_hash, *path]
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = hashlib.sha256(b"\x01" + c + fr).digest(), hashlib.sha256(b"\x01" + c + sr).digest()
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = hashlib.sha256(b"\x01" + sr + c).digest()
        fn, sn = fn >> 1, sn >> 1
    return fr == first_hash and sr == second_hash and sn == 0


def read_note(note: str, public_key: bytes) -> tuple[str, int, bytes]:
    """Returns origin, size and root of a C2SP checkpoint. Fails if its signature is wrong."""
    body, _, signatures = note.partition("\n\n")
    name, encoded = signatures.removeprefix("— ").strip().split(" ")
    signature = base64.b64decode(encoded)
    assert signature[:4] == hashlib.sha256(name.encode() + b"\n\x01" + public_key).digest()[:4]
    Ed25519PublicKey.from_public_bytes(public_key).verify(signature[4:], (body + "\n").encode())
    origin, size, root = body.split("\n")
    return origin, int(size), base64.b64decode(root)


# --- signing, storing and proving --------------------------------------------------------------------------------


def test_a_checkpoint_is_kept_and_given_again_as_it_was_signed(ours: Installation) -> None:
    where = f"/v1/ledgers/{LEDGER}/checkpoint"
    notes = {}
    for names in (("a",), ("b", "c"), ("d",)):
        ours.record(*names)
        answer = ours.client.get(where)
        size = ours.sizes()
        notes[size] = answer.text
        key = base64.b64decode(answer.headers["X-Public-Key"])
        assert read_note(answer.text, key) == (f"subledger/{LEDGER}", size, tree_hash(ours.leaves()))
        assert ours.client.get(where).text == answer.text
    for size, note in notes.items():
        assert ours.client.get(where, params={"size": size}).text == note
        assert ours.run("checkpoint", "--size", str(size)) == (0, note)
    assert ours.client.get(where, params={"size": min(notes) + 1}).json()["code"] == "unknown_checkpoint"
    lines = (ours.home / "checkpoints" / f"{LEDGER}.jsonl").read_text().splitlines()
    assert [json.loads(line)["note"] for line in lines] == list(notes.values())
    assert ours.run("verify")[0] == 0


def test_a_size_is_signed_once_and_answered_with_the_key_of_then_when_the_signing_key_changes(
    ours: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = f"/v1/ledgers/{LEDGER}/checkpoint"
    notes = {}
    for number, name in enumerate(("a", "b", "c")):
        monkeypatch.setenv("SUBLEDGER_SIGNING_KEY", base64.b64encode(bytes([number]) * 32).decode())
        if number:  # the last size, with another key
            again = ours.client.get(where)
            assert (again.text, again.headers["X-Public-Key"]) == notes[ours.sizes()]
        ours.record(name)
        answer = ours.client.get(where)
        notes[ours.sizes()] = answer.text, answer.headers["X-Public-Key"]
    assert len({key for _, key in notes.values()}) == 3
    for size, (note, key) in notes.items():
        answer = ours.client.get(where, params={"size": size})
        assert (answer.text, answer.headers["X-Public-Key"]) == (note, key)
        read_note(note, base64.b64decode(key))
        document = json.loads(ours.run("checkpoint", "--size", str(size), "--json")[1])
        assert (document["checkpoint"], document["public_key"]) == (note, key)
    (ours.home / "checkpoints" / f"{LEDGER}.jsonl").unlink()
    for size, (note, key) in notes.items():
        answer = ours.client.get(where, params={"size": size})
        assert (answer.text, answer.headers.get("X-Public-Key")) == (note, key), "the database knows the key as well"
    assert ours.client.get(where).text == notes[max(notes)][0]
    lines = (ours.home / "checkpoints" / f"{LEDGER}.jsonl").read_text().splitlines()
    assert [json.loads(line)["note"] for line in lines] == [notes[max(notes)][0]]


@pytest.mark.campaign
def test_between_any_two_sizes_there_is_a_proof_that_nothing_was_changed(ours: Installation) -> None:
    ours.record(*(f"g{n}" for n in range(20)))
    leaves = ours.leaves()
    for old in range(1, len(leaves) + 1):
        for new in range(old, len(leaves) + 1):
            found = ours.client.get(f"/v1/ledgers/{LEDGER}/consistency", params={"from": old, "to": new}).json()
            path = [bytes.fromhex(sibling) for sibling in found["path"]]
            roots = bytes.fromhex(found["from_root"]), bytes.fromhex(found["to_root"])
            assert roots == (tree_hash(leaves[:old]), tree_hash(leaves[:new]))
            assert consistent(old, new, *roots, path)
            if old < new:
                assert not consistent(old, new, roots[0], hashlib.sha256(roots[1]).digest(), path)
    code, output = ours.run("checkpoint", "--since", "3", "--json")
    assert (code, json.loads(output)) == (0, consistency(ours.service.database, LEDGER, 3, None))


def test_a_proof_over_tiles_of_the_tree_is_the_same(ours: Installation) -> None:
    for start in range(0, 700, 100):
        ours.record(*(f"g{n}" for n in range(start, start + 100)))
    leaves = ours.leaves()
    for old, new in ((1, 700), (255, 256), (256, 700), (257, 512), (300, len(leaves))):
        found = consistency(ours.service.database, LEDGER, old, new)
        path = [bytes.fromhex(sibling) for sibling in found["path"]]
        assert consistent(old, new, tree_hash(leaves[:old]), tree_hash(leaves[:new]), path)


def test_what_cannot_be_proved_is_refused(ours: Installation) -> None:
    database = ours.service.database
    calls: tuple[Callable[[str], object], ...] = (
        lambda ledger: checkpoint_of(database, ledger),
        lambda ledger: earlier_checkpoint(database, ledger, 1),
        lambda ledger: consistency(database, ledger, 1, 1),
    )
    for call in calls:
        with pytest.raises(UnknownLedger):
            call("nowhere")
    with pytest.raises(UnknownCheckpoint):
        consistency(database, LEDGER, 1, ours.sizes() + 1)
    with pytest.raises(InvalidValue):
        consistency(database, LEDGER, 2, 1)


# --- a log that was rewritten ---------------------------------------------------------------------------------------


def _found(ours: Installation, *arguments: str) -> list[dict[str, Any]]:
    code, output = ours.run("verify", "--json", *arguments)
    found: list[dict[str, Any]] = json.loads(output)["differences"]
    assert code == (1 if found else 0)
    return found


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("history", [("a", "other", "c"), ("a", "b"), ("a", "b", "other", "d")])
def test_a_log_that_was_rewritten_so_that_all_fits_is_found_by_what_was_seen_before(
    ours: Installation, history: tuple[str, ...], signed: bool
) -> None:
    ours.record("a", "b")
    ours.record("c")
    if signed:
        before = ours.client.get(f"/v1/ledgers/{LEDGER}/checkpoint").text
        assert before
    else:
        assert _found(ours) == []
    ours.rewrite(*history)
    for _ in range(2):  # twice, because a reported difference must be reported again
        for arguments in ((), ("--since-clean",), ("--resume",)):
            found = _found(ours, *arguments)
            assert {difference["check"] for difference in found} == {"seen"}, arguments
    if signed:
        answer = ours.client.get(f"/v1/ledgers/{LEDGER}/checkpoint")
        assert (answer.status_code, answer.json()["code"]) == (409, "checkpoint_conflict")
        differences = ours.client.get(f"/v1/ledgers/{LEDGER}/reports/integrity").json()["differences"]
        assert {difference["check"] for difference in differences} == {"seen"}


def test_neither_the_database_nor_the_home_alone_can_be_made_to_forget_what_was_signed(ours: Installation) -> None:
    ours.record("a", "b")
    checkpoint_of(ours.service.database, LEDGER)
    path = ours.home / "checkpoints" / f"{LEDGER}.jsonl"
    lines = path.read_text()
    ours.rewrite("a", "other")
    path.unlink()
    with pytest.raises(CheckpointConflict):
        checkpoint_of(ours.service.database, LEDGER)
    assert {difference["check"] for difference in _found(ours)} == {"seen"}
    path.write_text(lines)
    with past_triggers(ours.url, "checkpoints", "tallies") as connection:
        connection.execute("DELETE FROM checkpoints")
        connection.execute("DELETE FROM tallies WHERE relation = 'checkpoints'")
    with pytest.raises(CheckpointConflict):
        checkpoint_of(ours.service.database, LEDGER)
    assert {difference["check"] for difference in _found(ours)} == {"seen"}
    path.unlink()
    assert _found(ours) == [], "of which somebody outside has to have a copy"


def test_after_a_backup_was_restored_the_operator_says_so_and_no_size_is_ever_signed_twice(ours: Installation) -> None:
    ours.record("a", "b")
    ours.record("c")
    first = checkpoint_of(ours.service.database, LEDGER)
    size = ours.sizes()
    assert _found(ours) == []
    with past_triggers(ours.url, "checkpoints", "tallies") as connection:  # as in the backup
        connection.execute("DELETE FROM checkpoints")
        connection.execute("DELETE FROM tallies WHERE relation = 'checkpoints'")
    ours.rewrite("a", "b")
    assert {difference["check"] for difference in _found(ours)} == {"seen"}
    assert ours.run("verify", "--restored", " ")[0] != 0, "it takes a reason"
    assert _found(ours, "--restored", "the disk of the database failed", "--by", "ann") == []
    assert _found(ours) == []
    last = json.loads((ours.home / "checkpoints" / f"{LEDGER}.jsonl").read_text().splitlines()[-1])
    assert (last["reason"], last["by"], last["size"]) == ("the disk of the database failed", "ann", ours.sizes())
    assert datetime.fromisoformat(last["at"]).tzinfo is not None
    assert checkpoint_of(ours.service.database, LEDGER).text.split("\n")[1] == str(size - 1)
    ours.record("another")
    with pytest.raises(CheckpointConflict):
        checkpoint_of(ours.service.database, LEDGER)
    ours.record("more")
    assert checkpoint_of(ours.service.database, LEDGER).text != first.text
    assert _found(ours) == []


def test_the_application_can_neither_change_nor_remove_a_checkpoint(ours: Installation) -> None:
    checkpoint_of(ours.service.database, LEDGER)
    before = all_of(ours.url)
    for statement in ("DELETE FROM checkpoints", "UPDATE checkpoints SET root = ''", "TRUNCATE checkpoints"):
        with pytest.raises(Exception, match="permission denied"), ours.service.database.write() as connection:
            connection.execute(statement.encode())
    assert all_of(ours.url) == before


# --- files of the home that are not as they were written ------------------------------------------------------------


@pytest.mark.parametrize("torn", [b'{"size":9,"at":"2026-01-', b"\x00" * 40, b'{"size":9,"at":"2026-01-01T00:00:00Z"}'])
def test_a_last_line_that_the_power_cut_short_is_cut_off(ours: Installation, torn: bytes) -> None:
    ours.record("a")
    path = ours.home / "checkpoints" / f"{LEDGER}.jsonl"
    for name, ask in (("b", "checkpoint"), ("c", "reports/integrity"), ("d", "verify")):
        before = ours.client.get(f"/v1/ledgers/{LEDGER}/checkpoint").text
        whole = path.read_bytes()
        ours.record(name)
        path.write_bytes(whole + torn)
        if ask == "verify":
            assert _found(ours) == []
        else:
            answer = ours.client.get(f"/v1/ledgers/{LEDGER}/{ask}")
            assert answer.status_code == 200
            assert ask == "checkpoint" or answer.json()["differences"] == []
        assert path.read_bytes().startswith(whole)
        assert torn not in path.read_bytes()
        assert before in [json.loads(line)["note"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("bad", [b"nonsense", b'{"size":1}', b"\xff\xfe", b""])
def test_another_line_that_cannot_be_read_is_a_difference_and_the_rest_is_verified(
    ours: Installation, bad: bytes
) -> None:
    ours.record("a")
    checkpoint_of(ours.service.database, LEDGER)
    ours.record("b")
    checkpoint_of(ours.service.database, LEDGER)
    path = ours.home / "checkpoints" / f"{LEDGER}.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + bad + b"\n" + second)
    [difference] = _found(ours)
    assert (difference["check"], "line 2 of" in difference["message"]) == ("seen", True)
    [difference] = ours.client.get(f"/v1/ledgers/{LEDGER}/reports/integrity").json()["differences"]
    assert difference["check"] == "seen"
    with pytest.raises(IntegrityFault, match="line 2"):
        checkpoint_of(ours.service.database, LEDGER)
    with past_triggers(ours.url, "checkpoints", "tallies") as connection:
        connection.execute("DELETE FROM checkpoints")
        connection.execute("DELETE FROM tallies WHERE relation = 'checkpoints'")
    ours.rewrite("other", "b")
    assert len(_found(ours)) == 3, "the bad line, and both that can be read"


def test_asking_for_a_ledger_that_is_not_there_leaves_nothing_behind(ours: Installation) -> None:
    def files() -> set[Path]:
        return {path for path in ours.home.rglob("*") if path.is_file()}

    before = files()
    for where in ("checkpoint", "reports/integrity", "checkpoint?size=1"):
        assert ours.client.get(f"/v1/ledgers/NOSUCH/{where}").status_code == 404
    assert CliRunner().invoke(command_line, ["verify", "--ledger", "NOSUCH"]).exit_code != 0
    assert ours.client.get(f"/v1/ledgers/{LEDGER}/reports/integrity").status_code == 200
    assert files() == before


def test_over_http_a_log_that_an_earlier_verification_did_not_see_is_found_too(ours: Installation) -> None:
    ours.record("a", "b")
    assert _found(ours) == []
    where = f"/v1/ledgers/{LEDGER}/reports/integrity"
    assert ours.client.get(where).json()["differences"] == []
    ours.rewrite("a", "other")
    over_http = ours.client.get(where).json()["differences"]
    assert over_http == _found(ours) != []
    assert ours.client.get(where).json()["differences"] == over_http
