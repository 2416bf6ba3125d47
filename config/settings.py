"""The project's settings. Every environment variable is read here, once; .env.example explains them."""

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from corsheaders.defaults import default_headers
from django.utils.translation import gettext_lazy as _

from config.domains import passkey_domain, passkey_origins
from config.environment import Env, names_in

BASE_DIR = Path(__file__).resolve().parent.parent

env_file = Path(os.environ.get("ENV_FILE", BASE_DIR / ".env"))
environ.Env.read_env(env_file)
env = Env()

DEBUG = env.boolean("DEBUG", default=False)

SECRET_KEY = env.string("SECRET_KEY")
SECRET_KEY_FALLBACKS = env.items("SECRET_KEY_FALLBACKS")

PORT = env.integer("PORT", default=8000, maximum=65_535)
PUBLIC_URL = env.address("PUBLIC_URL", default=f"http://localhost:{PORT}")
# All paths of the server are below it, whether or not the proxy in front strips it.
FORCE_SCRIPT_NAME = urlsplit(PUBLIC_URL).path or None
root = f"{FORCE_SCRIPT_NAME or ''}/"
ALLOWED_HOSTS = env.hosts("ALLOWED_HOSTS", default=f"{urlsplit(PUBLIC_URL).hostname},localhost,127.0.0.1,[::1]")
TRUSTED_PROXIES = env.integer("TRUSTED_PROXIES", default=0, maximum=10)

METRICS_TOKEN = env.string("METRICS_TOKEN", default="")

# What the project is made of

INSTALLED_APPS = [
    "config",
    "tokens",
    "accounts",
    "api",
    "accounts.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "corsheaders",
    "csp",
]

MIDDLEWARE = [
    "tokens.middleware.DPoPNonce",
    "config.serving.middleware.ClientAddress",
    "config.serving.middleware.ContentSecurityPolicy",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.serving.middleware.CrossOrigin",
    "config.serving.middleware.Language",
    "config.serving.middleware.Refusals",
    "config.serving.middleware.OptionalTrailingSlash",
    "config.serving.middleware.Unavailable",
    "config.serving.page_sessions.SessionMiddleware",
    "config.serving.middleware.HostCheck",
    "django.middleware.csrf.CsrfViewMiddleware",
    "accounts.page_session.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
if METRICS_TOKEN:
    MIDDLEWARE.insert(0, "config.serving.metrics.Measuring")

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
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
            ],
        },
    },
]

STATIC_URL = f"{root}static/"
STATICFILES_DIRS = [BASE_DIR / "static", BASE_DIR / "client/src"]
STATIC_ROOT = BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "config.serving.storage.StaticFilesStorage"},
}

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [BASE_DIR / "locale"]

# Where things are kept

database = env.url(
    "DATABASE_URL",
    default="sqlite:///db.sqlite3",
    schemes=r"postgres(ql)?://|sqlite://(/|:memory:$|$)",
    parse=environ.Env.db_url_config,
    example="postgresql://user:password@host:5432/name or sqlite:///db.sqlite3",
)
# How long a request waits for the database: to connect, for each answer, and with SQLite for the lock.
DATABASE_TIMEOUT = env.integer("DATABASE_TIMEOUT", default=10, minimum=1, maximum=3600)  # seconds
prepares_statements = env.boolean("DATABASE_PREPARED_STATEMENTS", default=False)
options: dict[str, Any]
if database["ENGINE"] == "django.db.backends.sqlite3":
    if database["NAME"] != ":memory:":
        database["NAME"] = str(BASE_DIR / database["NAME"])
    options = {
        # A transaction takes the write lock when it begins, so one that reads first and then writes can't fail between.
        "transaction_mode": "IMMEDIATE",
        "timeout": DATABASE_TIMEOUT,
        "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL",
    }
else:
    # A transaction pooler (PgBouncer) gives each transaction another connection, so no state may live in one: no named
    # cursors, and no prepared statements unless asked for.
    database["DISABLE_SERVER_SIDE_CURSORS"] = True
    database["ENGINE"] = "config.postgresql"
    options = {
        # Notices a lost host within seconds, in commands too.
        "connect_timeout": DATABASE_TIMEOUT,
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }
    if prepares_statements:
        options |= {"server_side_binding": True, "prepare_threshold": 5}  # psycopg's default
