"""System checks of core for unsafe configurations; the settings classes check their own values."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final

from django.conf import settings as django_settings
from django.core import checks
from django.core.cache import DEFAULT_CACHE_ALIAS
from limits.errors import ConfigurationError

from .api.throttling import storage_for, storage_uri
from .conf.core_settings import core_settings
from .conf.redaction import redact
from .conf.secret_keys import MIN_KEY_BYTES, has_short_key
from .conf.site_checks import register_check
from .db.cache_serializers import is_pickled
from .db.replica_checks import check_read_replicas

CACHED_SESSIONS: Final = (".cache", ".cached_db")
PICKLES_HINT: Final = (
    "Set OPTIONS['serializer'] to 'myometrics_core.db.JSONSerializer', with a new "
    "KEY_PREFIX, or keep sessions in the database."
)


def register_checks() -> None:
    """Register the checks with ``manage.py check``."""
    register_check(check_rate_limit_storage, app="myometrics_core")
    register_check(check_read_replicas, app="myometrics_core")
    register_check(check_job_runner, app="myometrics_core")
    register_check(check_pseudonym_keys, checks.Tags.security, app="myometrics_core")
    register_check(check_pickled_caches, checks.Tags.security, app="myometrics_core", deploy=True)


def check_rate_limit_storage(**kwargs: Any) -> list[checks.CheckMessage]:
    """E010: the storage is unusable. W010: each process counts separately."""
    try:
        storage_for(storage_uri())
    except (ConfigurationError, ImportError, ValueError) as error:
        return [_unusable(error)]
    if django_settings.DEBUG or not storage_uri().startswith("memory:"):
        return []
    return [
        checks.Warning(
            "Rate limits are counted in the memory of each process.",
            hint=(
                'Set MYOMETRICS["RATE_LIMIT_STORAGE"] to a Redis URL, or add '
                '"myometrics_core.rate_limits" to INSTALLED_APPS and migrate.'
            ),
            id="myometrics_core.W010",
        )
    ]


def check_job_runner(**kwargs: Any) -> list[checks.CheckMessage]:
    """E012: the module that the job runner needs is missing."""
    runner = core_settings.values().get("JOB_RUNNER")
    needed = {"celery": "celery", "tasks": "django.tasks"}.get(str(runner))
    if needed is None or find_spec(needed) is not None:
        return []
    return [
        checks.Error(
            f"MYOMETRICS['JOB_RUNNER'] is {runner!r}, and {needed} is not installed.",
            hint="Install myometrics-core[celery], use Django 6, or choose 'thread'.",
            id="myometrics_core.E012",
        )
    ]


def check_pseudonym_keys(**kwargs: Any) -> list[checks.CheckMessage]:
    """W014: the key is short enough for brute force, which would reveal the addresses."""
    if core_settings.check() or not has_short_key(core_settings.pseudonym_keys):
        return []
    return [
        checks.Warning(
            f"Pseudonyms are made with a key of fewer than {MIN_KEY_BYTES} bytes.",
            hint='Make SECRET_KEY, or each of MYOMETRICS["PSEUDONYM_KEYS"], long and random.',
            id="myometrics_core.W014",
        )
    ]


def check_pickled_caches(**kwargs: Any) -> list[checks.CheckMessage]:
    """W017: sessions or core's cache entries are unpickled from a network server."""
    used = {DEFAULT_CACHE_ALIAS} if core_settings.READ_REPLICAS else set()
    if str(django_settings.SESSION_ENGINE).endswith(CACHED_SESSIONS):
        used.add(django_settings.SESSION_CACHE_ALIAS)
    return [
        checks.Warning(
            f"The cache {alias!r} stores pickles: write access to its server runs code here.",
            hint=PICKLES_HINT,
            id="myometrics_core.W017",
        )
        for alias in sorted(used)
        if is_pickled(django_settings.CACHES.get(alias, {}))
    ]


def _unusable(error: Exception) -> checks.Error:
    return checks.Error(
        f"The rate-limit storage can't be used: {redact(str(error))}",
        hint='Check MYOMETRICS["RATE_LIMIT_STORAGE"], and that the client for it is installed.',
        id="myometrics_core.E010",
    )
