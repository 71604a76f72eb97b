# make run · make test · make bench: each sets itself up (a .venv in the clone) on a fresh machine. Wheels only, nothing compiles.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)

.PHONY: run test check bench format clean lock

run: $(VENV)/.run
	@$(BIN)/visavis run $(ARGS)

test: $(VENV)/.test check
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.test
	$(BIN)/visavis bench all $(ARGS)

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/bin/python:
	@scripts/python.sh $(PYTHON) $(VENV)

$(VENV)/.run: pyproject.toml engines/models.toml | $(VENV)/bin/python
	@echo "Installing Visavis (wheels, about 200 MB) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary --editable .
	@$(BIN)/visavis models fetch || echo "Some models could not be fetched: the kiosk runs without them, 'visavis doctor' says what that costs."
	@touch $@

$(VENV)/.test: pyproject.toml tests/kiosk/package-lock.json tests/fleet/package-lock.json scripts/system.sh | $(VENV)/.run
	@echo "Installing what the tests need …"
	@$(SUDO) scripts/system.sh
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary --editable ".[vosk,piper,rehearse,bench,rtx]" --group test
	@cd tests/kiosk && npm ci --silent --no-audit --no-fund
	@cd tests/fleet && npm ci --silent --no-audit --no-fund
	@touch $@

clean:
	rm -rf $(VENV) tests/kiosk/node_modules tests/fleet/node_modules .mypy_cache .ruff_cache .pytest_cache

# The appliance installs exactly these: pip install --require-hashes -r requirements.lock
lock: $(VENV)/.test
	$(BIN)/uv pip compile --quiet pyproject.toml --universal --python-version 3.11 --extra vosk --generate-hashes --no-annotate \
		--custom-compile-command "make lock" -o requirements.lock
