"""The registry behind ``manage.py myometrics_doctor``.

A package registers examinations in ``AppConfig.ready``. Each one looks at one subject, changes
nothing, and returns a :class:`Diagnosis` for every promise that it has checked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from django.db import connection, connections

__all__ = [
    "Diagnosis",
    "State",
    "covered_checks",
    "describe_age",
    "register_examination",
    "run_examinations",
]

State = Literal["ok", "warning", "problem", "not configured"]
"""``problem``: a promise is broken now. ``warning``: works, but is not fit for production."""

MAX_SECONDS: Final = 10.0
"""Deadline of one examination. Those that use the network have shorter time-outs of their own."""
CONNECT_SECONDS: Final = 3.0


@dataclass(frozen=True)
class Diagnosis:
    """The result of an examination, for people and for ``--json``.

    ``name`` says what was looked at, in a few words. ``summary`` is one sentence; ``advice`` is
    one line on what to do, needed for a warning or a problem. Neither holds a secret, a mail
    address or a URL with a password.
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
    """Have ``myometrics_doctor`` run ``examine``. A name again replaces its examination.

    ``examine`` returns or yields diagnoses. It may raise: that is reported as a problem, with
    nothing of the exception but its class. With ``needs_database`` it is left out while the
    database can't be reached. ``covers`` names system checks about the same subject, which the
    doctor then doesn't repeat. Call this from ``AppConfig.ready``.
    """
    _examinations[name] = _Examination(name, examine, needs_database, frozenset(covers))


def covered_checks() -> set[str]:
    """The ids of system checks that an examination covers."""
    return {check for known in _examinations.values() for check in known.covers}


def run_examinations() -> Iterator[Diagnosis]:
    """Run every examination in the order of registration; never raises, never hangs.

    Each one runs in a thread with a database connection of its own. One that misses its deadline
    is reported and left behind.
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
                "Run the doctor again once the database answers.",
            )
        else:
            yield from _run(examination.name, examination.examine)


def describe_age(seconds: float) -> str:
    """A span of time in its largest whole unit, such as ``"3 minutes"``."""
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
            # The message may hold addresses or passwords; the class does not.
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
    return Diagnosis(name, "problem", summary, "See whether what it depends on answers.")
