"""System checks of core for unsafe configurations; the settings classes check their own values."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Final

from django.conf import settings as django_settings
from django.core import checks
from django.core.cache import DEFAULT_CACHE_ALIAS
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils.module_loading import import_string
from limits.errors import ConfigurationError

from .api.throttling import storage_for, storage_uri
from .conf.core_settings import core_settings
from .conf.redaction import redact
from .conf.secret_keys import MIN_KEY_BYTES, has_short_key
from .conf.site_checks import register_check
from .db.cache_serializers import is_pickled
from .db.replicas import ReplicaRouter

PRIVATE_CACHES: Final = ("locmem.LocMemCache", "dummy.DummyCache")
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
    register_check(check_sqlite_transactions, app="myometrics_core", deploy=True)
    register_check(check_pseudonym_keys, checks.Tags.security, app="myometrics_core")
    register_check(check_pickled_caches, checks.Tags.security, app="myometrics_core", deploy=True)


def check_rate_limit_storage(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """E010: the storage is unusable. W010: each process counts separately."""
    try:
        storage_for(storage_uri())
    except (ConfigurationError, ImportError, ValueError) as error:
        yield checks.Error(
            f"The rate-limit storage can't be used: {redact(str(error))}",
            hint='Check MYOMETRICS["RATE_LIMIT_STORAGE"], and that the client for it is installed.',
            id="myometrics_core.E010",
        )
        return
    if storage_uri().startswith("memory:") and not django_settings.DEBUG:
        yield checks.Warning(
            "Rate limits are counted in the memory of each process.",
            hint='Set MYOMETRICS["RATE_LIMIT_STORAGE"] to a Redis URL, or add '
            '"myometrics_core.rate_limits" to INSTALLED_APPS and migrate.',
            id="myometrics_core.W010",
        )


def check_job_runner(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """E012: the module that the job runner needs is missing."""
    runner = core_settings.values().get("JOB_RUNNER")
    needed = {"celery": "celery", "tasks": "django.tasks"}.get(str(runner))
    if needed is not None and find_spec(needed) is None:
        yield checks.Error(
            f"MYOMETRICS['JOB_RUNNER'] is {runner!r}, and {needed} is not installed.",
            hint="Install myometrics-core[celery], use Django 6, or choose 'thread'.",
            id="myometrics_core.E012",
        )


def check_sqlite_transactions(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W018: job threads write to an SQLite whose transactions begin without the write lock."""
    database = connections[DEFAULT_DB_ALIAS]
    options = database.settings_dict.get("OPTIONS", {})
    if (
        core_settings.JOB_RUNNER == "thread"
        and database.vendor == "sqlite"
        and str(options.get("transaction_mode", "")).upper() != "IMMEDIATE"
    ):
        yield checks.Warning(
            "Job threads write to SQLite beside requests: a transaction that reads before it "
            'writes can fail with "database is locked".',
            hint="Set DATABASES['default']['OPTIONS']['transaction_mode'] to 'IMMEDIATE' "
            "(Django 5.1), or MYOMETRICS['JOB_RUNNER'] to 'none', and run `manage.py jobs_run`.",
            id="myometrics_core.W018",
        )


def check_pseudonym_keys(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W014: the key is short enough for brute force, which would reveal the addresses."""
    if not core_settings.check() and has_short_key(core_settings.pseudonym_keys):
        yield checks.Warning(
            f"Pseudonyms are made with a key of fewer than {MIN_KEY_BYTES} bytes.",
            hint='Make SECRET_KEY, or each of MYOMETRICS["PSEUDONYM_KEYS"], long and random.',
            id="myometrics_core.W014",
        )


def check_pickled_caches(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W017: sessions or core's cache entries are unpickled from a network server."""
    used = {DEFAULT_CACHE_ALIAS} if core_settings.READ_REPLICAS else set()
    if str(django_settings.SESSION_ENGINE).endswith(CACHED_SESSIONS):
        used.add(django_settings.SESSION_CACHE_ALIAS)
    for alias in sorted(used):
        if is_pickled(django_settings.CACHES.get(alias, {})):
            yield checks.Warning(
                f"The cache {alias!r} stores pickles: write access to its server runs code here.",
                hint=PICKLES_HINT,
                id="myometrics_core.W017",
            )


def check_read_replicas(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """E011: unknown database alias. W012: no router. W013: a cache that processes don't share."""
    aliases = core_settings.values().get("READ_REPLICAS") or ()
    if not aliases or not isinstance(aliases, (list, tuple)):
        return
    for alias in aliases:
        if alias == DEFAULT_DB_ALIAS or alias not in django_settings.DATABASES:
            yield checks.Error(
                f"MYOMETRICS['READ_REPLICAS'] names {alias!r}, which is no database beside the "
                "default one.",
                hint="Name aliases of DATABASES.",
                id="myometrics_core.E011",
            )
    routers = django_settings.DATABASE_ROUTERS
    kinds = [import_string(one) if isinstance(one, str) else type(one) for one in routers]
    if not any(isinstance(kind, type) and issubclass(kind, ReplicaRouter) for kind in kinds):
        yield checks.Warning(
            "MYOMETRICS['READ_REPLICAS'] is set, but nothing is read from replicas.",
            hint='Add "myometrics_core.db.ReplicaRouter" to DATABASE_ROUTERS, last.',
            id="myometrics_core.W012",
        )
    cache = django_settings.CACHES.get(DEFAULT_CACHE_ALIAS, {})
    if str(cache.get("BACKEND")).endswith(PRIVATE_CACHES):
        yield checks.Warning(
            "Each process stores recent writes by itself: users may not see their own writes in "
            "lists.",
            hint="With READ_REPLICAS let CACHES['default'] be one that processes share.",
            id="myometrics_core.W013",
        )