DATABASES = {
    "default": {
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        **database,
        "OPTIONS": options | database.get("OPTIONS", {}),
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {
    "default": env.url(
        "CACHE_URL",
        default="locmemcache://",
        schemes=r"[a-z]+://",
        parse=environ.Env.cache_url_config,
        example="redis://host:6379/0",
    )
}
cache = CACHES["default"]
if cache["BACKEND"] == "django.core.cache.backends.redis.RedisCache":
    if find_spec("redis") is None:
        env.reject("CACHE_URL", "needs the package redis (pip install redis)")
    # The counts in it are not worth waiting for.
    cache["OPTIONS"] = {"socket_connect_timeout": 0.5, "socket_timeout": 0.5} | cache.get("OPTIONS", {})

email = env.url(
    "EMAIL_URL",
    default="consolemail://",
    schemes=r"[a-z+]+://",
    parse=environ.Env.email_url_config,
    example="smtp+tls://user:password@host:587",
)
EMAIL_BACKEND: str = email["EMAIL_BACKEND"]
EMAIL_HOST: str = email["EMAIL_HOST"] or "localhost"
EMAIL_PORT: int = email["EMAIL_PORT"] or 25
EMAIL_HOST_USER: str = email["EMAIL_HOST_USER"] or ""
EMAIL_HOST_PASSWORD: str = email["EMAIL_HOST_PASSWORD"] or ""
EMAIL_USE_TLS: bool = email.get("EMAIL_USE_TLS", False)
EMAIL_USE_SSL: bool = email.get("EMAIL_USE_SSL", False)
EMAIL_FILE_PATH: str | None = email["EMAIL_FILE_PATH"] or None
EMAIL_TIMEOUT = 10
NOTICES = env.items("NOTICES", default="all")
# Whether a thread of each server process sends the queued mails, or `manage.py sendmails` beside it.
MAIL_WORKER = env.choice("MAIL_WORKER", "thread", "command")
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.string("DEFAULT_FROM_EMAIL", default="no-reply@localhost")

# Who people are

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["accounts.backends.AccountBackend"]
PASSWORD_HASHERS = [
    "accounts.hashers.Argon2idPasswordHasher",  # reads Argon2 hashes of other parameters too
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2SHA1PasswordHasher",
    "django.contrib.auth.hashers.ScryptPasswordHasher",
]
AUTH_PASSWORD_VALIDATORS: list[dict[str, Any]] = [
    {"NAME": "accounts.validators.MaximumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 8}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
    {
        "NAME": "accounts.validators.ForbiddenWordsValidator",
        "OPTIONS": {"words": env.items("PASSWORD_FORBIDDEN_WORDS")},
    },
]
if env.boolean("PWNED_PASSWORDS", default=False):
    AUTH_PASSWORD_VALIDATORS.append({"NAME": "accounts.pwned_passwords.PwnedPasswordsValidator"})
PASSWORD_RESET_TIMEOUT = 3600  # seconds; of every mailed link
# Where mailed links lead: to the server's own pages, or to a URL that contains {uid} and {token}.
PASSWORD_RESET_URL = env.string("PASSWORD_RESET_URL", default="")
EMAIL_VERIFICATION_URL = env.string("EMAIL_VERIFICATION_URL", default="")
REGISTRATION_OPEN = env.choice("REGISTRATION", "open", "closed") == "open"
# Whether a registration signs in a user whose address is not verified yet.
EMAIL_VERIFICATION_REQUIRED = env.choice("EMAIL_VERIFICATION", "optional", "required") == "required"

# Sessions and tokens

JWT_ISSUER = env.string("JWT_ISSUER", default=PUBLIC_URL)
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": env.seconds("ACCESS_TOKEN_LIFETIME", default=900),
    "REFRESH_TOKEN_LIFETIME": env.seconds("REFRESH_TOKEN_LIFETIME", default=604_800),
    "ISSUER": JWT_ISSUER,
    "AUDIENCE": env.string("JWT_AUDIENCE", default=JWT_ISSUER),
    "USER_ID_CLAIM": "sub",
}
TOKENS_SESSION_LIFETIME = env.seconds("SESSION_LIFETIME", default=7_776_000)
TOKENS_SHORT_SESSION_LIFETIME = env.seconds("SHORT_SESSION_LIFETIME", default=43_200)
TOKENS_RECENT_SIGN_IN = env.seconds("RECENT_SIGN_IN", default=600)
TOKENS_GRACE_PERIOD = env.seconds("REFRESH_GRACE_PERIOD", default=10, maximum=60)
TOKENS_LATE_RETRY = env.boolean("REFRESH_LATE_RETRY", default=True)
TOKENS_MAX_SESSIONS_PER_USER = env.integer("MAX_SESSIONS_PER_USER", default=100)
TOKENS_COOKIE_NAME = env.cookie_name("REFRESH_COOKIE_NAME", default="refreshToken")
TOKENS_COOKIE_SAMESITE = env.choice("REFRESH_COOKIE_SAMESITE", "strict", "lax", "none").capitalize()
TOKENS_COOKIE_SECURE = env.boolean("REFRESH_COOKIE_SECURE", default=not DEBUG or TOKENS_COOKIE_SAMESITE == "None")
TOKENS_COOKIE_PATH = f"{root}auth"
TOKENS_TRUSTED_ORIGINS = env.origins("TRUSTED_ORIGINS")
TOKENS_DPOP = env.choice("DPOP", "optional", "required", "off")
TOKENS_PUBLIC_URL = PUBLIC_URL
TOKENS_THROTTLING = env.boolean("THROTTLING", default=True)
TOKENS_SECOND_FACTOR = "accounts.factors.registry"
if EMAIL_VERIFICATION_REQUIRED:
    TOKENS_LOGIN_HINT = _(
        "If you just registered, open the link in the email first. Reset your password to get a new link."
    )
TOKENS_SIGNING_KEYS = env.items("SIGNING_KEYS")
TOKENS_INTROSPECTION_CREDENTIALS = env.credentials("INTROSPECTION_CREDENTIALS")

# Passkeys are bound to a domain name. If the host of PUBLIC_URL is an IP address, there are none.
PASSKEYS = env.choice("PASSKEYS", "on", "off") == "on"
PASSKEY_RP_ID = env.string("PASSKEY_RP_ID", default=passkey_domain(PUBLIC_URL))
PASSKEY_RP_NAME = env.string("PASSKEY_RP_NAME", default=PASSKEY_RP_ID)
PASSKEY_ORIGINS = env.items("PASSKEY_ORIGINS") or passkey_origins(PASSKEY_RP_ID, PUBLIC_URL, TOKENS_TRUSTED_ORIGINS)

# The API

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["tokens.authentication.JWTAuthentication", "api.browsing.PassAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PAGINATION_CLASS": "api.pagination.Pagination",
    "DEFAULT_PARSER_CLASSES": [
        "tokens.http.parsers.JSONParser",
        "rest_framework.parsers.FormParser",
        "tokens.http.parsers.MultiPartParser",
    ],
    "DEFAULT_RENDERER_CLASSES": [
        "rest_framework.renderers.JSONRenderer",
        "api.browsing.PageRenderer",
    ],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "tokens.http.errors.exception_handler",
    "NUM_PROXIES": 0,  # REMOTE_ADDR is the client's address already; X-Forwarded-For can be forged
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Latchkey",
    "DESCRIPTION": "Token sign-in that stays signed in, detects theft, and can be ended immediately.",
    "VERSION": "0.2.0",
    "DISABLE_DOCSTRING_DESCRIPTIONS": True,  # they are for readers of the code
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "api.schema.tag"],
    "SERVERS": [{"url": FORCE_SCRIPT_NAME}] if FORCE_SCRIPT_NAME else [],
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024  # bytes

# Headers for browsers

CORS_ALLOWED_ORIGINS = TOKENS_TRUSTED_ORIGINS
CORS_ALLOW_CREDENTIALS = True
CORS_ALLOW_HEADERS = [*default_headers, "dpop"]
CORS_EXPOSE_HEADERS = ["DPoP-Nonce", "Retry-After", "WWW-Authenticate"]

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "base-uri": ["'none'"],
        "connect-src": ["'self'"],
        "font-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "img-src": ["'self'", "data:"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_HSTS_SECONDS = 0 if DEBUG else 31_536_000  # a year
SECURE_SSL_REDIRECT = env.boolean("SECURE_SSL_REDIRECT", default=False)
below = f"^{re.escape(root.removeprefix('/'))}"
SECURE_REDIRECT_EXEMPT = [f"{below}health/", *([f"{below}metrics/?$"] if METRICS_TOKEN else [])]
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    USE_X_FORWARDED_HOST = True

SESSION_ENGINE = "config.serving.page_sessions"
SESSION_COOKIE_SAMESITE = "Strict"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = TOKENS_COOKIE_SECURE
SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = root
CSRF_COOKIE_HTTPONLY = True

# Only the owner of a domain can decide whether its other hosts use TLS too, for good.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        # The access log has the 4xx, and requests with a wrong Host.
        "django.request": {"level": "ERROR"},
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        "gunicorn.http.wsgi": {"level": "ERROR"},  # otherwise it logs a line for each HEAD, whose body it drops
        "latchkey": {"level": "INFO"},
        "tokens": {"level": "INFO"},
        "accounts": {"level": "INFO"},
    },
}

# config.gunicorn reads three more. Unknown names are reported, since a misspelt variable would have no effect.
UNKNOWN_VARIABLES = sorted({*names_in(env_file)} - env.asked - {"HOST", "WORKERS", "THREADS"})
KNOWN_VARIABLES = sorted(env.asked)
