# The short way to everything. `make help` lists it.
PROFILE ?= quick
CORES   ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)
VENV    ?= .venv
BIN     := $(VENV)/bin
# The first Python that taco supports and that really starts (a version manager's shim may be there and not start).
PYTHON  ?= $(shell for p in python3.11 python3.12 python3 python; do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
export PYTHONUNBUFFERED := 1

.PHONY: help env reproduce unified sequences transfer all real atlas test test-long test-all bench campaign \
        chapters readme lint check lab hooks lock wheel book clean
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

# where real datasets lie, for a profile that wants to know it
given = $(if $(DATA),data=$(abspath $(DATA))) $(if $(CARDS),cards=$(abspath $(CARDS)))
# on this machine, or ON=slurm or ON=kubernetes: a step is a job there, see nbs/guides/many_machines.ipynb
where = $(if $(ON),--workflow-profile profiles/$(ON),--cores $(CORES) --rerun-incomplete --rerun-triggers params mtime)
# $(call run,TARGET): one target of the Snakefile for PROFILE, then its figures
define run
	@echo "── profile $(PROFILE), $(1): $$(sed -n 's/^description: *//p' profiles/$(PROFILE).yaml)"
	@$(BIN)/python -m tools.steps $(1) $(where) --config profile=$(PROFILE) $(given) --quiet host rules
	@$(BIN)/taco publish $(PROFILE)
endef

reproduce: env  ## train TaCo and draw its figures of PROFILE (quick: about 35 minutes on two cores)
	$(call run,taco)

unified: env  ## UMS-Rep: one representation, three tasks; figure 10 (quick: about 15 minutes on two cores)
	$(call run,unified)

sequences: env  ## self-supervision on slice sequences beside MoCo v2; figure 11 (quick: under 12 minutes on two cores)
	$(call run,sequences)

transfer: env  ## does the map predict transfer? figure 12 (quick: about 10 minutes on two cores, after make reproduce)
	$(call run,transfer)

all: env  ## every figure of PROFILE
	$(call run,all)

real: env  ## DATA=<folder of datasets with cards> [CARDS=<folder of cards>]: a trained run on real data it has never seen
	@test -n "$(DATA)" || { echo "Which data? make real DATA=<folder with one sub-folder per dataset> [CARDS=<folder of cards>]"; exit 1; }
	@test -f runs/$(PROFILE)/embed/done.json || { echo "This needs a trained run: make reproduce PROFILE=$(PROFILE)"; exit 1; }
	@$(BIN)/taco ask runs/$(PROFILE) $(abspath $(DATA)) $(if $(CARDS),--cards $(abspath $(CARDS)))
	@$(BIN)/taco publish ask

atlas: env  ## the map of a finished run as one interactive page, atlas.html
	@$(BIN)/taco atlas runs/$(PROFILE) -o atlas.html

test: env  ## run the tests that a change should pass (under 8 minutes on two cores)
	@echo "── tests, including every notebook (under 8 minutes on two cores)"
	@$(BIN)/python -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder -q --durations 8 -m "not long" tests

test-long: env  ## what takes long and seldom breaks: the whole smoke profile, campaigns of kills, faults and hostile commands (about 10 minutes on two cores, and twice that for the smoke profile through Slurm, where it can be had)
	@$(BIN)/python -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder -q --durations 8 -m long tests

test-all: test test-long  ## both

bench: env  ## measure speed (a quarter of an hour on two quiet cores); prints tables, writes benchmarks/latest.json
	@$(BIN)/python -m benchmarks.bench

campaign: env  ## kills, full disks, damage, doubles, a bad network, late clocks (35 minutes beside other work on two cores; goes on where it was stopped); writes benchmarks/campaign.csv
	@$(BIN)/python -m benchmarks.campaign

chapters: env  ## re-execute the tour, guides and chapters, so that their stored outputs are true
	@for n in $$(find nbs -name '*.ipynb' -not -path '*/experiments/*' -not -path '*/.*' | sort); do echo "── $$n"; \
	  $(BIN)/jupyter nbconvert --to notebook --execute --inplace --log-level ERROR $$n || exit 1; done
	@$(BIN)/python -m tools.lighten nbs
	@$(BIN)/nbdev_clean
	@$(MAKE) --no-print-directory readme

readme:  ## write README.md from nbs/index.ipynb
	@$(BIN)/python -m tools.readme

lint: env  ## ruff on code and notebooks, and the type check
	@$(BIN)/ruff check . && $(BIN)/ty check --python $(VENV) taco

check: lint  ## is everything generated in step with the notebooks, and lint
	@$(BIN)/nbdev_export && $(BIN)/nbdev_clean && $(BIN)/python -m tools.readme && git diff --exit-code --stat -- taco nbs README.md

lab: env  ## open JupyterLab
	@$(BIN)/jupyter lab nbs

hooks: env  ## on commit: clean notebooks, lint; merge notebooks cell by cell (for people who edit)
	@$(BIN)/nbdev_install_hooks
	@$(BIN)/pre-commit install

lock:  ## write requirements.lock anew from the ranges in settings.ini
	@$(PYTHON) tools/lock.py

$(VENV)-book/.ready: $(VENV)/.ready
	@$(BIN)/python -m venv $(VENV)-book
	@need="$$(sed -n 's/^book_requirements *= *//p' settings.ini)"; \
	  cd $(VENV)-book && bin/python -m pip install --quiet --disable-pip-version-check "$$need"
	@where='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	  $(BIN)/python -c "$$where" > "$$($(VENV)-book/bin/python -c "$$where")/taco.pth"
	@touch $@

book: $(VENV)-book/.ready  ## the notebooks as a site with a search, the atlas and all docstrings: book/_build/html/index.html
	@$(VENV)-book/bin/python -m tools.book

wheel: env  ## the package as one file in dist/, encoder included, to be installed anywhere with pip
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@rm -rf build && ls dist

clean:  ## remove runs and caches; figures and the environment stay
	rm -rf runs .snakemake .pytest_cache
