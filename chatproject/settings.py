"""Settings of the project, from the environment and `.env`. Nothing is required on one's own machine.

Every variable is described in the README's settings table and in `.env.example`.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from conversations.access.hosts import is_loopback

from . import cross_origin, descriptors, keys
from . import environment as env
from .logs import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"  # made only where something goes into it
env.read_dotenv(BASE_DIR / ".env")

# Who may call -----------------------------------------------------------------------------------------------
DEBUG = env.boolean("DEBUG", False)
LOOPBACK_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
ALLOWED_HOSTS = env.hosts("ALLOWED_HOSTS") or LOOPBACK_HOSTS
ON_OWN_MACHINE = all(is_loopback(host) for host in ALLOWED_HOSTS)
REQUIRE_LOGIN = env.boolean("REQUIRE_LOGIN", not ON_OWN_MACHINE)
if not REQUIRE_LOGIN and not ON_OWN_MACHINE:
    raise ImproperlyConfigured(
        "REQUIRE_LOGIN=false is for one person on their own machine, but ALLOWED_HOSTS names more than loopback."
    )
SECRET_KEY = keys.secret_key(VAR_DIR / "secret_key", may_create=ON_OWN_MACHINE)
CORS_ALLOWED_ORIGINS = env.origins("CORS_ALLOWED_ORIGINS")
# Without credentials: programs of other origins show an API key. Pages for people are for none of them.
CORS_ALLOW_CREDENTIALS = False
CORS_EXPOSE_HEADERS = cross_origin.EXPOSED
CORS_ALLOW_HEADERS = cross_origin.ALLOWED
CSRF_TRUSTED_ORIGINS = env.origins("CSRF_TRUSTED_ORIGINS", may_have_wildcards=True)
TRUSTED_PROXIES = env.networks("TRUSTED_PROXIES")

# The server -------------------------------------------------------------------------------------------------
HOST = env.text("HOST", "127.0.0.1")
PORT = env.integer("PORT", 8000, low=1, high=65_535)
WORKERS = env.integer("WORKERS", 1, low=1, high=256)
REDIS_URL = env.url("REDIS_URL", ("redis", "rediss", "unix"))
# Where a reverse proxy serves all of it below a path.
ROOT_PATH = env.root_path("ROOT_PATH")
FORCE_SCRIPT_NAME = ROOT_PATH or None
SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = LANGUAGE_COOKIE_PATH = f"{ROOT_PATH}/"
MAX_BODY_BYTES = 1_048_576
# Of what carries images or a whole history.
MAX_LARGE_BODY_BYTES = env.integer("MAX_LARGE_BODY_BYTES", 20_971_520, low=MAX_BODY_BYTES, high=1_073_741_824)
REQUEST_HEAD_SECONDS = env.seconds("REQUEST_HEAD_SECONDS", 30.0)
REQUEST_BODY_SECONDS = env.seconds("REQUEST_BODY_SECONDS", 60.0)
KEEP_ALIVE_SECONDS = env.seconds("KEEP_ALIVE_SECONDS", 5.0)
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES

INSTALLED_APPS = [
    # Its `runserver` serves ASGI. It brings twisted: a quarter of the start of every process, which no other needs.
    *(["daphne"] if "runserver" in sys.argv else []),
    "chatproject.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "servestatic",
    "axes",
    "channels",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "llmproviders",
    "conversations",
]

# Pages with sessions and logins (chatproject/asgi.py): Django's own, behind what all requests pass.
MIDDLEWARE = [
    "chatproject.middleware.RequestMiddleware",
    "conversations.web.pace.PaceMiddleware",
    "chatproject.middleware.SecurityMiddleware",
    "chatproject.page_limits.TurnMiddleware",
    "chatproject.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "chatproject.page_limits.RateMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "axes.middleware.AxesMiddleware",
]
# All else, the API and its streams above all: layers that stay on the event loop (chatproject/handler.py).
API_MIDDLEWARE = [
    "chatproject.middleware.RequestMiddleware",
    "chatproject.middleware.CorsMiddleware",
    "chatproject.static_files.StaticFilesMiddleware",
    "conversations.web.pace.PaceMiddleware",
    "chatproject.middleware.SecurityMiddleware",
    "chatproject.middleware.CommonMiddleware",
]
ROOT_URLCONF = "chatproject.urls"
ASGI_APPLICATION = "chatproject.asgi.application"
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# Where things are kept --------------------------------------------------------------------------------------
DATABASES = {"default": env.database("DATABASE_URL", BASE_DIR, "sqlite:///var/db.sqlite3")}
CHANNEL_LAYERS: dict[str, dict[str, Any]] = {
    "default": (
        # redis-py's read timeout of 5 s would end every socket that is idle for longer.
        {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [{"address": REDIS_URL, "socket_timeout": None}]},
        }
        if REDIS_URL
        else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    )
}
env.need_driver("DATABASE_URL", DATABASES["default"]["ENGINE"])
env.need_driver("REDIS_URL", CHANNEL_LAYERS["default"]["BACKEND"])
# Files that are served by nothing but the API, to whom they belong.
ATTACHMENTS_DIR = BASE_DIR / env.text("ATTACHMENTS_DIR", "var/attachments")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "attachments": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {
            "location": ATTACHMENTS_DIR,
            "file_permissions_mode": 0o600,
            "directory_permissions_mode": 0o700,
        },
    },
}
STATIC_URL = f"{ROOT_PATH}/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "chatproject" / "static"]
SERVESTATIC_ALLOW_ALL_ORIGINS = False
SERVESTATIC_USE_FINDERS = True  # no collectstatic step: the few static files come straight from the apps

# Language and time ------------------------------------------------------------------------------------------
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LANGUAGE_CODE = env.choice("LANGUAGE_CODE", "en", [code for code, _name in LANGUAGES])
LOCALE_PATHS = [BASE_DIR / "chatproject" / "locale"]
TIME_ZONE = env.time_zone("TIME_ZONE", "UTC")  # of pages and the log; the API speaks UTC
USE_TZ = True
FORMAT_MODULE_PATH = "chatproject.formats"

# Security ---------------------------------------------------------------------------------------------------
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
CSRF_FAILURE_VIEW = "chatproject.views.csrf_failed"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "account"
# Wrong passwords for one name from one address; nobody else is locked out with it.
AXES_FAILURE_LIMIT = env.integer("LOGIN_FAILURES", 5, low=1, high=1000)
AXES_COOLOFF_TIME = timedelta(seconds=env.seconds("LOGIN_COOLOFF", 900.0))
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
# Who goes on trying while locked out neither prolongs that, for a person at the same address, nor is stored.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_CLIENT_IP_CALLABLE = "chatproject.logins.address"
AXES_LOCKOUT_CALLABLE = "chatproject.logins.locked_out"
AXES_DISABLE_ACCESS_LOG = True  # the audit log tells of logins; a table of them would grow without end
AXES_VERBOSE = False
# These look for Django's own middleware by name; chatproject.middleware.SecurityMiddleware does what both of them do.
SILENCED_SYSTEM_CHECKS = ["security.W001", "security.W002"]
DEFAULT_EXCEPTION_REPORTER_FILTER = "chatproject.error_reports.NoValues"
_REDIRECT = env.boolean("SECURE_SSL_REDIRECT", True)
_HSTS_SECONDS = env.integer("SECURE_HSTS_SECONDS", 31_536_000, low=0, high=630_720_000)
_HSTS_PRELOAD = env.boolean("SECURE_HSTS_PRELOAD", False)
if not ON_OWN_MACHINE:
    # Behind a reverse proxy that ends TLS and sets this header (README, "In production").
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = _REDIRECT
    SECURE_REDIRECT_EXEMPT = [r"^api/health"]
    SECURE_HSTS_SECONDS = _HSTS_SECONDS
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = _HSTS_PRELOAD
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    # Such a cookie no other host of the same domain can set.
    SESSION_COOKIE_NAME = "__Secure-sessionid" if ROOT_PATH else "__Host-sessionid"

# Logging ----------------------------------------------------------------------------------------------------
LOGGING = logging_config(
    format=env.choice("LOG_FORMAT", "text", ("text", "json")),
    level=env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR")),
)

# The REST API (its views carry their own classes: conversations/web/base.py) ---------------------------------
REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
SPECTACULAR_SETTINGS = {
    "TITLE": "chatproject",
    "DESCRIPTION": "Chat with large language models: durable, resumable, stoppable answers.",
    "VERSION": "1.0.0",
    "LICENSE": {"name": "MIT", "identifier": "MIT"},
    "CONTACT": {"name": "The maintainers of chatproject"},
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    # Its default asks another host whether the document is valid.
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
    "SERVE_PUBLIC": True,
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "conversations.web.schema.complete",
    ],
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {"AnswerStatusEnum": "conversations.models.Generation.Status"},
}

# The two apps: every key is described in conversations/conf.py and llmproviders/conf.py ---------------------
MAX_ANSWERS_PER_PROCESS = env.integer("MAX_ANSWERS_PER_PROCESS", 2000, low=0, high=1_000_000)
CONVERSATIONS = {
    "REQUIRE_LOGIN": REQUIRE_LOGIN,
    "KEEP_LATEST": env.integer("CONVERSATIONS_KEEP_LATEST", 500, low=1, high=1_000_000),
    "DEFAULT_MODEL_TYPE": env.model_type("DEFAULT_MODEL_TYPE"),
    "TITLES": env.choice("TITLES", "model", ("model", "first_words")),
    "ON_DISCONNECT": env.choice("ON_DISCONNECT", "continue", ("continue", "cancel")),
    "READY_NEEDS_CHANNEL_LAYER": env.boolean("READY_NEEDS_REDIS", False),
    "DB_THREADS": env.integer("DB_THREADS", 4, low=1, high=64),
    "DRAIN_LISTEN_SECONDS": env.seconds("DRAIN_LISTEN_SECONDS", 3.0, may_be_zero=True),
    "KEEP_TEMPORARY_SECONDS": env.seconds("KEEP_TEMPORARY_SECONDS", 86_400.0),
    "SEARCH": env.text("SEARCH") or "conversations.search.index.DatabaseIndex",
    "DRAIN_SECONDS": env.seconds("DRAIN_SECONDS", 20.0),
    "MAX_BODY_BYTES": MAX_BODY_BYTES,
    "MAX_LARGE_BODY_BYTES": MAX_LARGE_BODY_BYTES,
    "ATTACHMENT_STORAGE": "attachments",
    "ATTACHMENT_BYTES_PER_OWNER": env.integer("ATTACHMENT_BYTES_PER_OWNER", 209_715_200, low=0, high=2**50),
    "TRUSTED_PROXIES": TRUSTED_PROXIES,
    "RATE_LIMIT": env.rate("RATE_LIMIT", "300/minute"),
    "RATE_LIMIT_STORAGE": REDIS_URL,
    "MAX_ANSWERS_PER_CALLER": env.integer("MAX_ANSWERS_PER_CALLER", 8, low=0, high=1_000_000),
    "MAX_ANSWERS_PER_PROCESS": descriptors.fitting(MAX_ANSWERS_PER_PROCESS),
    "TOKENS_PER_DAY": env.integer("TOKENS_PER_DAY", 0, low=0, high=1_000_000_000_000),
}
LLMPROVIDERS = {
    "API_URL": env.url("LLM_API_URL", ("http", "https")),
    "MODEL": env.text("LLM_MODEL"),
    "API_KEY": env.text("LLM_API_KEY"),
    "CONTEXT_WINDOW": env.integer("LLM_CONTEXT_WINDOW", 8192, low=256, high=100_000_000),
    "LOCAL_MODEL_FILE": env.text("LOCAL_MODEL_FILE"),
    "LOCAL_CONTEXT_WINDOW": env.integer("LOCAL_CONTEXT_WINDOW", 8192, low=256, high=100_000_000),
    "ENCRYPTION_KEYS": keys.encryption_keys(VAR_DIR / "encryption_key", may_create=ON_OWN_MACHINE),
    "ALLOW_PRIVATE_UPSTREAMS": env.boolean("ALLOW_PRIVATE_UPSTREAMS", True),
    "ALLOWED_UPSTREAM_HOSTS": env.hosts_and_ports("ALLOWED_UPSTREAM_HOSTS"),
    "UPSTREAM_PROXY": env.url("UPSTREAM_PROXY", ("http",)),
    "CONNECT_TIMEOUT": env.seconds("LLM_CONNECT_TIMEOUT", 10.0),
    "FIRST_TOKEN_TIMEOUT": env.seconds("LLM_FIRST_TOKEN_TIMEOUT", 120.0),
    "BETWEEN_TOKENS_TIMEOUT": env.seconds("LLM_BETWEEN_TOKENS_TIMEOUT", 60.0),
    "TOTAL_TIMEOUT": env.seconds("LLM_TOTAL_TIMEOUT", 1800.0),
}
