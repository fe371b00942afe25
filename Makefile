# make demo: environment and the main job on the simulated cohort; make test: the suite; make test-all: slow tests too;
# make docs: the site; make guards: are the guards against leaks tested?
# make fuzz SECONDS=600: what atheris makes up, to each reader of what others hand over
# make test-oldest: the suite with the lowest version of every range in pyproject.toml; make test-newest: with the newest
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/ready
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: demo test test-all test-oldest test-newest browser s3-server lint docs reference images bench guards fuzz clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/lymphtune search --space mixed --data simulated --trials 5 --epochs 8 --folds 3
	$(BIN)/lymphtune ensemble --top 3

test: $(READY) lint s3-server
	$(BIN)/python -m pytest -q -m "not slow" --numprocesses 2 --dist loadfile

test-all: $(READY) lint browser s3-server
	$(BIN)/python -m pytest -q

test-oldest: .venv-oldest/ready s3-server
	EXPECT_LOWEST=1 .venv-oldest/bin/python -m pytest -q -m "not slow"

test-newest: .venv-newest/ready s3-server
	.venv-newest/bin/python -m pytest -q -m "not slow"

.venv-oldest/ready: RESOLUTION := lowest-direct
.venv-newest/ready: RESOLUTION := highest
.venv-oldest/ready .venv-newest/ready: pyproject.toml $(READY)
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) $(@D)
	$(BIN)/uv pip install --quiet --upgrade --python $(@D)/bin/python --resolution $(RESOLUTION) --editable '.[dev,mlflow,wandb,fuzz]'
	touch $@

browser:  # in which the report is tested; Debian's and Ubuntu's packages
	command -v chromium && command -v chromedriver || $(SUDO) apt-get install -y chromium chromium-driver

s3-server: .venv-s3/ready  # which the tests of runs on s3:// start

.venv-s3/ready: tests/s3-requirements.txt
	$(PYTHON) -m venv .venv-s3
	.venv-s3/bin/pip install --quiet --requirement tests/s3-requirements.txt
	touch $@

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

reference: $(READY)
	$(BIN)/python docs/make_reference.py

images: $(READY)
	$(BIN)/python docs/make_images.py

bench: $(READY)
	$(BIN)/python benchmarks/demo.py
	$(BIN)/python benchmarks/reference_loop.py
	$(BIN)/python benchmarks/shared_memory.py
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/gpu.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/many_trials.py
	$(BIN)/python benchmarks/doctor.py
	$(BIN)/python benchmarks/predict_memory.py
	$(BIN)/python benchmarks/search.py busy
	$(BIN)/python benchmarks/search.py scale
	$(BIN)/python benchmarks/search.py tune
	$(BIN)/python benchmarks/honest.py --repetitions 50 --processes 2

guards: $(READY)  # each guard against leaks is broken in a copy; a test must notice
	$(BIN)/python benchmarks/leak_guards.py

SECONDS ?= 600
fuzz: $(READY)  # inputs that came out wrong are in fuzz/ then, and the exit code is not 0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[fuzz]'
	for reader in csv layout space recipe bundle; do $(BIN)/python tests/fuzz/run.py $$reader --seconds $(SECONDS) || exit 1; done

clean:
	rm -rf .venv .venv-oldest .venv-newest build dist site .pytest_cache .mypy_cache .ruff_cache
