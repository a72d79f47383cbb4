"""Look up the configured providers."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import NotFound

from myometrics_auth.conf import ROLES, auth_settings

from .conf import Provider, parse_providers


def providers() -> list[Provider]:
    """Return the providers of ``IDENTITY_PROVIDERS``, in their order."""
    # The check reads the files. A secret that is unreadable later must only fail where it is used.
    value = auth_settings.IDENTITY_PROVIDERS
    return list(parse_providers(value, roles=ROLES, reads_files=False).values())


def get_provider(slug: str) -> Provider:
    """Return the provider ``slug``; raise ``NotFound``."""
    for provider in providers():
        if provider.slug == slug:
            return provider
    raise NotFound(_("There is no such identity provider."))
