# `make` lists all targets. SOURCE is the source to work on, DATA the folder or file of its data.
SOURCE ?= simulated
DATA ?=
PORT ?= 3000
RUN ?=
BASE ?=
KEEP ?= 10
PYTHON ?= python3

# Every other name=value on the command line overrides a parameter for this run: `make run train.seed=1`.
# An unknown name is refused before anything runs; the error suggests the most similar name.
VARIABLES := SOURCE DATA PORT RUN BASE STORE MONTH FILE TO WITHOUT_DATA REPLACE KEEP DRY THROUGH SINCE ONLY PYTHON PYTHONS
OVERRIDES := $(strip $(filter-out $(VARIABLES:%=%=%),$(foreach word,$(MAKEOVERRIDES),$(if $(findstring =,$(word)),$(word)))))
ifneq ($(and $(OVERRIDES),$(filter-out run build why month replay,$(MAKECMDGOALS))),)
$(error $(OVERRIDES): no such variable; the variables are $(VARIABLES); run, build, why, month and replay also take the parameters of env.yaml)
endif
# Some variables are for some targets only: variable:target:target. Other targets refuse them instead of ignoring them.
USED_BY := DATA:run:month:init-source ONLY:run PORT:serve:ui:lab RUN:verify BASE:image:image-stage STORE:trace MONTH:trace FILE:trace:restore TO:backup \
	WITHOUT_DATA:backup REPLACE:restore KEEP:prune DRY:prune THROUGH:month:replay SINCE:replay
refuse = $(if $(and $(findstring command,$(origin $(1))),$($(1)),$(filter-out $(2),$(or $(MAKECMDGOALS),help))),\
	$(error $(1)=$($(1)) is only for $(foreach target,$(2),`make $(target)`)))
$(foreach use,$(USED_BY),$(call refuse,$(firstword $(subst :, ,$(use))),$(wordlist 2,9,$(subst :, ,$(use)))))
QUOTED_OVERRIDES := $(foreach override,$(OVERRIDES),'$(override)')

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
PY := .venv/bin/python
PRINT_VERSION := -c 'import platform; print(platform.python_version())' </dev/null 2>/dev/null
BREWCAST := env BREWCAST_ROOT= $(PY) -m brewcast.cli
ACTIVATE := set -- "$(SOURCE)"; . ./activate

##@ Use
.PHONY: help run build init-source why month replay verify trace history compare backup restore prune publish summary page lab serve ui
help: ## List all targets (this list)
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' Makefile
	@echo; echo "  SOURCE=name (default simulated), DATA=folder: make run SOURCE=walmart DATA=../shared/data/walmart"

run: .venv/ready ## From a clone to a published forecast: environment, data, build, publish, summary (ONLY=train: only this stage)
	@exec $(BREWCAST) run --source "$(SOURCE)" --data "$(DATA)" $(if $(ONLY),--only "$(ONLY)") $(QUOTED_OVERRIDES)

build: .venv/ready ## Run the stages that are stale
	@exec $(BREWCAST) build --source "$(SOURCE)" $(QUOTED_OVERRIDES)

init-source: .venv/ready ## Describe a new source from its files: make init-source DATA=folder (SOURCE=name, default the folder's name)
	@test -n "$(DATA)" || { echo "init-source: DATA=folder is missing: the folder of the new source's files" >&2; exit 2; }
	@exec $(BREWCAST) init-source "$(DATA)" $(if $(findstring command,$(origin SOURCE)),--name "$(SOURCE)")

why: .venv/ready ## Which stages are stale, and for which reasons
	@exec $(BREWCAST) why --source "$(SOURCE)" $(QUOTED_OVERRIDES)

month: .venv/ready ## Process the next month, from its sale lines to its release and alerts (THROUGH=2012-10: all months up to it); in cron: brewcast month
	@exec $(BREWCAST) month --source "$(SOURCE)" --data "$(DATA)" $(if $(THROUGH),--through "$(THROUGH)") $(QUOTED_OVERRIDES)

replay: .venv/ready ## Process a whole history month by month, without data from the future, separate from production (SINCE=, THROUGH=)
	@exec $(BREWCAST) replay --source "$(SOURCE)" $(if $(SINCE),--since "$(SINCE)") $(if $(THROUGH),--through "$(THROUGH)") $(QUOTED_OVERRIDES)

