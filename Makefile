# Each target sets up what it needs, once; nothing else has to be installed but Python 3.11 or newer, with venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: reports setup test lab bench lock clean
.DEFAULT_GOAL := reports

reports: .venv/ready          ## dated HTML reports on the embedded launch
	$(BIN)/premiere report launches/show_premiere.yaml

setup: .venv/ready            ## .venv alone, with the command premiere

test: .venv/ready-to-test     ## style, types, doctests, tests, notebooks
	$(BIN)/pytest -n 2 --dist worksteal

lab: .venv/ready              ## JupyterLab, in the notebooks
	$(BIN)/jupyter lab --ServerApp.root_dir=. --ServerApp.default_url=/lab/tree/notebooks

bench: .venv/ready-to-bench   ## speed and memory, side by side, as ratios
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/catalogue.py

.venv/ready: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Premiere needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e .
	mkdir -p .venv/share/jupyter/lab/settings && cp jupyterlab-overrides.json .venv/share/jupyter/lab/settings/overrides.json
	touch $@

.venv/ready-to-test: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[test]'
	touch $@

.venv/ready-to-bench: .venv/ready-to-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[bench]'
	touch $@

lock: .venv/ready-to-test     ## resolve every version anew
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --no-emit-index-url --no-annotate --no-header --quiet --upgrade pyproject.toml -o requirements.lock

clean:
	rm -rf .venv build *.egg-info
