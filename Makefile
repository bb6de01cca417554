# Targets that a newcomer guesses. `make run` and `make test` need nothing but Python 3.11 or 3.12.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# The tests run the network sources' real client libraries against local servers, the authors' Kronos package, and the
# packages of the pretrained forecasters, and the export to ONNX.
TESTED := $(VENV)/.ready-to-test
# Tests that share an expensive fixture carry one xdist_group, so that one worker makes it.
WORKERS ?= -n 2 --dist loadgroup
DATA   ?= ../shared/data/us_daily.parquet

.PHONY: run ui test test-slow chaos lint format bench bench-kronos bench-market bench-training bench-evaluation bench-models bench-orchestration bench-backtests bench-planted bench-chronos bench-skill bench-workers check-examples example-weights gpu-check compact screenshots docs install clean

run: $(READY)            ## the whole chain on real sample bars, then where the report is
	@$(BIN)/candlecast run

ui: $(READY)             ## Dagster in the browser
	@$(BIN)/candlecast ui

test: $(TESTED)          ## the tests
	$(BIN)/python -m pytest -m "not slow" $(WORKERS)

test-slow: $(TESTED)     ## what takes longer: whole runs, kills, published sizes
	$(BIN)/python -m pytest -m slow $(WORKERS)

chaos: $(TESTED)         ## the whole chain killed at fifty random moments, each home compared with an undisturbed one
	$(BIN)/python -m tests.chaos.chaos

lint: $(TESTED)          ## style, then types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(TESTED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-evaluation: $(READY) ## scoring at the scale of an index
	$(BIN)/python -m benchmarks.evaluation

bench: bench-kronos bench-chronos bench-market bench-training bench-evaluation bench-models bench-backtests   ## every benchmark's table

bench-kronos: $(TESTED)  ## the engine against the authors' package
	$(BIN)/python -m benchmarks.kronos

bench-chronos: $(TESTED) ## Chronos-2's forecasts against the bare pipeline
	$(BIN)/python -m benchmarks.chronos2

bench-market: $(READY)   ## ingest at the scale of an index; DATA=file.parquet
	$(BIN)/python -m benchmarks.market --data $(DATA)

bench-training: $(TESTED) ## a training step, and preparing windows
	$(BIN)/python -m benchmarks.training

bench-backtests: $(READY) ## TopkDropout against Qlib's loop, and sweeps of a thousand backtests
	$(BIN)/python -m benchmarks.backtests

bench-planted: $(READY)  ## whether Chronos-2 finds a planted AR(1); three minutes
	$(BIN)/python -m benchmarks.planted_signal

bench-models: $(TESTED)  ## latency and memory of each forecaster
	$(BIN)/python -m benchmarks.models

bench-skill: $(TESTED)   ## CRPS skill of all default models on symbols that no weights saw; DATA=file.parquet
	$(BIN)/python -m benchmarks.skill --data $(DATA) --json build/skill/skill.json --picture build/skill
	$(BIN)/python -m benchmarks.skill --data $(DATA) --speed

bench-orchestration: $(TESTED) ## starts, partitions, runs, evenings; QUICK=1; ONLY="partition starts"
	$(BIN)/python -m benchmarks.orchestration $(if $(QUICK),--quick) $(if $(ONLY),--lines $(ONLY)) \
		$(if $(HOME_FOLDER),--home $(HOME_FOLDER) --settings $(SETTINGS))

bench-workers: $(READY)  ## the compact Kronos by one and by two processes; DATA=file.parquet
	$(BIN)/python -m benchmarks.workers --data $(DATA)

check-examples: $(READY) ## the worked examples against the bounds of published weights; WEIGHTS=hub id or folder
	$(BIN)/python -m benchmarks.examples --weights $(or $(WEIGHTS),amazon/chronos-2)

example-weights: $(READY) ## fit the compact weights of the worked examples again
	$(BIN)/python -m assets.examples.fit

gpu-check:               ## the Kronos library on a CUDA device; needs torch and no environment of this project
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) benchmarks/gpu_check.py

compact: $(READY)        ## train the compact weights again, and score them; DATA=file.parquet
	$(BIN)/python -m assets.training.compact --data $(DATA)
	$(BIN)/python -m benchmarks.compact --data $(DATA) --write

docs: $(TESTED)          ## the documentation as a website, into build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

screenshots: $(READY)    ## the README's pictures; needs chromium
	$(BIN)/python docs/screenshots.py

install: $(READY)

$(READY): pyproject.toml constraints.txt
	@echo "making the environment in $(VENV): two minutes, once"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(TESTED): $(READY)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable \
		".[dev,docs,onnx,yahoo,akshare,ccxt,fracast,tirex,timesfm]"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps kronos-model-arch==0.1.0
	@touch $@

clean:                   ## the environment and caches; what was made under data/ stays
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