verify: .venv/ready ## Rebuild a run (RUN=, default the last) in a clean folder and compare every product
	@exec $(BREWCAST) verify $(RUN) --source "$(SOURCE)"

publish: .venv/ready ## Bring production in line with the products of the last build
	@exec $(BREWCAST) publish --source "$(SOURCE)"

trace: .venv/ready ## Trace a forecast (STORE=, MONTH=) back to its sale lines, or a source file (FILE=) forward
	@exec $(BREWCAST) trace --source "$(SOURCE)" $(if $(FILE),--file "$(FILE)","$(STORE)" $(MONTH))

history: .venv/ready ## List all changes in production
	@exec $(BREWCAST) history --source "$(SOURCE)"

compare: .venv/ready ## Compare champion and challenger on the months since: better, worse or not decided yet
	@exec $(BREWCAST) compare --source "$(SOURCE)"

backup: .venv/ready ## Save the state, its data and the code of its runs in one file (TO=path, WITHOUT_DATA=1)
	@exec $(BREWCAST) backup --source "$(SOURCE)" $(if $(TO),--to "$(TO)") $(if $(WITHOUT_DATA),--without-data)

restore: .venv/ready ## Restore a backup: FILE=backups/...; REPLACE=1 renames an existing state and replaces it
	@exec $(BREWCAST) restore "$(FILE)" $(if $(REPLACE),--replace)

prune: .venv/ready ## Delete old files that nothing refers to, except the newest KEEP=10 of each kind (DRY=1 only lists them)
	@exec $(BREWCAST) prune --source "$(SOURCE)" --keep "$(KEEP)" $(if $(DRY),--dry-run)

summary: .venv/ready ## Summary of the last build, half a screen
	@exec $(BREWCAST) summary --source "$(SOURCE)"

page: .venv/ready ## Open the month page
	@exec $(BREWCAST) open --source "$(SOURCE)"

lab: .venv/ready ## JupyterLab in the project, with the parameters of the last build; opens on a page with its results
	@exec $(BREWCAST) lab $(if $(filter file,$(origin SOURCE)),,--source "$(SOURCE)") $(if $(filter file,$(origin PORT)),,--port "$(PORT)")

serve: .venv/ready ## The forecast service on http://127.0.0.1:3000
	@$(ACTIVATE) && { test -e "state/$$SOURCE/ledger.db" || { echo "nothing is published for $$SOURCE: make run SOURCE=$$SOURCE" >&2; exit 1; } } \
		&& exec python -m brewcast.serving.app --port "$(PORT)"

ui: .venv/ready ## MLflow on http://127.0.0.1:5000 (PORT=5001), for the source's runs or the database that MLFLOW_TRACKING_URI names
	@exec $(BREWCAST) ui --source "$(SOURCE)" $(if $(filter file,$(origin PORT)),,--port "$(PORT)")

##@ Deploy
.PHONY: image image-stage sbom
image: .venv/ready ## Build the image of the service with the release that is served (BASE=image: on another base)
	@exec $(BREWCAST) deploy image --source "$(SOURCE)" $(if $(BASE),--base "$(BASE)")

image-stage: .venv/ready ## Build the image that runs any stage, and the monthly step (BASE=image: on another base)
	@exec $(BREWCAST) deploy image-stage $(if $(BASE),--base "$(BASE)")

sbom: .venv-checks/ready ## Write the list of contents of each built image, with licences, beside its archive in scratch/images/
	@exec $(BREWCAST) deploy sbom

##@ Develop
.PHONY: setup test test-deploy test-deploy-quick test-programs image-programs test-pythons docs screenshots faults sabotage bench bench-serving bench-loop lint format export clean-notebooks check-notebooks compile compile-kubeflow render lock lock-checks clean
setup: .venv/ready ## Install the Python environment from the hashed lock (again after each change of the lock)

test: .venv/ready ## All tests: style, exported modules, clean notebooks, lessons, stages, whole journeys
	@. .venv/bin/activate && ruff check -q . && ruff format -q --check .
	@$(PY) docs/lessons.py
	@. .venv/bin/activate && python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

