# Two commands do all the set-up on a fresh Debian or Ubuntu machine with Rust: `make demo` and `make test`.

CARGO ?= cargo
.DEFAULT_GOAL := help

.PHONY: help setup build demo test unit lint fmt release mutants fuzz majors bench bench-replay bench-s3 bench-many faults

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## install what is missing (PostgreSQL, age, zstd), or say what to install
	@deploy/setup.sh

build: setup ## a quick build
	$(CARGO) build

demo: build ## the whole main job on a throw-away server
	$(CARGO) run --quiet -- demo

majors: ## PostgreSQL 13, 14, 16, 17, 18 beside the system's own, for tests
	@deploy/postgres-majors.sh

# Most tests wait for a server most of the time: twice as many at a time as there are cores.
TEST_THREADS ?= $(shell echo $$(($$(nproc) * 2)))

test: setup ## all tests, on real servers
	@deploy/postgres-majors.sh || echo "going on without other major versions: their tests say that they are skipped"
	@deploy/s3-servers.sh || echo "going on without S3 servers: their tests say that they are skipped"
	@deploy/watchers.sh || echo "going on without Prometheus, Alertmanager and an SMTP server: their tests say that they are skipped"
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --no-fail-fast --test-threads $(TEST_THREADS); \
	else \
		echo "cargo-nextest is not installed: running the same tests with cargo test"; \
		$(CARGO) test --no-fail-fast; \
	fi

faults: setup ## the long fault suite; LIFEBOAT_FAULTS_SEED, LIFEBOAT_FAULTS_TRIES
	$(CARGO) test --test it -- --include-ignored --nocapture --test-threads 1 faults::

unit: ## the inner loop: pure code only
	$(CARGO) nextest run -E 'kind(lib)'

fmt: ## format
	$(CARGO) fmt

lint: ## what CI refuses
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(patsubst tests/fuzz/fuzz_targets/%.rs,%,$(wildcard tests/fuzz/fuzz_targets/*.rs))

fuzz: ## every parser of foreign bytes, FUZZ_SECONDS each (needs cargo-fuzz; no nightly)
	@for target in $(FUZZ_TARGETS); do \
		work=target/fuzz-corpus/$$target; mkdir -p $$work; \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --fuzz-dir tests/fuzz -s none $$target $$work tests/fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 -timeout=20 -print_final_stats=1 || exit 1; \
	done

release: setup ## the binary to install
	$(CARGO) build --release

mutants: ## are the tests of the deciding rooms able to fail? (cargo-mutants, several hours)
	tests/mutants.sh judge
	tests/mutants.sh seal

bench: release ## lifeboat and its peers on one cluster (SCALE=100 RUNS=5); a table in Markdown
	@benches/peers.sh

bench-replay: release ## replay by several restore_commands (SEGMENTS=64 RUNS=5); a table in Markdown
	@benches/replay.sh

bench-s3: release ## a bucket against a folder (SCALE=100 RUNS=5); a table in Markdown
	@deploy/s3-servers.sh && benches/s3.sh

bench-many: release ## many policies: serve, metrics, status (POLICIES=10000); a table in Markdown
	@benches/many.sh
