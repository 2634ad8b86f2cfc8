# Two commands do all the set-up on a fresh Debian or Ubuntu machine with Rust: `make demo` and `make test`.

CARGO ?= cargo
.DEFAULT_GOAL := help

.PHONY: help setup build demo test faults unit lint fmt release

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## install what is missing (PostgreSQL, age, zstd), or say what to install
	@deploy/setup.sh

build: setup ## a quick build
	$(CARGO) build

demo: build ## the whole main job on a throw-away server
	$(CARGO) run --quiet -- demo

test: setup ## all tests, on real servers
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --no-fail-fast; \
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

release: setup ## the binary to install
	$(CARGO) build --release