test-deploy: .venv-checks/ready .venv-kubeflow/ready .venv-airflow/ready ## All checks of deploy/: linters, models, images, planted mistakes; writes deploy/checked.json (needs image-programs)
	@rm -rf scratch/deploy
	@$(PY) -m pytest -q tests/deploy && PYTHONPATH=.:tests $(PY) tests/deploy/record.py

test-deploy-quick: .venv-checks/quick .venv-kubeflow/ready ## The quick ones: compiled files, chart, schemas, planted mistakes, toy pipelines (CI calls it)
	@$(PY) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder tests/deploy/test_quick*.py

test-programs: ## Install the Debian programs that the tests use, where they are missing (as root, or by sudo)
	@.ci/programs tests

image-programs: ## Install the Debian programs that build and run images, where they are missing (as root, or by sudo)
	@.ci/programs images

# Each Python version gets its own clone and its own environment, so your own environment stays as it is.
PYTHONS ?= $(wildcard /usr/bin/python3.1[123] /usr/local/bin/python3.1[123] $(HOME)/.pyenv/versions/3.1[123].*/bin/python)
test-pythons: ## All tests of the last commit with each Python 3.11 to 3.13 on this machine (PYTHONS="/path/to/python ...")
	@found=0; for python in $(PYTHONS); do \
		version=$$("$$python" $(PRINT_VERSION)); test -n "$$version" || { echo "$$python: not a Python"; continue; }; \
		folder=scratch/pythons/$$version; echo "== Python $$version in $$folder"; found=1; \
		rm -rf $$folder && git clone -q . $$folder && ln -sfn ../../../shared scratch/pythons/shared && \
		$(MAKE) -C $$folder test PYTHON=$$python || exit 1; \
	done; test $$found = 1 || { echo "no Python 3.11 to 3.13 was found: name some with PYTHONS=\"/path/to/python ...\"" >&2; exit 1; }

docs: .venv/ready ## The documentation site in _docs/, from the notebooks and the last build
	@BREWCAST_ROOT= $(PY) docs/build.py

screenshots: .venv/ready ## Take README's screenshots again, from the last build (needs Chromium); commit them
	@BREWCAST_ROOT= $(PY) docs/screenshots.py

faults: .venv/ready ## All fault tests: kills in every stage, full disks, two builds at once (half an hour)
	@. .venv/bin/activate && BREWCAST_FAULTS=full python -m pytest -q -n 2 tests/test_faults.py

sabotage: .venv/ready ## Red team: offer bad candidates to the gate one by one; it must refuse each (a minute)
	@BREWCAST_ROOT= $(PY) bench/gate_red_team.py

bench: .venv/ready ## Compare build times with papermill, nbconvert, Ploomber, Kedro and DVC
	@$(PY) bench/builds.py

bench-serving: .venv/ready ## Compare the service with BentoML, FastAPI and MLflow, then five minutes with promotions and rollbacks
	@$(PY) bench/serving.py --source "$(SOURCE)" && $(PY) bench/soak.py --source "$(SOURCE)" && $(PY) bench/online.py

bench-loop: .venv/ready ## Measure false alarms and misses of data checks, drift chart, gate and intervals, on built sources
	@$(PY) bench/quality.py simulated --seeds 2 && $(PY) bench/drift.py && $(PY) bench/gate.py && $(PY) bench/baselines.py && $(PY) bench/intervals.py products/simulated

lint: .venv/ready ## Check style and the import rules between packages
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && .venv/bin/lint-imports --no-cache

format: .venv/ready ## Fix style, also in notebooks, and export the modules
	@$(PY) -m ruff check -q --fix . ; $(PY) -m ruff format . && $(BREWCAST) export

export: .venv/ready ## Export the modules of all notebooks
	@exec $(BREWCAST) export

clean-notebooks: .venv/ready ## Remove outputs from all notebooks
	@$(BREWCAST) clean-notebooks && . .venv/bin/activate && nbdev_clean

