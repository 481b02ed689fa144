# `make` alone prints the targets. Everything happens in .venv; a second call does not reinstall.
PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
export PIP_CONSTRAINT := $(CURDIR)/.ci/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help train test gpu lint notebooks lab book coursework publish-as clean

help: ## print this help
	@$(PYTHON) -c "import re; [print(f'make {t:10} {d}') for t, d in re.findall(r'^([\w-]+):.*?## (.*)$$', open('Makefile').read(), re.M)]"

train: .venv/train.stamp ## train a small BiFormer on the built-in task, or go on with it, about a minute
	$(BIN)/python -m bra.train --resume

test: .venv/all.stamp lint ## run every check: style, unit tests, notebooks against their stored outputs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --nbval notebooks/

gpu: .venv/all.stamp ## measure all that a GPU must show, or go on with it; needs CUDA
	$(BIN)/python -m bra.bench gpu

lint: .venv/all.stamp ## check style, formatting and types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check bra tests book .ci
	$(BIN)/python -m mypy

notebooks: .venv/all.stamp ## execute every notebook and store its outputs
	$(BIN)/python -m jupyter nbconvert --to notebook --execute --inplace \
		--CoalesceStreamsPreprocessor.enabled=True --ClearMetadataPreprocessor.enabled=True \
		--ClearMetadataPreprocessor.preserve_nb_metadata_mask="{'kernelspec', \
		('language_info', 'name', 'file_extension', 'nbconvert_exporter')}" \
		--ClearMetadataPreprocessor.preserve_cell_metadata_mask="{'tags', 'jupyter', 'cellView'}" notebooks/*.ipynb
	$(BIN)/python .ci/drop_widget_views.py notebooks/*.ipynb

lab: .venv/notebooks.stamp ## open the notebooks in JupyterLab
	$(BIN)/python -m jupyter lab --ServerApp.root_dir="$(CURDIR)" notebooks/00_patterns.ipynb

book: .venv/all.stamp ## build the book from the stored outputs: build/book/index.html
	$(BIN)/python -m sphinx -W --keep-going -q -c book . build/book
	@echo "build/book/index.html"

publish-as: ## write the address of your repository everywhere: make publish-as REPO=owner/name
	@$(PYTHON) .ci/publish_as.py "$$REPO"

coursework: .venv/train.stamp ## build what a course hands out: for students, instructors and nbgrader: build/coursework
	$(BIN)/python -m bra.course build/coursework

clean: ## remove what make built, but no run
	rm -rf .venv build

.venv/%.stamp: pyproject.toml .ci/constraints.txt
	$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and 'Python 3.11, 3.12 or 3.13 is needed, but $(PYTHON) is ' + sys.version.split()[0] + ': make PYTHON=python3.13 ...')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile -e ".[$*]"
	@$(BIN)/python -c "open('$@', 'w')"
