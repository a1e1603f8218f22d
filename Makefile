# The one entry point of people, README, CI and workflows: each target is a line over a Python command.

PYTHON ?= python3.11
export VOLUMES ?= volumes
RUNNER ?= subprocess
RUN = .venv/bin/python -m
PARALLEL = --numprocesses=auto --maxprocesses=4 --dist=loadfile
START_subprocess = serving start
START_docker = pipeline serve

.DEFAULT_GOAL = help
.PHONY: help install run serve predict rollback versions images image push login compare compile doctor submit schedule unschedule status test test-slow test-docker test-all lint fix lock pin bench

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

install: .venv/.installed  ## make .venv and install the locked dependencies

.venv/.installed: requirements.txt steps/torch.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps -r steps/torch.txt
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps -r requirements.txt
	touch $@

run: install  ## run the pipeline here: make run [VOLUMES=folder] [RUNNER=docker]
	@$(RUN) pipeline run --runner $(RUNNER)

serve: install  ## serve the model that the pointer names: make serve [VOLUMES=folder] [RUNNER=docker]
	@$(RUN) $(or $(START_$(RUNNER)),pipeline run --runner $(RUNNER))  # which refuses an unknown one

predict: install  ## ask the server about an image: make predict IMAGE=samples/7.png
	@$(RUN) serving predict '$(IMAGE)'

rollback: install  ## serve an earlier version: make rollback [VERSION=the one before]
	@$(RUN) steps.deploy rollback $(if $(VERSION),--version '$(VERSION)')

versions: install  ## list the versions, and when each was current: make versions [REBUILD=1, the files from the journal]
	@$(RUN) steps.deploy versions $(if $(REBUILD),--rebuild)

images: install  ## build the images that Docker lacks here
	@$(RUN) pipeline images

image: install  ## build one of them: make image STEP=train
	@$(RUN) pipeline images $(STEP)

push: install  ## push the images that the registry lacks: make push [STEP=train]
	@$(RUN) pipeline push $(STEP)

login: install  ## log Docker in to the registry, as REGISTRY_USER with REGISTRY_PASSWORD, if they are set
	@$(RUN) pipeline login

compare: install  ## this model beside another revision's: make compare BASE=origin/master
	@$(RUN) pipeline compare --base '$(BASE)'

compile: install  ## write the package for Kubeflow, pipeline.yaml
	@$(RUN) pipeline compile

doctor: install  ## check what the first push needs
	@$(RUN) pipeline doctor

submit: install  ## run the pipeline on Kubeflow and wait: make submit, with KFP_HOST and KFP_TOKEN set
	@$(RUN) pipeline submit --wait

schedule: install  ## let it run there again and again: make schedule CRON='0 3 * * *'
	@$(RUN) pipeline schedule --cron '$(CRON)'

unschedule: install  ## end that
	@$(RUN) pipeline unschedule

status: install  ## the last runs there, with their verdicts
	@$(RUN) pipeline status

test: install  ## the tests that take seconds, two minutes in all
	@$(RUN) pytest $(PARALLEL) -m "not slow and not docker"

test-slow: install  ## those that take minutes and no Docker
	@$(RUN) pytest $(PARALLEL) -m "slow and not docker" --durations=5

test-docker: install  ## those that need the Docker engine
	@$(RUN) pytest -m docker --durations=5

test-all: test test-slow test-docker  ## every test

lint: install  ## what pre-commit checks, changing nothing
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy

fix: install  ## mend what can be mended by itself
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .

lock: install  ## resolve every requirements.in anew into its lock
	@$(RUN) pipeline lock

pin: install  ## write the images of this revision into infra/torchserve
	@$(RUN) pipeline pin

bench: install  ## measure what the README says
	@$(RUN) benchmarks
