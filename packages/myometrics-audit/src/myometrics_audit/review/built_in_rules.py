"""The eight rules of the package. ``docs/audit/review.md`` has their formulas.

A site changes the parameters of a rule by registering another instance of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist
from django.utils.dateparse import parse_datetime
from django.utils.timezone import get_default_timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from myometrics_core.mail import mail_address
from myometrics_core.users import account_pseudonyms, user_id_json

from ..audit import action_name
from ..conf import audit_settings, minute_of_day
from ..log.models import AuditLog
from .models import EmergencyAccess
from .rules import Access, Batch, Entry, Hit, Rule, Severity, register_rule

__all__ = [
    "EmergencyAccessUsed",
    "ExportAfterRoleChange",
    "FailedSignIns",
    "InactiveUser",
    "NoCareRelation",
    "OutsideHours",
    "SameNameOrAddress",
    "UnusualVolume",
    "VipAccess",
]

HOUR_SECONDS = 3600
HOURS_OF_DAY = 24
Pairs = dict[Access, list[Entry]]
ROLE_FIELDS = frozenset(
    # Recorded changes name the column of a foreign key.
    ["role", "role_id", "is_staff", "is_superuser", "groups", "user_permissions"]
)


class OutsideHours(Rule):
    """Accesses outside of ``REVIEW_WORKING_HOURS``; one finding per user and day."""

    name = "outside_hours"
    title = gettext_lazy("Access outside working hours")
    severity = Severity.LOW

    def is_on(self) -> bool:
        return audit_settings.REVIEW_WORKING_HOURS is not None

    def examine(self, batch: Batch) -> Iterator[Hit]:
        hours: Mapping[str, Any] = audit_settings.REVIEW_WORKING_HOURS
        days, zone = frozenset(hours["days"]), get_default_timezone()
        if "time_zone" in hours:
            zone = ZoneInfo(hours["time_zone"])
        start, end = minute_of_day(hours["from"]), minute_of_day(hours["to"])
        for entry in batch.accesses:
            local = entry.timestamp.astimezone(zone)
            if local.weekday() in days and start <= local.hour * 60 + local.minute < end:
                continue
            yield Hit(
                key=f"{entry.actor}:{local.date()}",
                entry=entry,
                user_id=entry.user_id,
                details={"last": local.isoformat(timespec="minutes")},
            )

    def describe(self, details: Mapping[str, Any]) -> str:
        last = parse_datetime(details["last"])
        return _("the last one at %(time)s.") % {"time": f"{last:%Y-%m-%d %H:%M}"}


class UnusualVolume(Rule):
    """More accesses in an hour than usual for the user; one finding per user and hour.

    The limit is ``minimum``, or ``factor`` times the user's average of the hours with accesses in
    the 28 days before, if that is more. It is computed at the first access of the hour.
    """

    name = "unusual_volume"
    title = gettext_lazy("Unusually many accesses")
    memory = timedelta(days=28)
    KEPT_HOURS: ClassVar[int] = 3

    def __init__(self, *, minimum: int = 50, factor: int = 5) -> None:
        self.minimum, self.factor = minimum, factor

    def examine(self, batch: Batch) -> Iterator[Hit]:
        states = batch.states(self, {entry.actor for entry in batch.accesses})
        for entry in batch.accesses:
            hour = int(entry.timestamp.timestamp()) // HOUR_SECONDS
            count = self._counted(states[entry.actor], hour)
            if count is not None and count[1] > count[2]:
                yield Hit(
                    key=f"{entry.actor}:{hour}",
                    entry=entry,
                    user_id=entry.user_id,
                    details={"accesses": count[1], "limit": count[2]},
                )

    def _counted(self, state: dict[str, Any], hour: int) -> list[int] | None:
        """Count an access; return hour, accesses and limit, or ``None`` if the hour is too old.

        The last hours are kept apart, so that a late entry is counted in its own hour.
        """
        hours: list[list[int]] = state.setdefault("hours", [])
        for count in reversed(hours):
            if count[0] == hour:
                count[1] += 1
                return count
        if len(hours) == self.KEPT_HOURS and hour < hours[0][0]:
            return None
        count = [hour, 1, self._limit(state, hour)]
        hours.append(count)
        hours.sort()
        if len(hours) > self.KEPT_HOURS:
            self._fold(state, hours.pop(0))
        return count

    def _limit(self, state: dict[str, Any], hour: int) -> int:
        first_day = hour // HOURS_OF_DAY - self.memory.days
        days = state.get("days", [])
        past = [(active, count) for day, active, count in days if day >= first_day]
        kept = range(first_day * HOURS_OF_DAY, hour)
        past += [(1, count) for past_hour, count, _limit in state["hours"] if past_hour in kept]
        active, count = sum(row[0] for row in past), sum(row[1] for row in past)
        return max(self.minimum, self.factor * count // active) if active else self.minimum

    def _fold(self, state: dict[str, Any], count: list[int]) -> None:
        """Add an hour to its day, and drop days that are too old."""
        day = count[0] // HOURS_OF_DAY
        days = [row for row in state.get("days", []) if row[0] >= day - self.memory.days]
        if days and days[-1][0] == day:
            days[-1] = [day, days[-1][1] + 1, days[-1][2] + count[1]]
        else:
            days.append([day, 1, count[1]])
        state["days"] = days

    def describe(self, details: Mapping[str, Any]) -> str:
        return _("%(accesses)d in an hour; the limit is %(limit)d.") % details


class _PairRule(Rule):
    """Base of rules that report pairs of user and data subject; one finding a day for each."""

    def reported(self, pairs: Pairs) -> Pairs:
        """Return the pairs and the entries to be reported. Called with at least one pair."""
        raise NotImplementedError

    def examine(self, batch: Batch) -> Iterator[Hit]:
        for access, entries in self.reported(batch.pairs).items() if batch.pairs else ():
            for entry in entries:
                yield Hit(
                    key=f"{access.user_id}:{access.day}:{access.data_subject}",
                    entry=entry,
                    user_id=access.user_id,
                    data_subject=access.data_subject,
                )


class SameNameOrAddress(_PairRule):
    """Accesses that the hook ``REVIEW_RELATED`` returns."""

    name = "same_name_or_address"
    title = gettext_lazy("Same surname or address")

    def is_on(self) -> bool:
        return audit_settings.REVIEW_RELATED is not None

    def reported(self, pairs: Pairs) -> Pairs:
        related = set(audit_settings.REVIEW_RELATED(list(pairs)))
        return {access: entries for access, entries in pairs.items() if access in related}


class VipAccess(Rule):
    """Accesses to data subjects that the hook ``REVIEW_VIP`` returns.

    One finding a day for each user and data subject, also of deleted users.
    """

    name = "vip"
    title = gettext_lazy("Access to a person on the VIP list")
    severity = Severity.HIGH

    def is_on(self) -> bool:
        return audit_settings.REVIEW_VIP is not None

    def examine(self, batch: Batch) -> Iterator[Hit]:
        subjects = {entry.data_subject for entry in batch.accesses}
        vip = set(audit_settings.REVIEW_VIP(subjects)) if subjects else ()
        zone = get_default_timezone()
        for entry in batch.accesses:
            if entry.data_subject in vip:
                day = entry.timestamp.astimezone(zone).date()
                yield Hit(
                    key=f"{entry.actor}:{day}:{entry.data_subject}",
                    entry=entry,
                    user_id=entry.user_id,
                    data_subject=entry.data_subject or "",
                )


class NoCareRelation(_PairRule):
    """Accesses that the hook ``REVIEW_CARE_RELATION`` doesn't return, without emergency access."""

    name = "no_care_relation"
    title = gettext_lazy("Access without care relation")
    severity = Severity.HIGH

    def is_on(self) -> bool:
        return audit_settings.REVIEW_CARE_RELATION is not None

    def reported(self, pairs: Pairs) -> Pairs:
        related = set(audit_settings.REVIEW_CARE_RELATION(list(pairs)))
        unrelated = {access: pairs[access] for access in pairs if access not in related}
        spans = emergency_spans(unrelated)
        for access in unrelated.keys() & spans.keys():
            unrelated[access] = [
                entry
                for entry in unrelated[access]
                if not any(start <= entry.timestamp < end for start, end in spans[access])
            ]
        return unrelated


