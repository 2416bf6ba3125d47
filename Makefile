# make run          start the server; installs what it needs first
# make test         make check, and the tests on SQLite and on PostgreSQL
#                   (at once with three runs: make test-sqlite, make test-tokens, make test-project)
# make coverage     run the tests of the parts on PostgreSQL, and check that they reach every line and branch
# make quick        run the tests that need one database and no browser, in under a minute
# make dev          start a server that reloads when the code changes
# make admin        create an administrator
# make check        lint, format, types, imports, migrations, production settings, the API's schema
# make format       format the code
# make messages     collect the strings to translate, and compile the translations
# make proof        run races, crashes, failover and random stories at length; writes docs/proof.md; 17 minutes
# make hosts        test the wheel in other projects, and services in other languages
# make compat       make hosts, then test tokens on newer versions of Django, with each Python that is installed
# make proof-peers  run the races against other packages, in an environment of their own
# make deploy-test  lint the files in deploy/, and run them behind a real proxy with TLS
# make client-test  build the package in client/, and test it with axios, React, Vue and TypeScript
# make docs         build the documentation site into build/site, and check it
# make docs-serve   serve the site on this machine, and reload it when a page changes
# make diagrams     redraw the diagrams of the documentation
# make fuzz         send hostile input at length
# make bench        measure performance next to other packages, and write docs/benchmarks.md
# make bench-scale  measure with ten million sessions, or SESSIONS=200000 SOAK=1, and write docs/scaling.md
# make screenshots  retake the README's screenshots, with Chromium
# make clean        remove generated files; .env and the database stay

# PYTHON=python3.12 chooses another Python. Every setting of .env.example works too: make run PORT=8080

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_DEPLOY := $(VENV)/.installed-deploy
INSTALLED_CLIENT := $(VENV)/.installed-client
INSTALLED_DOCS := $(VENV)/.installed-docs
STATIC := staticfiles/staticfiles.json

# Settings of a production server, for checks; no .env is read.
PRODUCTION := ENV_FILE= SECRET_KEY=$$($(PY) -c 'import secrets; print(secrets.token_urlsafe(64))') \
	DEBUG=false PUBLIC_URL=https://auth.example.com DATABASE_URL=sqlite://:memory: SECURE_SSL_REDIRECT=on \
	EMAIL_URL=smtp+tls://localhost:587

# Each process that a test starts would compile all it imports anew.
unexport PYTHONDONTWRITEBYTECODE

# Node.js trusts a list of its own unless told to trust the system's certificates, which may include a proxy's.
export NODE_USE_SYSTEM_CA ?= 1

# As many processes as there are cores. `make test` starts several runs at once, and test-tokens does with one process.
PYTEST := $(PY) -m pytest --numprocesses=logical --maxprocesses=4 --dist=worksteal

.PHONY: help run dev admin test test-sqlite test-tokens test-project coverage quick check check-types check-rest format bench bench-scale clean proof fuzz hosts compat proof-peers screenshots messages deploy-test client-test docs docs-serve diagrams
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \(make .*\)/\1/p' $(firstword $(MAKEFILE_LIST))

run: $(INSTALLED) $(STATIC) .env
	@$(PY) manage.py migrate --noinput --verbosity 0
	@exec $(PY) -m gunicorn -c python:config.local config.wsgi

dev: $(INSTALLED) .env
	@$(PY) manage.py migrate --noinput --verbosity 0
	@exec $(PY) manage.py runserver $$($(PY) -c 'from config.gunicorn import bind; print(bind)')

admin: $(INSTALLED) .env
	@$(PY) manage.py migrate --noinput --verbosity 0
	@$(PY) manage.py createsuperuser

# Folders with a target of their own.
APART := --ignore=tests/deploy --ignore=tests/site --ignore=tests/hosts --ignore=tests/services

