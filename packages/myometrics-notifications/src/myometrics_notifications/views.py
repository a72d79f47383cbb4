"""Endpoints: the user's own switches, and the targets of links in mails."""

from __future__ import annotations

from typing import cast

from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpResponse, StreamingHttpResponse
from django.utils import translation
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_core.api import (
    ApiView,
    LinkQuerySerializer,
    PublicApiView,
    PublicPageView,
    extend_schema,
)
from myometrics_core.http import download_response
from myometrics_core.personal_data import export_filename, publish_export

from .conf import notifications_settings
from .export_links import export_file_for_token
from .exports import export_file_chunks
from .kinds import NotificationKind
from .selectors import message_is_wanted, switches
from .serializers import NotificationSwitchesSerializer
from .services import notification_settings_ensure, notification_settings_update
from .unsubscribe_links import read_unsubscribe_token


class MyNotificationSettingsView(ApiView):
    """The signed-in user's switches. Specification: "Notification Settings Endpoints"."""

    @extend_schema(
        operation_id="my_notification_settings",
        tags=["notifications"],
        responses={200: NotificationSwitchesSerializer},
    )
    def get(self, request: Request) -> Response:
        """Return all switches; their row is created at the first use."""
        return Response(switches(notification_settings_ensure(user=_caller(request))))

    @extend_schema(
        operation_id="update_my_notification_settings",
        tags=["notifications"],
        request=NotificationSwitchesSerializer(partial=True),
        responses={200: NotificationSwitchesSerializer},
    )
    def patch(self, request: Request) -> Response:
        """Set any subset of the switches; unknown keys are ignored."""
        changes = self.validated(NotificationSwitchesSerializer, partial=True)
        settings = notification_settings_update(user=_caller(request), switches=changes)
        return Response(switches(settings))


class UnsubscribeView(PublicPageView):
    """Target of a mail's unsubscribe link (RFC 8058). The signed token names user and kind."""

    def get(self, request: Request) -> HttpResponse:
        """Return a page with a button that turns off one kind of mail."""
        kind, user = self._kind_and_user()
        return self._page(kind, user, subscribed=message_is_wanted(kind=kind, user=user))

    def post(self, request: Request) -> HttpResponse:
        """Turn it off; idempotent. The body (``List-Unsubscribe=One-Click``) is not read."""
        kind, user = self._kind_and_user()
        notification_settings_update(user=user, switches={kind.name: False})
        return self._page(kind, user, subscribed=False)

    def rate_limit_identity(self, request: Request) -> str | None:
        """Return the user of the token: many users share one address, their mail provider's."""
        try:
            return f"user:{self._kind_and_user()[1].pk}"
        except APIException:
            return None

    def _kind_and_user(self) -> tuple[NotificationKind, AbstractBaseUser]:
        token = self.validated_query(LinkQuerySerializer)["token"]
        return read_unsubscribe_token(token)

    def _page(
        self, kind: NotificationKind, user: AbstractBaseUser, *, subscribed: bool
    ) -> HttpResponse:
        with translation.override(notifications_settings.RECIPIENT_LANGUAGE(user)):
            context = {"kind_title": str(kind.title), "subscribed": subscribed}
            return self.page("myometrics_notifications/unsubscribe.html", context)


class ExportDownloadView(PublicApiView):
    """Target of the link in an export's mail. Public: the signed token gives access."""

    @extend_schema(
        operation_id="export_download",
        tags=["notifications"],
        parameters=[LinkQuerySerializer],
        responses={
            (200, "application/octet-stream"): OpenApiResponse(
                OpenApiTypes.BINARY, description="The file."
            ),
            404: OpenApiResponse(description="The link is not valid (any more)."),
        },
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """Return the export file of a mailed link as an attachment."""
        export = export_file_for_token(self.validated_query(LinkQuerySerializer)["token"])
        filename = export_filename(export.export_format)
        response = download_response(request, export_file_chunks(export), filename)
        publish_export(
            user=cast(AbstractBaseUser, export.user),
            export_format=export.export_format,
            delivery="link",
            request=request,
        )
        return response


def _caller(request: Request) -> AbstractBaseUser:
    # The permissions of ``ApiView`` exclude anonymous users.
    return cast(AbstractBaseUser, request.user)