def emergency_spans(pairs: Pairs) -> dict[Access, list[tuple[datetime, datetime]]]:
    """Return from when until when emergency access was granted."""
    if not pairs:
        return {}
    granted: dict[tuple[Any, str], list[tuple[datetime, datetime]]] = {}
    grants = EmergencyAccess.objects.filter(
        actor__in={access.user_id for access in pairs},
        data_subject__in={access.data_subject for access in pairs},
        expires_at__gt=min(entry.timestamp for found in pairs.values() for entry in found),
    )
    columns = ("actor_id", "data_subject", "granted_at", "expires_at")
    for user_id, data_subject, start, end in grants.values_list(*columns):
        granted.setdefault((user_id, data_subject), []).append((start, end))
    keys = {access: (access.user_id, access.data_subject) for access in pairs}
    return {access: granted[key] for access, key in keys.items() if key in granted}


class FailedSignIns(Rule):
    """A sign-in after ``minimum`` failed ones of the same account within ``within``."""

    name = "failed_sign_ins"
    title = gettext_lazy("Sign-in after failed ones")
    severity = Severity.HIGH
    ACTIONS: ClassVar = frozenset(["login_failed", "login_succeeded"])

    def __init__(self, *, minimum: int = 5, within: timedelta = timedelta(minutes=15)) -> None:
        self.minimum, self.within = minimum, within
        self.memory = within

    def examine(self, batch: Batch) -> Iterator[Hit]:
        found = batch.with_actions(self.ACTIONS.__contains__)
        attempts = [one for one in found if not one.is_by_client]
        if not attempts:
            return
        keys = _account_keys({one.user_id for one in attempts if one.user_id is not None})
        names = {_failed_account(one) for one in attempts if one.action == "login_failed"}
        names.update(name for found in keys.values() for name in found)
        states = batch.states(self, names)
        for entry in attempts:
            if entry.action == "login_failed":
                failures = states[_failed_account(entry)].setdefault("failures", [])
                failures.append([entry.timestamp.timestamp(), entry.id])
                del failures[: -self.minimum]
            elif entry.user_id is not None:
                yield from self._signed_in(entry, [states[key] for key in keys[entry.user_id]])

    def _signed_in(self, entry: Entry, states: list[dict[str, Any]]) -> Iterator[Hit]:
        end = entry.timestamp.timestamp()
        start = end - self.within.total_seconds()
        failures = sorted(one for state in states for one in state.pop("failures", ()))
        recent = [entry_id for at, entry_id in failures if start <= at <= end]
        if len(recent) >= self.minimum:
            yield Hit(
                key=f"{entry.user_id}:{entry.id}",
                entry=entry,
                user_id=entry.user_id,
                other_entries=tuple(recent),
                details={"failures": len(recent)},
            )

    def describe(self, details: Mapping[str, Any]) -> str:
        return _("%(failures)d or more failed before.") % details


