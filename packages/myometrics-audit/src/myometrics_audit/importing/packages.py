"""The packages whose logs can be imported, and the meaning of their rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from django.apps import apps
from django.contrib.contenttypes.models import ContentType

from myometrics_core.users import account_pseudonym

from ..log.models import MAX_LENGTHS
from ..tracking.declarations import is_masked
from ..tracking.stored_rows import shown_value
from .rows import CONTENT_TYPE, Row

Related = Callable[[str, Any], Mapping[str, Any] | None]
Fields = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reported:
    """What a row says. ``actor`` is the user's key, or natural key (a list), in that system."""

    action: str
    resource_type: str
    resource_id: str
    occurred_at: Any
    actor: Any = None
    actor_name: str = ""
    address: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    user_agent: str = ""
    data_subject: str = ""
    purpose: str = ""
    legal_basis: str = ""


class Package:
    """A package that keeps a log. Subclasses say which rows are its own, and what they mean."""

    related: frozenset[str] = frozenset()
    """Models whose rows are needed to read others."""

    def concerns(self, row: Row) -> bool:
        """Return whether ``row`` is of the package's log."""
        raise NotImplementedError

    def reported(self, row: Row, related: Related) -> Reported:
        """Return what ``row`` says; raises ``ValueError`` if it can't be understood."""
        raise NotImplementedError


class AuditlogPackage(Package):
    """django-auditlog."""

    VERBS: Final = {0: "created", 1: "updated", 2: "deleted", 3: "viewed"}

    def concerns(self, row: Row) -> bool:
        return row.model == "auditlog.logentry"

    def reported(self, row: Row, related: Related) -> Reported:
        fields = row.fields
        model = _model_of(fields.get("content_type"), related)
        snapshot = fields.get("serialized_data")
        changes = _json(fields.get("changes"))
        return Reported(
            **_resource(model, self.VERBS, fields.get("action"), fields.get("object_pk")),
            occurred_at=fields.get("timestamp"),
            actor=fields.get("actor"),
            actor_name=_text(fields.get("actor_email")),
            address=_text(fields.get("remote_addr")) or None,
            details=_without_empty(
                changes=_changes(model, changes),
                values=_values(
                    model, snapshot.get("fields") if isinstance(snapshot, dict) else None
                ),
                object=shown_value(_text(fields.get("object_repr"))),
                additional_data=_values(model, fields.get("additional_data")),
                correlation_id=shown_value(_text(fields.get("cid"))),
            ),
        )


class EasyauditPackage(Package):
    """django-easy-audit: changes, sign-ins and requests."""

    VERBS: Final = {
        1: "created",
        2: "updated",
        3: "deleted",
        **dict.fromkeys(range(4, 12), "updated"),
    }
    RELATIONS: Final = {
        4: "changed",
        5: "changed",
        6: "added",
        7: "added",
        8: "removed",
        9: "removed",
        10: "cleared",
        11: "cleared",
    }
    SIGN_INS: Final = {0: "login_succeeded", 1: "logout", 2: "login_failed"}

    def concerns(self, row: Row) -> bool:
        return row.model.startswith("easyaudit.") and row.model.endswith("event")

    def reported(self, row: Row, related: Related) -> Reported:
        if row.model == "easyaudit.crudevent":
            return self._change(row.fields, related)
        if row.model == "easyaudit.loginevent":
            return self._sign_in(row.key, row.fields)
        return self._request(row.fields)

    def _change(self, fields: Fields, related: Related) -> Reported:
        model = _model_of(fields.get("content_type"), related)
        snapshot = _json(fields.get("object_json_repr"))
        first = snapshot[0] if isinstance(snapshot, list) and snapshot else {}
        kind = fields.get("event_type")
        user = fields.get("user")
        return Reported(
            **_resource(model, self.VERBS, kind, fields.get("object_id")),
            occurred_at=fields.get("datetime"),
            actor=user if user is not None else fields.get("user_pk_as_string") or None,
            details=_without_empty(
                changes=_changes(model, _json(fields.get("changed_fields"))),
                values=_values(model, first.get("fields") if isinstance(first, dict) else None),
                object=shown_value(_text(fields.get("object_repr"))),
                relations=self.RELATIONS.get(kind, "") if isinstance(kind, int) else "",
            ),
        )

    def _sign_in(self, key: str, fields: Fields) -> Reported:
        user = fields.get("user")
        # Users type passwords into the field of the name: a failed sign-in keeps no name.
        return Reported(
            action=_choice(self.SIGN_INS, fields.get("login_type")),
            resource_type="account" if user is None else "session",
            resource_id=account_pseudonym(_text(fields.get("username"))) if user is None else key,
            occurred_at=fields.get("datetime"),
            actor=user,
            address=_text(fields.get("remote_ip")) or None,
        )

    def _request(self, fields: Fields) -> Reported:
        url, query = _text(fields.get("url")), parse_qsl(_text(fields.get("query_string")))
        return Reported(
            action="request_received",
            resource_type="request",
            resource_id=url[: MAX_LENGTHS["resource_id"]],
            occurred_at=fields.get("datetime"),
            actor=fields.get("user"),
            address=_text(fields.get("remote_ip")) or None,
            details=_without_empty(
                method=_text(fields.get("method")), url=url, query=_values("", dict(query))
            ),
        )


