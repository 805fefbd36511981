"""P4: many callers that each record single events, in process and over HTTP, compared with single-row INSERTs by many
clients.

Owns: the comparisons. Does not own: the callers and the INSERTs (group_commit).
"""

from __future__ import annotations

import msgspec

from tests.benchmarks import group_commit
from tests.benchmarks.measures import Found, Measure, Round, Say, at_least
from tests.http.serving import serving

RAW_CLIENTS = 16


class Size(msgspec.Struct, frozen=True, kw_only=True):
    rounds: int = 7
    callers: int = 64
    seconds: float = 3.0


def measure(url: str, size: Size, say: Say) -> Found:
    """Measures in each round first the INSERTs, then tasks, threads and connections that each record one event after
    another.
    """
    found: dict[str, list[Round]] = {"tasks": [], "threads": [], "HTTP": []}
    with group_commit.funded_ledger(url) as (service, ledger), serving(url) as server:
        for number in range(size.rounds + 1):
            raw = group_commit.raw_inserts(url, clients=RAW_CLIENTS, seconds=size.seconds)
            rates = {
                "tasks": group_commit.callers_in_tasks(service, ledger, callers=size.callers, seconds=size.seconds),
                "threads": group_commit.callers_in_threads(service, ledger, callers=size.callers, seconds=size.seconds),
                "HTTP": group_commit.callers_over_http(
                    service, ledger, server, callers=size.callers, seconds=size.seconds
                ),
            }
            said = ", ".join(f"{name} {rate.per_second:,.0f}/s" for name, rate in rates.items())
            say(f"P4 round {number} of {size.rounds}: INSERT {raw.per_second:,.0f}/s; {said}")
            if number:  # the first one warms up
                for name, rate in rates.items():
                    found[name].append(Round(value=rate.per_second, limit=raw.per_second, samples=(rate.p50_ms,)))
    return [
        Measure(
            goal="P4",
            name=f"{size.callers} callers of single events, {where}",
            unit="events/s",
            rounds=tuple(found[key]),
            limit_name=f"INSERT, {RAW_CLIENTS} clients",
            bound=at_least(goal),
            samples_unit="ms p50 of an answer",
            note=f"INSERT by {raw.how}",
        )
        for key, where, goal in (
            ("tasks", "in process, tasks", 1.5),
            ("threads", "in process, threads", 1.5),
            ("HTTP", "over HTTP", 0.25),
        )
    ], {}