def _failed_account(entry: Entry) -> str:
    """Return the account of a failed sign-in: the user, or the pseudonym of the address."""
    return entry.resource_id if entry.user_id is None else str(entry.user_id)


def _account_keys(user_ids: Collection[Any]) -> dict[Any, list[str]]:
    """Return the keys under which failed sign-ins of each user are remembered."""
    keys = {user_id: [str(user_id)] for user_id in user_ids}
    users = get_user_model()._base_manager
    for user in users.filter(pk__in=user_ids) if user_ids else ():
        email = mail_address(user)
        keys[user.pk] += account_pseudonyms(email) if email else []
    return keys


class ExportAfterRoleChange(Rule):
    """An export by a user whose role or permissions were changed within ``within`` before."""

    name = "export_after_role_change"
    title = gettext_lazy("Export after a change of the role")
    severity = Severity.HIGH

    def __init__(self, *, within: timedelta = timedelta(days=1)) -> None:
        self.within = self.memory = within

    def examine(self, batch: Batch) -> Iterator[Hit]:
        exports = frozenset(audit_settings.REVIEW_EXPORT_ACTIONS)
        changes = frozenset(user_change_actions())
        entries = batch.with_actions(lambda name: name in exports or name in changes)
        entries = [one for one in entries if one.action in exports or is_user_change(one)]
        if not entries:
            return
        updates = [one for one in entries if one.action not in exports]
        changed = batch.details(updates)
        states = batch.states(
            self,
            {one.resource_id for one in updates}
            | {str(one.user_id) for one in entries if one.action in exports},
        )
        for entry in entries:
            if entry.action in exports:
                yield from self._exported(entry, states[str(entry.user_id)])
            elif changed_fields(changed.get(entry.id)) & ROLE_FIELDS:
                state = states[entry.resource_id]
                state["changed"] = [entry.timestamp.timestamp(), entry.id]

    def _exported(self, entry: Entry, state: dict[str, Any]) -> Iterator[Hit]:
        changed_at, change_id = state.get("changed", (None, None))
        if entry.user_id is None or changed_at is None:
            return
        if 0 <= entry.timestamp.timestamp() - changed_at <= self.within.total_seconds():
            yield Hit(
                key=f"{entry.user_id}:{change_id}",
                entry=entry,
                user_id=entry.user_id,
                other_entries=(change_id,),
            )


