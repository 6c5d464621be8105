# One way to run anything. `make help` lists what there is.

# Values come into shell commands, so what is typed must be plain before anything else is read; $(value ...) expands nothing.
override PLAIN := a b c d e f g h i j k l m n o p q r s t u v w x y z A B C D E F G H I J K L M N O P Q R S T U V W X Y Z 0 1 2 3 4 5 6 7 8 9 _ . -
# a text without the characters of a list
override without = $(if $2,$(call without,$(subst $(firstword $2),,$1),$(wordlist 2,99,$2)),$1)
override define newline


endef
# lines and tabs part the words of a list too, but end a command
override tab    := $()	$()
override lines   = $(subst $(newline),;,$(subst $(tab),;,$1))
override typed   = $(or $(findstring command line,$(origin $1)),$(findstring environment,$(origin $1)))
# $(call check,variables,characters beside the plain ones): refuse values with others; spaces part the values of a list
override check   = $(foreach v,$1,$(if $(call typed,$v),$(if $(strip $(call without,$(call lines,$(value $v)),$(PLAIN) $2)),$(error \
	$v is not plain: letters, digits and the characters _ . - $2 are what it may have))))
override one     = $(foreach v,$1,$(if $(word 2,$(value $v)),$(error $v is one value, without spaces)))
override LISTS  := $(filter SWEEP_% FAMILIES_% KNOB_% LABELS_% ROWS_% ENCODER_% SIMULATOR_%,$(.VARIABLES))
override OTHERS := $(foreach v,$(filter-out MAKE% -%,$(.VARIABLES)),$(if $(findstring command line,$(origin $v)),$v))
$(call check,SETTING STEPS JOBS SEEDS LABELS LEVELS FAMILIES SYSTEMS MATCHED)
$(call one,SETTING STEPS JOBS NATURAL)
$(call check,ROWS SERIES_ROWS NATURAL PYTHON BIN $(LISTS) $(OTHERS),: @ / =)

SETTING ?= demo
SEEDS   ?= 0
# Rows made side by side: a core each on a machine without a GPU, one at a time with one.
JOBS    ?= $(if $(wildcard /dev/nvidia0),1,$(shell env -u OMP_NUM_THREADS nproc))
PYTHON  ?= python3
BIN     := .venv/bin

