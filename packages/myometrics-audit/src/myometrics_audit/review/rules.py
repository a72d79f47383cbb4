"""Rules that examine the log: the base class, its inputs and results, and the registry.

A rule is deterministic: its hits depend only on the entries, in the order of the seals, and on the
answers of the site's hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from django.utils.timezone import get_default_timezone

from ..conf import audit_settings
from ..log.models import AuditLog
from ..sealing.export.interactions import ADMINISTRATION
from .models import Finding
from .states import States

__all__ = [
    "Access",
    "Batch",
    "Entry",
    "Hit",
    "Rule",
    "Severity",
    "register_rule",
]

Severity = Finding.Severity


class Entry(NamedTuple):
    """An entry of the log, without its details."""

    id: int
    user_id: Any
    action: str
    resource_type: str
    resource_id: str
    timestamp: datetime
    data_subject: str | None
    origin: str | None = None
    pseudonym: str = ""

    @property
    def actor(self) -> str:
        """The user's id, or the pseudonym of a deleted user: for keys; ``""`` if there is none."""
        return self.pseudonym if self.user_id is None else str(self.user_id)

    @property
    def is_by_client(self) -> bool:
        """Whether a client of the API chose the action, the resource and the details."""
        return self.origin == AuditLog.Origin.CLIENT


class Access(NamedTuple):
    """A user's accesses to a data subject on one day, in the site's time zone: for hooks."""

    user_id: Any
    data_subject: str
    day: date


@dataclass(frozen=True, kw_only=True)
class Hit:
    """An entry that a rule reports. Hits with the same ``key`` are one finding.

    ``details`` are shown by :meth:`Rule.describe`; a later hit's replace those of an earlier one.
    They must not contain names.
    """

    key: str
    entry: Entry
    user_id: Any
    data_subject: str = ""
    other_entries: tuple[int, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


class Batch:
    """Consecutive entries, and what a rule remembers of those before."""

    def __init__(self, entries: list[Entry], states: States) -> None:
        self.entries = entries
        self._states = states

    @cached_property
    def accesses(self) -> list[Entry]:
        """The entries that have a data subject and a user, who may be deleted: see ``actor``.

        Without administration, such as a legal hold: it opens no data.
        """
        found = (entry for entry in self.entries if entry.data_subject and entry.actor)
        return [entry for entry in found if entry.action not in ADMINISTRATION]

    @cached_property
    def pairs(self) -> dict[Access, list[Entry]]:
        """The accesses by user, data subject and day; without those of deleted users."""
        zone, found = get_default_timezone(), dict[Access, list[Entry]]()
        for entry in self.accesses:
            if entry.user_id is None:
                continue
            day = entry.timestamp.astimezone(zone).date()
            access = Access(entry.user_id, entry.data_subject or "", day)
            found.setdefault(access, []).append(entry)
        return found

    @cached_property
    def _actions(self) -> set[str]:
        return {entry.action for entry in self.entries}

    def with_actions(self, is_wanted: Callable[[str], bool]) -> list[Entry]:
        """Return the entries whose action is wanted, in their order."""
        wanted = {action for action in self._actions if is_wanted(action)}
        return [entry for entry in self.entries if entry.action in wanted] if wanted else []

    def details(self, entries: Iterable[Entry]) -> dict[int, Any]:
        """Return the details of ``entries`` by id; one query."""
        ids = [entry.id for entry in entries]
        if not ids:
            return {}
        return dict(AuditLog.objects.filter(pk__in=ids).values_list("pk", "details"))

    def states(self, rule: Rule, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return what ``rule`` remembers under each of ``keys``: dictionaries to be changed.

        A state that was not used for the rule's ``memory``, in the log's time, is deleted.
        """
        latest = max(entry.timestamp for entry in self.entries)
        return self._states.load(rule.name, set(keys), expires_at=latest + rule.memory)


class Rule:
    """A rule. Subclass it, and register an instance with :func:`register_rule`."""

    name: ClassVar[str]
    """Stored in findings; at most 50 characters."""
    title: ClassVar[Any]
    severity: ClassVar[Finding.Severity] = Severity.MEDIUM
    memory: timedelta = timedelta(0)
    """How far the rule looks back: for how long it keeps its states."""

    def is_on(self) -> bool:
        """Return whether the rule can be applied, for example because its hook is set."""
        return True

    def examine(self, batch: Batch) -> Iterator[Hit]:
        """Yield a hit for each entry of ``batch`` that is to be reviewed.

        The hits must be the same, however the entries are divided into batches.
        """
        raise NotImplementedError

    def describe(self, details: Mapping[str, Any]) -> str:
        """Return a sentence about a finding, in the language of the reader."""
        return ""


_rules: dict[str, Rule] = {}


def register_rule(rule: Rule) -> None:
    """Register ``rule``, replacing an earlier one of the same name. Call it in ``ready()``."""
    _rules[rule.name] = rule


def registered_rules() -> dict[str, Rule]:
    """Return the registered rules by name, in order of registration."""
    return dict(_rules)


def rules_in_force() -> list[Rule]:
    """Return the rules that are applied: not switched off, and with their hook."""
    off = audit_settings.REVIEW_RULES_OFF
    return [rule for rule in _rules.values() if rule.name not in off and rule.is_on()]


def describe_finding(finding: Finding) -> str:
    """Return the title of the finding's rule and its sentence."""
    rule = _rules.get(finding.rule)
    if rule is None:
        return finding.rule
    text = rule.describe(finding.details)
    return f"{rule.title}: {text}" if text else str(rule.title)
