"""Routes and views that use core as another package would."""

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.http import Http404
from django.urls import include, path, re_path
from rest_framework import serializers
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.response import Response

from myometrics_core.api import (
    ApiView,
    Conflict,
    IsAdministrator,
    JSONObjectField,
    PagePagination,
    StrictBooleanField,
    StrictCharField,
    UnknownPathView,
)
from myometrics_core.http import download_response


class EchoSerializer(serializers.Serializer[Any]):
    name = StrictCharField(max_length=30)
    wanted = StrictBooleanField(required=False)
    details = JSONObjectField(required=False)
    tags = serializers.ListField(child=serializers.CharField(max_length=3), required=False)


class EchoView(ApiView):
    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_bucket = None

    def post(self, request):
        return Response(self.validated(EchoSerializer))


class FaultyView(ApiView):
    permission_classes = (AllowAny,)
    throttle_bucket = None

    def get(self, request, what):
        if what == "conflict":
            raise Conflict("Not now.")
        if what == "missing":
            raise Http404
        raise RuntimeError("secret innards")


class SignInView(ApiView):
    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_bucket = "auth"

    def post(self, request):
        if request.data.get("wrong"):
            raise serializers.ValidationError("Wrong.")
        return Response({})


class OtherSignInView(SignInView):
    pass


class AccountView(ApiView):
    throttle_bucket = "auth"

    def post(self, request):
        return Response({})


class RawBodyView(EchoView):
    def post(self, request):
        return Response({"length": len(request.body)})


class ExportView(ApiView):
    permission_classes = (IsAuthenticated,)
    throttle_bucket = "export"

    def get(self, request):
        return Response({})


class DownloadView(ApiView):
    """Sends ``whole`` of three chunks, then fails; all three if ``whole`` is larger."""

    permission_classes = (AllowAny,)
    throttle_bucket = None

    def get(self, request, whole):
        return download_response(request, self.chunks(whole), "user_data.csv")

    def chunks(self, whole):
        for number in range(3):
            if number == whole:
                raise RuntimeError("secret innards")
            yield b"%d" % number


class AdministratorView(ApiView):
    permission_classes = (IsAdministrator,)

    def get(self, request):
        return Response({})


class UsersView(ApiView):
    permission_classes = (AllowAny,)
    throttle_bucket = None

    def get(self, request):
        pages = PagePagination()
        users = pages.paginate(get_user_model().objects.order_by("email"), request)
        return pages.response([user.email for user in users])


urlpatterns = [
    path("api/echo/", EchoView.as_view()),
    path("api/faulty/<str:what>/", FaultyView.as_view()),
    path("api/sign-in/", SignInView.as_view()),
    path("api/sign-in/other/", OtherSignInView.as_view()),
    path("api/account/", AccountView.as_view()),
    path("api/reads-raw-body/", RawBodyView.as_view()),
    path("api/export/", ExportView.as_view()),
    path("admin/", admin.site.urls),
    path("api/download/<int:whole>/", DownloadView.as_view()),
    path("api/administrators/", AdministratorView.as_view()),
    path("api/users/", UsersView.as_view()),
    path("api/", include("myometrics_core.urls")),
    path("", include("myometrics_core.health.probe_urls")),
    path("", include("myometrics_core.observability.metrics_urls")),
    re_path(r"^api/", UnknownPathView.as_view()),
]
