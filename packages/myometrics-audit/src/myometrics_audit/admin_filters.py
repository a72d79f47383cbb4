"""Filters of the admin list that stay within the log's indexes and stored counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from myometrics_core.times import utc_now
from myometrics_core.users import parse_user_id

from .models import AuditLog
from .querysets import AuditLogQuerySet
from .selections import Selection
from .selectors import counted_actions, counted_resource_types

__all__ = ["ActionFilter", "OriginFilter", "PeriodFilter", "ResourceTypeFilter", "UserFilter"]


class _SelectionFilter(admin.SimpleListFilter):
    """Narrows the list's selection by one field."""

    def queryset(self, request: HttpRequest, queryset: Any) -> AuditLogQuerySet:
        """The list narrowed by this filter's value, if it has one."""
        value = self.value()
        entries: AuditLogQuerySet = queryset
        if value is None or entries.selection is None:
            return entries
        # No text of an entry holds NUL, and PostgreSQL refuses to compare with it.
        narrowed = None if "\x00" in value else self.narrow(entries.selection, value)
        return entries.none() if narrowed is None else entries.matching(narrowed)

    def narrow(self, selection: Selection, value: str) -> Selection | None:
        """``selection`` narrowed to ``value``; ``None`` when nothing can match."""
        raise NotImplementedError


class ActionFilter(_SelectionFilter):
    """By action, out of those that were sealed."""

    title = _("action")
    parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The actions there are."""
        return [(action, action) for action in counted_actions()]

    def narrow(self, selection: Selection, value: str) -> Selection | None:
        """By this action."""
        return replace(selection, action=value)


class ResourceTypeFilter(_SelectionFilter):
    """By resource type, out of those that were sealed."""

    title = _("resource type")
    parameter_name = "resource_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The resource types there are."""
        return [(name, name) for name in counted_resource_types()]

    def narrow(self, selection: Selection, value: str) -> Selection | None:
        """By this resource type."""
        return replace(selection, resource_type=value)


class OriginFilter(_SelectionFilter):
    """By who reported it. The last filter: no index serves it, so it leaves the selection."""

    title = _("origin")
    parameter_name = "origin"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Every origin."""
        return list(AuditLog.Origin.choices)

    def queryset(self, request: HttpRequest, queryset: Any) -> AuditLogQuerySet:
        """The list narrowed to this origin."""
        entries: AuditLogQuerySet = queryset
        value = self.value()
        if value is None:
            return entries
        return entries.filter(origin=value) if value in AuditLog.Origin.values else entries.none()


class UserFilter(_SelectionFilter):
    """By the user that a link in the list chose."""

    title = _("user")
    parameter_name = "user_id"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The chosen user alone: nobody wants to scroll through thousands."""
        chosen = request.GET.get(self.parameter_name)
        return [(chosen, chosen)] if chosen else []

    def narrow(self, selection: Selection, value: str) -> Selection | None:
        """By this user; nothing for what is no user id."""
        try:
            return replace(selection, user_id=parse_user_id(value))
        except ValueError:
            return None


class PeriodFilter(_SelectionFilter):
    """By whole UTC days up to today."""

    title = _("time")
    parameter_name = "days"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Usual periods."""
        return [("1", _("Today")), ("7", _("7 days")), ("30", _("30 days")), ("90", _("90 days"))]

    def narrow(self, selection: Selection, value: str) -> Selection | None:
        """By the last so many days, today included."""
        if not (value.isascii() and value.isdigit() and len(value) <= 5):
            return None
        today = utc_now().date()
        return replace(selection, start_date=today - timedelta(days=max(int(value), 1) - 1))
