# Targets: run, check, test, test-unit, test-clients, test-systemd, test-long, bench, bench-memory,
# bench-gpu, bench-rpc, record, clean. Each does the set-up it needs.
VENV   ?= .venv
PYTHON ?= python3.11
PORT   ?= 11434
MODEL  ?= smollm2:135m
CUDA_VENV ?= .cache/venv-cuda
RPC_VENV ?= .cache/venv-rpc
CLIENTS_VENV ?= .cache/venv-clients

BIN      := $(VENV)/bin
SETTINGS := HOST MODELS KEEP_ALIVE NUM_PARALLEL CONTEXT_LENGTH MAX_LOADED_MODELS KV_CACHE_TYPE \
            SPECULATION DRAFT PRIORITY ORIGINS DEBUG

# `make run NUM_PARALLEL=8` means OUTRIDER_NUM_PARALLEL=8 for the daemon.
$(foreach s,$(SETTINGS),$(if $(filter command line,$(origin $(s))),$(eval export OUTRIDER_$(s) := $($(s)))))

.PHONY: run test test-unit test-clients test-systemd test-long bench bench-memory record bench-gpu bench-rpc check types clean

run: $(VENV)/.installed
	@$(BIN)/outrider serve $(if $(filter command line,$(origin PORT)),--port $(PORT)) --pull $(MODEL)

# All tiers but clients and long (tests/README.md); `make test ARGS="-m sim"` runs one of them.
test: $(VENV)/.installed-test
	@$(BIN)/python -m pytest -m "not clients and not long" $(ARGS)

# Without weights, daemons and simulations: seconds.
test-unit: $(VENV)/.installed-test
	@$(BIN)/python -m pytest -m unit $(ARGS)

# The service in a real systemd, booted in namespaces: root on Linux, 40 seconds. A part of `make test`.
test-systemd: $(VENV)/.installed-test
	@$(BIN)/python -m pytest tests/contract/test_systemd.py tests/systemd $(ARGS)

# Kills, random requests, damaged files, load: about 20 minutes; OUTRIDER_LONG=full takes hours, with
# the sizes of a release. tests/long/sizes.py has the settings.
test-long: export OUTRIDER_KILLS ?= $(if $(filter full,$(OUTRIDER_LONG)),200,20)
test-long: $(VENV)/.installed-test
	@$(BIN)/python -m pytest tests/long tests/contract/test_kills.py $(ARGS)

# Frameworks of others, in a venv of their own; those in JavaScript where npm is there.
# The frameworks leave sockets open when they end, of which pytest would make errors.
test-clients:
	@$(MAKE) --no-print-directory $(CLIENTS_VENV)/.installed-clients VENV=$(CLIENTS_VENV)
	@if command -v npm >/dev/null; then \
	  mkdir -p .cache/clients-node && cp tests/clients/frameworks/node/package*.json .cache/clients-node && \
	  npm ci --prefix .cache/clients-node --no-audit --no-fund --loglevel=error; fi
	@$(CLIENTS_VENV)/bin/python -m pytest -m clients -p no:unraisableexception \
	  tests/clients/frameworks $(ARGS)

bench: $(VENV)/.installed-bench
	@PYTHONPATH=tests $(BIN)/python -m bench $(ARGS)

# Sizes computed from headers beside those of llama.cpp.
bench-memory: $(VENV)/.installed-bench
	@PYTHONPATH=tests $(BIN)/python -m bench.memory

record: $(VENV)/.installed-bench
	@PYTHONPATH=tests $(BIN)/python -m bench.record

# llama.cpp for CUDA is built in a venv of its own and without pip's cache, which may hold a build for
# the CPU.
bench-gpu: export CMAKE_ARGS += -DGGML_CUDA=on
bench-gpu: export PIP_NO_CACHE_DIR := 1
bench-gpu: export PIP_NO_BINARY := llama-cpp-python
bench-gpu: export PATH := $(PATH):/usr/local/cuda/bin
bench-gpu:
	@nvidia-smi -L 2>/dev/null | grep -q ^GPU || \
	  { echo "make bench-gpu: no NVIDIA GPU found (nvidia-smi -L)" >&2; exit 1; }
	@command -v nvcc >/dev/null || \
	  { echo "make bench-gpu: no nvcc found; install the CUDA toolkit" >&2; exit 1; }
	@$(MAKE) --no-print-directory $(CUDA_VENV)/.installed-bench VENV=$(CUDA_VENV)
	@PYTHONPATH=tests $(CUDA_VENV)/bin/python -m bench.placement
	@for pair in tiny moe; do \
	  $(MAKE) --no-print-directory bench VENV=$(CUDA_VENV) \
	    ARGS="--gpu --only speculation --pair $$pair $(ARGS)" || exit; \
	done

# Placement on devices where there is no GPU: two processes are the devices (tests/placing.py).
bench-rpc: export CMAKE_ARGS += -DGGML_RPC=on
bench-rpc: export PIP_NO_CACHE_DIR := 1
bench-rpc: export PIP_NO_BINARY := llama-cpp-python
bench-rpc:
	@$(MAKE) --no-print-directory $(RPC_VENV)/.installed-test VENV=$(RPC_VENV)
	@$(RPC_VENV)/bin/python -m pytest tests/daemon/runner/llama/test_placing.py
	@PYTHONPATH=tests $(RPC_VENV)/bin/python -m bench.placement --rpc $(ARGS)

check: $(VENV)/.installed-check types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy -p outrider

# mypy finds the namespace `outrider` through links, since no folder of that name exists.
types:
	@mkdir -p .types/outrider
	@for folder in daemon models quant; do ln -sfn ../../$$folder .types/outrider/$$folder; done

# A stamp per set of extras: a second run starts at once unless pyproject.toml changed.
$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "Installing Outrider; the first time this builds llama.cpp, about 5 minutes on 2 cores."
	@$(BIN)/python -m pip install --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	@$(BIN)/python -m pip install --disable-pip-version-check -e ".[$*]"
	@touch $@

clean:
	@rm -rf $(VENV) $(CUDA_VENV) $(RPC_VENV) $(CLIENTS_VENV) .cache/clients-node .types build *.egg-info .mypy_cache .ruff_cache .pytest_cache
