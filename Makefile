# make setup       a Python environment in .venv with the package, its compiled LAMMPS plugin, and the tools
# make demo        setup, then molecular dynamics of NaCl in water on two MPI ranks, and a report of it
# make test        setup, then the tests but the slow ones, in WORKERS processes
# make test-slow   setup, then the slow tests
# make lint        setup, then the checks of style and types
# make train-demo  setup, then training of the demo's model from its data
# make train-electrode   setup, then training and evaluation of the model of a copper electrode in water

PYTHON ?= python3
RANKS ?= 2
WORKERS ?= 2
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
EXAMPLE := examples/nacl_water
ELECTRODE := examples/cu_water_electrode
SOURCES := $(shell find fp_potential train lammps_plugin -type f \( -name '*.py' -o -name '*.cpp' -o -name '*.h' -o -name CMakeLists.txt \) 2>/dev/null)

export OMP_NUM_THREADS ?= 1
export PATH := $(BIN):$(PATH)

.PHONY: setup demo test test-slow lint train-demo train-electrode clean

setup: $(VENV)/installed

# What pyproject.toml needs to build goes into the environment itself, so that torch is unpacked only once.
$(VENV)/requirements: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' > $@.txt
	$(BIN)/python -m pip install --quiet -r $@.txt "cmake>=3.26" ninja
	touch $@

$(VENV)/installed: $(VENV)/requirements CMakeLists.txt $(SOURCES)
	$(BIN)/python -m pip install --quiet --no-build-isolation -C build-dir=build/wheel '.[test,dev]'
	touch $@

demo: setup
	cd $(EXAMPLE) && $(BIN)/mpirun -n $(RANKS) $(BIN)/lmp -in in.nacl_water
	$(BIN)/python $(EXAMPLE)/report.py

test: setup
	$(BIN)/pytest -n $(WORKERS) -m "not slow"

test-slow: setup
	$(BIN)/pytest -n $(WORKERS) -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $$(find lammps_plugin -name '*.cpp' -o -name '*.h')

train-demo: setup
	cd $(EXAMPLE) && $(BIN)/fixedpoint train train.yaml
	cd $(EXAMPLE) && $(BIN)/fixedpoint export run model.pt

train-electrode: setup
	cd $(ELECTRODE) && $(BIN)/fixedpoint train train.yaml
	cd $(ELECTRODE) && $(BIN)/fixedpoint export run model.pt
	cd $(ELECTRODE) && $(BIN)/python evaluate.py model.pt

clean:
	rm -rf build dist $(EXAMPLE)/output $(EXAMPLE)/run $(ELECTRODE)/run $(VENV)
