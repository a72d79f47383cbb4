"""Settings of the composed site. Every setting that differs between sites is a variable.

The variables are those of the specification ("Environment Variables") and some additional ones;
``.env.example`` lists them all.
"""

from __future__ import annotations

from pathlib import Path

from django.conf import global_settings

from myometrics_audit.conf import READS
from myometrics_auth.conf import REAUTHENTICATED_OPERATIONS, ROLES
from myometrics_core.beat import beat_schedule

from .databases import ready_to_serve
from .environment import check, env, folder, from_file
from .logs import REQUEST_ID
from .mail import mail_settings
from .optional.brokers import broker_settings
from .optional.content_security import CONTENT_SECURITY_MIDDLEWARE, CONTENT_SECURITY_POLICY

BASE_DIR = Path(__file__).resolve().parent.parent
DEVELOPMENT_HOSTS = "localhost,127.0.0.1,[::1]"

# --- the environment -------------------------------------------------------------------------

DEBUG = env.switch("DEBUG", "false")
DATA_DIR = Path(env.str("DATA_DIR", "") or BASE_DIR / "var")
SECRET_KEY = env.secret_key("SECRET_KEY", from_file("SECRET_KEY"), debug=bool(DEBUG))
SECRET_KEY_FALLBACKS = env.texts("SECRET_KEY_FALLBACKS", from_file("SECRET_KEY_FALLBACKS"))
SIGNING_KEYS = env.texts("SIGNING_KEYS", from_file("SIGNING_KEYS")) or None
PSEUDONYM_KEYS = env.texts("PSEUDONYM_KEYS", from_file("PSEUDONYM_KEYS")) or None
MFA_REQUIRED_ROLES = env.choices("MFA_REQUIRED_ROLES", "", known=ROLES)
IDENTITY_PROVIDERS = (
    env.identity_providers("IDENTITY_PROVIDERS", from_file("IDENTITY_PROVIDERS")) or {}
)
REGISTRATION = env.choice("REGISTRATION", "", choices=("open", "invitation", "closed"))
EMAIL_VERIFICATION = env.choice("EMAIL_VERIFICATION", "", choices=("optional", "required"))
PASSKEY_RP_ID = env.str("PASSKEY_RP_ID", "") or None
PASSKEY_ORIGINS = env.origins("PASSKEY_ORIGINS", "") or None
SCIM_PROVIDERS = env.providers("SCIM_PROVIDERS", "")
SESSION_IDLE_TIMEOUT = env.duration("SESSION_IDLE_TIMEOUT", "")
SESSIONS_PER_USER = env.limit("SESSIONS_PER_USER", "")
ROTATE_REFRESH_TOKENS = env.switch("ROTATE_REFRESH_TOKENS", "false")
REAUTHENTICATE_FOR = env.choices("REAUTHENTICATE_FOR", "", known=REAUTHENTICATED_OPERATIONS)
DATABASE = env.database(
    "DATABASE_URL", from_file("DATABASE_URL", f"sqlite:///{DATA_DIR / 'db.sqlite3'}")
)
DATABASE_POOL_SIZE = env.whole_number("DATABASE_POOL_SIZE", "0")
DATABASE_POOLING = env.choice("DATABASE_POOLING", "", choices=("none", "transaction"))
REPLICA_URLS = env.databases("REPLICA_URLS", from_file("REPLICA_URLS")) or []
REPLICA_LAG = env.positive_number("REPLICA_LAG", "5")
REDIS_URL = env.redis_url("REDIS_URL", from_file("REDIS_URL")) or None
BROKER_URL = (
    env.broker_url("CELERY_BROKER_URL", from_file("CELERY_BROKER_URL")) or REDIS_URL or None
)
AUDIT_KEYS = env.keys("AUDIT_KEYS", from_file("AUDIT_KEYS"))
AUDIT_ANCHOR_FILE = env.str("AUDIT_ANCHOR_FILE", "") or None
AUDIT_CHECKPOINT_KEY = (
    env.checkpoint_key("AUDIT_CHECKPOINT_KEY", from_file("AUDIT_CHECKPOINT_KEY")) or None
)
AUDIT_CHECKPOINT_OLD_KEYS = env.texts("AUDIT_CHECKPOINT_OLD_KEYS", "")
AUDIT_CHECKPOINT_ORIGIN = env.str("AUDIT_CHECKPOINT_ORIGIN", "") or None
AUDIT_WITNESSES = env.witnesses("AUDIT_WITNESSES", "")
AUDIT_WITNESS_QUORUM = env.limit("AUDIT_WITNESS_QUORUM", "")
AUDIT_TIMESTAMP_URL = env.exact_url("AUDIT_TIMESTAMP_URL", "")
AUDIT_STREAMS = env.streams("AUDIT_STREAMS", "")
AUDIT_RECORD_READS = env.choices("AUDIT_RECORD_READS", "exports", known=READS)
AUDIT_ACCESS_REPORT_CLINIC = env.str("AUDIT_ACCESS_REPORT_CLINIC", "")
AUDIT_PARTITIONS = env.switch("AUDIT_PARTITIONS", "false")
AUDIT_LEGAL_HOLDS = env.switch("AUDIT_LEGAL_HOLDS", "false")
AUDIT_ON_USER_DELETE = env.choice("AUDIT_ON_USER_DELETE", "", choices=("cascade", "retain"))
MICROSERVICE_URL = env.http_url("MICROSERVICE_URL", "") or None
DJANGO_API_URL = env.http_url("DJANGO_API_URL", "http://localhost:8001/api")
FRONTEND_URL = env.http_url("FRONTEND_URL", "http://localhost:3000")
ALLOWED_HOSTS = env.hosts("ALLOWED_HOSTS", DEVELOPMENT_HOSTS, debug=bool(DEBUG))
CORS_ALLOWED_ORIGINS = env.origins(
    "CORS_ALLOWED_ORIGINS", "http://localhost:3000,https://myometrics.com"
)
CSRF_TRUSTED_ORIGINS = env.origins("CSRF_TRUSTED_ORIGINS", "")
globals().update(mail_settings())
RATE_LIMITS = {
    "auth": env.rate("RATE_LIMIT_AUTH", "5/minute"),
    "api": env.rate("RATE_LIMIT_API", "100/minute"),
    "export": env.rate("RATE_LIMIT_EXPORT", "2/hour"),
}
MAILS_PER_USER_PER_HOUR = env.positive_number("MAILS_PER_USER_PER_HOUR", "20")
TRUSTED_PROXIES = env.networks("TRUSTED_PROXIES", "", besides="unix:")
UPLOADS_PER_USER_PER_DAY = env.positive_number("UPLOADS_PER_USER_PER_DAY", "1000")
BACKUP_FILE = env.str("BACKUP_FILE", "") or None
METRICS_TOKEN = env.str("METRICS_TOKEN", from_file("METRICS_TOKEN")) or None
METRICS_NETWORKS = env.networks("METRICS_NETWORKS", "")
LOG_LEVEL = env.log_level_name("LOG_LEVEL", "INFO")
WORKER_CONCURRENCY = env.whole_number("WORKER_CONCURRENCY", "0")
JOB_RUNNER = env.job_runner("JOB_RUNNER", "", has_broker=bool(BROKER_URL), debug=bool(DEBUG))
SECURE_SSL_REDIRECT = env.switch("SECURE_SSL_REDIRECT", "false")
SECURE_HSTS_SECONDS = env.whole_number("SECURE_HSTS_SECONDS", "0")
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.switch("SECURE_HSTS_INCLUDE_SUBDOMAINS", "false")
SECURE_HSTS_PRELOAD = env.switch("SECURE_HSTS_PRELOAD", "false")
SECURE_COOKIES = env.switch("SECURE_COOKIES", "false")
BEHIND_TLS_PROXY = env.switch("BEHIND_TLS_PROXY", "false")
check(env)

# --- the site --------------------------------------------------------------------------------

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "myometrics_core",
    "myometrics_core.rate_limits",
    "myometrics_core.health_log",
    "myometrics_auth",
    *(["myometrics_auth.federation"] if IDENTITY_PROVIDERS else []),
    "myometrics_auth.passkeys",
    "myometrics_audit",
    *(["myometrics_audit.checkpoints"] if AUDIT_CHECKPOINT_KEY else []),
    *(["myometrics_audit.streams"] if AUDIT_STREAMS else []),
    "myometrics_audit.review",
    *(["myometrics_audit.access_report"] if AUDIT_ACCESS_REPORT_CLINIC else []),
    *(["myometrics_audit.partitions"] if AUDIT_PARTITIONS else []),
    *(["myometrics_audit.legal_hold"] if AUDIT_LEGAL_HOLDS else []),
    "myometrics_analytics",
    "myometrics_notifications",
    "config",
    "demo",
]
if SCIM_PROVIDERS:
    INSTALLED_APPS.insert(INSTALLED_APPS.index("myometrics_audit"), "myometrics_auth.scim")
MIDDLEWARE = [
    "myometrics_core.middleware.AccessLogMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    CONTENT_SECURITY_MIDDLEWARE,
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
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
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
STATIC_ROOT = folder(DATA_DIR / "static")
MEDIA_ROOT = DATA_DIR / "media"
WHITENOISE_USE_FINDERS = True

# --- data ------------------------------------------------------------------------------------

DATABASES = {
    "default": ready_to_serve(
        DATABASE,
        pool_size=DATABASE_POOL_SIZE,
        pools_transactions=DATABASE_POOLING == "transaction",
    )
}
REPLICAS = {
    f"replica{number}": ready_to_serve(
        replica,
        pool_size=DATABASE_POOL_SIZE,
        pools_transactions=DATABASE_POOLING == "transaction",
    )
    for number, replica in enumerate(REPLICA_URLS, start=1)
}
DATABASES |= {
    alias: {**replica, "TEST": {"MIRROR": "default"}} for alias, replica in REPLICAS.items()
}
DATABASE_ROUTERS = ["myometrics_core.db.ReplicaRouter"] if REPLICAS else []
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": [REDIS_URL],  # a list: Django would split a string at commas
        # Separate from the pickles of earlier versions.
        "KEY_PREFIX": "json",
        "OPTIONS": {
            "pool_class": "myometrics_core.conf.RedisPool",
            "serializer": "myometrics_core.db.JSONSerializer",
            # Short: while Redis can't be reached, lists and writes wait for it.
            "socket_connect_timeout": 0.5,
            "socket_timeout": 2,
        },
    }
    if REDIS_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
}
STORAGES = {
    **global_settings.STORAGES,
    "audit_checkpoints": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": DATA_DIR / "audit-log"},
    },
}
SESSION_ENGINE = f"django.contrib.sessions.backends.{'cache' if REDIS_URL else 'db'}"

# --- users -----------------------------------------------------------------------------------

AUTH_USER_MODEL = "myometrics_auth.User"
PASSWORD_HASHERS = [
    "config.optional.hashers.TunedArgon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# --- the API ---------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["myometrics_auth.authentication.SessionTokenAuthentication"]
}
MYOMETRICS = {
    "TRUSTED_PROXIES": TRUSTED_PROXIES,
    "RATE_LIMITS": RATE_LIMITS,
    "RATE_LIMIT_STORAGE": REDIS_URL,
    "MICROSERVICE_URL": MICROSERVICE_URL,
    "REDIS_URL": REDIS_URL,
    "FRONTEND_URL": FRONTEND_URL,
    "API_URL": DJANGO_API_URL,
    "READ_REPLICAS": list(REPLICAS),
    "REPLICA_LAG": REPLICA_LAG,
    "BACKUP_FILE": BACKUP_FILE,
    "METRICS_TOKEN": METRICS_TOKEN,
    "METRICS_NETWORKS": METRICS_NETWORKS or [],
    "PSEUDONYM_KEYS": PSEUDONYM_KEYS,
    "JOB_RUNNER": JOB_RUNNER,
}
MYOMETRICS_AUTH = {
    "SIGNING_KEYS": SIGNING_KEYS,
    "MFA_REQUIRED_ROLES": MFA_REQUIRED_ROLES or [],
    "IDENTITY_PROVIDERS": IDENTITY_PROVIDERS,
    "REGISTRATION": REGISTRATION or "open",
    "EMAIL_VERIFICATION": EMAIL_VERIFICATION or "optional",
    "PASSKEY_RP_ID": PASSKEY_RP_ID,
    "PASSKEY_ORIGINS": PASSKEY_ORIGINS,
    "SCIM": SCIM_PROVIDERS or {},
    "SESSION_IDLE_TIMEOUT": SESSION_IDLE_TIMEOUT,
    "SESSIONS_PER_USER": SESSIONS_PER_USER,
    "ROTATE_REFRESH_TOKENS": bool(ROTATE_REFRESH_TOKENS),
    "REAUTHENTICATE_FOR": REAUTHENTICATE_FOR or [],
}
MYOMETRICS_AUDIT = {
    "KEYS": AUDIT_KEYS or {},
    "ANCHOR_FILE": AUDIT_ANCHOR_FILE,
    "CHECKPOINT_KEY": AUDIT_CHECKPOINT_KEY,
    "CHECKPOINT_OLD_KEYS": AUDIT_CHECKPOINT_OLD_KEYS or [],
    "CHECKPOINT_ORIGIN": AUDIT_CHECKPOINT_ORIGIN,
    "WITNESSES": AUDIT_WITNESSES or {},
    "WITNESS_QUORUM": AUDIT_WITNESS_QUORUM,
    "TIMESTAMP_URL": AUDIT_TIMESTAMP_URL or "",
    "STREAMS": AUDIT_STREAMS or {},
    "ON_USER_DELETE": AUDIT_ON_USER_DELETE or "cascade",
    "RECORD_READS": AUDIT_RECORD_READS or [],
    "ACCESS_REPORT_CLINIC": AUDIT_ACCESS_REPORT_CLINIC or "",
}
MYOMETRICS_ANALYTICS = {"UPLOADS_PER_USER_PER_DAY": UPLOADS_PER_USER_PER_DAY}
MYOMETRICS_NOTIFICATIONS = {"MAILS_PER_USER_PER_HOUR": MAILS_PER_USER_PER_HOUR}
CORS_ALLOW_CREDENTIALS = True
CORS_EXPOSE_HEADERS = ["Content-Disposition", "Retry-After", "X-Request-ID"]
SPECTACULAR_SETTINGS = {
    "TITLE": "MyoMetrics API",
    "DESCRIPTION": "Accounts, audit log, analytics and notifications for medical imaging.",
    "VERSION": "1.0.0",
    "SCHEMA_PATH_PREFIX": "/api/",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {},
}

# --- transport -------------------------------------------------------------------------------

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_COOKIES
SECURE_REFERRER_POLICY = "same-origin"
SECURE_REDIRECT_EXEMPT = [r"^livez$", r"^readyz$"]
SECURE_CSP = CONTENT_SECURITY_POLICY
if BEHIND_TLS_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# --- background work -------------------------------------------------------------------------

globals().update(broker_settings(BROKER_URL))
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = CELERY_EVENT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CONCURRENCY = WORKER_CONCURRENCY or None
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "config.optional.beat:StatelessScheduler"
CELERY_BEAT_SCHEDULE = beat_schedule

# --- logs ------------------------------------------------------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": REQUEST_ID},
    "formatters": {
        "json": {"()": "config.logs.JsonLogFormatter"},
        "plain": {"()": "config.logs.PlainLogFormatter"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "filters": ["request_id"],
            "formatter": "plain" if DEBUG else "json",
        }
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"level": LOG_LEVEL},
        # On a developer's console each tick of each periodic task is noise.
        "celery": {"level": "WARNING" if DEBUG else LOG_LEVEL},
        # Replaced by our access log.
        "django.server": {"handlers": ["console"], "level": "WARNING", "propagate": False},
        "django.request": {"level": "ERROR"},
        # Uvicorn has its own formats, and its access lines contain query strings.
        "uvicorn": {"handlers": ["console"], "level": "INFO", "propagate": False},
        "uvicorn.error": {"handlers": [], "propagate": True},
        "uvicorn.access": {"handlers": ["console"], "level": "WARNING", "propagate": False},
    },
}
DEFAULT_EXCEPTION_REPORTER_FILTER = "config.optional.error_reports.ExceptionReporterFilter"
