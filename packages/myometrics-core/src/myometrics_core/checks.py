"""System checks of core beyond the settings' own: what is unsafe though it is well-formed."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.core import checks
from limits.errors import ConfigurationError

from .replica_checks import check_read_replicas
from .secret_keys import MIN_KEY_BYTES, has_short_key
from .settings import core_settings
from .site_checks import register_check
from .throttling import storage_for, storage_uri

__all__ = ["register_checks"]


def register_checks() -> None:
    """Have ``manage.py check`` run them."""
    register_check(check_rate_limit_storage, app="myometrics_core")
    register_check(check_read_replicas, app="myometrics_core")
    register_check(check_pseudonym_keys, checks.Tags.security, app="myometrics_core")


def check_rate_limit_storage(**kwargs: Any) -> list[checks.CheckMessage]:
    """E010: a storage that can't be used. W010: each process counts for itself."""
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


def check_pseudonym_keys(**kwargs: Any) -> list[checks.CheckMessage]:
    """W014: a key that can be found by trying, and with it the address behind a pseudonym."""
    if core_settings.check() or not has_short_key(core_settings.pseudonym_keys):
        return []
    return [
        checks.Warning(
            f"Pseudonyms are made with a key of fewer than {MIN_KEY_BYTES} bytes.",
            hint='Make SECRET_KEY, or each of MYOMETRICS["PSEUDONYM_KEYS"], long and random.',
            id="myometrics_core.W014",
        )
    ]


def _unusable(error: Exception) -> checks.Error:
    return checks.Error(
        f"The rate-limit storage can't be used: {error}",
        hint='Check MYOMETRICS["RATE_LIMIT_STORAGE"], and that the client for it is installed.',
        id="myometrics_core.E010",
    )
