"""Registry of the examinations of ``manage.py myometrics_doctor``.

Each checks one subject without changing anything, and returns one :class:`Diagnosis` per check.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from django.db import connection, connections

State = Literal["ok", "warning", "problem", "not configured"]
"""``problem``: something is broken now. ``warning``: works, but is not fit for production."""

MAX_SECONDS: Final = 10.0
"""Deadline of one examination. Examinations that use the network have shorter timeouts."""
CONNECT_SECONDS: Final = 3.0


@dataclass(frozen=True)
class Diagnosis:
    """The result of one check, for the console and for ``--json``.

    ``name`` names the subject in a few words. ``summary`` is one sentence. ``advice`` is the next
    step in one line, required for a warning or a problem. None of them may contain a secret, an
    e-mail address or a URL with a password.
    """

    name: str
    state: State
    summary: str
    advice: str = ""


Examine = Callable[[], Iterable[Diagnosis]]


@dataclass(frozen=True)
class _Examination:
    name: str
    examine: Examine
    needs_database: bool
    covers: frozenset[str]


_examinations: dict[str, _Examination] = {}


def register_examination(
    name: str, examine: Examine, *, needs_database: bool = False, covers: Iterable[str] = ()
) -> None:
    """Register ``examine`` for ``myometrics_doctor``; replaces an earlier one of the same name.

    ``examine`` returns or yields diagnoses. If it raises, a problem is reported with only the class
    of the exception. With ``needs_database`` it is skipped while the database is unreachable.
    ``covers`` lists system checks about the same subject, which the doctor then does not repeat.
    Call it in ``AppConfig.ready``.
    """
    _examinations[name] = _Examination(name, examine, needs_database, frozenset(covers))


def covered_checks() -> set[str]:
    """Return the ids of the system checks that an examination covers."""
    return {check for known in _examinations.values() for check in known.covers}


def run_examinations() -> Iterator[Diagnosis]:
    """Run every examination in order of registration; never raises, never hangs.

    Each examination runs in a thread with its own database connection. If it misses its deadline,
    that is reported and the thread is abandoned.
    """
    is_reachable: bool | None = None
    for examination in list(_examinations.values()):
        if examination.needs_database and is_reachable is None:
            is_reachable = not any(_run("database", _connect, CONNECT_SECONDS))
        if examination.needs_database and not is_reachable:
            yield Diagnosis(
                examination.name,
                "warning",
                "Not examined: the database can't be reached.",
                "Run the doctor again once the database is reachable.",
            )
        else:
            yield from _run(examination.name, examination.examine)


def describe_age(seconds: float) -> str:
    """Return a duration in its largest whole unit, such as ``"3 minutes"``."""
    units = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
    unit, length = next(item for item in units if seconds >= item[1] or item[1] == 1)
    count = max(0, int(seconds // length))
    return f"{count} {unit}{'' if count == 1 else 's'}"


def _connect() -> list[Diagnosis]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return []


def _run(name: str, examine: Examine, seconds: float | None = None) -> list[Diagnosis]:
    found: list[Diagnosis] = []

    def run() -> None:
        try:
            found.extend(list(examine()))
        except Exception as error:
            # Only the class: the message may contain addresses or passwords.
            found.append(_failed(name, f"Could not be examined ({type(error).__name__})."))
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, name=f"doctor-{name}", daemon=True)
    thread.start()
    allowed = MAX_SECONDS if seconds is None else seconds
    thread.join(allowed)
    if thread.is_alive():
        return [_failed(name, f"No result within {allowed:.0f} seconds.")]
    return found


def _failed(name: str, summary: str) -> Diagnosis:
    return Diagnosis(name, "problem", summary, "Check that its dependencies are reachable.")
