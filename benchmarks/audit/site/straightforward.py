"""The straightforward way: ModelViewSet, page-number pagination, a model serializer."""

from typing import Any

from rest_framework import mixins, pagination, permissions, serializers, viewsets

from .models import PlainEntries, PlainLog


class PlainLogSerializer(serializers.ModelSerializer):
    class Meta:
        model = PlainLog
        fields = (
            "id",
            "user_id",
            "action",
            "resource_type",
            "resource_id",
            "timestamp",
            "ip_address",
            "user_agent",
            "details",
        )
        read_only_fields = ("user_id", "timestamp", "ip_address", "user_agent")


class Pages(pagination.PageNumberPagination):
    page_size = 20
    page_size_query_param = "page_size"
    max_page_size = 100


class PlainLogViewSet(mixins.CreateModelMixin, mixins.ListModelMixin, viewsets.GenericViewSet):
    queryset = PlainLog.objects.order_by("-timestamp", "-id")
    serializer_class = PlainLogSerializer
    pagination_class = Pages

    def get_permissions(self) -> list[Any]:
        is_write = self.action == "create"
        return [permissions.IsAuthenticated() if is_write else permissions.IsAdminUser()]

    def get_queryset(self) -> Any:
        queryset = super().get_queryset()
        for name in ("user_id", "action", "resource_type", "data_subject"):
            if value := self.request.query_params.get(name):
                queryset = queryset.filter(**{name: value})
        if start := self.request.query_params.get("start_date"):
            queryset = queryset.filter(timestamp__date__gte=start)
        if end := self.request.query_params.get("end_date"):
            queryset = queryset.filter(timestamp__date__lte=end)
        return queryset

    def perform_create(self, serializer: Any) -> None:
        serializer.save(
            user=self.request.user,
            ip_address=self.request.META["REMOTE_ADDR"] or "127.0.0.1",
            user_agent=self.request.META.get("HTTP_USER_AGENT", ""),
        )


class PlainEntriesViewSet(PlainLogViewSet):
    queryset = PlainEntries.objects.order_by("-timestamp", "-id")
