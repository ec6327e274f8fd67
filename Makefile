# `make` lists what there is. SOURCE chooses the source, DATA says where its files lie.
SOURCE ?= simulated
DATA ?=
PORT ?= 3000
RUN ?=
KEEP ?= 10
PYTHON ?= python3

# Every other name=value on the command line is a parameter of this run: `make run train.seed=1`.
# One that nobody knows is refused, with the nearest right name, before anything runs.
VARIABLES := SOURCE DATA PORT RUN STORE MONTH FILE TO WITHOUT_DATA REPLACE KEEP DRY THROUGH SINCE ONLY PYTHON PYTHONS
GIVEN := $(strip $(filter-out $(VARIABLES:%=%=%),$(foreach word,$(MAKEOVERRIDES),$(if $(findstring =,$(word)),$(word)))))
ifneq ($(and $(GIVEN),$(filter-out run build why month replay,$(MAKECMDGOALS))),)
$(error $(GIVEN): no such variable; there are $(VARIABLES), and for run, build, why, month and replay the parameters of env.yaml)
endif
# What only some targets take, the others refuse, and do not leave it out in silence.
TAKERS := DATA:run:month ONLY:run PORT:serve:ui:lab RUN:verify STORE:trace MONTH:trace FILE:trace:restore TO:backup \
	WITHOUT_DATA:backup REPLACE:restore KEEP:prune DRY:prune THROUGH:month:replay SINCE:replay
refuse = $(if $(and $(findstring command,$(origin $(1))),$($(1)),$(filter-out $(2),$(or $(MAKECMDGOALS),help))),\
	$(error $(1)=$($(1)) is taken by $(foreach target,$(2),`make $(target)`) only))
$(foreach taker,$(TAKERS),$(call refuse,$(firstword $(subst :, ,$(taker))),$(wordlist 2,9,$(subst :, ,$(taker)))))
CHANGED := $(foreach given,$(GIVEN),'$(given)')

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
PY := .venv/bin/python
ASK_VERSION := -c 'import platform; print(platform.python_version())' </dev/null 2>/dev/null
BREWCAST := env BREWCAST_ROOT= $(PY) -m brewcast.cli
ACTIVATE := set -- "$(SOURCE)"; . ./activate

##@ Use
.PHONY: help run build why month replay verify trace history compare backup restore prune publish summary page lab serve ui
help: ## What there is (this)
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' Makefile
	@echo; echo "  SOURCE=name (default simulated), DATA=folder: make run SOURCE=walmart DATA=../shared/data/walmart"

run: .venv/ready ## From a clone to a published forecast: environment, data, build, publish, summary (ONLY=train: that stage alone)
	@exec $(BREWCAST) run --source "$(SOURCE)" --data "$(DATA)" $(if $(ONLY),--only "$(ONLY)") $(CHANGED)

build: .venv/ready ## Run the stages that are stale
	@exec $(BREWCAST) build --source "$(SOURCE)" $(CHANGED)

why: .venv/ready ## Which stages are stale, and for which reasons
	@exec $(BREWCAST) why --source "$(SOURCE)" $(CHANGED)

month: .venv/ready ## The next month, from its sale lines to its release and alerts (THROUGH=2012-10: every month up to it); in cron: brewcast month
	@exec $(BREWCAST) month --source "$(SOURCE)" --data "$(DATA)" $(if $(THROUGH),--through "$(THROUGH)") $(CHANGED)

replay: .venv/ready ## A whole history month by month, nothing from the future, beside what serves (SINCE=, THROUGH=)
	@exec $(BREWCAST) replay --source "$(SOURCE)" $(if $(SINCE),--since "$(SINCE)") $(if $(THROUGH),--through "$(THROUGH)") $(CHANGED)

verify: .venv/ready ## Build a run (RUN=, default the last) again in a clean place, and compare every product
	@exec $(BREWCAST) verify $(RUN) --source "$(SOURCE)"

publish: .venv/ready ## Make what serves what the products ask for
	@exec $(BREWCAST) publish --source "$(SOURCE)"

