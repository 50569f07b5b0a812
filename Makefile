# make report | test | run NB=03_distill ARCH=longformer | book | publish VERSION=1.0 | pdf | study | lint | clean
# Everything runs in .venv, which the first verb makes.

PYTHON ?= python3
BIN := .venv/bin
NB ?= 03_distill
ARCH ?= $(if $(filter 06_report,$(NB)),,longformer)
PROFILE ?= quick
# By the environment: a name with signs of the shell in it must not be run by it.
export VERSION
# Packages are installed without bytecode, and what is imported is compiled once. Where that may not
# be written, as many an image has it, each process compiles torch and transformers anew: 12 s more.
unexport PYTHONDONTWRITEBYTECODE
OUT ?= book/runs/$(NB)$(addprefix -,$(ARCH)).ipynb

.PHONY: report test run book publish pdf study lint clean
.DELETE_ON_ERROR:

report: .venv/ready  ## run the quick profile, print the headline table, build the book
	$(BIN)/python -m ctd_lib.study run --profile quick
	$(BIN)/python -m ctd_lib.report.drift --profile quick
	$(BIN)/python -m ctd_lib.book build

test: .venv/ready  ## the test suite, two files at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

run: .venv/ready  ## one notebook: NB=03_distill ARCH=longformer ARGS="-p distill_steps 3"
	mkdir -p artifacts $(dir $(OUT))
	$(BIN)/papermill notebooks/$(NB).ipynb artifacts/$(notdir $(OUT)) $(addprefix -p arch ,$(ARCH)) $(ARGS)
	mv artifacts/$(notdir $(OUT)) $(OUT)

book: .venv/ready  ## the pages from what 06_report last wrote; PROFILE=study for that profile
	$(BIN)/python -m ctd_lib.book build --profile $(PROFILE)

publish: .venv/ready  ## the book as a version that stays: VERSION=1.0, in site/1.0
	$(BIN)/python -m ctd_lib.book publish --profile $(PROFILE) --version "$$VERSION" $(ARGS)

pdf: .venv/ready  ## the book as one PDF, printed by the system's Chromium
	$(BIN)/python -m ctd_lib.book pdf --profile $(PROFILE) --version "$$VERSION"

study: .venv/ready  ## the long profile; may be stopped and started again
	$(BIN)/python -m ctd_lib.study run --profile study

lint: .venv/ready  ## ruff on code and notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:  ## remove what is generated; records of the study profile stay
	rm -rf _build book/runs book/generated artifacts results/quick

.venv/ready: pyproject.toml requirements/cpu.lock
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is %d.%d; name another by PYTHON=..." % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile -r requirements/cpu.lock
	$(BIN)/python -m pip install --quiet --no-deps -e .
	$(BIN)/python -m ctd_lib.data.packaged
	touch $@