# a world of a series, such as texture-4, is trained on by the series' setting
series   = $(firstword $(subst -, ,$1))
SERIES   = $(call series,$(SETTING))
SETTINGS = $(patsubst experiments/%.yaml,%,$(shell grep -lE '^ +shards:' experiments/*.yaml))
ifeq ($(wildcard experiments/$(SETTING).yaml experiments/$(SERIES).yaml runs/$(SETTING)),)
$(error No setting $(SETTING): there is no experiments/$(SETTING).yaml. There are: $(SETTINGS))
endif

include experiments/sweeps.mk
# a setting and those that its file extends, one after the other
base     = $(shell sed -nE 's/^extends: *([A-Za-z0-9_-]+)\.yaml *(\#.*)?$$/\1/p' experiments/$1.yaml 2>/dev/null)
chain    = $1 $(foreach b,$(filter-out $1 $2,$(call base,$1)),$(call chain,$b,$1 $2))
CHAIN   := $(call chain,$(SETTING)) $(call chain,$(SERIES))
# what a setting has of a kind: that of the first of the chain that names any, else what all have
own       = $(or $(firstword $(foreach s,$(CHAIN),$(and $($1_$s),$1_$s))),$1)
FAMILIES := $($(call own,FAMILIES))
ALL      = $(foreach f,$(FAMILIES) $(if $(LABELS),actions),$(if $(KNOB_$(f)),$(addprefix $(f):$(KNOB_$(f))@,$($(call own,SWEEP_$f))),$(f)))
ROWS   ?= $(if $(MATCHED),none identity $(TRAINED),$(ALL))
# budgets of labeled clips for controllers and plans; a setting that names none has no such columns
LABELS ?= $(or $(LABELS_$(SETTING)),$(LABELS_$(SERIES)))
# optimizer steps of a row, where they are to be others than the setting's
FEWER    = $(if $(STEPS),--trainer.max_steps=$(STEPS))
# make by another name: lines with its own are run by make -n, and these train
AGAIN    = $(MAKE) --no-print-directory
# a command that was stopped, or whose settings were refused, ends what it is part of
STOPPED  = case $$failed in 2|130|143) exit $$failed;; esac

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint lock locked audit format table matched systems texture distractors policy transfer data-quality mixing report results figures tensorboard clean
.DELETE_ON_ERROR:
# encoders are kept, though what is asked for is made of them
.SECONDARY:

help:  ## list the targets
	@grep -hE '^[a-z -]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

setup: .venv/.installed  ## make .venv with everything that is needed

.venv/.simulators: .venv/.installed
	$(BIN)/pip install -q -c constraints.txt -e '.[dev,sim]'
	@touch $@

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup  ## from nothing to a table of all bottlenecks, in minutes on two cores
	@$(MAKE) --no-print-directory table SETTING=demo SEEDS="$(SEEDS)"
	@echo "Look at predictions and curves:  make tensorboard   (tensorboard --logdir runs)"

# worlds of the benchmark; another setting's shards come from data_prep by hand
shards/%/index.json: experiments/worlds/%.yaml | .venv/.installed
	$(BIN)/data_prep world $(@D) --config $<
	@touch $@

# episodes of simulators, of which some need no packages
define record
	$(BIN)/data_prep sim $(or $(SIMULATOR_$(call series,$(notdir $(@D)))),$(notdir $(@D))) $(@D) --config $<
	@touch $@
endef
shards/%/index.json: experiments/simulators/%.yaml | .venv/.simulators
	$(record)
$(PLAIN_SIMULATORS:%=shards/%/index.json): shards/%/index.json: experiments/simulators/%.yaml | .venv/.installed
	$(record)

# states of an encoder that is trained first, on the same video without labels: shards/pusht-keypoints of shards/pusht
define states
runs/encoder/%-$1/seed0/encoder.safetensors: | .venv/.installed shards/%/index.json
	$$(BIN)/lam encoder fit --config experiments/$1.yaml --data.shards shards/$$* --name encoder/$$*-$1 $$(or $$(ENCODER_$$*-$1),$$(ENCODER_$$(call series,$$*)-$1))
shards/%-$1/index.json: runs/encoder/%-$1/seed0/encoder.safetensors
	$$(BIN)/data_prep features shards/$$* $$(@D) --encoder experiments/encoders/$1.yaml --encoder.path $$(<D)
	@touch $$@
endef
ENCODERS := autoencoder keypoints joint
$(foreach kind,$(ENCODERS),$(eval $(call states,$(kind))))
READS     = $(firstword $(foreach s,$(CHAIN),$(shell sed -nE 's/^ +shards: *(shards\/[A-Za-z0-9._-]+) *(\#.*)?$$/\1/p' experiments/$s.yaml 2>/dev/null)))
STATES    = $(if $(filter $(addprefix %-,$(ENCODERS)),$(READS)),$(READS)/index.json)

SIMULATED = $(wildcard experiments/simulators/$(SETTING).yaml)
MADE      = $(wildcard experiments/worlds/$(SETTING).yaml) $(SIMULATED)

table: setup $(if $(filter-out $(PLAIN_SIMULATORS),$(basename $(notdir $(SIMULATED)))),.venv/.simulators) $(if $(strip $(MADE)),shards/$(SETTING)/index.json) $(STATES)  ## SETTING=demo SEEDS="0 1 2" STEPS=: make every row that is missing or stale, its controllers and plans, then the report
	@$(BIN)/lam sweep $(SETTING) $(ROWS) --seeds $(SEEDS) --jobs $(JOBS) $(FEWER); failed=$$?; $(STOPPED); \
	$(if $(LABELS),$(BIN)/lam control sweep $(SETTING) $(ROWS) --labels $(LABELS) --seeds $(SEEDS) --jobs $(JOBS) || failed=$$?; $(STOPPED);) \
	$(if $(SIMULATED),$(BIN)/lam control oracle runs/$(SETTING) $(firstword $(wildcard $(CHAIN:%=experiments/control/%.yaml))) || failed=1;) \
	$(AGAIN) report SETTING=$(SETTING) && exit $$failed

# rows that have all seeds, those that were matched among them
TRAINED = $(foreach f,$(filter-out none identity cuts,$(FAMILIES)),$(patsubst runs/$(SETTING)/$f@%/seed$(lastword $(SEEDS)),$f:$(KNOB_$f)@%,$(wildcard runs/$(SETTING)/$f@*/seed$(lastword $(SEEDS)))))
KNOBBED = $(foreach f,$(FAMILIES),$(if $(KNOB_$f),$f))
matched: table  ## SETTING=demo SEEDS="0 1 2": table, then rows trained to LEVELS of gap closed, all families at each, and the report again
	@$(BIN)/lam sweep $(SETTING) $(KNOBBED) --match $(LEVELS) --seeds $(SEEDS) --jobs $(JOBS) $(FEWER); failed=$$?; $(STOPPED); \
	$(AGAIN) table SETTING=$(SETTING) SEEDS="$(SEEDS)" MATCHED=1 && exit $$failed

SYSTEM_ROWS = $(foreach s,$(SYSTEMS),$(addprefix $s/,none identity $(ROWS_$s)))
systems: setup $(if $(strip $(MADE)),shards/$(SETTING)/index.json) $(STATES)  ## SETTING=arm SEEDS="0 1 2": published systems with anchors under their own heads, beside the anchors of the setting
	@$(MAKE) --no-print-directory table SETTING=$(SETTING) SEEDS="$(SEEDS)" ROWS='none identity $(SYSTEM_ROWS)'