trace: .venv/ready ## A forecast (STORE=, MONTH=) back to its sale lines, or a source file (FILE=) forward
	@exec $(BREWCAST) trace --source "$(SOURCE)" $(if $(FILE),--file "$(FILE)","$(STORE)" $(MONTH))

history: .venv/ready ## Every change of what serves
	@exec $(BREWCAST) history --source "$(SOURCE)"

compare: .venv/ready ## Champion and challenger on the months that came: better, worse or not yet
	@exec $(BREWCAST) compare --source "$(SOURCE)"

backup: .venv/ready ## State, its data and the code of its runs in one file (TO=path, WITHOUT_DATA=1)
	@exec $(BREWCAST) backup --source "$(SOURCE)" $(if $(TO),--to "$(TO)") $(if $(WITHOUT_DATA),--without-data)

restore: .venv/ready ## Put a backup in place: FILE=backups/..., REPLACE=1 moves a state that is there aside
	@exec $(BREWCAST) restore "$(FILE)" $(if $(REPLACE),--replace)

prune: .venv/ready ## Remove what nothing names, but for the newest KEEP=10 (DRY=1 only says what)
	@exec $(BREWCAST) prune --source "$(SOURCE)" --keep "$(KEEP)" $(if $(DRY),--dry-run)

summary: .venv/ready ## Half a screen on the last build
	@exec $(BREWCAST) summary --source "$(SOURCE)"

page: .venv/ready ## Open the month page
	@exec $(BREWCAST) open --source "$(SOURCE)"

lab: .venv/ready ## JupyterLab in the project, with each stage's parameters
	@exec $(BREWCAST) lab $(if $(filter file,$(origin SOURCE)),,--source "$(SOURCE)") $(if $(filter file,$(origin PORT)),,--port "$(PORT)")

serve: .venv/ready ## The forecast service on http://127.0.0.1:3000
	@$(ACTIVATE) && { test -e "state/$$SOURCE/ledger.db" || { echo "nothing is published for $$SOURCE: make run SOURCE=$$SOURCE" >&2; exit 1; } } \
		&& exec python -m brewcast.serving.app --port "$(PORT)"

ui: .venv/ready ## MLflow on http://127.0.0.1:5000 (PORT=5001), or over the database that MLFLOW_TRACKING_URI names
	@exec $(BREWCAST) ui --source "$(SOURCE)" $(if $(filter file,$(origin PORT)),,--port "$(PORT)")

##@ Develop
.PHONY: setup test test-pythons docs faults sabotage bench bench-serving bench-loop lint format export clean-notebooks lock clean
setup: .venv/ready ## The environment, from the hashed lock (done again when it changes)

test: .venv/ready ## All tests: notebooks in step and clean, their lessons, stages, journeys
	@. .venv/bin/activate && ruff check -q . && ruff format -q --check .
	@$(PY) docs/lessons.py
	@. .venv/bin/activate && python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

# Each Python has a clone and an environment of its own: one may be tried while another is being worked with.
PYTHONS ?= $(wildcard /usr/bin/python3.1[123] /usr/local/bin/python3.1[123] $(HOME)/.pyenv/versions/3.1[123].*/bin/python)
test-pythons: ## All tests of the last commit under each Python 3.11 to 3.13 that is found (PYTHONS="/path/to/python ...")
	@found=0; for python in $(PYTHONS); do \
		version=$$("$$python" $(ASK_VERSION)); test -n "$$version" || { echo "$$python: no Python"; continue; }; \
		place=scratch/pythons/$$version; echo "== Python $$version in $$place"; found=1; \
		rm -rf $$place && git clone -q . $$place && ln -sfn ../../../shared scratch/pythons/shared && \
		$(MAKE) -C $$place test PYTHON=$$python || exit 1; \
	done; test $$found = 1 || { echo "no Python 3.11 to 3.13 was found: PYTHONS=\"/path/to/python ...\" names some" >&2; exit 1; }

docs: .venv/ready ## The documentation site in _docs/, from the notebooks and the last build
	@BREWCAST_ROOT= $(PY) docs/build.py

faults: .venv/ready ## Kills in every stage, full disks, two builds at once: all of it (half an hour)
	@. .venv/bin/activate && BREWCAST_FAULTS=full python -m pytest -q -n 2 tests/test_faults.py

