"""Filters of the admin list that use the log's indexes and stored counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from myometrics_core.texts import is_storable
from myometrics_core.times import utc_now
from myometrics_core.users import parse_user_id

from ..log.models import AuditLog
from .selection import SelectedEntries, Selection
from .selectors import counted_actions, counted_resource_types


def in_words(action: str) -> str:
    """Return an action as a phrase: ``Login failed`` for ``login_failed``."""
    words = action.translate(SEPARATORS).strip()
    return words[:1].upper() + words[1:] or action


SEPARATORS = str.maketrans("_-.", "   ")


class _SelectionFilter(admin.SimpleListFilter):
    """Narrow the list's selection by one field."""

    def queryset(self, request: HttpRequest, queryset: Any) -> SelectedEntries:
        """Narrow the list by this filter's value, if it has one."""
        value = self.value()
        entries: SelectedEntries = queryset
        if value is None or entries.selection is None:
            return entries
        # No stored text contains NUL, and PostgreSQL rejects it in parameters.
        narrowed = self.narrow(entries.selection, value) if is_storable(value) else None
        return entries.none() if narrowed is None else entries.matching(narrowed)

    def narrow(self, selection: Selection, value: str) -> Selection | None:
        """Return ``selection`` narrowed to ``value``; ``None`` if no entry can match."""
        changes: dict[str, Any] = {str(self.parameter_name): value}
        return replace(selection, **changes)


class ActionFilter(_SelectionFilter):
    """Filter by action; offers the actions of sealed entries."""

    title = _("action")
    parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [(action, in_words(action)) for action in counted_actions()]


class ResourceTypeFilter(_SelectionFilter):
    """Filter by resource type; offers the types of sealed entries."""

    title = _("resource type")
    parameter_name = "resource_type"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [(name, name) for name in counted_resource_types()]


class OriginFilter(_SelectionFilter):
    """Filter by origin. Applied last: it has no index, so the result is no longer a selection."""

    title = _("origin")
    parameter_name = "origin"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, Any]]:
        return list(AuditLog.Origin.choices)

    def queryset(self, request: HttpRequest, queryset: Any) -> SelectedEntries:
        entries: SelectedEntries = queryset
        value = self.value()
        if value is None:
            return entries
        return entries.filter(origin=value) if value in AuditLog.Origin.values else entries.none()


class UserFilter(_SelectionFilter):
    """Filter by user; a link in the list sets it."""

    title = _("user")
    parameter_name = "user_id"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        """Return only the chosen user: the list of all users is too long."""
        chosen = request.GET.get(self.parameter_name)
        return [(chosen, chosen)] if chosen else []

    def narrow(self, selection: Selection, value: str) -> Selection | None:
        """Narrow to this user; ``None`` for an invalid user id."""
        try:
            return replace(selection, user_id=parse_user_id(value))
        except ValueError:
            return None


class PeriodFilter(_SelectionFilter):
    """Filter by whole UTC days up to today."""

    title = _("time")
    parameter_name = "days"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, Any]]:
        return [("1", _("Today")), ("7", _("7 days")), ("30", _("30 days")), ("90", _("90 days"))]

    def narrow(self, selection: Selection, value: str) -> Selection | None:
        """Narrow to the last ``value`` days, including today."""
        if not (value.isascii() and value.isdigit() and len(value) <= 5):
            return None
        today = utc_now().date()
        return replace(selection, start_date=today - timedelta(days=max(int(value), 1) - 1))
