"""Every method of every endpoint that the packages serve under ``/api/``, from the URL patterns."""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.urls import URLPattern, URLResolver

from config.urls import api
from myometrics_core.api import ApiView, PublicApiView, PublicPageView, UnknownPathView

EXAMPLES = {
    "session_id": "00000000-0000-4000-8000-000000000000",
    "passkey_id": "00000000-0000-4000-8000-000000000000",
    "invitation_id": "00000000-0000-4000-8000-000000000000",
    "user_id": "987654",
    "entry_id": "987654",
}


@dataclass(frozen=True)
class Route:
    """One method of one endpoint."""

    method: str
    path: str
    view: type[ApiView]

    @property
    def is_public(self):
        """Whether the endpoint is public."""
        return issubclass(self.view, PublicApiView)

    @property
    def reads_body(self):
        """Whether the endpoint reads a JSON body."""
        return self.method in {"POST", "PUT", "PATCH"} and not self.view.ignores_body

    def __str__(self):
        return f"{self.method} {self.path}"


def all_routes():
    """Every offered method of every endpoint; not of the pages that mails link to."""
    return [route for route in _all() if not issubclass(route.view, PublicPageView)]


def page_routes():
    """Every offered method of the pages that mails link to."""
    return [route for route in _all() if issubclass(route.view, PublicPageView)]


def _all():
    return [
        Route(method.upper(), path, view)
        for path, view in _views(api, "/api/")
        for method in ("get", "post", "put", "patch", "delete")
        if method in view.http_method_names and hasattr(view, method)
    ]


def _views(patterns, prefix):
    for pattern in patterns:
        path = prefix + re.sub(r"<(?:\w+:)?(\w+)>", _example, str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            yield from _views(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern):
            view = getattr(pattern.callback, "cls", None)
            if view and issubclass(view, ApiView) and view is not UnknownPathView:
                yield path, view


def _example(match):
    return EXAMPLES.get(match[1], "x")
