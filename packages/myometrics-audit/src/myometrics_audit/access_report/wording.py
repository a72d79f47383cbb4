"""Descriptions of accesses that a data subject understands."""

from __future__ import annotations

from typing import Any, Final

from django.apps import apps
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..listing.admin_filters import in_words
from ..sealing.export.interactions import interaction_of, outcome_of
from .report import REPORT_VIEWED

ACTIONS: Final = {REPORT_VIEWED: _("Read this report")}
LAST_WORDS: Final = {
    "exported": _("Exported"),
    "printed": _("Printed"),
    "downloaded": _("Downloaded"),
    "listed": _("Shown in a list"),
    "restored": _("Restored"),
    "denied": _("Tried to open, but was refused"),
}
INTERACTIONS: Final = {
    "create": _("Added"),
    "read": _("Opened"),
    "update": _("Changed"),
    "delete": _("Deleted"),
    "search": _("Searched"),
}


def action_words(action: str) -> str:
    """Return what was done: ``Opened`` for ``clinic.report_viewed``."""
    last_word = action.rpartition("_")[2]
    known = ACTIONS.get(action) or LAST_WORDS.get(last_word)
    if known is None and outcome_of(action) == "0":
        known = INTERACTIONS.get(interaction_of(action) or "")
    return str(known or in_words(action))


def data_words(resource_type: str, resource_id: str) -> str:
    """Return which data: the model's name and the id."""
    if resource_type == "access_report":
        return gettext("access report")
    try:
        name: Any = apps.get_model(resource_type)._meta.verbose_name
    except (LookupError, ValueError):
        name = in_words(resource_type)
    return f"{name} {resource_id}"
