"""The audit log in Django's admin site: read-only, and fast at any size."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.timezone import localtime
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from myometrics_core.read_only_admin import InternalAdmin, ReadOnlyAdmin

from ..log.models import AuditLog, EntryCount, Erasure, Leaf, Seal, Verification
from ..sealing.seals import unsealed_count
from .admin_filters import (
    ActionFilter,
    OriginFilter,
    PeriodFilter,
    ResourceTypeFilter,
    UserFilter,
    in_words,
)
from .pagination import EntryPaginator, SealPaginator
from .selection import Selection, entries_select
from .selectors import parse_entry_id

MAX_SHOWN_ID = 16
NO_WRAP = '<span class="nowrap" title="{}">{}</span>'


class NewestFirst(ChangeList):
    """A change list with a fixed order: any other order would sort the whole log."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        return ["-timestamp", "-id"]


@admin.register(AuditLog)
class AuditLogAdmin(ReadOnlyAdmin):
    """Entries, newest first, with filters that use the log's indexes."""

    list_display = ("time", "user_link", "readable_action", "resource", "ip_address")
    list_display_links = ("time",)
    list_filter = (PeriodFilter, ActionFilter, ResourceTypeFilter, UserFilter, OriginFilter)
    list_select_related = ("user",)
    search_fields = ("resource_id__exact",)
    search_help_text = _("Finds entries about a resource by its exact id.")
    sortable_by = ()
    paginator = EntryPaginator
    fields = (
        "timestamp",
        "user",
        "pseudonym",
        "action_with_code",
        "resource_type",
        "resource_id",
        "ip_address",
        "user_agent",
        "origin",
        "readable_details",
        "activity_id",
        "evidence",
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditLog]:
        return entries_select(Selection())

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[QuerySet[AuditLog], bool]:
        """Return the entries whose resource id equals the search term."""
        resource_id = search_term.strip()
        if not resource_id:
            return queryset, False
        if queryset.selection is None:
            return queryset.filter(resource_id=resource_id), False
        return queryset.matching(replace(queryset.selection, resource_id=resource_id)), False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return NewestFirst

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Render the list with the state of verification, in the full width of the window."""
        context = {
            "verification_state": _verification_state(),
            "is_nav_sidebar_enabled": False,
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    @admin.display(description=_("time"))
    def time(self, entry: AuditLog) -> str:
        """The local time to the second, in the same short form in every language."""
        moment = localtime(entry.timestamp)
        return format_html(NO_WRAP, moment.isoformat(), f"{moment:%Y-%m-%d %H:%M:%S}")

    @admin.display(description=_("user"))
    def user_link(self, entry: AuditLog) -> str:
        """The user, with a link to all entries of this user."""
        if entry.user_id is None:
            return entry.pseudonym or "–"
        query = urlencode({"user_id": entry.user_id})  # a key can be text, such as an address
        return format_html('<a href="?{}">{}</a>', query, entry.user)

    @admin.display(description=_("action"))
    def readable_action(self, entry: AuditLog) -> str:
        """The action in words: ``Login failed`` for ``login_failed``."""
        return format_html(NO_WRAP, entry.action, in_words(entry.action))

    @admin.display(description=_("action"))
    def action_with_code(self, entry: AuditLog) -> str:
        """The action in words, and as it is stored."""
        return f"{in_words(entry.action)} ({entry.action})"

    @admin.display(description=_("resource"))
    def resource(self, entry: AuditLog) -> str:
        """The type and the id of the resource; long ids are shortened."""
        short_id = Truncator(entry.resource_id).chars(MAX_SHOWN_ID)
        return format_html(NO_WRAP, entry.resource_id, f"{entry.resource_type} {short_id}")

    @admin.display(description=_("details"))
    def readable_details(self, entry: AuditLog) -> str:
        text = json.dumps(entry.details, indent=2, ensure_ascii=False, sort_keys=True)
        return format_html("<pre>{}</pre>", text)

    @admin.display(description=_("evidence"))
    def evidence(self, entry: AuditLog) -> str:
        """The entry's leaf and the seal that covers it."""
        leaf = Leaf.objects.filter(entry_id=entry.pk).first()
        if leaf is None:
            return gettext("No leaf: this entry was not written by the audit log.")
        number = leaf.seal_number
        return gettext("leaf %(leaf)s, key %(key)s, %(seal)s") % {
            "leaf": bytes(leaf.hash).hex(),
            "key": leaf.key_id,
            "seal": gettext("seal %s") % number if number else gettext("not sealed yet"),
        }