# NOTEBOOKS lists notebooks and modules; their hashes before and after tell what was out of step.
NOTEBOOKS = find nbs brewcast -name .ipynb_checkpoints -prune -o '(' -name '*.ipynb' -o -name '*.py' ')' -print | LC_ALL=C sort
check-notebooks: .venv/ready ## Fail where a module is not in step with its notebook, or a notebook has outputs (and correct it)
	@mkdir -p scratch && $(NOTEBOOKS) | xargs sha256sum > scratch/.notebooks.sha256
	@$(MAKE) export clean-notebooks
	@sha256sum --quiet -c scratch/.notebooks.sha256 && test "$$($(NOTEBOOKS) | wc -l)" = "$$(wc -l < scratch/.notebooks.sha256)" || \
		{ echo "notebooks or modules were out of step, and are now corrected: look at them with git diff, and commit them" >&2; exit 1; }

compile: .venv/ready ## Compile the files under deploy/ that the DAG, the Bento, env.yaml and the lock already say
	@exec $(BREWCAST) deploy compile

compile-kubeflow: .venv-kubeflow/ready ## Compile the pipeline for Kubeflow and Vertex AI into deploy/kubeflow/ (kfp has an environment of its own)
	@exec $(BREWCAST) deploy kubeflow

render: compile .venv-checks/quick ## Render the Helm chart with its example values into deploy/rendered/
	@exec $(BREWCAST) deploy render

lock: ## Resolve the dependencies in settings.ini again and write requirements.lock
	@$(PY) -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-annotate --no-header --extra dev setup.py -o requirements.lock

lock-checks: ## Resolve the tools of deploy/checks/ again and write their locks
	@cd deploy/checks && compile() { ../../$(PY) -m uv pip compile -q --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-annotate --no-header "$$@"; } && \
		compile quick.in -o quick.lock && compile --no-deps helm.in -o helm.lock && \
		compile -c quick.lock all.in -o all.lock && compile checkov.in -o checkov.lock && compile kubeflow.in -o kubeflow.lock && \
		compile airflow.in -o airflow.lock
	@cd deploy/checks && npm install --silent --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts

clean: .venv/ready ## Delete the products of this source, cache/ and scratch/ (never the state)
	@exec $(BREWCAST) clean --source "$(SOURCE)"

# The tools that check a deployment have an environment of their own: no other target needs it.
CHECKS := deploy/checks/install deploy/checks/helm.lock
.venv-checks/quick: $(CHECKS) deploy/checks/quick.lock | .venv/ready
	@deploy/checks/install quick
.venv-checks/ready: $(CHECKS) $(addprefix deploy/checks/,quick.lock all.lock checkov.lock package-lock.json) | .venv/ready
	@deploy/checks/install all
# kfp and Airflow need other versions of libraries than Brewcast.
.venv-kubeflow/ready: deploy/checks/install deploy/checks/kubeflow.lock | .venv/ready
	@deploy/checks/install kubeflow
.venv-airflow/ready: deploy/checks/install deploy/checks/airflow.lock | .venv/ready
	@deploy/checks/install airflow

# pip needs minutes for this lock, uv seconds: so pip installs only uv, with the version and hash in the lock.
# The programs in .venv contain the path of the project: .venv is rebuilt if the project has moved or PYTHON is another.
OUTDATED := $(shell test -d .venv -a ! -L .venv && test "$$(cat .venv/root 2>/dev/null)" != "$(CURDIR)" && echo yes)
ifneq ($(origin PYTHON),file)
OUTDATED := $(or $(OUTDATED),$(shell test -d .venv -a ! -L .venv && test "$$("$(PYTHON)" $(PRINT_VERSION))" != "$$($(PY) $(PRINT_VERSION))" && echo yes))
endif
ifeq ($(OUTDATED),yes)
.PHONY: .venv/ready
endif
.venv/ready: requirements.lock settings.ini setup.py
	@test ! -L .venv || { echo ".venv is a link: run \`make setup\` in the project that it points to" >&2; exit 1; }
	@case "$$(pwd -P)" in *[%?:{}\"\$$\`\\]*) echo "the project is in $$(pwd -P), but some tools cannot use a path with % ? : { } \" \$$ \` or \\: move or rename it" >&2; exit 1; esac
	@version=$$("$(PYTHON)" $(PRINT_VERSION)); case "$$version" in 3.1[123].*) ;; *) \
		echo "$(PYTHON) is $$(test -n "$$version" && echo "Python $$version" || echo "not a Python"), but Brewcast needs Python 3.11 to 3.13: make PYTHON=/path/to/python3.11" >&2; exit 1; esac
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
