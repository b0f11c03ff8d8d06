PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
TORCH := $(shell grep '^torch==' requirements-dev.lock)
BOOK := $(wildcard _config.yml _toc.yml references.bib settings.ini nbs _ext assets images results)
CHAPTERS ?= nbs
HTML := _build/html/index.html
CHROMIUM := $(firstword $(foreach name,chromium chromium-browser google-chrome,$(shell command -v $(name))))

# What trains live, and the tests that compute: run once more in the second arithmetic.
LIVE := 08 11 12 13 14 26 27 28 29 30 31 39 41 45 46 47 48 54
NUMERICAL := engine exact rules batches reweighted evaluation sampled quality training phases comparison
# Another processor's arithmetic, on any x86: plain kernels in torch, in MKL and in the C library, and compiled code
# (kept in a folder of its own) without the newer instructions.
ARITHMETIC := ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE NUMBA_CPU_NAME=x86-64-v2 NUMBA_CPU_FEATURES= \
	GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F,-FMA4 NUMBA_CACHE_DIR=$(CURDIR)/_build/second

# The lowest versions that settings.ini allows, on the lowest Python, with the lock's tools for the tests. torch stays at the
# lock's too: an older one brings gigabytes of GPU libraries.
NEEDED := $(shell sed -nE 's/^((interactive|images|parquet|cluster|book)_)?requirements = //p' settings.ini)
LOWEST := $(filter-out torch==%,$(subst >=,==,$(NEEDED)))
LOWEST_PYTHON ?= python$(shell sed -n 's/^min_python = //p' settings.ini)
names = $(foreach package,$(subst >=,==,$(1)),$(firstword $(subst ==, ,$(package))))
TEST_TOOLS := $(shell grep -E '^(pytest|pytest-xdist|nbval|hypothesis|mpmath|PyYAML|setuptools|wheel)==' requirements-dev.lock)

# Tests of the repository, which need the tools of development, not of the package.
REPOSITORY := book structure reference package tools user_script accessibility formulas terms pdf

.DEFAULT_GOAL := help
.PHONY: help book pdf test second seeds oldest newest fuzz export run figures results lint types sync check bench mutants wheel lock clean
.DELETE_ON_ERROR:

help:
	@echo "make book     execute every chapter from scratch and build the book"
	@echo "make pdf      print the story, the chapters up to the larger machines, from the built book (with a Chromium make book does it, too)"
	@echo "make test     check package, style, types, book and every chapter"
	@echo "make second   the chapters that train and the tests that compute, in another processor's arithmetic"
	@echo "make seeds    every test that draws, with each of twenty seeds"
	@echo "make oldest   the tests with the oldest dependencies allowed, in an environment of their own (make newest: the newest)"
	@echo "make fuzz     public functions and file formats with many odd inputs (long)"
	@echo "make mutants  change the mathematics in one place at a time, and list what no test notices (under an hour)"
	@echo "make export   write helmholtz_mim/ from the notebooks"
	@echo "make run      execute the chapters in place (CHAPTERS=nbs/01_layers.ipynb for one)"
	@echo "make figures  draw every picture in images/ again"
	@echo "make results  every stored result of the small worlds from nothing (CHECK=1: compare only; PARTS=noise: some)"
	@echo "make lint, make types, make bench, make wheel, make lock, make clean"

# One environment for everything. torch goes first, alone and by exact version: an unpinned one brings gigabytes of GPU libraries.
$(READY): requirements-dev.lock settings.ini setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	@echo "Setting up .venv (minutes the first time, then never again)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -qq $(TORCH)
	$(BIN)/pip install -qq -r requirements-dev.lock
	$(BIN)/pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

# One thread per process: chapters run side by side, and sums come out in the same order everywhere.
book run test second seeds oldest fuzz mutants results: export OMP_NUM_THREADS := 1

book: $(READY)
	@rm -rf _build/source _build/book && mkdir -p _build/source && cp -r $(BOOK) _build/source
	@$(BIN)/python tools/execute.py _build/source/nbs; executed=$$?; \
	$(BIN)/jupyter-book build --quiet --path-output _build/book _build/source || exit; \
	echo "The book is ready: open _build/book/$(HTML)"; \
	[ $$executed = 0 ] || { echo "It is not all fresh:"; cat _build/failed.txt; }; \
	$(if $(CHROMIUM),$(BIN)/python tools/pdf.py || exit,echo "Without a PDF: printing one takes a Chromium from your system's package manager"); \
	exit $$executed

