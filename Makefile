# `make demo` and `make test` need python3 with venv, and make. Everything is installed into .venv, nothing elsewhere.

BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help env demo test test-all lint types bench docs constraints clean

# The work runs in the environment and says how long it took, apart from the set-up.
define work
	@begun=$$(date +%s); $(1); code=$$?; echo "Work: $$(($$(date +%s) - begun)) s"; exit $$code
endef

help:
	@echo "make demo       train, judge and draw on generated pictures (minutes)"
	@echo "make test       the tests, without the long ones"
	@echo "make test-all   every test"
	@echo "make lint types bench docs clean env constraints"

env: .venv/.stamp

.venv/.stamp: pyproject.toml constraints.txt
	@set -e; begun=$$(date +%s); \
	uv=$$(command -v uv || echo .uv/bin/uv); \
	if ! command -v $$uv > /dev/null; then python3 -m venv .uv; .uv/bin/pip install --quiet uv; fi; \
	test -x $(BIN)/python || $$uv venv --quiet --no-python-downloads .venv; \
	$$uv pip install --quiet --python $(BIN)/python -c constraints.txt -e ".[all]" --group dev; \
	touch $@; echo "Set-up: $$(($$(date +%s) - begun)) s"

demo: env
	$(call work,$(BIN)/maskwright demo)

test: env
	$(call work,$(BIN)/pytest -q -n 2 -m "not slow or ci")

test-all: env
	$(call work,$(BIN)/pytest -q -n 2)

lint: env
	$(call work,$(BIN)/ruff check . && $(BIN)/ruff format --check .)

types: env
	$(call work,$(BIN)/mypy)

bench: env
	$(call work,$(BIN)/python benchmarks/data_side.py)

docs: env
	$(call work,NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict)

# After a change of the dependencies in pyproject.toml.
constraints: env
	uv=$$(command -v uv || echo .uv/bin/uv); $$uv pip compile --universal --no-annotate --no-header \
	--no-emit-index-url --all-extras --group dev pyproject.toml -o constraints.txt

clean:
	rm -rf .venv .uv site dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
