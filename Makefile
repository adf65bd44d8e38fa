# `make` or `make help` lists every command.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install up test verify fix docs bench bench-quick bench-pairs bench-bound bench-faults bench-snapshots bench-image bench-large chaos soak
.PHONY: seeds spec compat clean
.PHONY: compiled test-core test-hunt test-inside test-sim test-server test-system

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed ## Make a virtual environment in .venv with the package and its tools

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

up: install ## Run three nodes on ports 7001-7003 until Ctrl-C
	@$(BIN)/sofadb up

test: install verify ## Run the whole suite (needs redis-server, strace, iproute2 and Java)
	@$(MAKE) --no-print-directory --jobs 4 --output-sync=target test-system test-sim test-hunt test-server test-inside test-core

# Python may be told to write nothing of its own (PYTHONDONTWRITEBYTECODE): each of the nodes that tests start would compile all anew.
compiled: install
	@$(BIN)/python -m compileall -q src

# Four at a time, the longest first. What waits for real processes goes before what just keeps a processor busy.
OUTSIDE := tests/system tests/server tests/cli
BUSY := nice -n 10 $(BIN)/python
HUNT := tests/sim/test_sim_hunt.py
# What random worlds happen to reach does not count as covered.
RANDOM := tests/paxos/test_paxos_random.py tests/paxos/test_paxos_random_membership.py

test-core: compiled
	$(BUSY) -m coverage run -m pytest tests/paxos tests/paper $(addprefix --ignore ,$(RANDOM))
	@$(BIN)/python -m coverage report
	$(BUSY) -m pytest $(RANDOM)

test-sim: compiled
	$(BUSY) -m pytest tests/sim --ignore $(HUNT)

test-hunt: compiled
	$(BUSY) -m pytest $(HUNT)

test-inside: compiled
	$(BUSY) -m pytest --ignore tests/sim --ignore tests/paxos --ignore tests/paper $(addprefix --ignore ,$(OUTSIDE))

test-system: compiled
	$(BIN)/python -m pytest tests/system

test-server: compiled
	$(BIN)/python -m pytest tests/server tests/cli

verify: install ## Judge style, types and import rules; writes nothing
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --no-logo >.import_linter.log || { cat .import_linter.log; exit 1; }

fix: install ## Put style in order
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .

docs: install ## Write those pages of docs/ that the code itself knows
	$(BIN)/python tools/write_docs.py

BENCH_PACKAGES := nghttp2-client libzookeeper-java default-jre-headless redis-server redis-tools

.venv/bench: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@dpkg -s $(BENCH_PACKAGES) >/dev/null 2>&1 || { apt-get update --quiet --quiet && \
	  DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends $(BENCH_PACKAGES); }
	@touch $@

# Further options of `python -m benchmarks`, for example BENCH='--only sofadb,etcd --rounds 7'.
BENCH ?=

bench: install .venv/bench ## Measure SofaDB beside etcd, ZooKeeper, Redis and PySyncObj (installs them; BENCH='--help' for options)
	$(BIN)/python -m benchmarks --page docs/benchmarks $(BENCH)

bench-quick: install .venv/bench ## The same in three minutes: the main table only, one round
	$(BIN)/python -m benchmarks --quick $(BENCH)

bench-pairs: install .venv/bench ## Measure two builds beside each other (BENCH='old=../before new=.')
	$(BIN)/python -m benchmarks.pairs $(BENCH)

bench-bound: install .venv/bench ## Measure what a sketch in Python makes here that knows no failure, beside SofaDB, ZooKeeper and Redis
	$(BIN)/python -m benchmarks.bound $(BENCH)

bench-faults: install ## Measure what a node that is dead, paused or slow costs the clients of the others (needs strace)
	PYTHONPATH=tests $(BIN)/python benchmarks/faults.py --page docs/faults.md

bench-image: install ## Measure what it costs to take an image of a million keys, and to load it
	$(BIN)/python benchmarks/image.py

bench-snapshots: install ## Measure what snapshots, restarts and a backup of a million keys cost
	PYTHONPATH=tests $(BIN)/python benchmarks/snapshots.py --page docs/snapshots.md

bench-large: install ## Measure for how long removing large values, expiry and snapshots of them stop a node
	PYTHONPATH=tests $(BIN)/python benchmarks/large_values.py --page docs/large-values.md

MINUTES ?= 60
FIRST ?= 1000
SEED ?= 1

chaos: install ## Strike real nodes on a real network for MINUTES (60), from seed SEED (1) on (needs root)
	$(BIN)/python -m chaos.prerequisites
	$(BIN)/python -m pytest tests/chaos/rounds_in_small.py
	PYTHONPATH=tests:tests/system $(BIN)/python -m chaos --minutes $(MINUTES) --seed $(SEED) --page docs/chaos.md

soak: install ## Hunt on all cores for MINUTES (60) from seed FIRST (1000) on, explore every case, compare with Redis at length
	$(BIN)/sofadb hunt --minutes $(MINUTES) --first $(FIRST)
	$(BIN)/sofadb explore $$($(BIN)/sofadb explore --list-cases | sed 's/^/--case /')
	SOFADB_EXAMPLES=10000 $(BIN)/python -m pytest --timeout 0 tests/server/test_server_differential.py \
	  tests/server/test_server_commands_differential.py tests/database

seeds: install ## Find out anew in which world each sabotage is seen first
	$(BIN)/python tools/find_seeds.py

spec: install ## Check the specification in TLA+ with TLC, and runs of the code against it (needs Java)
	$(BIN)/python tools/run_spec.py
	$(BIN)/python -m pytest tests/sim/test_sim_conformance.py tests/sim/test_sim_conformance_worlds.py

.venv/compat: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[compat]'
	@touch $@

compat: install .venv/compat ## Run redis-py's own tests, frameworks while the leader is killed, and ioredis (installs what they need)
	@command -v npm >/dev/null || apt-get install --quiet --yes nodejs npm
	cd compat/ioredis && npm install --silent --no-audit --no-fund && npm start --silent
	PYTHONPATH=examples $(BIN)/python -m compat --page docs/compatibility.md

clean: ## Remove what commands here have made (not the data)
	rm -rf .venv build dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache
