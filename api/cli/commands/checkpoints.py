"""Signed tree heads on the command line, and proofs between them."""

from __future__ import annotations

import sys
from base64 import b64encode
from typing import Annotated

import typer

from api.checkpoint import checkpoint_of, consistency, earlier_checkpoint
from api.settings import connect
from api.terminal import Json, LedgerOption, out, print_json


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(checkpoint)


def checkpoint(
    ledger: LedgerOption,
    size: Annotated[int | None, typer.Option("--size", min=1, help="Show the checkpoint signed over N events.")] = None,
    since: Annotated[
        int | None, typer.Option("--since", min=1, help="Print the proof that the first N events are unchanged.")
    ] = None,
    json_: Json = False,
) -> None:
    """Signs the ledger's tree head, or shows an earlier one. With --since it prints a consistency proof.

    The proof (RFC 6962) shows that the first N events of the log are unchanged.

    Store checkpoints in a place to which nobody who can change the database can write.
    Example: subledger checkpoint --ledger acme --since 120
    """
    database = connect().database
    if since is not None:
        proof = consistency(database, ledger, since, size)
        if json_:
            print_json(proof)
            return
        out.print(f"from: {proof['from_root']} over {since} events")
        out.print(f"to:   {proof['to_root']} over {proof['to']} events")
        for sibling in proof["path"]:
            out.print(f"path: {sibling}")
        return
    signed = checkpoint_of(database, ledger) if size is None else earlier_checkpoint(database, ledger, size)
    if json_:
        public = signed.public_key and b64encode(signed.public_key).decode()
        print_json({"ledger": ledger, "checkpoint": signed.text, "public_key": public})
    else:
        sys.stdout.write(signed.text)
