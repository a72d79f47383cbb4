"""Sign-in of browsers to the admin site with a passkey."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from rest_framework.exceptions import APIException, AuthenticationFailed, PermissionDenied

from myometrics_auth.services.browser import PENDING, browser_attach, browser_backend
from myometrics_core.db import atomic_write

from .conf import admin_origin
from .services import passkey_sign_in


def browser_sign_in_with_passkey(
    *, credential: dict[str, Any], request: HttpRequest, is_allowed: Callable[[Any], bool]
) -> None:
    """Sign the browser in, as :func:`passkey_sign_in`; raises the same."""
    origin = admin_origin(request)
    refusal: APIException | None = None
    # One transaction: if attaching the browser fails, the challenge stays unused.
    with atomic_write():
        try:
            session = passkey_sign_in(
                credential=credential,
                origins=[] if origin is None else [origin],
                request=request,
                in_browser=True,
                is_allowed=is_allowed,
            )
            request.session.pop(PENDING, None)
            browser_attach(session=session, backend=browser_backend(session.user), request=request)
        except (AuthenticationFailed, PermissionDenied) as error:
            refusal = error
    if refusal is not None:  # outside the block, so that the failure is committed
        raise refusal
