# Two commands do everything on a machine with Python 3.11 or later and make: `make demo`, `make test`.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin

.PHONY: demo test check test-long test-platforms test-install test-chaos bench weights release-coreml lock sbom audit docs clean

# PyTorch first and by its exact version, so that nothing that depends on it chooses another build.
$(VENV)/ready: pyproject.toml
	@echo "installing into $(VENV): some minutes, 2.3 GB"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet "$(TORCH)"
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

demo: $(VENV)/ready
	$(BIN)/edgetam demo --out demo-out --force

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

# One thread a process and a process a core: threads of two processes on one core wait for each other.
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

# Long clips; about ten minutes on two cores. Results stand in docs/log.md.
test-long: $(VENV)/ready
	$(BIN)/python -m pytest -m slow -s tests/long

# How fast this machine is, against the model as published: about ten minutes on two cores.
bench: $(VENV)/ready
	$(BIN)/edgetam bench --objects 1 3 10 50 --plot bench.png

# The commands of docker/server.Dockerfile in a bare environment; needs PIP_FIND_LINKS or TORCH_INDEX.
test-install: $(VENV)/ready
	$(BIN)/python -m pytest -m slow -s tests/docker/test_install.py

# Half an hour of kills, stops, full disks and clock jumps; clock jumps need libfaketime.
test-chaos: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos.run --minutes 30

# Every package of the images with its hashes, its bill of materials, and what is known against any of them.
lock: $(VENV)/ready
	$(BIN)/pip install --quiet uv
	PATH="$(abspath $(BIN)):$$PATH" docker/lock/make.sh
sbom: $(VENV)/ready
	$(BIN)/pip install --quiet cyclonedx-bom
	$(BIN)/cyclonedx-py requirements docker/requirements-cpu.lock --pyproject pyproject.toml \
		--output-reproducible --output-file sbom.json
audit: $(VENV)/ready
	$(BIN)/pip install --quiet pip-audit
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement docker/requirements-cuda.lock \
		--requirement docker/cvat-cuda.lock

# The weights that ship, anew: about four hours. See docs/model_card.md.
TEXTURES ?= textures
weights: $(VENV)/ready
	$(BIN)/edgetam train --recipe nano --config nano --textures $(TEXTURES) --out weights/nano
	$(BIN)/edgetam train --recipe nano-long --init weights/nano/weights.safetensors \
		--textures $(TEXTURES) --out weights/nano-long
	$(BIN)/edgetam train --recipe nano-things --init weights/nano-long/weights.safetensors \
		--textures $(TEXTURES) --processes 2 --out weights/nano-things
	$(BIN)/edgetam train --recipe nano-even --init weights/nano-things/weights.safetensors \
		--textures $(TEXTURES) --processes 2 --out weights/nano-even

# The real Label Studio and Chromium, installed below .platforms (about 1 GB) on the first call; that belongs to
# the first test, hence its time limit. Logs and screenshots of the newest run lie in .platforms/logs/latest.
test-platforms: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m platforms --timeout 1500 --durations 5 tests/platforms

# Core ML packages of the weights that ship, verified, with checksums.
release-coreml: $(VENV)/ready
	$(BIN)/edgetam export release --weights default --out dist/coreml --force

# The API reference from the docstrings: build/docs/index.html.
docs: $(VENV)/ready
	$(BIN)/python -m tests.docs.api

clean:
	rm -rf $(VENV) demo-out build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