class SimpleHistoryPackage(Package):
    """django-simple-history: a table of snapshots for each model."""

    VERBS: Final = {"+": "created", "~": "updated", "-": "deleted"}

    def concerns(self, row: Row) -> bool:
        return {"history_date", "history_type"} <= row.fields.keys()

    def reported(self, row: Row, related: Related) -> Reported:
        fields, historical = row.fields, _installed(row.model)
        tracked = getattr(historical, "instance_type", None)
        app, _, name = row.model.partition(".")
        model = tracked._meta.label_lower if tracked else f"{app}.{name.removeprefix('historical')}"
        snapshot = {name: one for name, one in fields.items() if not name.startswith("history_")}
        return Reported(
            **_resource(
                model, self.VERBS, fields.get("history_type"), _key_of(tracked, name, fields)
            ),
            occurred_at=fields.get("history_date"),
            actor=fields.get("history_user", fields.get("history_user_id")),
            details=_without_empty(
                values=_values(model, snapshot),
                reason=shown_value(_text(fields.get("history_change_reason"))),
            ),
        )


class PghistoryPackage(Package):
    """django-pghistory: a table of snapshots for each model, and contexts."""

    related = frozenset({"pghistory.context"})
    VERBS: Final = {"insert": "created", "update": "updated", "delete": "deleted"}

    def concerns(self, row: Row) -> bool:
        return {"pgh_label", "pgh_created_at"} <= row.fields.keys()

    def reported(self, row: Row, related: Related) -> Reported:
        fields = row.fields
        tracked = getattr(_installed(row.model), "pgh_tracked_model", None)
        app, _, name = row.model.partition(".")
        model = tracked._meta.label_lower if tracked else f"{app}.{name.removesuffix('event')}"
        snapshot = {name: one for name, one in fields.items() if not name.startswith("pgh_")}
        key = fields.get("pgh_obj")
        if key is None:
            key = _key_of(tracked, name, fields)
        label = _text(fields.get("pgh_label"))
        context = self._context(fields.get("pgh_context"), related)
        return Reported(
            **_resource(model, {label: self.VERBS.get(label, label)}, label, key),
            occurred_at=fields.get("pgh_created_at"),
            actor=context.pop("user", None),
            details=_without_empty(
                values=_values(model, snapshot), context=_values(model, context)
            ),
        )

    def _context(self, value: Any, related: Related) -> dict[str, Any]:
        if isinstance(value, str):
            found = related("pghistory.context", value) or {}
            value = _json(found.get("metadata"))
        return dict(value) if isinstance(value, Mapping) else {}


class ReversionPackage(Package):
    """django-reversion. A version says that an object was saved, not whether it is new."""

    related = frozenset({"reversion.revision"})

    def concerns(self, row: Row) -> bool:
        return row.model == "reversion.version"

    def reported(self, row: Row, related: Related) -> Reported:
        fields = row.fields
        revision = related("reversion.revision", fields.get("revision"))
        if revision is None:
            raise ValueError(f"its revision {fields.get('revision')} is missing")
        model = _model_of(fields.get("content_type"), related)
        # Only JSON has names of fields, by which secrets are masked.
        text = fields.get("serialized_data") if fields.get("format") == "json" else None
        snapshot = _json(text)
        first = snapshot[0] if isinstance(snapshot, list) and snapshot else {}
        return Reported(
            **_resource(model, {"": "saved"}, "", fields.get("object_id")),
            occurred_at=revision.get("date_created"),
            actor=revision.get("user"),
            details=_without_empty(
                values=_values(model, first.get("fields") if isinstance(first, dict) else None),
                object=shown_value(_text(fields.get("object_repr"))),
                comment=shown_value(_text(revision.get("comment"))),
            ),
        )


