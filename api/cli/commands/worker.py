"""The worker on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from api.settings import connect, stopping_time
from api.stopping import end_within
from api.terminal import err


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(worker)


def worker(
    once: Annotated[bool, typer.Option("--once", help="End when nothing is due; for cron.")] = False,
    concurrency: Annotated[
        int, typer.Option(help="The number of channels worked on at the same time.", min=1, max=64)
    ] = 2,
) -> None:
    """Delivers journals of every ledger as they become due.

    Every minute it also records due expiries and evaluates the monitors.

    Run any number of workers, on any machine that can reach the database. Two workers never have the same delivery.
    After SIGTERM or Ctrl-C a worker finishes the current delivery, and ends within SUBLEDGER_STOPPING_S (25) s.

    Example: subledger worker --once
    """
    service = connect()
    if not once:
        err.print("Delivering. Stop with Ctrl-C.")
    service.sweep_due()
    time_ = stopping_time()
    service.jobs.work(concurrency=concurrency, forever=not once, on_stop=lambda: end_within(time_))
