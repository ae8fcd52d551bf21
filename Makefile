# Everything starts here: `make run` trains and shows, `make test` proves, `make lab` opens JupyterLab.
# The first makes an environment in .venv; it is made again only after pyproject.toml has changed.
# PYTHON chooses the interpreter (3.11 or newer), WORKERS how many tests run side by side,
# ARGS goes to the command: `make run ARGS="--epochs 10"`, `make record ARGS="--help"`.

PYTHON ?= python3
# One more than two cores: a test that waits for a page or a process leaves its core to another one.
WORKERS ?= 3
ARGS ?=
# The path is relative, so that a folder with spaces in its name does no harm.
BIN := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
VENV_PYTHON := .venv/$(BIN)/python
OLDEST := build/oldest

.PHONY: help run test test-basics test-oldest test-installed test-arithmetic lab bench record replicate notebooks site download soak \
	format

help:
	@echo "make run        train GAN, SNGAN and PSG-GAN briefly, run the notebooks, write results/"
	@echo "make test       every test: helpers, notebooks, simulated Colab, browser, site"
	@echo "make lab        JupyterLab in notebooks/"
	@echo "make notebooks  run the notebooks and store their outputs"
	@echo "make site       the notebooks as web pages, in build/site/html"
	@echo "make download   the site, and its zip, EPUB, notebooks and checksums beside it"
	@echo "make record     recorded runs (ARGS=...)"
	@echo "make replicate  all recorded runs that are missing, most wanted first (ARGS=--status: which these are)"
	@echo "make bench      benchmarks (ARGS=...)"
	@echo "make soak       minutes of random fault injection"
	@echo "make test-arithmetic  the notebooks as another processor would compute them"
	@echo "make test-basics, test-oldest, test-installed: parts of the tests, for continuous integration"
	@echo "make format     ruff format and ruff check"

# The stamp is written last: after an interrupted installation it is missing, and .venv starts from nothing.
.venv/.installed: pyproject.toml
	@$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('Python 3.11 or newer is needed, this is ' + sys.version.split()[0] + '. Try: make PYTHON=python3.12')"
	@test -f $@ || $(PYTHON) -m venv --clear .venv
	@rm -f $@
	@echo "Installing into .venv (a few minutes, up to 6 GB with PyTorch's CUDA libraries) ..."
	@$(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[lab,test,site]'
	@touch $@

run: .venv/.installed
	$(VENV_PYTHON) tools/run.py $(ARGS)

# Strict nbval runs every notebook in the quick profile; the Colab simulation and the browser run it again in the
# smoke profile, because what they prove does not depend on the length of training. Files are spread over
# WORKERS processes with one thread each; files in the given order, what takes long or half a minute first, so that at the
# end no process waits for another.
LONGEST = tests/test_browser.py tests/reader/test_exercises.py tests/test_colab.py tests/evidence/test_replicate.py \
	tests/test_site.py tests/test_devices.py
MIDDLING = tests/reader/test_widgets.py tests/gan/test_graphed.py tests/gan/test_resume.py
OTHERS = $(filter-out $(LONGEST) $(MIDDLING),$(wildcard tests/test_*.py tests/*/test_*.py))
test: .venv/.installed
	OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest --nbval $(LONGEST) notebooks $(MIDDLING) $(OTHERS) \
		-n $(WORKERS) --dist loadscope --no-loadscope-reorder --durations 15 $(ARGS)

# The helpers' tests and the start page, which is short: what another system can break.
test-basics: .venv/.installed
	OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest --nbval notebooks/00*.ipynb tests -m "not soak and not slow" \
		-n $(WORKERS) --dist loadscope $(ARGS)

# The same with the oldest releases that pyproject.toml allows, in an environment of its own (3 GB to download), and
# nbval of a notebook that trains.
test-oldest: .venv/.installed
	$(VENV_PYTHON) -m uv venv --quiet --clear --python $(VENV_PYTHON) $(OLDEST)
	$(VENV_PYTHON) -m uv pip install --quiet --python $(OLDEST)/$(BIN)/python --resolution lowest-direct \
		--editable '.[lab,test,site]'
	OMP_NUM_THREADS=1 $(OLDEST)/$(BIN)/python -m pytest --nbval notebooks/00*.ipynb notebooks/01*.ipynb \
		tests -m "not soak and not slow" -n $(WORKERS) --dist loadscope $(ARGS)

# Every notebook alone with the packages that PYTHON has already, as in Colab's image; none of them is replaced.
test-installed:
	$(PYTHON) -m pip install --quiet --disable-pip-version-check pytest pytest-timeout nbclient nbformat
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest tests/test_colab.py $(ARGS)

# The notebooks with sums in another order, as on another make of processor: after some hundred steps a game on the ring
# has taken another course, and what a notebook says of it has to hold there as well.
test-arithmetic: .venv/.installed
	MKL_CBWR=COMPATIBLE ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest --nbval notebooks \
		-n $(WORKERS) --dist loadscope $(ARGS)

lab: .venv/.installed
	$(VENV_PYTHON) -m jupyterlab notebooks $(ARGS)

notebooks: .venv/.installed
	$(VENV_PYTHON) -m ruff format notebooks
	$(VENV_PYTHON) tools/build_notebooks.py $(ARGS)

site: .venv/.installed
	$(VENV_PYTHON) tools/build_site.py $(ARGS)

download: .venv/.installed
	$(VENV_PYTHON) tools/build_site.py --download $(ARGS)

record: .venv/.installed
	$(VENV_PYTHON) -m helpers.evidence.recorder $(ARGS)

replicate: .venv/.installed
	$(VENV_PYTHON) -m helpers.evidence.replicate $(ARGS)

bench: .venv/.installed
	$(VENV_PYTHON) -m benchmarks $(ARGS)

soak: .venv/.installed
	$(VENV_PYTHON) -m pytest tests -m soak --timeout 3600 $(ARGS)

format: .venv/.installed
	$(VENV_PYTHON) -m ruff format .
	$(VENV_PYTHON) -m ruff check --fix .
