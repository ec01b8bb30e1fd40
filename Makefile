# CloudMatch on one machine. Settings are environment variables CLOUDMATCH_…; see deploy/SETTINGS.md.

EDGES ?= 1
WORKERS ?= 1
LEGACY_PORTS ?=
KEYS ?=
FAULTS ?= 100
PAIRS ?= 20
RATE ?= 3000
DIALECT ?= v1
FRAMES ?= 200000
KILLS ?= 50
OUTAGE ?= 60
ROUNDS ?= 5
APP ?=
DEVICE ?=
ARGS ?=
WHAT ?= peers
ENV ?= local
SERVICE ?=
TAG ?= local
CONTAINERS ?= docker

BIN := .venv/bin
KUBECTL := $(BIN)/kubectl
ROOMS := nats edge match-engine journal bridge-rabbit analytics
SERVICES := $(filter-out nats,$(ROOMS))
SOURCES := $(ROOMS:%=%/src) edge/clients/python/src deploy/local
LOCAL := exec env PYTHONPATH=deploy/local $(BIN)/python -m
DENO := DENO_DIR='$(CURDIR)/.run/deno' DENO_NO_UPDATE_CHECK=1 $(BIN)/deno

# What `make bench WHAT=…` measures, and the module of tests/bench that does.
BENCHES := peers:compare relay:relay hops:hops facts:facts pairing:pairing crowd:crowd attack:attack
BENCH = $(patsubst $(WHAT):%,%,$(filter $(WHAT):%,$(BENCHES)))

# Lest `make undeploy SERVICE=$$UNSET` removes everything.
ifeq ($(origin SERVICE)$(strip $(SERVICE)),command line)
$(error SERVICE is empty: name a service, or leave it out)
endif

.DEFAULT_GOAL := help
.PHONY: help setup up trace queues clean pristine test test-all check lint format coverage \
  test-faults test-pairing-faults test-kills test-fuzz test-kafka test-roll-out bench bench-quick \
  settings screenshots recording images image-check manifests deploy undeploy

help: ## Show this list
	@awk -F ':.*## ' '/^##@ / {print "\n" substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-19s %s\n", $$1, $$2}' \
	  $(MAKEFILE_LIST)

##@ Run

setup: ## Install everything that is needed; quick if nothing has changed
	@sh deploy/local/setup.sh

up: setup ## Run everything on this machine until Ctrl-C [EDGES=1] [WORKERS=1] [LEGACY_PORTS=1: 80, 81, 85, too] [KEYS=0: an open bus]
	@$(if $(KEYS),export CLOUDMATCH_LOCAL_KEYS='$(KEYS)';) $(LOCAL) cloudmatch_local.up --edges '$(EDGES)' --workers '$(WORKERS)' --legacy-ports '$(LEGACY_PORTS)'

trace: setup ## Show the messages on the bus, or a device's [DEVICE=a] [APP=demo]
	@exec $(BIN)/cloudmatch-trace $(if $(APP),--app '$(APP)') $(DEVICE)

queues: setup ## Show the queues of the local RabbitMQ, their messages and consumers
	@$(LOCAL) cloudmatch_local.rabbitmq list_queues name messages consumers

clean: ## Remove the data of `make up` and all caches
	@! [ -e .run/lock ] || flock -n .run/lock true || { echo "make up is running: stop it first" >&2; exit 1; }
	rm -rf .run .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

pristine: clean ## Remove the virtual environment as well
	rm -rf .venv

##@ Test

test: ## Run all tests against real servers, on three workers [ARGS='-k device -x']
	@sh deploy/local/setup.sh tests
	@$(BIN)/pytest -n auto $(ARGS)

test-all: ## The same, including tests of the bench and the harness that have not changed
	@sh deploy/local/setup.sh tests
	@$(BIN)/pytest -n auto --all $(ARGS)

check: lint ## Lint, then run the unit tests, which need no server
	$(BIN)/pytest -q tests/unit

lint: setup ## Check format, style, types, imports and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)
	PYTHONPATH=deploy/local $(BIN)/lint-imports
	$(BIN)/codespell
	$(DENO) fmt --check
	$(DENO) check --quiet .

format: setup ## Format all Python and JavaScript files
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(DENO) fmt

coverage: setup ## Measure the branch coverage of each pure module by its own tests [ARGS='edge audit']
	@$(BIN)/python tests/coverage_by_module.py $(ARGS)

##@ Long tests

test-faults: setup ## Break a whole stack while devices exchange payloads [SEED=…] [FAULTS=100] [PAIRS=20] [RATE=3000] [DIALECT=v1]
	@exec env PYTHONPATH=tests:deploy/local $(BIN)/python -m faults --faults '$(FAULTS)' --pairs '$(PAIRS)' \
	  --rate '$(RATE)' --dialect '$(DIALECT)' $(if $(SEED),--seed '$(SEED)') $(ARGS)

test-pairing-faults: setup ## Kill workers and NATS leaders while devices arrive in bursts [ARGS='--seeds 20 --devices 2000']
	@PYTHONPATH=tests:deploy/local $(BIN)/python -m faults.pairing_main $(ARGS)

