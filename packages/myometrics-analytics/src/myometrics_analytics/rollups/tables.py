"""Quoted table names for raw SQL that the ORM can't express."""

from __future__ import annotations

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import connection


def tables() -> dict[str, str]:
    """Return quoted names by placeholder: this package's tables by the names of their models.

    Also ``user`` and ``user_key``: the user table and the column of its key; ``counted``: the
    uploads that count; ``confirmed``: those that count if ``COUNT_CLIENT_REPORTED`` is off.
    """
    quote, user_meta = connection.ops.quote_name, get_user_model()._meta
    models = apps.get_app_config("myometrics_analytics").get_models()
    names = {model.__name__: quote(model._meta.db_table) for model in models}
    counted = f"SELECT * FROM {names['Upload']} WHERE (over_limit IS NULL OR NOT over_limit)"
    return {
        **names,
        "counted": f"({counted})",
        "confirmed": f"({counted} AND (client_only IS NULL OR NOT client_only))",
        "user": quote(user_meta.db_table),
        "user_key": quote(str(user_meta.pk.column)),
    }