texture distractors policy transfer: setup  ## a series of worlds, SERIES_ROWS each, and what changes along it: SEEDS="0 1 2"
	@failed=0; for world in $(basename $(notdir $(wildcard experiments/worlds/$@-*.yaml))); do \
	$(AGAIN) table SETTING=$$world ROWS="$(SERIES_ROWS)" || failed=1; done; \
	$(BIN)/lam report series runs/series/$@ runs/$@-* && exit $$failed

data-quality: setup  ## Push-T recorded by better and worse policies, SERIES_ROWS each, and what becomes of acting: SEEDS="0 1 2"
	@failed=0; for recording in $(basename $(notdir $(wildcard experiments/quality-*.yaml))); do \
	$(AGAIN) table SETTING=$$recording ROWS="$(SERIES_ROWS) actions" || failed=1; done; \
	$(BIN)/lam report series runs/series/quality runs/quality-* --keys $(QUALITY_KEYS) && exit $$failed
QUALITY_KEYS := $(foreach budget,$(LABELS_quality),eval/closed_loop/success@$(budget) eval/controller/error@$(budget))

# how much of the training video shows the body that is acted with: from NATURAL alone to it alone
NATURAL ?= shards/natural
MIXING_ROWS := noisy:beta@1e-2 sparse:lambda_l1@0.05
mixing: setup shards/arm/index.json  ## NATURAL=shards/natural (32 px): controllers and plans of arm, with 0, 1, 10, 50 and 100 % of arm in the video
	@failed=0; for share in 0 1 10 50 100; do \
	case $$share in 0) sets="{$(NATURAL): 1}";; 100) sets="{shards/arm: 1}";; *) sets="{shards/arm: $$share, $(NATURAL): $$((100 - share))}";; esac; \
	$(BIN)/lam sweep mixing-$$share $(MIXING_ROWS) --seeds $(SEEDS) --jobs $(JOBS) $(FEWER) --data.shards="$$sets" || failed=$$?; $(STOPPED); \
	$(BIN)/lam control sweep mixing-$$share $(MIXING_ROWS) --labels $(LABELS_arm) --seeds $(SEEDS) --jobs $(JOBS) --model.shards=shards/arm || failed=$$?; $(STOPPED); \
	$(BIN)/lam report runs/mixing-$$share; done; exit $$failed

report: setup  ## SETTING=demo: tables, figures and one page (runs/<setting>/report/report.html) of what has been run
	$(BIN)/lam report runs/$(SETTING)

results: report  ## SETTING=arm: keep the tables as small CSV files in docs/results, for documents to cite
	@mkdir -p docs/results
	cp runs/$(SETTING)/report/results.csv docs/results/$(SETTING).csv
	for table in hull matched control systems; do if [ -f runs/$(SETTING)/report/$$table.csv ]; then \
	cp runs/$(SETTING)/report/$$table.csv docs/results/$(SETTING)-$$table.csv; fi; done

figures: setup  ## SETTING=demo: the figures alone
	$(BIN)/lam report --figures runs/$(SETTING)

test: setup  ## the default test suite: small, two cores, no network
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations=12

test-slow: setup .venv/.simulators  ## tests that train, start several processes for long, or act in simulators
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m slow --durations=5

locked:  ## make .venv of requirements.lock alone, each file checked by its SHA-256 (Python 3.11 on; PyTorch with CUDA on Linux)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --require-hashes --no-deps -r requirements.lock
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	$(BIN)/pip check
	@touch .venv/.installed

lock: setup  ## write requirements.lock anew from what is installed in .venv
	$(PYTHON) -m venv .venv/locking && .venv/locking/bin/pip install -q uv
	@head -3 requirements.lock > .venv/locking/new
	$(BIN)/pip list --format=freeze --exclude-editable --exclude pip --exclude setuptools | sed 's/+.*//' > .venv/locking/installed
	echo editables | .venv/locking/bin/uv pip compile -q pyproject.toml - $(addprefix --extra ,dev hf hub hdf5) --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate --no-emit-index-url -c .venv/locking/installed >> .venv/locking/new
	mv .venv/locking/new requirements.lock

audit: setup  ## known holes in requirements.lock, where the index can be asked for them, and whether what is installed fits together
	$(BIN)/pip check
	$(PYTHON) -m venv .venv/audit && .venv/audit/bin/pip install -q pip-audit
	.venv/audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.lock

lint: setup  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tensorboard: setup  ## curves and pictures of all runs, in a browser
	$(BIN)/tensorboard --logdir runs

clean:  ## remove caches; runs, shards and .venv stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache
