"""Settings of the measured site: one database, several ways to serve the same log.

``BENCHMARK_SITE=ours`` serves the package with access log and rate limits, as in production;
``plain`` serves the bare views and the straightforward view set, without either.
"""

import os

import dj_database_url

IS_OURS = os.environ.get("BENCHMARK_SITE", "ours") == "ours"

SECRET_KEY = "benchmark-" + "x" * 50
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "benchmarks.audit.site.urls"
WSGI_APPLICATION = "benchmarks.audit.site.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        **dj_database_url.parse(os.environ["DATABASE_URL"]),
        "CONN_MAX_AGE": None,
        "OPTIONS": {"prepare_threshold": 5},
    }
}
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "rest_framework",
    "myometrics_core",
    "myometrics_audit",
    "myometrics_audit.access_report",
    "myometrics_audit.partitions",
    "benchmarks.audit.site",
]
MIDDLEWARE = ["myometrics_core.middleware.AccessLogMiddleware"] if IS_OURS else []
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["benchmarks.audit.site.sign_in.UserHeader"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
MYOMETRICS = {
    "RATE_LIMITS": {"api": "1000000/minute"},
    "RATE_LIMIT_STORAGE": os.environ.get("REDIS_URL", "memory://"),
}
MYOMETRICS_AUDIT = {"KEYS": {"benchmark": "k" * 32}}
LOGGING = {
    "version": 1,
    "formatters": {"json": {"()": "pythonjsonlogger.json.JsonFormatter"}},
    "handlers": {
        "file": {
            "class": "logging.FileHandler",
            "filename": os.environ.get("BENCHMARK_LOG", os.devnull),
            "formatter": "json",
        }
    },
    "loggers": {"myometrics.access": {"handlers": ["file"], "level": "INFO", "propagate": False}},
}