test-kills: setup ## Kill journal and bridge under load, then stop RabbitMQ for a while [KILLS=50] [OUTAGE=60] [SEED=…]
	@$(BIN)/pytest -s tests/integration/test_kills.py --kills '$(KILLS)' --outage '$(OUTAGE)' \
	  $(if $(SEED),--kill-seed '$(SEED)') $(ARGS)

test-fuzz: setup ## Fuzz an edge with malformed frames [FRAMES=200000] [SEED=…]
	@$(BIN)/pytest -s tests/integration/test_fuzz.py --frames '$(FRAMES)' $(if $(SEED),--fuzz-seed '$(SEED)') $(ARGS)

test-kafka: setup ## Run the analytics tests on a real Kafka; needs Java and Maven [ARGS='-k two_share']
	@mvn -q -B -f tests/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory='$(CURDIR)/.run/kafka'
	@$(BIN)/pytest --kafka tests/integration/test_analytics.py tests/integration/test_analytics_faults.py tests/e2e $(ARGS)

test-roll-out: setup ## Roll out every pod of `production` while devices exchange payloads [ROUNDS=5]
	@$(BIN)/pytest -s tests/deploy/test_roll_out.py --rounds '$(ROUNDS)' $(ARGS)

##@ Measure

bench: setup ## Measure CloudMatch [WHAT=peers|relay|hops|facts|pairing|crowd|attack] [ARGS='--quick'; ARGS=--help explains]
	@$(if $(BENCH),,$(error WHAT=$(WHAT): expected peers, relay, hops, facts, pairing, crowd or attack))\
	PYTHONPATH=tests:deploy/local $(BIN)/python -m bench.$(BENCH) $(ARGS)

bench-quick: setup ## Compare with those peers that are installed, roughly, in two minutes [ARGS='cloudmatch nats']
	@PYTHONPATH=tests:deploy/local $(BIN)/python -m bench.compare --quick $(ARGS)

##@ Document

screenshots: setup ## Take the screenshots of the READMEs: the page and the live chart; needs Chromium
	@CI=1 $(BIN)/pytest -q tests/integration/test_analytics_page.py \
	  tests/integration/test_dev_client.py::test_the_story_of_2019_works_by_clicks_and_shows_in_journal_chart_and_counters
	@cp .run/screenshots/story-light.webp .run/screenshots/story-dark.webp edge/dev-client/screenshots/
	@cp .run/screenshots/chart-light.webp .run/screenshots/chart-dark.webp analytics/screenshots/

recording: setup ## Record docs/session.svg: `make up` and two devices; needs tmux and the default ports
	@PYTHONPATH=tests $(BIN)/python -m pictures.record

##@ Deploy

settings: setup ## Write deploy/SETTINGS.md, the table of all settings
	@$(LOCAL) cloudmatch_local.settings_page

images: ## Build the images of the five services, or of one [SERVICE=edge] [TAG=local] [CONTAINERS=docker]
	@$(if $(filter-out $(SERVICES),$(SERVICE)),$(error SERVICE=$(SERVICE): expected one of $(SERVICES)))\
	for each in $(or $(SERVICE),$(SERVICES)); do \
	  $(CONTAINERS) build -f deploy/Dockerfile --build-arg SERVICE=$$each -t cloudmatch/$$each:$(TAG) . || exit 1; done

image-check: setup ## Install and start each service as its image would, without containers
	@$(BIN)/pytest -q tests/deploy/test_images.py --images $(ARGS)

manifests: setup ## Render every Kubernetes environment into .run/manifests and test it
	@mkdir -p .run/manifests
	@for each in deploy/kustomize/overlays/* deploy/kustomize/scenarios/*; do \
	  $(KUBECTL) kustomize $$each >.run/manifests/$$(basename $$each).yaml || exit 1; done
	@$(BIN)/pytest -q tests/deploy $(ARGS)

deploy: setup ## Apply an environment, or one service of it, to the current cluster of kubectl and wait [ENV=local] [SERVICE=edge]
ifeq ($(SERVICE),)
	@$(KUBECTL) apply -k deploy/kustomize/overlays/$(ENV)
	@$(KUBECTL) -n cloudmatch$(if $(filter-out production,$(ENV)),-$(ENV)) rollout status \
	  deployments,statefulsets -l app.kubernetes.io/part-of=cloudmatch --timeout=10m
else
	@$(LOCAL) cloudmatch_local.one_service deploy '$(ENV)' '$(SERVICE)' --kubectl '$(KUBECTL)'
endif

undeploy: setup ## Remove an environment, volumes included, or one service but its volumes [ENV=local] [SERVICE=edge]
ifeq ($(SERVICE),)
	@$(KUBECTL) delete -k deploy/kustomize/overlays/$(ENV)
else
	@$(LOCAL) cloudmatch_local.one_service undeploy '$(ENV)' '$(SERVICE)' --kubectl '$(KUBECTL)'
endif
