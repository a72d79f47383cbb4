"""Verify an address, and change it."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.utils import translation
from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_auth.account_links import (
    email_change_of_link,
    undoable_change_of_link,
    user_of_verification_link,
)
from myometrics_auth.conf import auth_settings
from myometrics_auth.forms import VerificationForm
from myometrics_auth.models import User
from myometrics_auth.requests import current_user
from myometrics_auth.reset_links import reset_link
from myometrics_auth.serializers import (
    DetailSerializer,
    EmailChangeRequestSerializer,
    VerifyEmailSerializer,
)
from myometrics_auth.services.browser import current_session
from myometrics_auth.services.email_changes import (
    email_change_confirm,
    email_change_request,
    email_change_undo,
)
from myometrics_auth.services.verification import email_verify, verification_request
from myometrics_core.api import (
    ApiView,
    ErrorSerializer,
    LinkQuerySerializer,
    PublicApiView,
    PublicPageView,
    extend_schema,
)
from myometrics_core.conf import core_settings
from myometrics_core.http import http_request


class VerifyEmailView(PublicApiView):
    """Request of a new link that verifies an address."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_verify_email",
        tags=["auth"],
        request=VerifyEmailSerializer,
        responses={200: DetailSerializer},
    )
    def post(self, request: Request) -> Response:
        """Mail a new link to the address, if it has an account that is not verified.

        The response is the same without.
        """
        verification_request(email=self.validated(VerifyEmailSerializer)["email"])
        return Response({"detail": _("Verification email sent")})


class EmailChangeView(ApiView):
    """Change of the caller's own address."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_email_change",
        tags=["auth"],
        request=EmailChangeRequestSerializer,
        responses={202: DetailSerializer, 403: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Mail a link to the new address; the change counts once it is confirmed there.

        The password is required of users who have one; others need a recent sign-in.
        """
        email_change_request(
            user=current_user(request),
            session=current_session(request),
            **self.validated(EmailChangeRequestSerializer),
            request=request,
        )
        return Response({"detail": _("Confirm the change by the mail to the new address")}, 202)


class AccountPage(PublicPageView):
    """Base of the pages that mails about accounts link to; ``subject`` is what the link names."""

    template: str

    def subject(self) -> Any:
        """Return the object that the link names; raise ``NotFound``."""
        raise NotImplementedError

    def account(self) -> User:
        """Return the user whom the link is about; raise ``NotFound``."""
        user: User = self.subject().user
        return user

    def context(self) -> dict[str, Any]:
        return {}

    def act(self, request: Request, password: str) -> dict[str, Any]:
        """Perform the action of the button; return the context of the next page."""
        raise NotImplementedError

    def get(self, request: Request) -> HttpResponse:
        """Return a page with a button."""
        user = self.account()
        with translation.override(_language(user)):
            return self._page({**self.context(), "form": VerificationForm()})

    def post(self, request: Request) -> HttpResponse:
        """Perform the action; a wrong password is a 400 with the form again."""
        with translation.override(_language(self.account())):
            form = VerificationForm(http_request(request).POST)
            status = 200
            context = {**self.context(), "form": form}
            if form.is_valid():
                try:
                    done = self.act(request, form.cleaned_data["password"])
                    return self._page({**done, "is_done": True})
                except ValidationError as error:
                    _add_errors(form, error)
            status = 400
            return self._page(context, status)

    def rate_limit_identity(self, request: Request) -> str | None:
        """Return the user of the link: many users share one address."""
        try:
            return f"user:{self.account().pk}"
        except APIException:
            return None

    @property
    def token(self) -> str:
        return str(self.validated_query(LinkQuerySerializer)["token"])

    def _page(self, context: dict[str, Any], status: int = 200) -> HttpResponse:
        context = {"frontend_url": core_settings.FRONTEND_URL, **context}
        return self.page(f"myometrics_auth/{self.template}.html", context, status)


class VerifyEmailPage(AccountPage):
    """Target of the link that verifies an address."""

    template = "verify_email"

    def account(self) -> User:
        return user_of_verification_link(self.token)

    def context(self) -> dict[str, Any]:
        # Accounts that an administrator made are verified by the click alone.
        return {"asks_for_password": bool(self.account().self_registered)}

    def act(self, request: Request, password: str) -> dict[str, Any]:
        user = email_verify(token=self.token, password=password, request=request)
        is_taken_over = bool(user.self_registered) and not password
        return {"reset_link": reset_link(user) if is_taken_over else ""}


class EmailChangePage(AccountPage):
    """Target of the link that confirms a new address."""

    template = "email_change"

    def subject(self) -> Any:
        return email_change_of_link(self.token)

    def context(self) -> dict[str, Any]:
        return {"asks_for_password": self.account().has_usable_password()}

    def act(self, request: Request, password: str) -> dict[str, Any]:
        email_change_confirm(token=self.token, password=password, request=request)
        return {}


class EmailUndoPage(AccountPage):
    """Target of the link that undoes a change of the address."""

    template = "email_undo"

    def subject(self) -> Any:
        return undoable_change_of_link(self.token)

    def act(self, request: Request, password: str) -> dict[str, Any]:
        user = email_change_undo(token=self.token, request=request)
        return {"reset_link": reset_link(user)}


def _language(user: User) -> str:
    return str(auth_settings.RECIPIENT_LANGUAGE(user))


def _add_errors(form: VerificationForm, error: ValidationError) -> None:
    detail: Any = error.detail
    for name, messages in detail.items():
        for message in messages:
            form.add_error(name if name in form.fields else None, str(message))
