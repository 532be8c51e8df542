# The short way to everything. `make help` lists it.
PROFILE ?= quick
CORES   ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)
VENV    ?= .venv
BIN     := $(VENV)/bin
# The first Python that taco supports and that really starts (a version manager's shim may be there and not start).
PYTHON  ?= $(shell for p in python3.11 python3.12 python3 python; do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
export PYTHONUNBUFFERED := 1

.PHONY: help env reproduce unified sequences all real real-sequences unified-seeds sequences-seeds atlas test bench chapters readme check lab hooks lock clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

env: $(VENV)/.ready  ## make or update the environment in .venv

$(VENV)/.ready: requirements.lock settings.ini setup.py pyproject.toml
	@test -n "$(PYTHON)" || { echo "taco needs Python 3.11 or 3.12; install one, or call make PYTHON=/path/to/python"; exit 1; }
	@echo "── environment: $(VENV) with $$($(PYTHON) --version) (once; about 4 minutes and 3 GB, more where torch comes with CUDA)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

# $(call run,TARGET): one target of the Snakefile for PROFILE, then its figures
define run
	@echo "── profile $(PROFILE), $(1): $$(sed -n 's/^description: *//p' profiles/$(PROFILE).yaml)"
	@$(BIN)/python -m snakemake $(1) --cores $(CORES) --config profile=$(PROFILE) --quiet host rules --nolock --rerun-incomplete --rerun-triggers params input mtime
	@$(BIN)/taco publish $(PROFILE)
endef

reproduce: env  ## train TaCo and draw its figures of PROFILE (quick: about 25 minutes on two cores)
	$(call run,taco)

unified: env  ## UMS-Rep: one representation, three tasks; figure 10 (quick: under 10 minutes on two cores)
	$(call run,unified)

sequences: env  ## self-supervision on slice sequences beside MoCo v2; figure 11 (quick: under 12 minutes on two cores)
	$(call run,sequences)

unified-seeds: env  ## twelve further seeds of one modality and one strategy of UMS-Rep, three choices of few labels each (about 25 minutes on two cores)
	@$(BIN)/taco run ums_rep --profile $(PROFILE) -p folder=runs/$(PROFILE)_seeds/ums_rep -p modalities='{breast ultrasound: [busi, malignant]}' -p subjects=1800 -p strategies='[full]' -p curves='[joint, full]' -p equal=False -p counts='[10, 25]' -p sets='[3]' -p seeds='[20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31]'
	@$(BIN)/taco publish $(PROFILE)_seeds

sequences-seeds: env  ## eight further seeds of three arms with one labelled volume, for narrower intervals (about 10 minutes on two cores)
	@$(BIN)/taco run sequence_ssl --profile $(PROFILE) -p folder=runs/$(PROFILE)_seeds/sequence_ssl -p arms='[scratch, moco, all]' -p labelled='[1]' -p labelled_sets='[3]' -p seeds='[10, 11, 12, 13, 14, 15, 16, 17]'
	@$(BIN)/taco publish $(PROFILE)_seeds

all: env  ## every figure of PROFILE
	$(call run,all)

real: env  ## DATA=<folder of datasets with cards> [CARDS=<folder of cards>]: a trained run on real data it has never seen
	@test -n "$(DATA)" || { echo "Which data? make real DATA=<folder with one sub-folder per dataset> [CARDS=<folder of cards>]"; exit 1; }
	@test -f runs/$(PROFILE)/embed/done.json || { echo "This needs a trained run: make reproduce PROFILE=$(PROFILE)"; exit 1; }
	@$(BIN)/taco run real --profile $(PROFILE) -p folder=runs/real/real -p data=$(abspath $(DATA)) $(if $(CARDS),-p cards=$(abspath $(CARDS))) -p per_cell=8 -p draws=1000
	@$(BIN)/taco publish real

real-sequences: env  ## DATA=<folder of datasets> CARDS=<folder of cards> [REAL=name,name]: figure 11 on small real volumes
	@test -n "$(DATA)" -a -n "$(CARDS)" || { echo "Which data? make real-sequences DATA=<folder with one sub-folder per dataset> CARDS=<folder of cards>"; exit 1; }
	@$(BIN)/taco run sequence_ssl --profile $(PROFILE) -p folder=runs/real/sequence_ssl -p domain_data=none -p data=$(abspath $(DATA)) -p cards=$(abspath $(CARDS)) $(if $(REAL),-p real='[$(REAL)]') \
	  -p arms='[scratch, moco, all-encoder, all]' -p labelled='[1]' -p labelled_sets='[1]' -p pretrain_steps=200
	@$(BIN)/taco publish real

atlas: env  ## the map of a finished run as one interactive page, atlas.html
	@$(BIN)/taco atlas runs/$(PROFILE) -o atlas.html

test: env  ## run all tests (about 10 minutes on two cores)
	@echo "── tests, including every notebook and the smoke profile (about 10 minutes on two cores)"
	@$(BIN)/python -m pytest -n $(CORES) --dist loadfile -q --durations 8 tests

bench: env  ## measure speed; prints a table and writes benchmarks/latest.json
	@$(BIN)/python -m benchmarks.bench

chapters: env  ## re-execute the tour and all chapters, so that their stored outputs are true
	@for n in nbs/index.ipynb nbs/0*.ipynb nbs/data/*.ipynb nbs/tasks/*.ipynb nbs/learning/*.ipynb nbs/atlas/*.ipynb nbs/transfer/*.ipynb; do echo "── $$n"; \
	  $(BIN)/jupyter nbconvert --to notebook --execute --inplace --log-level ERROR $$n || exit 1; done
	@$(BIN)/nbdev_clean
	@$(MAKE) --no-print-directory readme

readme:  ## write README.md from nbs/index.ipynb
	@$(BIN)/python -m tools.readme

check: env  ## is everything generated in step with the notebooks?
	@$(BIN)/nbdev_export && $(BIN)/nbdev_clean && $(BIN)/python -m tools.readme && git diff --exit-code --stat -- taco nbs README.md

lab: env  ## open JupyterLab
	@$(BIN)/jupyter lab nbs

hooks: env  ## clean notebooks on commit and merge them cell by cell (for people who edit)
	@$(BIN)/nbdev_install_hooks

lock:  ## write requirements.lock anew from the ranges in settings.ini
	@$(PYTHON) tools/lock.py

clean:  ## remove runs and caches; figures and the environment stay
	rm -rf runs .snakemake .pytest_cache
