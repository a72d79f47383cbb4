"""``/api/health/`` for users and monitoring, ``/livez`` and ``/readyz`` for load balancers."""

from __future__ import annotations

from typing import Any, get_args

from django.http import HttpRequest, JsonResponse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers, status
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from ..api.fields import UtcDateTimeField
from ..api.schema import ErrorSerializer, OneOfSerializer, extend_schema
from ..api.views import ApiView
from ..db.transactions import DATABASE_FAILURES
from .report import HealthReport, ServiceState, check_health, check_service


class HealthSerializer(serializers.Serializer[Any]):
    """Specification: "GET /health/", response."""

    status = serializers.ChoiceField(choices=["healthy", "degraded", "down"])
    services = serializers.DictField(child=serializers.ChoiceField(choices=get_args(ServiceState)))
    last_check = UtcDateTimeField()


# The error format is for requests that can't be authenticated without the database.
HEALTH_OR_ERROR = OneOfSerializer("Unavailable", HealthSerializer, ErrorSerializer)


class ServiceUnavailable(APIException):
    """503: the database is unreachable, so the request can't be authenticated."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = _("The database can't be reached.")
    default_code = "database_unavailable"


class HealthView(ApiView):
    """Health of the system and of each service. Specification: "GET /health/"."""

    needs_user_row = False
    report: HealthReport | None = None

    def perform_authentication(self, request: Request) -> None:
        """Authenticate; without a database, a validly signed unexpired token is sufficient.

        The database probe runs first, in its own thread, so that a hanging connection does not
        block the request.
        """
        backends = request.authenticators or ()
        methods = [getattr(one, "authenticate_without_database", None) for one in backends]
        results = (method(request) for method in methods if method is not None)
        offline = next((result for result in results if result is not None), None)
        if offline is not None:
            self.report = check_health()
            if self.report.status == "down":
                request.user, request.auth = offline
                return
        try:
            super().perform_authentication(request)
        except DATABASE_FAILURES as error:
            raise ServiceUnavailable() from error

    def require_database(self) -> None:
        """Raise ``ServiceUnavailable`` if the database is down, also if it hangs.

        For authentication that needs the database.
        """
        self.report = check_health()
        if self.report.status == "down":
            raise ServiceUnavailable

    def check_throttles(self, request: Request) -> None:
        """Check the rate limit, unless the database, which may hold the counts, is down."""
        if self.report is None or self.report.status != "down":
            super().check_throttles(request)

    @extend_schema(
        operation_id="health",
        tags=["health"],
        responses={
            200: HealthSerializer,
            503: OpenApiResponse(HEALTH_OR_ERROR, description="The database is down."),
        },
    )
    def get(self, request: Request) -> Response:
        """Return 200 if healthy or degraded, 503 if the database is down."""
        report = self.report or check_health()
        fields = {"status": report.status, "services": report.services}
        body = HealthSerializer({**fields, "last_check": report.checked_at}).data
        return Response(dict(body), status=503 if report.status == "down" else 200)


@never_cache
@require_safe
def livez(request: HttpRequest) -> JsonResponse:
    """The process serves requests. Public; checks no dependencies."""
    return JsonResponse({"status": "alive"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """The process can serve requests: the database is reachable. Public; 200 or 503."""
    ready = check_service("database", max_age=1.0) != "down"
    return JsonResponse({"status": "ready" if ready else "not_ready"}, status=200 if ready else 503)