def user_change_actions() -> tuple[str, str]:
    """Return the actions of changes of users: of auth's events, and of recorded changes."""
    return ("user_updated", action_name(str(get_user_model()._meta.model_name), "updated"))


def is_user_change(entry: Entry) -> bool:
    """Return whether the server recorded a change of a user."""
    is_change = entry.action in user_change_actions() and not entry.is_by_client
    return is_change and entry.resource_type in _user_types()


def _user_types() -> tuple[str, str]:
    """Return the resource types of users: of auth's events, and of recorded changes."""
    return ("user", get_user_model()._meta.label_lower)


def changed_fields(details: Any) -> set[str]:
    """Return the names of the fields that an entry says were changed."""
    details = details if isinstance(details, dict) else {}
    changed = details.get("changed") or details.get("changes") or {}
    return set(changed) if isinstance(changed, (dict, list)) else set()


class InactiveUser(Rule):
    """Accesses by deactivated users, and by those that the hook ``REVIEW_LEAVING`` returns.

    One finding per user and day. A user who is deactivated now, but was not at the time of the
    access by the entry of the change, is not reported.
    """

    name = "inactive_user"
    title = gettext_lazy("Access by a user who is deactivated or about to leave")
    severity = Severity.HIGH

    def examine(self, batch: Batch) -> Iterator[Hit]:
        users = {access.user_id for access in batch.pairs}
        if not users:
            return
        inactive = _deactivated(users)
        hook = audit_settings.REVIEW_LEAVING
        leaving = set(hook(users - set(inactive))) if hook else set()
        for access, entries in batch.pairs.items():
            if access.user_id not in inactive and access.user_id not in leaving:
                continue
            since = inactive.get(access.user_id)
            for entry in entries:
                if since is None or entry.timestamp >= since:
                    yield Hit(
                        key=f"{access.user_id}:{access.day}",
                        entry=entry,
                        user_id=access.user_id,
                        details={"deactivated": access.user_id in inactive},
                    )

    def describe(self, details: Mapping[str, Any]) -> str:
        return _("deactivated.") if details["deactivated"] else _("about to leave.")


def _deactivated(user_ids: Collection[Any]) -> dict[Any, datetime | None]:
    """Return which users are deactivated, and since when, if the log says so."""
    model = get_user_model()
    try:
        model._meta.get_field("is_active")
    except FieldDoesNotExist:
        return {}
    users = model._base_manager.filter(pk__in=user_ids, is_active=False)
    keys = {str(user_id_json(pk)): pk for pk in users.values_list("pk", flat=True)}
    times = _deactivation_times(keys) if keys else {}
    return {pk: times.get(key) for key, pk in keys.items()}


def _deactivation_times(resource_ids: Collection[str]) -> dict[str, datetime]:
    """Return when users were deactivated last, by resource id; one query."""
    entries = AuditLog.objects.filter(
        resource_type__in=_user_types(),
        resource_id__in=resource_ids,
        action__in=user_change_actions(),
    ).exclude(origin=AuditLog.Origin.CLIENT)
    rows = entries.order_by("timestamp", "id").values_list("resource_id", "timestamp", "details")
    return {key: at for key, at, details in rows if _is_deactivation(details)}


def _is_deactivation(details: Any) -> bool:
    """Return whether ``is_active`` was changed, and to false if the entry has the new value."""
    if "is_active" not in changed_fields(details):
        return False
    changed = details.get("changed") or details["changes"]
    change = changed["is_active"] if isinstance(changed, dict) else None
    return not (isinstance(change, dict) and change.get("to"))


class EmergencyAccessUsed(Rule):
    """Emergency access. The grant itself opens the finding, so there is nothing to examine."""

    name = "emergency_access"
    title = gettext_lazy("Emergency access")
    severity = Severity.HIGH

    def examine(self, batch: Batch) -> Iterator[Hit]:
        return iter(())

    def describe(self, details: Mapping[str, Any]) -> str:
        return _("for %(minutes)d minutes.") % details


def register_rules() -> None:
    """Register the rules of the package."""
    for rule in (
        OutsideHours(),
        UnusualVolume(),
        SameNameOrAddress(),
        VipAccess(),
        NoCareRelation(),
        FailedSignIns(),
        ExportAfterRoleChange(),
        InactiveUser(),
        EmergencyAccessUsed(),
    ):
        register_rule(rule)
