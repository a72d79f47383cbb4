"""Views of ``/audit-logs/``. Specification: "Audit Log Endpoints"."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions, serializers, status
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_core.api import (
    ApiView,
    CallerDeleted,
    IsAdministrator,
    PageQuerySerializer,
    extend_schema,
)
from myometrics_core.db import read_from_replica
from myometrics_core.events import is_reserved_action, publish_read
from myometrics_core.http import client_address, user_agent

from ..conf import audit_settings
from ..log.entry_json import LIST_COLUMNS, entry_json
from ..log.services import ActorDeleted, NewEntry, entry_record
from .pagination import EntryPagination
from .selection import Selection
from .selectors import entry_find
from .serializers import (
    EntryCreateSerializer,
    EntryDetailSerializer,
    EntryPageSerializer,
    EntryQuerySerializer,
    EntrySerializer,
)


class ReservedAction(exceptions.ValidationError):
    """400: only the server records this action."""

    default_code = "reserved_action"

    def __init__(self) -> None:
        super().__init__({"action": [_("Only the server records this action.")]})


class AuditLogsView(ApiView):
    """Signed-in users write entries; administrators read them. Entries can't be changed."""

    http_method_names = ["get", "post", "head"]

    def get_permissions(self) -> list[Any]:
        """Require an administrator for reading."""
        return [IsAuthenticated() if self.request.method == "POST" else IsAdministrator()]

    @extend_schema(
        operation_id="audit_logs_list",
        tags=["audit"],
        parameters=[EntryQuerySerializer, PageQuerySerializer],
        responses={200: EntryPageSerializer},
    )
    def get(self, request: Request) -> Response:
        """Return a page of the log, newest first."""
        query = self.validated_query(EntryQuerySerializer)
        selection = Selection(**query)
        pages = EntryPagination()
        with read_from_replica(user=request.user):
            rows = pages.paginate(selection, request)  # type: ignore[arg-type]
        filters = {name: str(value) for name, value in query.items()}
        _publish_read(request, "list", filters=filters, page=pages.number)
        return pages.response([entry_json(row) for row in rows])

    @extend_schema(
        operation_id="audit_logs_create",
        tags=["audit"],
        request=EntryCreateSerializer,
        responses={201: EntrySerializer},
    )
    def post(self, request: Request) -> Response:
        """Write an entry about an action of the signed-in user.

        Actions that only the server records are refused with the code `reserved_action`.
        """
        body = self.validated(EntryCreateSerializer)
        if is_reserved_action(body["action"]):
            raise ReservedAction()
        entry = NewEntry(
            actor_id=request.user.pk,
            client_address=client_address(request),
            user_agent=user_agent(request, audit_settings.USER_AGENT_MAX_LENGTH),
            origin="client",
            **body,
        )
        return Response(entry_json(_record(entry)), status=status.HTTP_201_CREATED)


class AuditLogView(ApiView):
    """One entry, read-only, for administrators."""

    http_method_names = ["get", "head"]
    permission_classes = (IsAdministrator,)

    @extend_schema(
        operation_id="audit_logs_retrieve", tags=["audit"], responses={200: EntryDetailSerializer}
    )
    def get(self, request: Request, entry_id: str) -> Response:
        """Return the entry with this id."""
        row = entry_find(entry_id)
        if row is None:
            raise exceptions.NotFound(_("There is no such entry."))
        _publish_read(request, str(row["id"]))
        return Response(entry_json(row))


def _publish_read(request: Request, resource_id: str, **details: Any) -> None:
    publish_read(
        "audit_logs",
        actor_id=request.user.pk,
        action="audit_log_read",
        resource=("audit_log", resource_id),
        request=request,
        details=details,
    )


def _record(entry: NewEntry) -> dict[str, Any]:
    try:
        row = entry_record(entry)
    except ActorDeleted:
        raise CallerDeleted() from None
    except ValueError as error:
        raise serializers.ValidationError({"details": [str(error)]}) from None
    return {name: getattr(row, name) for name in LIST_COLUMNS}