class ArchivePackage(Package):
    """An archive that ``audit_purge`` wrote, or a file of ``audit_export``."""

    def concerns(self, row: Row) -> bool:
        return row.model == "archive.entry"

    def reported(self, row: Row, related: Related) -> Reported:
        line, entry = row.fields, row.fields["entry"]
        return Reported(
            action=entry["action"],
            resource_type=entry["resource_type"],
            resource_id=entry["resource_id"],
            occurred_at=entry["timestamp"],
            actor=entry["user_id"],
            # The pseudonym of a deleted user.
            actor_name=_text(line.get("pseudonym")),
            address=entry["ip_address"],
            details=entry["details"],
            user_agent=entry["user_agent"],
            # Version 1 doesn't have them.
            data_subject=_text(line.get("data_subject")),
            purpose=_text(line.get("purpose")),
            legal_basis=_text(line.get("legal_basis")),
        )


PACKAGES: Final[Mapping[str, Package]] = {
    "archive": ArchivePackage(),
    "auditlog": AuditlogPackage(),
    "easyaudit": EasyauditPackage(),
    "simple_history": SimpleHistoryPackage(),
    "pghistory": PghistoryPackage(),
    "reversion": ReversionPackage(),
}
"""The values of ``audit_import --from``."""


def _resource(model: str, verbs: Mapping[Any, str], verb: Any, key: Any) -> dict[str, str]:
    """Return action, type and id as the tracking of this package names them."""
    name = model.rpartition(".")[2]
    return {
        "action": f"{name}_{_choice(verbs, verb)}"[-MAX_LENGTHS["action"] :],
        "resource_type": model[-MAX_LENGTHS["resource_type"] :],
        "resource_id": _natural(key)[: MAX_LENGTHS["resource_id"]],
    }


def _choice(choices: Mapping[Any, str], value: Any) -> str:
    if not isinstance(value, int | str) or value not in choices:
        raise ValueError(f"the kind of event {value!r} is unknown")
    return choices[value]


def _model_of(value: Any, related: Related) -> str:
    """Return the label of a content type, given by natural key or by number."""
    if isinstance(value, list) and len(value) == 2:
        return ".".join(map(_text, value)).lower()
    if value is None:
        raise ValueError("it has no content type")
    found = related(CONTENT_TYPE, value)
    if found is not None:
        return f"{found['app_label']}.{found['model']}"
    local = ContentType.objects.filter(pk=value).first() if isinstance(value, int) else None
    if local is None:
        raise ValueError(f"its content type {value} is unknown; dump with --natural-foreign")
    return f"{local.app_label}.{local.model}"


def _installed(label: str) -> Any:
    try:
        return apps.get_model(label)
    except (LookupError, ValueError):
        return None


def _key_of(tracked: Any, name: str, fields: Fields) -> Any:
    """Return the primary key of the object of a snapshot."""
    names = [tracked._meta.pk.name] if tracked else ["id", "uuid", "pk", f"{name}_id"]
    found = next((fields[one] for one in names if fields.get(one) is not None), None)
    if found is None:
        raise ValueError("the key of its object is not in the row")
    return found


def _natural(key: Any) -> str:
    return " ".join(map(str, key)) if isinstance(key, list) else _text(key)


def _changes(model: str, changes: Any) -> dict[str, Any]:
    """Return changed fields as the tracking of this package shows them."""
    if not isinstance(changes, Mapping):
        return {}
    return {name: _change(model, name, pair) for name, pair in changes.items()}


def _change(model: str, name: str, pair: Any) -> Any:
    if is_masked(model, name):
        return {"masked": True}
    if isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2:
        return {"from": _value(model, name, pair[0]), "to": _value(model, name, pair[1])}
    return _value(model, name, pair)


def _values(model: str, values: Any) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        return {} if values in (None, "") else {"value": shown_value(values)}
    return {name: _value(model, name, one) for name, one in values.items()}


def _value(model: str, name: str, value: Any) -> Any:
    if is_masked(model, name):
        return {"masked": True}
    if isinstance(value, str) and value[:1] in ("{", "["):
        # JSON as text has names as well.
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return shown_value(value)
    if isinstance(value, list):
        return shown_value([_value(model, name, one) for one in value])
    return _values(model, value) if isinstance(value, Mapping) else shown_value(value)


def _json(value: Any) -> Any:
    """Return a value that is JSON, or text with JSON in it."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value or "null")
    except (ValueError, RecursionError):
        raise ValueError("one of its fields is no JSON") from None


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _without_empty(**details: Any) -> dict[str, Any]:
    return {name: value for name, value in details.items() if value not in (None, "", {}, [])}
