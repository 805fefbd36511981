"""Layouts of the log on disk: with and without partitions, and vacuum settings. An experiment that can be repeated.

    python -m tests.benchmarks.storage partitions     # hashed by ledger, entries by position, against one table each
    python -m tests.benchmarks.storage settings       # the storage parameters, against PostgreSQL's own
    python -m tests.benchmarks.storage freezing       # what vacuum writes of the log, now and once it is old

It runs on its own server with few shared buffers, so that indexes do not fit into them, as in a ledger a hundred times
larger. Each figure is compared with that of the first layout, which is measured in turn with it. Owns: the experiments
and their output. Does not own: the layouts (layouts), the counting (contenders).
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from api.terminal import table
from tests.benchmarks import layouts
from tests.benchmarks.contenders import contenders
from tests.benchmarks.experiment import LOG, Experiment, Work
from tests.benchmarks.measures import Measure, Say, figure
from tests.benchmarks.own_server import own_server
from tests.benchmarks.run import machine, revision, server_settings


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """All measures of an experiment, with the machine, the time and the settings."""

    machine: dict[str, Any]
    server: dict[str, str]
    revision: str
    measured_at: str
    work: Work
    measures: list[Measure]

    @property
    def document(self) -> dict[str, Any]:
        """Returns the experiment as JSON, with every round."""
        return msgspec.structs.asdict(self) | {
            "work": msgspec.structs.asdict(self.work),
            "measures": [measure.document for measure in self.measures],
        }


def run(options: argparse.Namespace, say: Say) -> Found:
    """Runs the requested experiment on a server that is removed at the end."""
    given = {name: value for name in Work.__struct_fields__ if (value := getattr(options, name)) is not None}
    work = msgspec.structs.replace(TINY if options.tiny else DEFAULT[options.experiment], **given)
    settings = {"shared_buffers": options.shared_buffers, "autovacuum_naptime": options.naptime}
    measured_at = datetime.now(UTC).isoformat(timespec="seconds")
    with own_server(settings) as url, contenders(url, _layouts(options, work)) as entrants:
        experiment = Experiment(work, entrants, say)
        _phases(experiment, options.experiment, work)
        return Found(
            machine=machine(),
            server=server_settings(url),
            revision=revision(),
            measured_at=measured_at,
            work=work,
            measures=experiment.found,
        )


def _phases(experiment: Experiment, name: str, work: Work) -> None:
    experiment.open()
    if name == "freezing":
        experiment.grow_old()
        return
    for size, events in ((work.batch, work.events), (work.few_size, work.few), (1, work.singles)):
        if events:
            what = "one event at a time" if size == 1 else f"recording in batches of {size:,}"
            experiment.record(what, events, size)
    experiment.look()
    experiment.ask()
    if name == "partitions":
        experiment.pack()


DEFAULT: Final = {
    "partitions": Work(),
    "settings": Work(events=200_000, few=500_000, singles=100_000),
    "freezing": Work(events=1_000_000, rounds=20),
}
TINY: Final = Work(events=400, batch=100, few=80, few_size=20, singles=20, customers=32, rounds=1, questions=2)


def _layouts(options: argparse.Namespace, work: Work) -> dict[str, layouts.Layout]:
    ours: dict[str, layouts.Layout] = {"ours": layouts.as_it_is}
    if options.experiment == "partitions":
        each = (work.events + work.few + work.singles + work.customers) // work.ledgers
        ours[f"hashed by ledger, {options.parts}"] = layouts.hashed(options.parts)
        ours[f"entries by position, {options.parts}"] = layouts.ranged(options.parts, each)
        return ours
    tried = {f"with {tried}": layouts.tried(tried) for tried in options.try_}
    alike = {"defaults": layouts.at_defaults, **ours, **tried}
    if options.experiment == "freezing":
        return {name: layouts.both(apply, layouts.left_alone(LOG)) for name, apply in alike.items()}
    return alike


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.storage", description=__doc__.split("\n")[0])
    parser.add_argument("experiment", choices=DEFAULT)
    for name in Work.__struct_fields__:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    parser.add_argument("--parts", type=int, default=16)
    parser.add_argument("--try", dest="try_", action="append", default=[], metavar="SQL", help="another layout")
    parser.add_argument("--shared-buffers", default="128MB")
    parser.add_argument("--naptime", default="1min", help="of autovacuum")
    parser.add_argument("--tiny", action="store_true", help="see that it runs; the figures mean nothing")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> None:
    options = _arguments(given)
    found = run(options, lambda text: print(text, file=sys.stderr, flush=True))
    if options.json:
        print(json.dumps(found.document, indent=2))
        return
    for layout in dict.fromkeys(measure.goal for measure in found.measures):
        of = [measure for measure in found.measures if measure.goal == layout]
        title = f"{layout}, beside: {of[0].limit_name}; {title_of(found.machine, found.server)}; {found.revision}"
        table(title, COLUMNS, [_row(measure) for measure in of], right=(1, 2, 3, 4))


def title_of(machine: dict[str, Any], server: dict[str, str]) -> str:
    """Returns the machine of the measurement, and its shared buffers."""
    return (
        f"{machine['processor']}, {machine['cores']} cores, PostgreSQL {server['server_version']}, shared buffers "
        f"{server['shared_buffers']}"
    )


COLUMNS: Final = ("measure", "median", "beside", "ratio", "spread")


def _row(measure: Measure) -> tuple[object, ...]:
    limit, (least, most) = measure.limit, measure.spread
    return (
        measure.name,
        f"{figure(measure.value)} {measure.unit}",
        "" if limit is None else figure(limit),
        "" if limit is None else figure(measure.ratio),
        f"{figure(least)} – {figure(most)}" if len(measure.rounds) > 1 else "",
    )


if __name__ == "__main__":
    main()
