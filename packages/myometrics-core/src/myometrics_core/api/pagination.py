"""Numbered pages with an exact count, as in the list responses of the specification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

MAX_PAGE_DIGITS = 18
"""Maximum number of digits of a page number that are read; no database has that many pages."""


class PageQuerySerializer(serializers.Serializer[Any]):
    """Query parameters of a page. For the schema only: the pagination reads the query itself."""

    page = serializers.IntegerField(required=False, min_value=1, default=1)
    page_size = serializers.IntegerField(required=False, min_value=1, default=20)


class PageSerializer(serializers.Serializer[Any]):
    """The envelope of a page. For the schema only: declare ``results`` in a subclass."""

    count = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class PagePagination:
    """Splits a queryset into pages of ``page_size`` rows, at most ``max_page_size``.

    A ``page`` or ``page_size`` that is not a positive integer raises ``ValidationError``; a page
    past the end raises ``NotFound``; the first page of an empty queryset is empty. Override
    :meth:`count` and :meth:`rows` if a model has a faster way.
    """

    page_size = 20
    max_page_size = 100

    def paginate(self, queryset: QuerySet[Any], request: Request) -> Sequence[Any]:
        self.url = request.build_absolute_uri()
        self.size = min(_positive_integer(request, "page_size", self.page_size), self.max_page_size)
        self.number = _positive_integer(request, "page", 1)
        self.total = self.count(queryset)
        if self.number > self.last_page:
            raise NotFound(_("This page is past the end."))
        return self.rows(queryset, (self.number - 1) * self.size, self.size)

    @property
    def last_page(self) -> int:
        return max(1, -(-self.total // self.size))

    def count(self, queryset: QuerySet[Any]) -> int:
        return queryset.count()

    def rows(self, queryset: QuerySet[Any], offset: int, limit: int) -> Sequence[Any]:
        """Return at most ``limit`` rows, starting at ``offset``."""
        return list(queryset[offset : offset + limit])

    def response(self, results: Sequence[Any]) -> Response:
        """Return ``{"count", "next", "previous", "results"}`` for the current page."""
        return Response(
            {
                "count": self.total,
                "next": self._link(self.number + 1) if self.number < self.last_page else None,
                "previous": self._link(self.number - 1) if self.number > 1 else None,
                "results": results,
            }
        )

    def _link(self, number: int) -> str:
        if number == 1:
            return str(remove_query_param(self.url, "page"))
        return str(replace_query_param(self.url, "page", number))


def _positive_integer(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    digits = text.lstrip("0") if text.isascii() and text.isdigit() else ""
    if not digits:
        raise ValidationError({name: [_("Must be a whole number from 1.")]})
    return min(int(digits[:MAX_PAGE_DIGITS]), 10 ** (MAX_PAGE_DIGITS - 1))