sabotage: .venv/ready ## Bring candidates that must be refused before the gate, one by one (a minute)
	@BREWCAST_ROOT= $(PY) bench/gate_red_team.py

bench: .venv/ready ## Builds beside papermill, nbconvert, Ploomber, Kedro and DVC
	@$(PY) bench/builds.py

bench-serving: .venv/ready ## The service beside BentoML, FastAPI and MLflow, then five minutes with promotions and rollbacks
	@$(PY) bench/serving.py --source "$(SOURCE)" && $(PY) bench/soak.py --source "$(SOURCE)" && $(PY) bench/online.py

bench-loop: .venv/ready ## False alarms and misses of the data checks, the drift chart, the gate and the intervals, on built sources
	@$(PY) bench/quality.py simulated --seeds 2 && $(PY) bench/drift.py && $(PY) bench/gate.py && $(PY) bench/baselines.py && $(PY) bench/intervals.py products/simulated

lint: .venv/ready ## Check style, and that imports point down only
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && .venv/bin/lint-imports --no-cache

format: .venv/ready ## Mend style, in notebooks too, and export them
	@$(PY) -m ruff check -q --fix . ; $(PY) -m ruff format . && $(BREWCAST) export

export: .venv/ready ## Modules from notebooks
	@exec $(BREWCAST) export

clean-notebooks: .venv/ready ## Outputs out of notebooks
	@$(BREWCAST) clean-notebooks && . .venv/bin/activate && nbdev_clean

lock: ## Resolve settings.ini's dependencies anew into requirements.lock
	@$(PY) -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-annotate --no-header --extra dev setup.py -o requirements.lock

clean: .venv/ready ## Remove this source's products, and scratch (never state)
	@exec $(BREWCAST) clean --source "$(SOURCE)"

# pip takes minutes for this lock, uv seconds: so pip installs only uv, at the lock's version and hash.
# Its programs hold the folder's path: where the project was moved, or another Python is asked for, it is made again.
OUTDATED := $(shell test -d .venv -a ! -L .venv && test "$$(cat .venv/root 2>/dev/null)" != "$(CURDIR)" && echo yes)
ifneq ($(origin PYTHON),file)
OUTDATED := $(or $(OUTDATED),$(shell test -d .venv -a ! -L .venv && test "$$("$(PYTHON)" $(ASK_VERSION))" != "$$($(PY) $(ASK_VERSION))" && echo yes))
endif
ifeq ($(OUTDATED),yes)
.PHONY: .venv/ready
endif
.venv/ready: requirements.lock settings.ini setup.py
	@test ! -L .venv || { echo ".venv is a link: run \`make setup\` where it leads" >&2; exit 1; }
	@case "$$(pwd -P)" in *[%?:{}\"\$$\`\\]*) echo "the project lies in $$(pwd -P), and not every tool can work below a folder with one of % ? : { } \" \$$ \` or \\ in its name: move or rename it" >&2; exit 1; esac
	@version=$$("$(PYTHON)" $(ASK_VERSION)); case "$$version" in 3.1[123].*) ;; *) \
		echo "$(PYTHON) is $$(test -n "$$version" && echo "Python $$version" || echo "no Python"), and Brewcast needs Python 3.11 to 3.13: make PYTHON=/path/to/python3.11" >&2; exit 1; esac
	@echo "setting up .venv from requirements.lock (about a minute)" >&2
	@$(if $(OUTDATED),rm -rf .venv)
	@test -x $(PY) || "$(PYTHON)" -m venv .venv
	@awk '/^uv==/{p=1} p{print} p&&!/\\$$/{exit}' requirements.lock > .venv/uv.txt
	@$(PY) -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.txt
	@cache=$$($(PY) -m uv cache dir); mkdir -p "$$cache" 2>/dev/null && test -w "$$cache" || export UV_NO_CACHE=1; \
		$(PY) -m uv pip sync -q --require-hashes --compile-bytecode requirements.lock -p $(PY) && \
		$(PY) -m uv pip install -q --no-deps --no-build-isolation -e . -p $(PY)
	@printf '%s' "$(CURDIR)" > .venv/root
	@touch $@
