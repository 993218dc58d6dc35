# make demo runs everything on a drawn world and writes a page. make test runs the tests. Both install what they need.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test test-lowest docs lint format install lock audit clean

demo: $(INSTALLED)
	$(BIN)/vlmixer demo --out demo-out

# Pages are also tested in a browser. Chromium comes from the system (apt-get install chromium), not from PyPI.
CHROMIUM ?= $(shell command -v chromium chromium-browser google-chrome google-chrome-stable chrome | head -n 1)

# Number of processes that run tests.
JOBS ?= 2

test: $(INSTALLED)
ifeq ($(CHROMIUM),)
	@echo "No Chromium on this machine: leaving out the tests of pages in a browser." >&2
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m 'not browser'
else
	CHROMIUM='$(CHROMIUM)' $(BIN)/python -m pytest -n $(JOBS) --dist loadfile
endif

# The core's tests with the lowest versions that pyproject.toml declares.
test-lowest: $(INSTALLED)
	.ci/lowest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site: build/site/index.html.
docs: $(INSTALLED)
	PYTHON="$(CURDIR)/$(BIN)/python" .ci/docs

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# make TORCH=cpu … installs PyTorch without its CUDA libraries. After an installation with them, run `make clean` first.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

install: $(INSTALLED)

# Every file that is installed must have one of the SHA-256 in requirements.lock; setuptools, which builds, too.
$(INSTALLED): pyproject.toml constraints.txt requirements.lock tests/pipeline/readers.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "vlmixer needs Python 3.11, 3.12 or 3.13. Name one: make PYTHON=python3.11 …" >&2; exit 1; }
	$(PYTHON) -m venv .venv
ifeq ($(TORCH),cpu)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 1 --constraint constraints.txt --no-deps \
	  --index-url $(TORCH_INDEX) torch torchvision || \
	  { echo "Cannot install PyTorch from $(TORCH_INDEX). Give a mirror (make TORCH=cpu TORCH_INDEX=URL …)," \
	    "or leave out TORCH=cpu to install the larger CUDA build." >&2; exit 1; }
endif
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --no-deps --require-hashes --target .venv/readers -r tests/pipeline/readers.txt
	touch $(INSTALLED)

# After a change of pyproject.toml or constraints.txt: one file for all Python versions and systems, with the hashes of all
# files that the index has. Compare it with `git diff`: of a version that stays, no hash may change.
lock:
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --universal --python-version 3.11 --generate-hashes \
	  --constraint constraints.txt --extra all --extra dev --output-file requirements.lock pyproject.toml

# Known vulnerabilities in the versions of requirements.lock.
audit:
	$(BIN)/uvx pip-audit@2.10.1 --disable-pip --require-hashes --requirement requirements.lock

clean:
	rm -rf .venv demo-out build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
