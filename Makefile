# Two commands set everything up: `make demo` and `make test`. Nothing outside this folder is changed.
PYTHON ?= python3
PHOTOS ?= examples/crowd.jpg
OUT ?= crowdmood-out
TESTS ?= tests
export PHOTOS OUT

# Real data, see datasets/README.md
ifdef CROWDMOOD_DATASETS
FER2013 ?= $(CROWDMOOD_DATASETS)/fer2013/archive.zip
WIDER ?= $(CROWDMOOD_DATASETS)/wider_face/dev
else
FER2013 ?= datasets/fer2013/data/archive.zip
WIDER ?= datasets/wider_face/data/dev
endif

.PHONY: help demo test check format bench reproduce clean

help:
	@echo "make demo [PHOTOS=photo-or-folder] [OUT=folder]   faces and emotions on a photo, in .venv without torch"
	@echo "make test [TESTS=path]                            all tests, in .venv-test with every extra"
	@echo "make check                                        ruff and mypy --strict, in .venv-test"
	@echo "make bench [WIDER=folder]                         face detectors side by side: accuracy, time, memory"
	@echo "make reproduce [FER2013=archive.zip]              earlier projects' emotion models, trained again (hours)"
	@echo "make format                                       let ruff mend what it can"
	@echo "make clean                                        remove both environments and all caches"

# A stamp per environment: install again only when what is to be installed has changed.
.venv/.installed: setup.py pyproject.toml
	@echo "Setting up .venv (once; a minute or two) ..."
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv-test/.installed: setup.py pyproject.toml
	@echo "Setting up .venv-test with torch (once; several minutes) ..."
	@$(PYTHON) -m venv .venv-test
	@.venv-test/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[train,dev]"
	@touch $@

# One bad photo makes the command exit 1; the results of the others are there all the same.
demo: .venv/.installed
	@status=0; .venv/bin/crowdmood annotate "$$PHOTOS" -o "$$OUT" || status=$$?; \
	if [ -d "$$OUT" ]; then \
	    echo "Pictures: $$OUT/annotated   Data: $$OUT/results.jsonl and $$OUT/faces.csv"; \
	fi; \
	exit $$status

test: .venv-test/.installed
	.venv-test/bin/python -m pytest $(TESTS)

check: .venv-test/.installed
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy

format: .venv-test/.installed
	.venv-test/bin/ruff check --fix .
	.venv-test/bin/ruff format .

bench: .venv-test/.installed
	.venv-test/bin/python benchmarks/detectors.py --photos "$(WIDER)"

reproduce: .venv-test/.installed
	.venv-test/bin/emotion reproduce --data "$(FER2013)"

clean:
	rm -rf .venv .venv-test .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
