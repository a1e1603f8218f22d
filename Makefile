# The commands of this project, for people and for CI. Each target runs one Python command.

export PYTHON TORCH
export VOLUMES ?= volumes
unexport PYTHONHOME PYTHONPATH PYTHONSAFEPATH
RUNNER ?= subprocess
RUN = .venv/bin/python -m
PARALLEL = --numprocesses=auto --maxprocesses=4 --dist=worksteal
# Any Python starts the installation, which finds the one to install with.
PYTHONS = python3.13 python3.12 python3.11 ~/.local/bin/python3.13 ~/.local/bin/python3.12 ~/.local/bin/python3.11
NEED = Python 3.11 to 3.13 is needed: on Debian and Ubuntu, apt install python3 python3-venv; on macOS, brew install python@3.13; anywhere, uv python install 3.13 (https://docs.astral.sh/uv)
# To what makes images, TORCH is about them and not about .venv.
HERE = $(if $(filter docker,$(RUNNER)),,$$TORCH)
images image push compile submit schedule pin doctor: HERE =

.DEFAULT_GOAL = help
.PHONY: help install run splits tune curve runs diff drift notify-new-data watch serve collected forget review predict rollback versions gc images image push missing login compare compile doctor submit schedule unschedule status test coverage test-slow test-docker test-cluster test-all lint fix lock pin bench

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

install:  ## install into .venv: make install [PYTHON=python3.12] [TORCH=cpu or cuda]
	@for python in .venv/bin/python python3 $(PYTHONS) "$$PYTHON" python; do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 6))' 2>/dev/null \
	        && exec "$$python" -m install --python="$$PYTHON" --torch="$(HERE)"; \
	done; echo "there is no Python here that runs; $(NEED)" >&2; exit 2

run: install  ## run the pipeline here: make run [IMAGES=folder] [VOLUMES=folder] [RUNNER=docker]
	@$(RUN) pipeline run --runner $(RUNNER) $(if $(IMAGES),--images '$(IMAGES)')

splits: install  ## show how the images are split, and why: make splits [VOLUMES=folder]
	@$(RUN) pipeline splits

tune: install  ## search for better parameters: make tune [TRIALS=20] [MINUTES=30]
	@$(RUN) pipeline tune $(if $(TRIALS),--trials '$(TRIALS)') $(if $(MINUTES),--minutes '$(MINUTES)')

curve: install  ## train on 25, 50 and 75 % of the images: would more help? make curve [VOLUMES=folder]
	@$(RUN) pipeline curve

runs: install  ## list the runs, and what changed from one to the next: make runs [VOLUMES=folder] [HTML=file]
	@$(RUN) pipeline runs $(if $(HTML),--html '$(HTML)')

diff: install  ## show two runs side by side, by default the last two: make diff [A=run] [B=run] [HTML=file]
	@$(RUN) pipeline diff $(if $(A),--a '$(A)') $(if $(B),--b '$(B)') $(if $(HTML),--html '$(HTML)')

drift: install  ## tell whether what is served has changed: make drift [VOLUMES=folder] [HTML=file] [METRICS=address]
	@$(RUN) pipeline drift $(if $(METRICS),--metrics '$(METRICS)') $(if $(HTML),--html '$(HTML)')

notify-new-data: install  ## tell GitHub that there are new data, so that ct.yml runs: make notify-new-data [REASON=text]
	@$(RUN) pipeline notify-new-data $(if $(REASON),--reason '$(REASON)')

watch: install  ## run the pipeline here whenever the data change: make watch [SECONDS=60] [VOLUMES=folder]
	@$(RUN) pipeline watch $(if $(SECONDS),--seconds '$(SECONDS)')

serve: install  ## serve the deployed model: make serve [VOLUMES=folder] [RUNNER=docker]
	@$(RUN) pipeline serve --runner $(RUNNER)

collected: install  ## show how many images of clients are kept, and why: make collected [VOLUMES=folder]
	@$(RUN) serving collected

forget: install  ## remove images of clients: make forget REQUEST=id, or BEFORE=date [VOLUMES=folder]
	@$(RUN) serving forget $(if $(REQUEST),--request '$(REQUEST)') $(if $(BEFORE),--before '$(BEFORE)')

