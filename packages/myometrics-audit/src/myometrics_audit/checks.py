"""System checks of audit, in addition to those of its settings (E001 to E003)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.db import connections, router

from myometrics_core.conf import register_check

from .conf import audit_settings
from .log.guards import missing_guards
from .log.models import AuditLog
from .log.recordings import MIDDLEWARE
from .tracking import RecordedAdminMixin, RecordedViewMixin

APP = "myometrics_audit"


def register_checks() -> None:
    """Register the system checks."""
    register_check(check_active_key, app=APP)
    register_check(check_streams_app, app=APP)
    register_check(check_guards, checks.Tags.database, app=APP)
    register_check(check_middleware, app=APP)
    register_check(check_production, checks.Tags.security, app=APP, deploy=True)


def check_active_key(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """E010: ``ACTIVE_KEY`` is one of ``KEYS``."""
    active, keys = audit_settings.ACTIVE_KEY, audit_settings.KEYS
    if active is not None and isinstance(keys, dict) and active not in keys:
        yield checks.Error(
            f"MYOMETRICS_AUDIT['ACTIVE_KEY'] is {active!r}, which is not in KEYS.",
            hint="Add the key to KEYS, or leave ACTIVE_KEY out to use the last one.",
            id="myometrics_audit.E010",
        )


def check_streams_app(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W074: ``STREAMS`` is set, but nothing sends them."""
    if audit_settings.STREAMS and not apps.is_installed(f"{APP}.streams"):
        yield checks.Warning(
            "MYOMETRICS_AUDIT['STREAMS'] is set, but the app that sends streams is not installed.",
            hint="Add 'myometrics_audit.streams' to INSTALLED_APPS, and migrate.",
            id="myometrics_audit.W074",
        )


def check_guards(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterator[checks.CheckMessage]:
    """W011, W012: the triggers that guard the log exist."""
    for alias in databases or ():
        if not router.allow_migrate_model(alias, AuditLog):
            continue
        if connections[alias].vendor not in {"postgresql", "sqlite"}:
            yield checks.Warning(
                f"The database {alias!r} has no guards on the audit tables.",
                hint="Only PostgreSQL and SQLite are supported.",
                id="myometrics_audit.W012",
            )
        elif missing := missing_guards(alias):
            yield checks.Warning(
                f"Triggers that guard the audit tables are missing: {', '.join(missing)}.",
                hint="Run 'manage.py migrate', which creates them again.",
                id="myometrics_audit.W011",
            )


def check_middleware(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W015: with ``ATOMIC_REQUESTS``, the middleware keeps entries about denied access."""
    in_transactions = any(one.get("ATOMIC_REQUESTS") for one in connections.settings.values())
    if in_transactions and MIDDLEWARE not in settings.MIDDLEWARE and _has_recorded_pages():
        yield checks.Warning(
            "With ATOMIC_REQUESTS, a denied access can't be recorded.",
            hint=f"Add {MIDDLEWARE!r} to MIDDLEWARE.",
            id="myometrics_audit.W015",
        )


def _has_recorded_pages() -> bool:
    if getattr(settings, "ROOT_URLCONF", None):
        import_module(settings.ROOT_URLCONF)  # and with it the views
    return bool(RecordedViewMixin.__subclasses__() or RecordedAdminMixin.__subclasses__())


def check_production(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W013, W014: in production, ``KEYS`` is set and ``ALLOW_FLUSH`` is off."""
    if not audit_settings.KEYS:
        yield checks.Warning(
            "Audit evidence is signed with a key derived from SECRET_KEY.",
            hint="Set MYOMETRICS_AUDIT['KEYS'], so that SECRET_KEY can change freely.",
            id="myometrics_audit.W013",
        )
    if audit_settings.ALLOW_FLUSH:
        yield checks.Warning(
            "MYOMETRICS_AUDIT['ALLOW_FLUSH'] is on: 'manage.py flush' empties the audit log.",
            hint="It is for test settings only.",
            id="myometrics_audit.W014",
        )
