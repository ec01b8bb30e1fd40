# CloudMatch on one machine. Settings are environment variables CLOUDMATCH_…; a wrong one is named at start.

EDGES ?= 1
WORKERS ?= 1
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
ENV ?= local
TAG ?= local
CONTAINERS ?= docker

BIN := .venv/bin
ROOMS := nats edge match-engine journal bridge-rabbit analytics
SOURCES := $(ROOMS:%=%/src) edge/clients/python/src deploy/local
LOCAL := exec env PYTHONPATH=deploy/local $(BIN)/python -m
DENO := DENO_DIR='$(CURDIR)/.run/deno' DENO_NO_UPDATE_CHECK=1 $(BIN)/deno

.DEFAULT_GOAL := help
.PHONY: help setup setup-tests up test test-roll-out test-faults test-fuzz test-pairing-faults test-kills test-kafka lint check coverage format bench bench-quick bench-relay bench-hops bench-pairing bench-facts trace queues manifests images image-check deploy undeploy clean pristine

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install all that is needed; quick when nothing changed
	@sh deploy/local/setup.sh

setup-tests: ## The same, and what only tests need
	@sh deploy/local/setup.sh tests

up: setup ## Run everything here until Ctrl-C [EDGES=1] [WORKERS=1]
	@$(LOCAL) cloudmatch_local.up --edges '$(EDGES)' --workers '$(WORKERS)'

test: setup-tests ## Run all tests, with real servers, side by side [ARGS='-k device -x']
	@$(BIN)/pytest -n auto $(ARGS)

test-faults: setup ## Break a whole stack while devices talk [SEED=…] [FAULTS=100] [PAIRS=20] [RATE=3000] [DIALECT=v1]
	@exec env PYTHONPATH=tests:deploy/local $(BIN)/python -m faults --faults '$(FAULTS)' --pairs '$(PAIRS)' \
	  --rate '$(RATE)' --dialect '$(DIALECT)' $(if $(SEED),--seed '$(SEED)') $(ARGS)

test-kills: setup ## Kill journal and bridge under load, stop RabbitMQ for long [KILLS=50] [OUTAGE=60] [SEED=…]
	@$(BIN)/pytest -s tests/integration/test_kills.py --kills '$(KILLS)' --outage '$(OUTAGE)' \
	  $(if $(SEED),--kill-seed '$(SEED)') $(ARGS)

test-fuzz: setup ## Let an edge hear nonsense [FRAMES=200000] [SEED=…]
	@$(BIN)/pytest -s tests/integration/test_fuzz.py --frames '$(FRAMES)' $(if $(SEED),--fuzz-seed '$(SEED)') $(ARGS)

test-kafka: setup ## Run the tests of analytics on a real Kafka; needs Java and Maven [ARGS='-k two_share']
	@mvn -q -B -f tests/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory='$(CURDIR)/.run/kafka'
	@$(BIN)/pytest --kafka tests/integration/test_analytics.py tests/integration/test_analytics_faults.py tests/e2e $(ARGS)

test-pairing-faults: setup ## Kill workers and NATS leaders while devices arrive in bursts [ARGS='--seeds 20 --devices 2000']
	@PYTHONPATH=tests:deploy/local $(BIN)/python -m faults.pairing_main $(ARGS)

lint: setup ## Run linters and type checks, of code, imports and words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)
	PYTHONPATH=deploy/local $(BIN)/lint-imports
	$(BIN)/codespell
	$(DENO) fmt --check
	$(DENO) check --quiet .

check: lint ## The same, and the tests that need no server
	$(BIN)/pytest -q tests/unit

coverage: setup ## Branch coverage of the pure packages, each module by its own tests [ARGS='edge journal/audit']
	@$(BIN)/python tests/coverage_by_module.py $(ARGS)

format: setup ## Format all Python and JavaScript files
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(DENO) fmt

bench: setup ## Measure CloudMatch against its peers, a quarter of an hour; installs them [ARGS='--report FILE']
	@PYTHONPATH=tests:deploy/local $(BIN)/python -m bench.compare $(ARGS)

bench-quick: setup ## The same in two minutes, rougher, with those peers that are installed [ARGS='cloudmatch nats']
	@PYTHONPATH=tests:deploy/local $(BIN)/python -m bench.compare --quick $(ARGS)

bench-relay: setup ## Measure the relay; needs a C compiler [ARGS='--quick']
	@PYTHONPATH=tests:deploy/local $(BIN)/python -m bench.relay $(ARGS)

bench-hops: setup ## Measure the edges' and the worker's own code, without sockets [ARGS='--size 1024']
	@PYTHONPATH=tests:deploy/local $(BIN)/python -m bench.hops $(ARGS)

bench-facts: setup ## Measure journal, bridge and analytics [ARGS='--quick journal']
	@PYTHONPATH=tests:deploy/local $(BIN)/python -m bench.facts $(ARGS)

bench-pairing: setup ## Measure how long it takes to be paired [ARGS='--quick']
	@PYTHONPATH=tests:deploy/local $(BIN)/python -m bench.pairing $(ARGS)

trace: setup ## Show what is said on the bus [DEVICE=a] [APP=demo]
	@exec $(BIN)/cloudmatch-trace $(if $(APP),--app '$(APP)') $(DEVICE)

queues: setup ## Show the queues of the local RabbitMQ, their messages and consumers
	@$(LOCAL) cloudmatch_local.rabbitmq list_queues name messages consumers

manifests: setup ## Render every Kubernetes environment into .run/manifests, and hold them to the rules
	@mkdir -p .run/manifests
	@for each in deploy/kustomize/overlays/* deploy/kustomize/scenarios/*; do \
	  $(BIN)/kubectl kustomize $$each >.run/manifests/$$(basename $$each).yaml || exit 1; done
	@$(BIN)/pytest -q tests/deploy $(ARGS)

test-roll-out: setup ## Replace every pod of the environment production in turn while devices talk [ROUNDS=5]
	@$(BIN)/pytest -s tests/deploy/test_roll_out.py --rounds '$(ROUNDS)' $(ARGS)

images: ## Build the five images [TAG=local] [CONTAINERS=docker]
	@for each in $(filter-out nats,$(ROOMS)); do \
	  $(CONTAINERS) build -f deploy/Dockerfile --build-arg SERVICE=$$each -t cloudmatch/$$each:$(TAG) . || exit 1; done

image-check: setup ## Install each service as its image does, start it from there, ask its probes
	@$(BIN)/pytest -q tests/deploy/test_images.py --images $(ARGS)

deploy: setup ## Apply an environment to the cluster that kubectl points to, and wait [ENV=local]
	@$(BIN)/kubectl apply -k deploy/kustomize/overlays/$(ENV)
	@$(BIN)/kubectl -n cloudmatch$(if $(filter-out production,$(ENV)),-$(ENV)) rollout status \
	  deployments,statefulsets -l app.kubernetes.io/part-of=cloudmatch --timeout=10m

undeploy: setup ## Remove it again, volumes and all [ENV=local]
	@$(BIN)/kubectl delete -k deploy/kustomize/overlays/$(ENV)

clean: ## Remove the data of `make up` and all caches
	@! [ -e .run/lock ] || flock -n .run/lock true || { echo "make up is running: stop it first" >&2; exit 1; }
	rm -rf .run .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

pristine: clean ## Remove the virtual environment, too
	rm -rf .venv
