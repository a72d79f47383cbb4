"""The page of a security notice, for users who did not make the change."""

from __future__ import annotations

from django.http import HttpResponse
from django.utils import translation
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from myometrics_auth.account_links import user_of_notice_link
from myometrics_auth.conf import auth_settings
from myometrics_auth.models import User
from myometrics_auth.services.passwords import account_secure
from myometrics_auth.sign_in_methods import has_sign_in_methods
from myometrics_core.api import LinkQuerySerializer, PublicPageView


class SecureAccountView(PublicPageView):
    """Target of a security notice's link. The signed token names the user; it does not sign in."""

    def get(self, request: Request) -> HttpResponse:
        """Return a page with a button that ends all sessions."""
        user, _notice_id = self._user_and_notice()
        return self._page(user, is_done=False)

    def post(self, request: Request) -> HttpResponse:
        """End all sessions and mail a reset link; the second time nothing happens."""
        user, notice_id = self._user_and_notice()
        account_secure(user=user, notice_id=notice_id, request=request)
        return self._page(user, is_done=True)

    def rate_limit_identity(self, request: Request) -> str | None:
        """Return the user of the token: many users share one address, their clinic's."""
        try:
            return f"user:{self._user_and_notice()[0].pk}"
        except APIException:
            return None

    def _user_and_notice(self) -> tuple[User, str]:
        return user_of_notice_link(self.validated_query(LinkQuerySerializer)["token"])

    def _page(self, user: User, *, is_done: bool) -> HttpResponse:
        with translation.override(auth_settings.RECIPIENT_LANGUAGE(user)):
            context = {"is_done": is_done, "removes_methods": has_sign_in_methods()}
            return self.page("myometrics_auth/secure_account.html", context)
