PYTHON ?= python3
SEED ?= 0
SCALE ?= tiny
OUT ?= runs/quickstart/seed$(SEED)
BIN = .venv/bin
READY = .venv/.ready
CONSUMERS = $(patsubst tests/interop/requirements/%.txt,.venv-interop/%/.ready,$(wildcard tests/interop/requirements/*.txt))
ELSEWHERE = $(patsubst tests/interop/requirements/%.txt,.venv-interop/%/.ready,$(wildcard tests/interop/requirements/elsewhere/*.txt))
# test files at once: one on each core, at most four
SIDE_BY_SIDE = --numprocesses $(shell nproc 2>/dev/null || echo 2) --maxprocesses 4 --dist loadfile
# threads that wait for each other stay awake for a moment, and leave the core to other processes after it (see main.py)
export GOMP_SPINCOUNT = 3000

.PHONY: quickstart pilot findings findings-fast test test-long faults interop versions pretend-gpu check types docs audit hashes bench setup clean

setup: $(READY)

# every file is checked against its hash; then torch, whose builds and further needs differ from machine to machine
$(READY): pyproject.toml constraints.txt hashes.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement hashes.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: $(READY)
	$(BIN)/python main.py run configs/recipe/quickstart.yaml --out $(OUT) --seed $(SEED)

# whether a study would have something to see; then the study, which goes on where it stopped, from what the tree keeps
# (ARGS of `findings` and `findings-fast`: e.g. ARGS="--preload --at-once 16 --hardware trainer.accelerator=gpu")
pilot: $(READY)
	$(BIN)/python main.py run pilot --scale $(SCALE) --out runs/pilot-$(SCALE) --at-once 2
	$(BIN)/python -m recipes.findings.pilot_gate runs/pilot-$(SCALE)

findings: $(READY)
	$(BIN)/python -m recipes.findings.kept_study $(ARGS)

findings-fast: $(READY)
	$(BIN)/python -m recipes.findings.kept_study --primary $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-long: $(READY)
	$(BIN)/python -m pytest -m long $(SIDE_BY_SIDE)

# what a machine, a scheduler or a user can do to a run
faults: $(READY)
	$(BIN)/python -m pytest -m "long or not long" tests/test_reliability.py tests/test_resume.py \
	  tests/test_resume_contract.py tests/test_recipe_resume.py tests/test_folders.py tests/test_bad_inputs.py

interop: $(READY) $(CONSUMERS) $(ELSEWHERE)
	$(BIN)/python -m pytest -m interop tests/interop
	set -e; for ready in $(ELSEWHERE); do \
	  $$(dirname $$ready)/bin/python -m pytest -rs tests/test_elsewhere.py tests/test_algorithms_trl.py; done

# memory and waits on a pretended GPU: with a PyTorch linked against CUDA, as PyPI's for Linux is (several gigabytes, no driver)
pretend-gpu: .venv-gpu/.ready
	.venv-gpu/bin/python -m pytest tests/test_pretended_device.py -k "not stays_within"  # the next line measures the same steps
	.venv-gpu/bin/python -m benchmarks.pretended_memory --out benchmarks/results/pretended_memory.json

.venv-gpu/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $$(sed -n 's/^torch==/torch===/p' constraints.txt)  # no +cpu
	$(@D)/bin/python -c "import torch; assert torch.version.cuda, 'this PyTorch is not linked against CUDA'"
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# each PyTorch and transformers that pyproject.toml allows
versions: $(READY)
	$(BIN)/python -m benchmarks.versions

# torch with what it needs, then exactly the rest
.venv-interop/%/.ready: tests/interop/requirements/%.txt
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $$(grep ^torch== $<)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	touch $@

check: $(READY) types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --quiet tests/test_layout.py

# after a change of constraints.txt
hashes: .venv-audit/.ready
	.venv-audit/bin/uv pip compile --quiet --generate-hashes --no-deps --no-header --no-annotate --universal \
	  --no-emit-package torch constraints.txt --output-file hashes.txt

# known vulnerabilities of what is installed
audit: .venv-audit/.ready
	.venv-audit/bin/pip-audit --disable-pip --require-hashes --requirement hashes.txt

.venv-audit/.ready:
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check uv pip-audit
	touch $@

# type hints, and the site; docs/requirements.txt pins what they need beside the rest
types: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement docs/requirements.txt
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement docs/requirements.txt
	$(BIN)/mkdocs build --strict

bench: $(READY)
	$(BIN)/python -m benchmarks.cpu --rounds 1
	$(BIN)/python -m benchmarks.verify_speed
	$(BIN)/python -m benchmarks.eval_speed
	$(BIN)/python -m benchmarks.rollout_speed
	$(BIN)/python -m benchmarks.generate_speed
	$(BIN)/python -m benchmarks.pipeline_speed
	$(BIN)/python -m benchmarks.train_speed

clean:
	rm -rf .venv .venv-interop .venv-versions .venv-audit .venv-gpu runs
