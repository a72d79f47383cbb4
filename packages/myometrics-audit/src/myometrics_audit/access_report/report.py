"""The rows of an access report. Reading a report is itself an entry."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.utils.translation import gettext as _

from myometrics_core.db import read_in_batches
from myometrics_core.texts import storable_text
from myometrics_core.times import utc_text
from myometrics_core.users import user_id_json

from ..audit import ActorDeleted, AnyRequest, record
from ..conf import audit_settings
from ..listing import Selection, entries_page, entries_select
from ..log.models import OPTIONAL_LENGTHS, AuditLog
from ..log.recordings import NotDurable

logger = logging.getLogger(__name__)
REPORT_VIEWED: Final = "access_report_viewed"
REPORT_DENIED: Final = "access_report_denied"
COLUMNS: Final = (
    "id",
    "timestamp",
    "user_id",
    "pseudonym",
    "action",
    "resource_type",
    "resource_id",
    "purpose",
    "legal_basis",
    "origin",
)
"""Columns of the log that a report is made of."""
MAX_NAMES: Final = 1000


class UserNames:
    """The names of users in a report; those of the last users are kept in memory.

    ``for_subject``: users are shown as the data subject may see them.
    """

    def __init__(self, *, for_subject: bool) -> None:
        self.for_subject = for_subject
        self._known: dict[Any, str] = {}

    def name_of(self, user: AbstractBaseUser) -> str:
        """Return the name, by the site's function for data subjects."""
        if user.pk not in self._known:
            if len(self._known) >= MAX_NAMES:
                self._known.clear()
            self._known[user.pk] = self._find(user)
        return self._known[user.pk]

    def _find(self, user: AbstractBaseUser) -> str:
        find_name = audit_settings.ACCESS_REPORT_USER_NAME
        if self.for_subject and find_name:
            name = find_name(user)
            return _("User") if name in (None, "") else str(name)
        full_name = getattr(user, "get_full_name", None)
        return str((full_name and full_name()) or user.get_username())


def report_open(
    selection: Selection, *, user: AbstractBaseUser, request: AnyRequest, **details: Any
) -> Selection:
    """Record that ``user`` reads the report; return ``selection`` without newer entries.

    ``selection`` has a data subject. Raises ``ActorDeleted`` if the user was deleted.
    """
    subject = str(selection.data_subject)
    days = {"start_date": selection.start_date, "end_date": selection.end_date}
    entry = record(
        actor=user,
        action=REPORT_VIEWED,
        resource=("access_report", subject),
        data_subject=subject,
        details={**details, **{name: str(day) for name, day in days.items() if day}},
        request=request,
    )
    # Otherwise the entry about each page would shift the next one.
    newest = entry.pk - 1
    wanted = selection.max_id
    return replace(selection, max_id=newest if wanted is None else min(wanted, newest))


def report_deny(data_subject: str, *, user: Any, request: AnyRequest) -> None:
    """Record that a signed-in ``user`` was refused the report about ``data_subject``."""
    subject = storable_text(data_subject, OPTIONAL_LENGTHS["data_subject"])
    # Other principals may have equal keys.
    if not subject or not isinstance(user, get_user_model()):
        return
    try:
        record(
            actor=user,
            action=REPORT_DENIED,
            resource=("access_report", subject),
            data_subject=subject,
            request=request,
            durable=True,
        )
    except ActorDeleted:
        pass  # The user was deleted concurrently; the request is refused in any case.
    except NotDurable as error:
        logger.error("The refusal of an access report was not recorded. %s", error)


def report_page(
    selection: Selection, offset: int, limit: int, *, for_subject: bool
) -> tuple[int, list[dict[str, Any]]]:
    """Return the exact count, and ``limit`` rows after the newest ``offset``.

    ``for_subject``: users are shown as the data subject may see them.
    """
    count, rows = entries_page(selection, offset, limit, columns=COLUMNS)
    users = _users(row["user_id"] for row in rows)
    names = UserNames(for_subject=for_subject)
    return count, [_row(row, users.get(row["user_id"]), names) for row in rows]


def report_entries(selection: Selection) -> Iterator[AuditLog]:
    """Yield all entries with their users, oldest first, in constant memory."""
    entries = entries_select(selection).select_related("user").order_by("timestamp", "id")
    return read_in_batches(entries)


def report_row(entry: AuditLog, names: UserNames) -> dict[str, Any]:
    """Return the row of an entry whose user was read with it."""
    row = {name: getattr(entry, name) for name in COLUMNS}
    return _row(row, entry.user, names)


def row_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a row to the format of the API."""
    return {
        **row,
        "timestamp": utc_text(row["timestamp"]),
        "user_id": user_id_json(row["user_id"]),
    }


def _users(user_ids: Iterable[Any]) -> dict[Any, AbstractBaseUser]:
    wanted = set(user_ids) - {None}
    # The default manager of a site may leave out some users.
    users = get_user_model()._base_manager
    return {user.pk: user for user in users.filter(pk__in=wanted)} if wanted else {}


def _row(
    columns: Mapping[str, Any], user: AbstractBaseUser | None, names: UserNames
) -> dict[str, Any]:
    return {
        "id": columns["id"],
        "timestamp": columns["timestamp"],
        "who": columns["pseudonym"] if user is None else names.name_of(user),
        "user_id": None if names.for_subject else columns["user_id"],
        "action": columns["action"],
        "resource_type": columns["resource_type"],
        "resource_id": columns["resource_id"],
        "purpose": columns["purpose"] or "",
        "legal_basis": columns["legal_basis"] or "",
        "origin": columns["origin"],
    }
