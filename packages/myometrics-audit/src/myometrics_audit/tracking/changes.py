"""Recording changes of a site's models: the actor, the fields, and their old and new values.

Code that changes rows calls the functions here with the actor, instead of ``save()``, ``delete()``,
``bulk_create()`` and ``update()``. There are no signal receivers, and no global that holds the
current user.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import models, router

from myometrics_core.db import atomic_write

from ..audit import FROM_RECORDING, ActorOrUnset, AnyRequest
from ..log.models import AuditLog
from .declarations import recorded_model
from .stored_rows import chunks, stored_key, stored_rows
from .tracker import Attribution, ChangeTracker, record_changes

M = TypeVar("M", bound=models.Model)


def recorded_save(
    instance: models.Model,
    *,
    actor: ActorOrUnset = FROM_RECORDING,
    request: AnyRequest | None = None,
    purpose: str = "",
    legal_basis: str = "",
    data_subject: str = "",
    **save: Any,
) -> None:
    """``instance.save(**save)``, recorded as ``<model>_created`` or ``<model>_updated``.

    A save that changes no recorded column is not recorded. A change of the field ``soft_delete``
    is recorded as ``<model>_soft_deleted`` or ``<model>_restored``. ``actor``, ``request``,
    ``purpose`` and ``legal_basis`` are those of ``audit.record``; ``data_subject`` is by default
    that of the model. Saving and recording are one transaction.
    """
    model = type(instance)
    using = save.get("using") or router.db_for_write(model, instance=instance)
    attribution = Attribution(actor, request, purpose, legal_basis, data_subject)
    with atomic_write(using):
        old = stored_key(instance)
        before = stored_rows(model, [old], using, lock=True).get(old)
        instance.save(**save)
        key = stored_key(instance)
        after = stored_rows(model, [key], using)[key]
        record_changes(model, [(key, before, after)], attribution)


@contextmanager
def recorded_changes(
    *instances: models.Model,
    actor: ActorOrUnset = FROM_RECORDING,
    request: AnyRequest | None = None,
    purpose: str = "",
    legal_basis: str = "",
    data_subject: str = "",
) -> Iterator[ChangeTracker]:
    """Record what the block changes in ``instances``, including many-to-many relations.

    The block is one transaction with its entries. Pass more rows to ``watch()`` of the yielded
    tracker before they are changed, to ``watch_deletion()`` before they are deleted, and new rows
    to ``add()`` after they are saved. The other arguments are those of :func:`recorded_save`.
    """
    attribution = Attribution(actor, request, purpose, legal_basis, data_subject)
    tracker = ChangeTracker(attribution)
    hints = {"instance": instances[0]} if instances else {}
    with atomic_write(router.db_for_write(type(instances[0]) if instances else AuditLog, **hints)):
        tracker.watch(instances)
        yield tracker
        tracker.record()


def recorded_delete(
    instance: models.Model,
    *,
    actor: ActorOrUnset = FROM_RECORDING,
    request: AnyRequest | None = None,
    purpose: str = "",
    legal_basis: str = "",
    data_subject: str = "",
) -> None:
    """``instance.delete()``, recorded as ``<model>_deleted`` with the deleted values.

    Each row of a recorded model that is also deleted, or changed (``SET_NULL``), gets its own
    entry, whether Django or the database changes it. If the deletion includes the actor, the
    entries have no user. The recorded values of all these rows are in memory until their entries
    are written, 500 at a time. Raises ``LookupError`` if the model of ``instance`` is not recorded.
    """
    recorded_model(type(instance))
    tracker = ChangeTracker(Attribution(actor, request, purpose, legal_basis, data_subject))
    with atomic_write(router.db_for_write(type(instance), instance=instance)):
        tracker.watch_deletion([instance])
        instance.delete()
        tracker.record()


def recorded_bulk_create(
    model: type[M],
    instances: Iterable[M],
    *,
    actor: ActorOrUnset = FROM_RECORDING,
    request: AnyRequest | None = None,
    purpose: str = "",
    legal_basis: str = "",
    **bulk: Any,
) -> list[M]:
    """``model.objects.bulk_create(instances, **bulk)``, with one entry for each new row.

    Raises ``ValueError`` for ``ignore_conflicts`` and ``update_conflicts``: the database doesn't
    return the conflicting rows.
    """
    if bulk.get("ignore_conflicts") or bulk.get("update_conflicts"):
        raise ValueError(
            "Conflicting rows can't be recorded: create new rows only, and change existing ones "
            "by recorded_update or recorded_save"
        )
    using = router.db_for_write(model)
    attribution = Attribution(actor, request, purpose, legal_basis)
    with atomic_write(using):
        created = model._default_manager.bulk_create(instances, **bulk)
        for keys in chunks([stored_key(instance) for instance in created]):
            rows = stored_rows(model, keys, using)
            record_changes(model, ((key, None, row) for key, row in rows.items()), attribution)
    return created


def recorded_update(
    queryset: models.QuerySet[Any],
    *,
    actor: ActorOrUnset = FROM_RECORDING,
    request: AnyRequest | None = None,
    **values: Any,
) -> int:
    """``queryset.update(**values)``, with one entry for each row that changed.

    Returns the number of matched rows. Runs in one transaction, in chunks of 500 rows. Rows that
    stop matching ``queryset`` before they are locked are not changed. ``values`` may have any
    name, so give a purpose by ``audit.recording(purpose=…)``.
    """
    model = queryset.model
    using = queryset.select_for_update().db  # the write database
    attribution = Attribution(actor, request)
    with atomic_write(using):
        keys = _locked_keys(queryset.using(using))
        for part in chunks(keys):
            before = stored_rows(model, part, using)
            model._base_manager.using(using).filter(pk__in=part).update(**values)
            after = stored_rows(model, part, using)
            changes = ((key, before[key], row) for key, row in after.items())
            record_changes(model, changes, attribution)
    return len(keys)


def _locked_keys(queryset: models.QuerySet[Any]) -> list[Any]:
    """Lock the rows of ``queryset`` in the order of their primary keys; return the keys."""
    rows = queryset.order_by("pk").values_list("pk", flat=True)
    # A query with joins may return a row more than once.
    found = list(dict.fromkeys(rows))
    for part in chunks(found):
        stored_rows(queryset.model, part, queryset.db, lock=True)
    # Query again after locking all and before changing any: the filter may depend on other rows.
    still = (key for part in chunks(found) for key in rows.filter(pk__in=part))
    return list(dict.fromkeys(still))