review: install  ## label what was collected, on a page on loopback: make review [VOLUMES=folder] [PORT=8090]
	@$(RUN) pipeline review $(if $(PORT),--port '$(PORT)')

predict: install  ## classify an image: make predict IMAGE=samples/7.png
	@$(RUN) serving predict '$(IMAGE)'

rollback: install  ## serve an earlier version: make rollback [VERSION=version]; by default the previous one
	@$(RUN) steps.deploy rollback $(if $(VERSION),--version '$(VERSION)')

versions: install  ## list the versions, and when each was served: make versions [REBUILD=1]
	@$(RUN) steps.deploy versions $(if $(REBUILD),--rebuild)

gc: install  ## show what nothing on the volumes needs any more, or delete it: make gc [YES=1] [VOLUMES=folder]
	@$(RUN) pipeline gc $(if $(filter 1,$(YES)),--yes)

images: install  ## build the images that are missing here
	@$(RUN) pipeline images

image: install  ## build one image: make image STEP=train
	@$(RUN) pipeline images $(STEP)

push: install  ## push the images that are missing in the registry: make push [STEP=train]
	@$(RUN) pipeline push $(STEP)

# The few packages that asking a registry needs, without torch.
.venv-images/done: pipeline/images/requirements.txt
	@python3 -m venv --clear .venv-images
	@.venv-images/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --requirement $<
	@touch $@

missing: .venv-images/done  ## print the images that the registry lacks, as JSON, for CI; needs no make install
	@.venv-images/bin/python -m pipeline login >&2
	@.venv-images/bin/python -m pipeline missing

login: install  ## log in to the registry, if REGISTRY_USER and REGISTRY_PASSWORD are set
	@$(RUN) pipeline login

compare: install  ## compare the model with that of another revision: make compare BASE=origin/master
	@$(RUN) pipeline compare --base '$(BASE)'

compile: install  ## compile the pipeline for Kubeflow, to pipeline.yaml
	@$(RUN) pipeline compile

doctor: install  ## check the settings, the registry and Kubeflow before the first push
	@$(RUN) pipeline doctor

submit: install  ## run the pipeline on Kubeflow and wait; needs KFP_HOST and KFP_TOKEN
	@$(RUN) pipeline submit --wait

schedule: install  ## run the pipeline on Kubeflow at set times: make schedule CRON='0 3 * * *'
	@$(RUN) pipeline schedule --cron '$(CRON)'

unschedule: install  ## remove the schedule: make unschedule [NOW=1, which stops a run of it that is in progress]
	@$(RUN) pipeline unschedule $(if $(NOW),--now)

status: install  ## list the last runs on Kubeflow, with their verdicts
	@$(RUN) pipeline status

test: install  ## run the fast tests, two minutes in all
	@$(RUN) pytest $(PARALLEL) -m "not slow and not docker"

coverage: install  ## run the fast tests and list the lines that they leave out; fails below the floor in pyproject.toml
	@$(RUN) pytest $(PARALLEL) -m "not slow and not docker" --cov --cov-report=term

test-slow: install  ## run the tests that take minutes, without Docker
	@$(RUN) pytest --numprocesses=3 --dist=worksteal -m "slow and not docker" --durations=5

test-docker: install  ## run the tests that need Docker
	@$(RUN) pytest -m docker --durations=5

test-cluster: install  ## run the tests that need a throw-away cluster with Kubeflow (docs/kubeflow.md)
	@$(RUN) pytest -m cluster --exitfirst tests/cluster

test-all: test test-slow test-docker  ## run every test

lint: install  ## check style, types and imports; changes nothing
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@.venv/bin/lint-imports --no-logo --no-cache

fix: install  ## correct style where that can be done automatically
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .

lock: install  ## resolve each requirements.in into its requirements.txt
	@$(RUN) pipeline lock

pin: install  ## write the tags of this revision's images into infra/
	@$(RUN) pipeline pin

bench: install  ## measure the figures of benchmarks/README.md
	@$(RUN) benchmarks
