"""Recording of what a request reads and changes, for the mixins of views and admin pages."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import models

from myometrics_core.texts import is_storable, storable_text
from myometrics_core.users import existing_user_ids

from ..audit import AnyRequest, access_entry, action_name, record, record_many, resource_of
from ..log.models import MAX_LENGTHS, OPTIONAL_LENGTHS
from ..log.recordings import NotDurable
from ..log.services import ActorDeleted, NewEntry
from .declarations import is_recorded, recorded_model
from .stored_rows import chunks, data_subjects, shown_keys, stored_key
from .tracker import Attribution, ChangeTracker, ModelClass

logger = logging.getLogger(__name__)
UNKNOWN_ID: Final = "list"
"""The resource id of a denied request for no single object."""


class AuditOptions:
    """Data subject, purpose and legal basis of the objects of a view or admin page."""

    audit_subject = ""
    """Field, or path of fields, with the data subject; by default that of ``recorded()``."""
    audit_purpose = ""
    audit_legal_basis = ""

    def get_audit_subject(self, obj: Any) -> Any:
        """Return the data subject of ``obj``; ``None`` to use ``audit_subject``."""
        return None

    def get_audit_purpose(self, request: Any) -> str | None:
        """Return the purpose of this request, such as one that the client names in a header."""
        return self.audit_purpose

    def get_audit_legal_basis(self, request: Any) -> str | None:
        """Return the legal basis of this request."""
        return self.audit_legal_basis


class RequestRecorder:
    """Collects the objects that a request shows and changes, and records them at its end.

    ``model`` is that of the view, if it is known: the options don't apply to other models.
    """

    def __init__(
        self, options: AuditOptions, request: AnyRequest, model: ModelClass | None
    ) -> None:
        self.request = request
        self.model = model
        self.fetched: Any = None
        self.attribution = Attribution(
            actor=_key_of_user(request.user),
            request=request,
            purpose=_or_empty(options.get_audit_purpose(request)),
            legal_basis=_or_empty(options.get_audit_legal_basis(request)),
        )
        self._options = options
        find_subjects = self._subjects if self._has_subjects() else None
        self.tracker = ChangeTracker(self.attribution, find_subjects)
        self._shown: list[tuple[str, Iterable[Any], dict[str, Any]]] = []

    def refuse_unstorable(self) -> None:
        """Raise ``ValueError`` if the purpose or the legal basis can't be stored."""
        for name in ("purpose", "legal_basis"):
            text, length = getattr(self.attribution, name), OPTIONAL_LENGTHS[name]
            if not isinstance(text, str) or len(text) > length or not is_storable(text):
                raise ValueError(f"{name} must be text of at most {length} characters without NUL")

    def fetch(self, obj: Any) -> None:
        """Add an object that the response is about."""
        self.fetched = obj
        self.show("viewed", [obj])

    def show(self, verb: str, objects: Iterable[Any], **details: Any) -> None:
        """Add objects that the response shows; they are read when the response is complete."""
        self._shown.append((verb, objects, details))

    def show_only(self, verb: str, objects: Iterable[Any], **details: Any) -> None:
        """Replace the objects that the response shows."""
        self._shown = [(verb, objects, details)]

    def finish(self, *, is_shown: bool) -> None:
        """Record the changes and, if the response shows objects, those that are unchanged."""
        self._take_purpose()
        changed = self.tracker.record()
        if is_shown:
            record_many(list(self._access_entries(changed)))

    def is_actor_deleted(self) -> bool:
        """Return whether the user was deleted since the request was authenticated."""
        actor = self.attribution.actor
        return actor is not None and not existing_user_ids([actor])

    def deny(self, key: Any) -> None:
        """Record that the user was denied access to the fetched object, or that with ``key``.

        Anonymous requests are not recorded: they could fill the log. In a transaction that is in
        no recording, such as that of ``ATOMIC_REQUESTS`` without the middleware, an error is logged
        instead.
        """
        if self.attribution.actor is None:
            return
        self._take_purpose()
        try:
            self._record_denied(key)
        except ActorDeleted:
            pass  # There is no user left to record; the request is refused all the same.
        except NotDurable as error:
            logger.error("Denied access was not recorded. %s", error)

    def _record_denied(self, key: Any) -> None:
        obj = self.fetched if isinstance(self.fetched, models.Model) else None
        model, key = (self.model, key) if obj is None else (type(obj), stored_key(obj))
        name, resource = "view", ("view", type(self._options).__name__)
        if model is not None:
            text = storable_text(str(key or ""), MAX_LENGTHS["resource_id"])
            name, resource = str(model._meta.model_name), resource_of(model, text or UNKNOWN_ID)
        record(
            actor=self.attribution.actor,
            action=action_name(name, "access_denied"),
            resource=resource,
            details={"method": str(self.request.method)},
            request=self.request,
            data_subject=self._own_subjects([obj])[0] if obj is not None else "",
            purpose=_storable(self.attribution.purpose, "purpose"),
            legal_basis=_storable(self.attribution.legal_basis, "legal_basis"),
            durable=True,
        )

    def _take_purpose(self) -> None:
        """Prefer the purpose that a permission of the object set, such as emergency access."""
        if purpose := getattr(self.request, "purpose", ""):
            self.attribution = replace(self.attribution, purpose=purpose)
            self.tracker.attribution = self.attribution

    def _has_subjects(self) -> bool:
        method = type(self._options).get_audit_subject
        return bool(self._options.audit_subject) or method is not AuditOptions.get_audit_subject

    def _subjects(self, instances: Sequence[models.Model]) -> list[str]:
        """Return the subjects that the options give to instances of one model, or ``""``."""
        if self.model is not None and not isinstance(instances[0], self.model):
            return [""] * len(instances)
        given = [self._options.get_audit_subject(instance) for instance in instances]
        if None not in given:
            return [str(subject) for subject in given]
        by_path = data_subjects(instances, self._options.audit_subject)
        return [
            default if subject is None else str(subject)
            for subject, default in zip(given, by_path, strict=True)
        ]

    def _own_subjects(self, instances: Sequence[models.Model]) -> list[str]:
        model = type(instances[0])
        subjects = self._subjects(instances)
        if all(subjects) or not is_recorded(model):
            return subjects
        path = recorded_model(model).data_subject
        declared = data_subjects(instances, path)
        return [own or other for own, other in zip(subjects, declared, strict=True)]

    def _access_entries(self, changed: set[tuple[ModelClass, Any]]) -> Iterator[NewEntry]:
        seen = set(changed)
        for verb, objects, details in self._shown:
            by_model: dict[ModelClass, list[models.Model]] = {}
            for obj in self._instances(objects):
                key = (type(obj), stored_key(obj))
                if key not in seen:
                    seen.add(key)
                    by_model.setdefault(type(obj), []).append(obj)
            for model, instances in by_model.items():
                yield from self._entries_of(model, instances, verb, details)

    def _instances(self, objects: Iterable[Any]) -> Iterator[models.Model]:
        others = []
        for obj in objects:
            if not isinstance(obj, models.Model):
                others.append(obj)
            elif obj.pk is not None:
                yield obj
        if others:
            yield from self._rows_of_values(others)

    def _rows_of_values(self, values: Sequence[Any]) -> Iterator[models.Model]:
        """Read the rows that a query set has returned as dictionaries or named tuples."""
        keys = {None if self.model is None else _key_in(row, self.model) for row in values}
        found = set()
        for part in chunks([key for key in keys if key is not None]):
            for instance in self.model._base_manager.filter(pk__in=part):  # type: ignore[union-attr]
                found.add(instance.pk)
                yield instance
        if keys != found:
            logger.warning(
                "%s shows rows without a primary key of its model, which are not recorded: "
                "add 'pk' to values(), or call audit.record_access()",
                type(self._options).__name__,
            )

    def _entries_of(
        self, model: ModelClass, instances: Sequence[models.Model], verb: str, details: Any
    ) -> Iterator[NewEntry]:
        """Yield an entry for each data subject, or for each object without one."""
        groups: dict[tuple[str, Any], list[Any]] = {}
        for instance, subject in zip(instances, self._own_subjects(instances), strict=True):
            key = stored_key(instance)
            groups.setdefault((subject, None if subject else key), []).append(key)
        for (subject, _), keys in groups.items():
            ids = {"ids": shown_keys(keys), "count": len(keys)} if len(keys) > 1 else {}
            yield access_entry(
                actor=self.attribution.actor,
                data_subject=subject,
                resource=resource_of(model, keys[0]),
                action=action_name(str(model._meta.model_name), verb),
                details={**details, **ids},
                request=self.request,
                purpose=self.attribution.purpose,
                legal_basis=self.attribution.legal_basis,
            )


def _key_of_user(user: Any) -> Any:
    """Return the user's key; ``None`` for anonymous users and principals that are no users."""
    model = get_user_model()
    is_other_row = isinstance(user, models.Model) and not isinstance(user, model)
    # The key of another model's row, such as a patient's account, can equal that of a user.
    if is_other_row or not getattr(user, "is_authenticated", False):
        return None
    try:
        # That of a token's user may be text.
        return model._meta.pk.to_python(getattr(user, "pk", None))
    except ValidationError:
        return None


def _key_in(row: Any, model: ModelClass) -> Any:
    pk = model._meta.pk
    for name in ("pk", pk.name, pk.attname):
        value = row.get(name) if isinstance(row, Mapping) else None
        if isinstance(row, tuple):
            value = getattr(row, name, None)
        if value is not None:
            try:
                return pk.to_python(value)
            except ValidationError:
                return None
    return None


def _or_empty(text: Any) -> Any:
    return "" if text is None else text


def _storable(text: Any, name: str) -> str:
    return storable_text(text, OPTIONAL_LENGTHS[name]) if isinstance(text, str) else ""
