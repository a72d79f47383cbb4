"""The import of another package's log: batch by batch, each in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import islice
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.exceptions import ObjectDoesNotExist
from django.db import IntegrityError, router
from django.db.models import F
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from myometrics_core.db import atomic_write
from myometrics_core.texts import is_storable
from myometrics_core.times import utc_now, utc_text, whole_milliseconds
from myometrics_core.users import lock_users_shared, parse_user_id

from ..log.activities import entries_with_activities
from ..log.models import AuditLog
from ..log.services import NewEntry, entries_import, entry_record, new_row
from ..signing.canonical import DETAILS_MAX_BYTES, canonical_json
from .models import ImportRun
from .packages import PACKAGES, Reported
from .rows import BATCH_SIZE, Row, RowSource

LOG_IMPORTED: Final = "log_imported"
MAX_ACTIVITY_ID_LENGTH: Final = 150


class AlreadyImported(Exception):
    """The file was imported completely."""


class ImportedConcurrently(Exception):
    """Another process imports the same file or table."""

    def __init__(self) -> None:
        super().__init__("Another process is importing it.")


@dataclass
class Batch:
    """The counts of some rows, and a line for each that was refused."""

    imported: int = 0
    known: int = 0
    refused: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.imported + self.known + self.refused

    def refuse(self, row: Row, error: object) -> None:
        """Count a refused row, and say why."""
        self.refused += 1
        self.problems.append(f"{row}: {error}")


class LogImport:
    """The import of one file or table of ``package``, a key of ``PACKAGES``.

    ``system`` distinguishes logs that have the same ids. A second import continues where the first
    has stopped; a row that was imported is never imported again.
    """

    def __init__(self, package: str, rows: RowSource, *, system: str = "") -> None:
        self.name, self.package = package, PACKAGES[package]
        self.source, self.system = rows, system or package
        self.using = router.db_for_write(ImportRun)

    def prepare(self) -> None:
        """Count the rows; raises the errors of the source."""
        self.source.prepare(self.package.concerns, self.package.related)

    def dry_run(self) -> Iterator[Batch]:
        """Yield the counts that an import of all rows would have; write nothing."""
        for rows in _batches(self.source.rows("")):
            with atomic_write(self.using):
                batch, _ = self._converted(rows, run=None)
            yield batch

    def run(self) -> Iterator[Batch]:
        """Import the rows, and yield the counts of each batch after its commit.

        The first batch has the counts of an earlier import that was stopped. The last transaction
        writes the entry ``log_imported``. Raises ``AlreadyImported``, ``ImportedConcurrently``.
        """
        run = self._run()
        if run.rows:
            yield Batch(imported=run.imported, known=run.known, refused=run.refused)
        for rows in _batches(self.source.rows(run.cursor)):
            if run.pk is None:
                self._start(run)
            yield self._write(run, rows)
        if run.pk is not None:
            self._finish(run)

    def _run(self) -> ImportRun:
        """Return the run that was stopped, or a new one that is not stored yet."""
        run = ImportRun(source=self.name, system=self.system, place=self.source.place[-100:])
        runs = ImportRun.objects.using(self.using).filter(
            source=run.source, system=run.system, place=run.place
        )
        last = runs.order_by("number").last()
        if last is None:
            return run
        if last.finished_at is None:
            return last
        if self.source.is_file:
            raise AlreadyImported(
                f"It was imported already, at {utc_text(last.finished_at, 'seconds')}."
            )
        run.number = last.number + 1
        run.cursor = last.cursor if self.source.has_ordered_keys else ""
        return run

    def _start(self, run: ImportRun) -> None:
        try:
            with atomic_write(self.using):
                # Without signals: the package may be recording this site's changes.
                ImportRun.objects.using(self.using).bulk_create([run])
        except IntegrityError:
            raise ImportedConcurrently from None

    def _write(self, run: ImportRun, rows: Sequence[Row]) -> Batch:
        with atomic_write(self.using):
            batch, entries = self._converted(rows, run)
            self._advance(run, rows[-1].cursor, batch)
            entries_import(entries)
        run.cursor = rows[-1].cursor
        return batch

    def _advance(self, run: ImportRun, cursor: str, batch: Batch) -> None:
        """Move the run on; raises if another process did."""
        moved = (
            ImportRun.objects.using(self.using)
            .filter(pk=run.pk, cursor=run.cursor, finished_at=None)
            .update(
                cursor=cursor,
                rows=F("rows") + batch.rows,
                imported=F("imported") + batch.imported,
                known=F("known") + batch.known,
                refused=F("refused") + batch.refused,
            )
        )
        if not moved:
            raise ImportedConcurrently

    def _finish(self, run: ImportRun) -> None:
        with atomic_write(self.using):
            moved = (
                ImportRun.objects.using(self.using)
                .filter(pk=run.pk, cursor=run.cursor, finished_at=None)
                .update(finished_at=timezone.now())
            )
            if not moved:
                raise ImportedConcurrently
            run.refresh_from_db(using=self.using)
            place = "sha256" if self.source.is_file else "table"
            entry_record(
                NewEntry(
                    actor_id=None,
                    action=LOG_IMPORTED,
                    resource_type="audit_import",
                    resource_id=str(run.pk),
                    details={
                        "from": run.source,
                        "system": run.system,
                        place: self.source.place,
                        "rows": run.rows,
                        "imported": run.imported,
                        "known": run.known,
                        "refused": run.refused,
                        "started_at": utc_text(whole_milliseconds(run.started_at)),
                    },
                )
            )

    def _converted(
        self, rows: Sequence[Row], run: ImportRun | None
    ) -> tuple[Batch, list[AuditLog]]:
        """Return the counts and the new entries of ``rows``. Locks their users."""
        batch, read = Batch(), []
        for row in rows:
            try:
                if row.problem:
                    raise ValueError(row.problem)
                if not row.key:
                    raise ValueError("it has no primary key")
                read.append((row, self.package.reported(row, self.source.related)))
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                batch.refuse(row, error)
        users = _local_users(reported for _, reported in read)
        present = lock_users_shared(set(users.values()), self.using)
        entries: dict[str, AuditLog] = {}
        known = _known_entries([self._activity_id(row) for row, _ in read], self.using)
        for row, reported in read:
            activity_id = self._activity_id(row)
            user = users.get(_hashable(reported.actor))
            try:
                entry = new_row(
                    self._entry(row, reported, activity_id, user if user in present else None, run)
                )
                if activity_id in known or activity_id in entries:
                    _check_same(entry, known.get(activity_id) or _facts(entries[activity_id]))
                    batch.known += 1
                else:
                    entries[activity_id] = entry
                    batch.imported += 1
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                batch.refuse(row, error)
        return batch, list(entries.values())

    def _entry(
        self, row: Row, reported: Reported, activity_id: str, user: Any, run: ImportRun | None
    ) -> NewEntry:
        imported = {"from": self.name, "system": self.system, "model": row.model, "id": row.key}
        if run:
            imported["import"] = str(run.pk)
        if "imported" in reported.details:  # of an archived entry that was imported itself
            imported["before"] = reported.details["imported"]
        if user is None and reported.actor is not None:
            imported["actor"] = _hashable(reported.actor)
        if user is None and reported.actor_name:
            imported["actor_name"] = reported.actor_name
        details = {**reported.details, "imported": imported}
        size = len(canonical_json(details))
        if size > DETAILS_MAX_BYTES:
            details = {"imported": {**imported, "omitted_bytes": size}}
        return NewEntry(
            actor_id=user,
            action=reported.action,
            resource_type=reported.resource_type,
            resource_id=reported.resource_id,
            details=details,
            client_address=reported.address,
            user_agent=reported.user_agent,
            data_subject=reported.data_subject,
            purpose=reported.purpose,
            legal_basis=reported.legal_basis,
            occurred_at=_moment(reported.occurred_at),
            activity_id=activity_id,
            origin="import",
        )

    def _activity_id(self, row: Row) -> str:
        name = f"import:{self.system}:{row.model}:{row.key}"
        if len(name) <= MAX_ACTIVITY_ID_LENGTH and is_storable(name):
            return name
        return f"import:{sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"


Facts = tuple[datetime, str, str, str]


def _facts(entry: AuditLog) -> Facts:
    moment = whole_milliseconds(entry.timestamp)
    return moment, entry.action, entry.resource_type, entry.resource_id


def _known_entries(activity_ids: list[str], using: str) -> dict[str, Facts]:
    known = entries_with_activities(activity_ids, using)
    names = ("activity_id", "timestamp", "action", "resource_type", "resource_id")
    return {found: tuple(facts) for found, *facts in known.values_list(*names)}


def _check_same(entry: AuditLog, known: Facts) -> None:
    if _facts(entry) != known:
        raise ValueError(
            "another row with this id was imported; name the log that this file is of (--system)"
        )


def _local_users(reported: Iterable[Reported]) -> dict[str, Any]:
    """Return the keys of users by how the rows name them; natural keys have been looked up."""
    found: dict[str, Any] = {}
    users: Any = get_user_model()._default_manager
    for actor in {_hashable(one.actor): one.actor for one in reported}.values():
        try:
            if isinstance(actor, list):
                found[_hashable(actor)] = users.get_by_natural_key(*actor).pk
            elif isinstance(actor, str | int) and not isinstance(actor, bool):
                found[_hashable(actor)] = parse_user_id(str(actor))
        except (AttributeError, ObjectDoesNotExist, TypeError, ValueError):
            continue
    return found


def _hashable(actor: Any) -> str:
    return "" if actor is None else str(actor[0] if actor and isinstance(actor, list) else actor)


def _moment(value: Any) -> datetime:
    moment = parse_datetime(value) if isinstance(value, str) else None
    if moment is None:
        raise ValueError(f"its time {value!r} can't be read")
    if timezone.is_naive(moment):
        moment = timezone.make_aware(moment)
    if moment > utc_now():
        raise ValueError(f"its time {value} is in the future")
    return moment.astimezone(utc_now().tzinfo)


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(rows, BATCH_SIZE)):
        yield batch
