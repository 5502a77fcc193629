# What people and CI type. `make help` lists it.
#
# There is one build profile, --release, and everything is built with --workspace: RocksDB takes
# more than twelve minutes to compile, and another profile, or `-p` with one crate (another
# choice of features), would compile it once more.

CARGO ?= cargo
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
PROFILE := $(if $(CI),ci,default)
export STRATA_BIN ?=

.DEFAULT_GOAL := help
.PHONY: help setup build demo test lint fmt bench figures fuzz-smoke clean-demo \
  lint-fmt lint-tidy lint-clippy lint-doc lint-deny
# cargo locks its target directory, and mixed output helps nobody.
.NOTPARALLEL:

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## Install what building and testing need (Debian, Ubuntu)
	scripts/setup.sh test

build: ## Compile strata to target/release/strata
	$(CARGO) build --release --workspace

demo: ## Build and run two applications with strata, and show what it remembers (root)
	scripts/demo.sh

test: ## All tests, with what they need installed first (Debian, Ubuntu)
	@scripts/setup.sh test
	@failed=; \
	if $(CARGO) nextest --version >/dev/null 2>&1; then \
	  $(CARGO) nextest run --release --workspace --profile $(PROFILE) || failed=1; \
	else \
	  echo 'cargo-nextest is not installed: using cargo test (scripts/setup.sh test installs it)'; \
	  $(CARGO) test --release --workspace --all-targets --no-fail-fast || failed=1; \
	fi; \
	$(CARGO) test --release --workspace --doc --no-fail-fast || failed=1; \
	scripts/test-as-user.sh || failed=1; \
	test -z "$$failed"

figures: ## What the parts of the store cost: opening, looking up, committing
	$(CARGO) test --release --workspace --test figures -- --include-ignored --nocapture \
	  --test-threads 1

lint: lint-fmt lint-tidy lint-clippy lint-doc lint-deny ## Format, house rules, clippy, docs, licences

lint-fmt:
	$(CARGO) fmt --all --check

lint-tidy:
	$(CARGO) xtask tidy

lint-clippy:
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

lint-doc:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --release --workspace --no-deps

lint-deny:
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	  $(CARGO) deny --workspace check; \
	else \
	  echo 'cargo-deny is not installed: licences and advisories are NOT checked'; \
	fi

fmt: ## Format the code
	$(CARGO) fmt --all

bench: build ## Time strata, beside other builders where they are given (docs/benchmarks.md)
	STRATA_BENCH_STRATA="$${STRATA_BENCH_STRATA:-$(TARGET)/release/strata}" \
	  $(CARGO) run --release --package strata-benches -- $(BENCH)

fuzz-smoke: ## Each fuzz target for some seconds, a minute in all (docs/fuzzing.md)
	scripts/fuzz-smoke.sh

clean-demo: ## Remove what the demo keeps in the user's cache directory
	scripts/demo.sh clean