# What runs where:
#
# quick         SQLite      the parts, but for what takes long: tokens in this project, accounts, api, config
# test-sqlite   SQLite      other programs, the pages' examples, stories; the proof as far as SQLite may differ
# test-tokens   PostgreSQL  tokens alone, with the user that Django brings
# test-project  PostgreSQL  the proof and all parts but tokens
# coverage      PostgreSQL  the last two without the proof; traced
#
# What other programs, examples and stories do to a row, the tests of the parts do on PostgreSQL.
ON_SQLITE := tests/browser tests/client tests/test_docs.py tests/test_reference.py tests/test_stories.py \
	tests/proof/test_model.py tests/proof/test_factors.py
# PostgreSQL refuses more than SQLite.
ON_POSTGRESQL := tests/proof/test_attackers.py tests/proof/test_hostile_input.py tests/proof/test_leaks.py
SLOW := $(ON_SQLITE) tests/proof tests/test_messages.py tests/config/test_below_a_path.py \
	tests/config/test_languages.py tests/config/test_metrics.py tests/config/test_outermost.py \
	tests/api/test_browsing.py tests/api/test_health.py tests/api/test_hostile.py tests/api/test_lengths.py \
	tests/api/test_passkey_doors.py tests/api/test_schema.py \
	tests/accounts/test_admin.py tests/accounts/test_names.py tests/accounts/test_pwned_passwords.py \
	tests/accounts/test_second_factor.py tests/tokens/test_advisories.py tests/tokens/test_attacks.py

# Many values, names or ways, and one outcome.
MANY := no_value or accepts_only_the_lookups or everything_that_ends_sessions

# The runs share the cores, since each waits much: for servers, browsers and locks.
test: $(INSTALLED_DEV)
	@echo 'The checks and three runs at once; each prints when it is done.'
	@$(MAKE) --no-print-directory --jobs=4 $(OUTPUT_APART) check-rest test-project test-sqlite test-tokens check-types

OUTPUT_APART := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

test-sqlite: $(INSTALLED_DEV)
	TEST_DATABASE=sqlite $(PYTEST) $(ON_SQLITE) tests/proof tests/services/test_documents.py tests/api/test_health.py \
		tests/api/test_hostile.py tests/accounts/test_admin.py::test_no_value_of_an_offered_lookup_is_a_server_error \
		tests/accounts/test_models.py tests/accounts/test_names.py \
		$(ON_POSTGRESQL:%=--ignore=%)

# One process is enough: the other runs take longer, and each process imports and collects all tests anew.
test-tokens: $(INSTALLED_DEV)
	TEST_DATABASE=postgresql $(PY) -m pytest --ds=tests.settings_tokens tests/tokens

test-project: $(INSTALLED_DEV)
	TEST_DATABASE=postgresql $(PYTEST) $(APART) $(ON_SQLITE:%=--ignore=%) --ignore=tests/tokens

# Apart from `make test`, since tracing makes Python twice as slow.
TRACED := TEST_DATABASE=postgresql $(PYTEST) --cov --cov-report= --cov-fail-under=0

coverage: $(INSTALLED_DEV)
	COVERAGE_FILE=.coverage.tokens $(TRACED) --ds=tests.settings_tokens tests/tokens
	COVERAGE_FILE=.coverage.project $(TRACED) tests/accounts tests/api tests/config
	$(PY) -m coverage combine --quiet .coverage.tokens .coverage.project
	$(PY) -m coverage report

quick: $(INSTALLED_DEV)
	TEST_DATABASE=sqlite $(PYTEST) $(APART) $(SLOW:%=--ignore=%) -k 'not ($(MANY))'

proof: $(INSTALLED_DEV)
	$(PY) -m tests.proof.report

fuzz: $(INSTALLED_DEV)
	TEST_DATABASE=postgresql FUZZ_EXAMPLES=$(or $(EXAMPLES),300) $(PY) -m pytest --numprocesses=auto tests/proof/test_hostile_input.py

hosts: $(INSTALLED_DEV)
	TEST_DATABASE=sqlite $(PYTEST) tests/hosts tests/services
	TEST_DATABASE=postgresql $(PYTEST) tests/hosts

