# Two commands do all the set-up on a fresh Debian or Ubuntu machine with Rust: `make demo` and `make test`.

CARGO ?= cargo
.DEFAULT_GOAL := help

.PHONY: help setup build demo test unit lint fmt release bench

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

unit: ## the inner loop: pure code only
	$(CARGO) nextest run -E 'kind(lib)'

fmt: ## format
	$(CARGO) fmt

lint: ## what CI refuses
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

release: setup ## the binary to install
	$(CARGO) build --release

bench: release ## lifeboat and its peers on one cluster (SCALE=100 RUNS=5); a table in Markdown
	@benches/peers.sh
