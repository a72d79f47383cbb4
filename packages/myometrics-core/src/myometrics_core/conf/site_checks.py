"""System checks of the site's configuration that every package registers under its own ids.

| number | problem |
|---|---|
| E020 | ``USE_TZ`` is off, and the package stores times |
| E021 | its tables are in a database that is neither PostgreSQL nor SQLite |
| E022 | a router sends its writes to another database than the default one |
| W021 | a check of the package raised an exception |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache, wraps
from typing import Any

from django.apps import AppConfig
from django.conf import settings as django_settings
from django.core import checks
from django.db import DEFAULT_DB_ALIAS, connections, router

from .redaction import redact

SUPPORTED_DATABASES = {"postgresql", "sqlite"}
NO_DATABASE = "unknown"
"""Vendor of Django's dummy backend, which is used to build images; its checks are skipped."""

Check = Callable[..., Iterable[checks.CheckMessage]]


def register_check(check: Check, *tags: str, app: str, deploy: bool = False) -> None:
    """Register ``check`` with Django; an exception in it becomes the warning ``<app>.W021``.

    A check that raises would abort every management command. Registering a check again has no
    effect.
    """
    checks.register(_guarded(check, app), *tags, deploy=deploy)


@cache
def _guarded(check: Check, app: str) -> Check:
    @wraps(check)
    def run(**kwargs: Any) -> list[checks.CheckMessage]:
        try:
            return list(check(**kwargs))
        except Exception as error:
            return [
                checks.Warning(
                    f"The system check {getattr(check, '__name__', check)} failed: "
                    + redact(f"{type(error).__name__}: {error}"),
                    hint="A setting that it reads is missing or malformed.",
                    id=f"{app}.W021",
                )
            ]

    return run


def register_site_checks(
    config: AppConfig, *, app: str = "", time_zone_id: str = "E020", needs_times: bool = True
) -> None:
    """Register the checks of the requirements of ``config``'s models (E020 to E022).

    ``app`` is the prefix of the ids, by default the name of the app. ``needs_times=False``: the
    package works without time zone support.
    """
    app = app or config.name

    def check_time_zone_support(**kwargs: Any) -> Iterator[checks.CheckMessage]:
        if not django_settings.USE_TZ and needs_times:
            yield checks.Error(
                f"{config.name} stores times with their time zone and needs USE_TZ = True.",
                hint="Set USE_TZ = True; Django's documentation says how to move existing times "
                "('Time zones', 'Migration guide').",
                id=f"{app}.{time_zone_id}",
            )

    def check_databases(**kwargs: Any) -> Iterator[checks.CheckMessage]:
        for alias in sorted({router.db_for_write(model) for model in config.get_models()}):
            vendor = connections[alias].vendor
            if vendor not in SUPPORTED_DATABASES | {NO_DATABASE}:
                yield checks.Error(
                    f"{config.name} can't be used with the database {alias!r}, which is {vendor}.",
                    hint="PostgreSQL and SQLite are supported.",
                    id=f"{app}.E021",
                )
            if alias != DEFAULT_DB_ALIAS:
                yield checks.Error(
                    f"A router sends writes of {config.name} to the database {alias!r}.",
                    hint="Let DATABASE_ROUTERS leave its tables in the default database, with the "
                    "users.",
                    id=f"{app}.E022",
                )

    register_check(check_time_zone_support, app=app)
    register_check(check_databases, app=app)
