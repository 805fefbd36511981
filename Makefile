# `make demo` and `make test` are the two commands; both set everything up first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
MUTATION := $(VENV)/.mutation
PEERS_BIN := $(VENV)/bench-peers/bin
PEERS  := $(VENV)/bench-peers/.installed

.PHONY: setup demo test campaign check lint types contracts mutation lock bench-peers bench-full bench-storage bench-customer bench-hostile fuzz money forecast-trials clean
.DEFAULT_GOAL := help

help:            ## what can be made here
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

setup: $(STAMP)  ## a .venv with the locked dependencies and the `subledger` command in it

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup      ## a small company's year: recorded, expired, closed, exported, verified
	SUBLEDGER_HOME=$${SUBLEDGER_HOME:-.subledger} $(BIN)/subledger demo

test: setup      ## the tests, on a real PostgreSQL: a few minutes
	$(BIN)/python -m pytest -n auto -m "not campaign"

campaign: setup  ## the tests that take long, and the laws on five times as many examples; CI runs it after `make test`
	SUBLEDGER_TEST_EXAMPLES=$${SUBLEDGER_TEST_EXAMPLES:-100} $(BIN)/python -m pytest -n auto -m "campaign or law"

lint: setup      ## style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup     ## strict types
	$(BIN)/mypy

contracts: setup ## api -> projections -> subledger
	$(BIN)/lint-imports

check: lint types contracts test campaign  ## everything CI checks

mutation: $(MUTATION)  ## does a law fail where the pure core is wrong? (tests/MUTATION.md; not part of check)
	nice -n 10 $(BIN)/python -P tests/mutate.py run --max-children 1

$(MUTATION): requirements-mutation.lock $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-mutation.lock
	@touch $@

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

lock:            ## resolve the newest allowed versions into requirements*.lock (needs uv)
	$(LOCK) --group dev --output-file requirements.lock pyproject.toml
	$(LOCK) --group mutation --constraints requirements.lock --output-file requirements-mutation.lock

bench-peers: $(PEERS)  ## the peers of `subledger bench`, in an environment of their own

$(PEERS): tests/benchmarks/peers/requirements.txt $(STAMP)
	test -x $(PEERS_BIN)/python || $(PYTHON) -m venv $(VENV)/bench-peers
	$(PEERS_BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/benchmarks/peers/requirements.txt
	@touch $@

bench-full: setup  ## every benchmark, on a ledger of ten million events that is kept; leaves bench.json and bench.svg
	$(BIN)/subledger bench --events 10000000 --keep --plot bench.svg --out bench.json

bench-storage: setup  ## other layouts of the log beside ours: partitioned, other vacuum settings (subledger/SIZING.md)
	$(BIN)/python -m tests.benchmarks.storage partitions
	$(BIN)/python -m tests.benchmarks.storage partitions --ledgers 16
	$(BIN)/python -m tests.benchmarks.storage settings
	$(BIN)/python -m tests.benchmarks.storage freezing

bench-customer: setup  ## one customer with 1,250 to 10,000 open blocks: how each step grows when their number doubles
	$(BIN)/python -m tests.benchmarks.one_customer

bench-hostile: setup  ## a hundred hostile clients at once: how long /healthz takes, and the memory of the server
	$(BIN)/python -m tests.benchmarks.hostile

fuzz: setup      ## 20,000 hostile inputs over every route: none is answered 5xx, and memory does not grow
	$(BIN)/python -m tests.campaigns.fuzz

forecast-trials: setup  ## errors of the forecast on known portfolios, beside the run rate; the table of projections/README.md
	nice $(BIN)/python -m tests.campaigns.forecast_trials

money: setup     ## an hour of random histories of the money side, against an independent model
	$(BIN)/python -m tests.campaigns.money --minutes $${MINUTES:-60}

clean:           ## forget the environment and the embedded database
	-SUBLEDGER_HOME=.subledger $(BIN)/subledger database --stop
	rm -rf $(VENV) .subledger mutants
