"""System checks of provisioning over SCIM."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from django.core import checks
from django.urls import NoReverseMatch, reverse

from myometrics_auth.conf import auth_settings
from myometrics_core.conf import register_check

from .conf import providers

APP = "myometrics_auth"


def register_checks() -> None:
    """Register the checks of this app."""
    register_check(check_library, app=APP)
    register_check(check_urls, app=APP)


def check_library(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """E060: the library of the extra ``scim`` is missing."""
    if find_spec("scim2_server") is None:
        yield checks.Error(
            "myometrics_auth.scim is installed without its library.",
            hint="Run pip install 'myometrics-auth[scim]' on Python 3.11 or newer.",
            id=f"{APP}.E060",
        )


def check_urls(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W060: providers are configured, but nothing serves them."""
    if auth_settings.check() or not providers() or find_spec("scim2_server") is None:
        return
    try:
        reverse("myometrics_scim:root", args=[next(iter(providers()))])
    except NoReverseMatch:
        yield checks.Warning(
            'MYOMETRICS_AUTH["SCIM"] names providers, but no URL serves them.',
            hint='Add path("scim/v2/", include("myometrics_auth.scim.urls")) to the URLs.',
            id=f"{APP}.W060",
        )
