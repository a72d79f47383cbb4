"""System checks of read replicas: configurations that leave them unused or allow stale reads."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.core import checks
from django.db import DEFAULT_DB_ALIAS
from django.utils.module_loading import import_string

from ..conf.core_settings import core_settings
from .replicas import ReplicaRouter

PRIVATE_CACHES = ("locmem.LocMemCache", "dummy.DummyCache")


def check_read_replicas(**kwargs: Any) -> list[checks.CheckMessage]:
    """E011: unknown database alias. W012: no router. W013: a cache that processes don't share."""
    aliases = core_settings.values().get("READ_REPLICAS") or ()
    if not aliases or not isinstance(aliases, (list, tuple)):
        return []
    known = set(django_settings.DATABASES) - {DEFAULT_DB_ALIAS}
    found: list[checks.CheckMessage] = [
        checks.Error(
            f"MYOMETRICS['READ_REPLICAS'] names {alias!r}, which is no database beside the "
            "default one.",
            hint="Name aliases of DATABASES.",
            id="myometrics_core.E011",
        )
        for alias in aliases
        if alias not in known
    ]
    return [*found, *_warnings()]


def _warnings() -> list[checks.CheckMessage]:
    found: list[checks.CheckMessage] = []
    if not any(_is_replica_router(router) for router in django_settings.DATABASE_ROUTERS):
        found.append(
            checks.Warning(
                "MYOMETRICS['READ_REPLICAS'] is set, but nothing is read from replicas.",
                hint='Add "myometrics_core.db.ReplicaRouter" to DATABASE_ROUTERS, last.',
                id="myometrics_core.W012",
            )
        )
    cache = django_settings.CACHES.get("default", {})
    if str(cache.get("BACKEND")).endswith(PRIVATE_CACHES):
        found.append(
            checks.Warning(
                "Each process stores recent writes by itself: users may not see their own writes "
                "in lists.",
                hint="With READ_REPLICAS let CACHES['default'] be one that processes share.",
                id="myometrics_core.W013",
            )
        )
    return found


def _is_replica_router(router: Any) -> bool:
    kind = import_string(router) if isinstance(router, str) else type(router)
    return isinstance(kind, type) and issubclass(kind, ReplicaRouter)
