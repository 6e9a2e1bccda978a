# `make help` lists what there is to do. What a target needs, tools/setup.sh installs first.
SHELL = /bin/bash
export PYTHON ?= python3
export PATH := $(PATH):/usr/sbin:/sbin# runc, ip, nft: not in an ordinary user's PATH on Debian
.NOTPARALLEL:
.PHONY: help run demo picture test test-v2 test-labs test-images vm lint diff doctor lab grade hint pull bench book clean

RUNTIME ?= python -m my_runtime# of a lab: what starts it

STEPS := $(patsubst %/__main__.py,%,$(sort $(wildcard step[0-9][0-9]_*/__main__.py)))
ifdef STEP
  NN := $(if $(filter 1 2 3 4 5 6 7 8 9,$(STEP)),0)$(STEP)
  CHOSEN := $(filter step$(NN)_%,$(STEPS))
  $(if $(CHOSEN),,$(error there is no step $(STEP) here yet; there are: $(STEPS)))
else
  CHOSEN := $(lastword $(STEPS))
endif

# At the end of what people run with sudo, however it went: nothing here that the owner of the folder cannot remove.
GIVE_BACK = ; code=$$?; tools/setup.sh give-back; exit $$code

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'STEP=03 picks a step for run, test, diff and bench. As root, or with sudo, the tests that need root run too.'

run: ## a shell in a container of the newest step (with no terminal: a short tour)
	@tools/setup.sh run
	@tools/tour.sh $(CHOSEN)$(GIVE_BACK)

demo: ## what the last step can do, in two minutes: detach, exec, a volume, a web server, commit, and nothing left
	@tools/setup.sh run
	@tools/demo.sh$(GIVE_BACK)

picture: ## draw what the demo prints, for README, and a container's timeline, for chapter 1: tools/*.svg
	@tools/setup.sh run
	@.venv/bin/python tools/picture.py$(GIVE_BACK)

test: ## install what the suite needs, then run it; ARGS='-k name -x' goes to pytest
	@tools/setup.sh test
	@.venv/bin/python -m pytest $(if $(STEP),--step $(NN)) $(ARGS)$(GIVE_BACK)

test-v2: ## step 2's tests (or STEP's) and a look at every step under cgroup v2 alone, in a small virtual machine
	@tools/setup.sh v2
	@.venv/bin/python tests/vm/machine.py --timeout 1200 --env MYDOCKER_TEST_SLOWNESS=5 \
		.venv/bin/python -m pytest -n 2 -m v2 $(if $(STEP),--step $(NN) --every-step,--first-step) -k 'not podman' \
		--timeout 500 $$(grep -rl --include='test_*.py' mark.v2 tests) $(ARGS)

test-labs: ## every proof of the labs: what each starter, each half and each attack earns; an hour
	@tools/setup.sh v2
	@MYDOCKER_TEST_LABS=all .venv/bin/python -m pytest --timeout 3000 tests/tools/test_lab_*.py $(ARGS)$(GIVE_BACK)

test-images: ## nginx, redis, PostgreSQL, Python: real images, built by Podman, used by their own clients; three minutes, as root
	@tools/setup.sh images
	@MYDOCKER_TEST_IMAGES=all .venv/bin/python -m pytest -n 2 --every-step tests/step09/test_real_images.py $(ARGS)$(GIVE_BACK)

vm: ## a shell as root in a small virtual machine with this folder in it: what you do there is gone when you leave
	@tools/setup.sh vm
	@.venv/bin/python tests/vm/machine.py --kvm --timeout 86400 $(if $(ARGS),$(ARGS),-t bash)$(GIVE_BACK)

lint: ## ruff, mypy --strict, shellcheck, and that the chain of steps is whole
	@tools/setup.sh lint
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy $(STEPS) tests tools
	@if command -v shellcheck >/dev/null; then set -x; shellcheck tools/*.sh tools/labs/templates/setup.sh .ci/run; fi
	.venv/bin/python tools/chain.py check

diff: ## make diff STEP=03: what chapter 3 changes
	@$(if $(STEP),,echo 'which chapter? For example: make diff STEP=03' >&2; exit 2)
	@$(PYTHON) tools/chain.py diff $(NN)

lab: ## your own starter: make lab STEP=04 [DIR=~/my-runtime] [LEVEL=open]
	@$(if $(STEP),,echo 'which step? For example: make lab STEP=04' >&2; exit 2)
	@tools/setup.sh run
	@.venv/bin/python tools/lab.py new $(NN) $(if $(DIR),--dir '$(DIR)') $(if $(LEVEL),--level '$(LEVEL)')

grade: ## what a runtime has earned: make grade STEP=04 DIR=~/my-runtime [RUNTIME=./mydocker]
	@$(if $(STEP),,echo 'which step? For example: make grade STEP=04 DIR=~/my-runtime' >&2; exit 2)
	@tools/setup.sh $(if $(SANDBOX),v2,test)
	@.venv/bin/python tools/lab.py grade $(NN:0%=%) --runtime '$(RUNTIME)' $(if $(DIR),--dir '$(DIR)') \
		$(if $(JSON),--json '$(JSON)') $(if $(JUNIT),--junit '$(JUNIT)') $(if $(SANDBOX),--sandbox $(SANDBOX)) \
		$(if $(WATCH),--watch)$(GIVE_BACK)

hint: ## the next hint for a task: make hint STEP=04 TASK=removed DIR=~/my-runtime
	@$(if $(and $(STEP),$(TASK)),,echo 'for what? For example: make hint STEP=04 TASK=removed' >&2; exit 2)
	@tools/setup.sh test
	@.venv/bin/python tools/lab.py hint $(NN:0%=%) --task $(TASK) $(if $(RUNTIME),--runtime '$(RUNTIME)') \
		$(if $(DIR),--dir '$(DIR)')$(GIVE_BACK)

pull: ## an image from a registry: make pull IMAGE=alpine:3.22 [REGISTRY=mirror.example] [STEP=06]
	@$(if $(IMAGE),,echo 'which image? For example: make pull IMAGE=alpine:3.22' >&2; exit 2)
	@tools/setup.sh pull
	@.venv/bin/python tools/pull.py '$(IMAGE)' $(if $(REGISTRY),--registry '$(REGISTRY)') $(if $(STEP),--step $(NN)) \
		$(ARGS)$(GIVE_BACK)

bench: ## how fast start-up and import are, beside unshare, runc, Podman and tar; ARGS=--quick for a glance
	@tools/setup.sh run
	@.venv/bin/python tools/bench.py $(if $(STEP),--step $(NN)) $(ARGS)$(GIVE_BACK)

book: ## one website of all chapters, English and Chinese, to read without the Internet: .cache/book/html/index.html
	@tools/setup.sh book
	@.venv/bin/python tools/book.py$(GIVE_BACK)

doctor: ## what this machine can do: which of the nine steps run here, and what to do about those that do not
	@$(PYTHON) tools/labs/doctor.py

clean: ## what the commands above have put into this folder (README.md tells where containers live)
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