@admin.register(Seal)
class SealAdmin(InternalAdmin):
    """Seals, newest first."""

    list_display = ("number", "sealed_at", "entries", "erasures", "key_id", "anchored_at")
    fields = ("number", "sealed_at", "entries", "erasures", "key_id", "anchored_at", "hex_root")
    readonly_fields = fields
    ordering = ("-number",)
    sortable_by = ()
    paginator = SealPaginator

    @admin.display(description=_("Merkle root"))
    def hex_root(self, seal: Seal) -> str:
        return bytes(seal.root).hex()


@admin.register(Erasure)
class ErasureAdmin(InternalAdmin):
    """Erasures, newest first."""

    list_display = ("erased_at", "reason", "entries", "pseudonym", "seal_number")
    fields = ("erased_at", "reason", "entries", "pseudonym", "details", "key_id", "seal_number")
    readonly_fields = fields
    ordering = ("-erased_at",)
    sortable_by = ()


@admin.register(Leaf)
class LeafAdmin(InternalAdmin):
    """Leaves, newest first; a leaf outlives its entry."""

    list_display = ("entry_id", "hex_hash", "key_id", "seal_number", "erasure_id")
    fields = list_display
    readonly_fields = fields
    ordering = ("-entry_id",)
    sortable_by = ()
    search_fields = ("entry_id",)
    search_help_text = _("Finds the leaf of an entry by the entry's id.")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Leaf], search_term: str
    ) -> tuple[QuerySet[Leaf], bool]:
        """Return the leaf of the entry with this id; no leaf for an invalid id."""
        text = search_term.strip()
        if not text:
            return queryset, False
        entry_id = parse_entry_id(text)
        return (queryset.none() if entry_id is None else queryset.filter(entry_id=entry_id)), False

    @admin.display(description=_("leaf"))
    def hex_hash(self, leaf: Leaf) -> str:
        return bytes(leaf.hash).hex()


@admin.register(EntryCount)
class EntryCountAdmin(InternalAdmin):
    """Stored counts of sealed entries by scope and period."""

    list_display = [field.name for field in EntryCount._meta.fields if field.name != "id"]
    ordering = ("-pk",)
    sortable_by = ()
    search_fields = ("scope__startswith",)


@admin.register(Verification)
class VerificationAdmin(InternalAdmin):
    """Past runs of ``audit_verify``."""

    list_display = ("finished_at", "entries", "problems", "seal_number", "sealed_at")
    fields = ("started_at", *list_display)
    readonly_fields = fields
    ordering = ("-id",)
    sortable_by = ()


def _verification_state() -> str:
    """Return one line of text: the last verified seal, and the number of unsealed entries."""
    last = Verification.objects.order_by("-id").first()
    if last is None:
        verified = gettext("Never verified: run manage.py audit_verify.")
    else:
        seal = gettext("no seal")
        if last.sealed_at is not None:
            at = f"{last.sealed_at:%Y-%m-%d %H:%M} UTC"
            seal = gettext("seal %(number)s of %(at)s") % {"number": last.seal_number, "at": at}
        problems = last.problems
        verified = gettext(
            "Verified up to %(upto)s: %(entries)d entries, %(result)s (run of %(at)s)."
        ) % {
            "upto": seal,
            "entries": last.entries,
            "result": gettext("%d PROBLEMS") % problems if problems else gettext("no problems"),
            "at": f"{last.finished_at:%Y-%m-%d %H:%M} UTC",
        }
    unsealed = gettext("%d entries are not sealed yet.") % unsealed_count()
    return f"{verified} {unsealed}"