compat: $(INSTALLED_DEV) hosts
	$(PY) -m tests.compat

proof-peers: $(INSTALLED_DEV)
	$(PY) -m tests.proof.peers

deploy-test: $(INSTALLED_DEPLOY)
	$(PY) -m pytest tests/deploy tests/test_requirements.py

# Node.js comes from the package index.
WITH_NODE := PATH="$(abspath $(VENV)/bin):$$PATH"
NPM := $(WITH_NODE) npm --prefix client

client-test: $(INSTALLED_CLIENT)
	$(NPM) ci --no-audit --no-fund
	$(NPM) test

MKDOCS := NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs

docs: $(INSTALLED_DOCS) $(INSTALLED_CLIENT)
	$(MKDOCS) build --strict
	$(WITH_NODE) $(PY) -m pytest tests/site tests/test_requirements.py

docs-serve: $(INSTALLED_DOCS)
	$(MKDOCS) serve --dev-addr 127.0.0.1:8001

diagrams: $(INSTALLED_DEV)
	$(PY) -m tests.diagrams

screenshots: $(INSTALLED_DEV)
	SCREENSHOTS=docs/images $(PY) -m pytest tests/browser/test_screenshots.py

check: $(INSTALLED_DEV)
	@$(MAKE) --no-print-directory --jobs=2 $(OUTPUT_APART) check-types check-rest

# Apart from the others, since it takes as long as all of them.
check-types: $(INSTALLED_DEV)
	$(PY) -m mypy

check-rest: $(INSTALLED_DEV)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/lint-imports
	$(PRODUCTION) $(PY) manage.py makemigrations --check --dry-run
	$(PRODUCTION) $(PY) manage.py check --deploy --fail-level WARNING
	$(PRODUCTION) $(PY) manage.py spectacular --validate --fail-on-warn --file /dev/null

format: $(INSTALLED_DEV)
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .

messages: $(INSTALLED_DEV)
	$(PY) -m tests.messages

bench: $(INSTALLED_DEV)
	$(PY) -m benchmarks

bench-scale: $(INSTALLED_DEV)
	SESSIONS=$(SESSIONS) SOAK=$(SOAK) $(PY) -m benchmarks.scale

clean:
	rm -rf $(VENV) staticfiles build dist *.egg-info .coverage .coverage.* htmlcov
	rm -rf .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one like this: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv --clear $(VENV)

$(INSTALLED): requirements.txt | $(PY)
	@echo 'Installing requirements.txt into $(VENV) ...'
	@$(PY) -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(INSTALLED_DEV): requirements-dev.txt $(INSTALLED)
	@echo 'Installing requirements-dev.txt into $(VENV) ...'
	@$(PY) -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(INSTALLED_DEPLOY): tests/deploy/requirements.txt $(INSTALLED_DEV)
	@echo 'Installing tests/deploy/requirements.txt into $(VENV) ...'
	@$(PY) -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(INSTALLED_CLIENT): requirements-client.txt $(INSTALLED)
	@echo 'Installing requirements-client.txt into $(VENV) ...'
	@$(PY) -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(INSTALLED_DOCS): requirements-docs.txt $(INSTALLED_DEV)
	@echo 'Installing requirements-docs.txt into $(VENV) ...'
	@$(PY) -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# Written whole or not at all, and for its owner's eyes; never over one that exists.
.env: | $(PY)
	@umask 077 && $(PY) -c 'import re, secrets, sys; print(re.sub("(?m)^SECRET_KEY=$$", "SECRET_KEY=" + secrets.token_urlsafe(64), sys.stdin.read()), end="")' < .env.example > .env.$$$$ && mv -n .env.$$$$ .env
	@echo 'Wrote .env with a new SECRET_KEY.'

$(STATIC): $(INSTALLED) $(shell find accounts api tokens static -path '*static/*' -type f 2>/dev/null) $(wildcard client/src/*) | .env
	@$(PY) manage.py collectstatic --noinput --verbosity 0
	@touch $@
