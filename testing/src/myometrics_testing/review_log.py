"""A made-up log with planted incidents, for tests and the benchmark of the review.

The same users, size and seed give the same entries. Besides the incidents there is harmless traffic
that the rules report as well: false alarms.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from myometrics_core.users import account_pseudonym

ZONE = ZoneInfo("Europe/Berlin")
WORKING_HOURS = {
    "days": [0, 1, 2, 3, 4],
    "from": "07:00",
    "to": "19:00",
    "time_zone": "Europe/Berlin",
}
START = datetime(2026, 6, 1, tzinfo=ZONE)
WEEKS = 6
PATIENTS = 20_000
PANEL = 60
BURST = 120


@dataclass(frozen=True)
class MadeEntry:
    """The fields of an entry that rules look at."""

    timestamp: datetime
    user_id: Any
    action: str
    resource_type: str
    resource_id: str
    data_subject: str = ""
    details: dict[str, Any] = field(default_factory=dict)


class ReviewLog:
    """The entries, the planted incidents, and the hooks of the made-up clinic.

    ``users`` are pairs of primary key and e-mail address; ``per_kind`` is the number of incidents
    of each rule. The last ``per_kind`` users are deactivated or about to leave, in turns.
    """

    def __init__(
        self, users: Sequence[tuple[Any, str]], *, size: int, per_kind: int, seed: int = 1
    ) -> None:
        self._users, self._size, self._per_kind, self._seed = users, size, per_kind, seed
        self._index = {pk: index for index, (pk, _) in enumerate(users)}
        gone = [pk for pk, _ in users[-per_kind:]]
        self.deactivated, self._leaving = gone[::2], set(gone[1::2])
        self._present = len(users) - per_kind
        self.planted: list[tuple[str, MadeEntry]] = []
        """The rule and the last entry of each incident."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the review in this clinic."""
        return {
            "REVIEW_WORKING_HOURS": WORKING_HOURS,
            "REVIEW_RELATED": self.related,
            "REVIEW_VIP": self.vip,
            "REVIEW_CARE_RELATION": self.care_relation,
            "REVIEW_LEAVING": self.leaving,
        }

    def related(self, accesses: Collection[Any]) -> list[Any]:
        return [one for one in accesses if self._is_related(one.user_id, one.data_subject)]

    def vip(self, data_subjects: Collection[str]) -> set[str]:
        return {subject for subject in data_subjects if int(subject[1:]) % 4000 == 11}

    def care_relation(self, accesses: Collection[Any]) -> list[Any]:
        return [one for one in accesses if self._is_in_care(one.user_id, one.data_subject)]

    def leaving(self, user_ids: Collection[Any]) -> set[Any]:
        return self._leaving & set(user_ids)

    def entries(self) -> list[MadeEntry]:
        """Return the log, ordered by time, and fill ``planted``."""
        self._random, self.planted = random.Random(self._seed), []
        made = [*self._incidents(), *self._false_alarms()]
        made += self._normal(self._size - len(made))
        return sorted(made, key=lambda entry: entry.timestamp)

    def _is_related(self, user_id: Any, subject: str) -> bool:
        return int(subject[1:]) % 5000 == self._index[user_id] % 300

    def _is_in_care(self, user_id: Any, subject: str) -> bool:
        return (int(subject[1:]) - 37 * self._index[user_id]) % PATIENTS < PANEL

    def _patient(self, index: int) -> str:
        return f"p{(37 * index + self._random.randrange(PANEL)) % PATIENTS}"

    def _ordinary_patient(self, index: int) -> str:
        """Return a patient of the user whom no rule reports."""
        for _ in range(1000):
            subject = self._patient(index)
            if not self.vip([subject]) and not self._is_related(self._users[index][0], subject):
                return subject
        raise AssertionError

    def _time(self, hour: int, minute: int = 0, day: int | None = None) -> datetime:
        number = self._random.randrange(WEEKS * 5) if day is None else day
        day_start = START + timedelta(days=number // 5 * 7 + number % 5)
        return day_start.replace(hour=hour, minute=minute, second=self._random.randrange(60))

    def _access(self, index: int, at: datetime, subject: str) -> MadeEntry:
        pk = self._users[index][0]
        return MadeEntry(at, pk, "record_viewed", "record", subject, subject)

    def _incidents(self) -> Iterator[MadeEntry]:
        kinds = {
            "outside_hours": self._on_call,
            "unusual_volume": self._burst,
            "same_name_or_address": lambda index: self._one(index, f"p{15_000 + index % 300}"),
            "vip": lambda index: self._one(index, "p4011"),
            "no_care_relation": lambda index: self._one(
                index, f"p{(37 * index + 9001) % PATIENTS}"
            ),
            "failed_sign_ins": self._failed_sign_ins,
            "export_after_role_change": self._export_after_role_change,
        }
        for number in range(self._per_kind):
            for place, (rule, kind) in enumerate(kinds.items()):
                entries = kind((number * len(kinds) + place) % self._present)
                self.planted.append((rule, entries[-1]))
                yield from entries
            index = self._present + number
            (entry,) = self._one(index, self._ordinary_patient(index))
            self.planted.append(("inactive_user", entry))
            yield entry

    def _one(self, index: int, subject: str) -> list[MadeEntry]:
        return [self._access(index, self._time(11), subject)]

    def _on_call(self, index: int, hour: int = 2) -> list[MadeEntry]:
        at = self._time(hour, 30)
        return [
            self._access(index, at + timedelta(seconds=second), self._ordinary_patient(index))
            for second in range(3)
        ]

    def _burst(self, index: int) -> list[MadeEntry]:
        at = self._time(10)
        return [
            self._access(index, at + timedelta(seconds=20 * place), self._ordinary_patient(index))
            for place in range(BURST)
        ]

    def _failed_sign_ins(self, index: int, failures: int = 6) -> list[MadeEntry]:
        (pk, email), at = self._users[index], self._time(8, 20)
        name = account_pseudonym(email)
        return [
            *(
                MadeEntry(at + timedelta(seconds=second), None, "login_failed", "user", name)
                for second in range(failures)
            ),
            MadeEntry(at + timedelta(minutes=5), pk, "login_succeeded", "session", f"s{index}"),
        ]

    def _export_after_role_change(self, index: int) -> list[MadeEntry]:
        pk, at = self._users[index][0], self._time(9)
        details = {"changed": {"role": {"from": "doctor", "to": "admin"}}}
        return [
            MadeEntry(at, None, "user_updated", "user", str(pk), details=details),
            self._export(index, at + timedelta(hours=3)),
        ]

    def _export(self, index: int, at: datetime) -> MadeEntry:
        pk = self._users[index][0]
        return MadeEntry(at, pk, "data_exported", "user", str(pk))

    def _false_alarms(self) -> Iterator[MadeEntry]:
        """Yield harmless traffic that rules report: on-call duty, ward rounds, lost passwords."""
        for number in range(self._per_kind):
            index = self._random.randrange(self._present)
            yield from self._on_call(index, hour=21)
            yield from self._failed_sign_ins(index, failures=5)
            yield from self._export_after_role_change(index)
            if number % 5 == 0:
                yield from self._burst(index)

    def _normal(self, size: int) -> Iterator[MadeEntry]:
        for number in range(size):
            index = self._random.randrange(self._present)
            if number % 80 == 0:
                pk, email = self._users[index]
                at = self._time(7, self._random.randrange(60))
                if number % 240 == 0:
                    name = account_pseudonym(email)
                    yield MadeEntry(at, None, "login_failed", "user", name)
                else:
                    yield MadeEntry(at, pk, "login_succeeded", "session", str(number))
            elif number % 997 == 0:
                yield self._export(index, self._time(self._random.randrange(7, 19)))
            else:
                at = self._time(self._random.randrange(7, 19), self._random.randrange(60))
                yield self._access(index, at, self._patient(index))