pdf: $(READY)
	@[ -f _build/book/$(HTML) ] || { echo "There is no book to print yet: run \`make book\`."; exit 1; }
	@$(BIN)/python tools/pdf.py

# Two at a time what needs one core each: the check of the book is the longest of them, so it is the first.
test: $(READY)
	@$(MAKE) --no-print-directory --jobs 2 check sync lint types
	$(BIN)/pytest --nbval nbs tests -n 2 --dist loadfile --no-loadscope-reorder

second: $(READY)
	$(ARITHMETIC) $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --nbval $(wildcard $(LIVE:%=nbs/%_*.ipynb)) $(NUMERICAL:%=tests/test_%.py)

seeds: $(READY)
	TEST_SEED=all $(BIN)/pytest tests -n 2 -m "seeded and not browser"

_build/oldest/ready: private PYTHON := $(LOWEST_PYTHON)
_build/oldest/ready: private VERSIONS := $(TORCH) $(LOWEST) $(TEST_TOOLS)
_build/newest/ready: private VERSIONS := $(call names,$(TORCH) $(NEEDED) $(TEST_TOOLS))

_build/%/ready: requirements-dev.lock settings.ini setup.py
	@rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install -qq $(firstword $(VERSIONS))
	$(@D)/bin/pip install -qq $(VERSIONS)
	$(@D)/bin/pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

# The first thing that breaks is enough to know of the newest versions.
newest: private FIRST := --exitfirst
oldest newest: %: _build/%/ready
	NUMBA_CACHE_DIR=$(CURDIR)/_build/$@/cache _build/$@/bin/pytest tests -n 2 --dist loadfile $(FIRST) -m "not browser" \
		$(REPOSITORY:%=--ignore=tests/test_%.py)

fuzz: $(READY)
	FUZZ=1 $(BIN)/pytest tests/test_fuzz*.py -n 2

# In a copy, with compiled code in a folder of its own. Of the changes of each function, those are tried whose number ends in
# one of these digits.
MUTANTS ?= 147
mutants: $(READY)
	@rm -rf _build/mutation && mkdir -p _build/mutation
	@cp -r helmholtz_mim tests pyproject.toml pytest.ini conftest.py nbval_sanitize.cfg _build/mutation
	@sed -i -E 's/^(def (allocate_by|update)_.*:)$$/\1  # pragma: no mutate block/' _build/mutation/helmholtz_mim/rule.py _build/mutation/helmholtz_mim/rules/*.py
	@cd _build/mutation && NUMBA_CACHE_DIR=$(CURDIR)/_build/mutation/compiled \
		../../$(BIN)/mutmut run --max-children 2 '*[$(MUTANTS)]' > mutmut.log || { tail mutmut.log; exit 1; }
	@$(BIN)/python tools/mutants.py _build/mutation _build/mutants.txt
	@echo "What was not noticed stands in _build/mutants.txt"

sync: $(READY)
	@rm -rf _build/export && mkdir -p _build/export && cp -r settings.ini nbs helmholtz_mim _build/export
	@grep -rli --include='*.py' '^# autogenerated' _build/export/helmholtz_mim | xargs -r rm
	@cd _build/export && ../../$(BIN)/nbdev_export
	@diff -ru -x __pycache__ helmholtz_mim _build/export/helmholtz_mim || \
		{ echo "helmholtz_mim/ differs from what the notebooks export: run \`make export\`."; exit 1; }

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

check: $(READY)
	@rm -rf _build/check
	$(BIN)/jupyter-book build --quiet -W --keep-going --path-output _build/check .

export: $(READY)
	$(BIN)/nbdev_export
	$(BIN)/python tools/clean_nbs.py

run: $(READY)
	$(BIN)/python tools/execute.py $(CHAPTERS)
	$(BIN)/python tools/clean_nbs.py

figures: $(READY)
	$(BIN)/helmholtz-mim figure all --out images --force

results: $(READY)
	@$(BIN)/python tools/results.py $(if $(CHECK),--check) $(PARTS)

bench: $(READY)
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

wheel: $(READY)
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

# Pin what is installed now; `+cpu` and the like name a machine, not a version.
lock: $(READY)
	$(BIN)/pip freeze --all --exclude-editable | sed -E '/^pip==/d; s/\+[a-z0-9.]+$$//' > requirements-dev.lock
	@touch $(READY)

clean:
	rm -rf _build build dist *.egg-info
