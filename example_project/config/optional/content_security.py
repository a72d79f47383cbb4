"""Content security policy of the few pages that the site serves: admin, dashboard, API docs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import django
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings

if TYPE_CHECKING:  # imported by the settings: must not import modules that read settings
    from django.http.response import HttpResponseBase

HEADER = "Content-Security-Policy"
CONTENT_SECURITY_POLICY: Mapping[str, Sequence[str]] = {
    "default-src": ["'self'"],
    "img-src": ["'self'", "data:"],
    # Swagger UI's page contains a short inline style sheet.
    "style-src": ["'self'", "'unsafe-inline'"],
    "object-src": ["'none'"],
    "base-uri": ["'none'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
}
CONTENT_SECURITY_MIDDLEWARE = (
    "django.middleware.csp.ContentSecurityPolicyMiddleware"
    if django.VERSION >= (6, 0)
    else "config.optional.content_security.ContentSecurityPolicyMiddleware"
)


class ContentSecurityPolicyMiddleware:
    """Django 6's middleware of this name for older versions: sends ``SECURE_CSP``."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[..., Any]) -> None:
        self.get_response = get_response
        policy: Mapping[str, Sequence[str]] = settings.SECURE_CSP
        self.policy = "; ".join(f"{name} {' '.join(words)}" for name, words in policy.items())
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Return the response with the header, unless its view has set one."""
        if self.is_async:
            return self._answer_async(request)
        return self._with_header(self.get_response(request))

    async def _answer_async(self, request: Any) -> HttpResponseBase:
        return self._with_header(await self.get_response(request))

    def _with_header(self, response: HttpResponseBase) -> HttpResponseBase:
        response.headers.setdefault(HEADER, self.policy)
        return response
