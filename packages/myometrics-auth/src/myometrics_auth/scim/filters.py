"""SCIM filters as conditions of the database (RFC 7644, section 3.4.2.2)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import reduce
from operator import and_, or_
from typing import Any, Final

from django.db.models import Q
from scim2_models import InvalidFilterException
from scim2_models.path import (
    AttrPath,
    CompareOperator,
    Comparison,
    FilterNode,
    FilterVisitor,
    LogicalExpr,
    LogicalOperator,
    Not,
    Present,
    ValuePath,
    coerce_value,
)

from myometrics_core.texts import is_storable
from myometrics_core.users import canonical_email, fold_text, parse_user_id

TEXT_LOOKUPS: Final = {
    CompareOperator.eq: "exact",
    CompareOperator.ne: "exact",
    CompareOperator.co: "contains",
    CompareOperator.sw: "startswith",
    CompareOperator.ew: "endswith",
}
ORDER_LOOKUPS: Final = {
    CompareOperator.eq: "exact",
    CompareOperator.ne: "exact",
    CompareOperator.gt: "gt",
    CompareOperator.ge: "gte",
    CompareOperator.lt: "lt",
    CompareOperator.le: "lte",
}
EQUALITY_LOOKUPS: Final = {CompareOperator.eq: "exact", CompareOperator.ne: "exact"}
MAX_FILTER_LENGTH: Final = 4096
"""Databases accept only so many conditions; SQLite 1,000."""
NOTHING: Final = Q(pk__in=())
EVERYTHING: Final = Q(pk__isnull=False)
"""Unlike ``Q()``, which ``or`` and ``not`` leave out."""


@dataclass(frozen=True)
class Column:
    """The column of an attribute: its lookup path, operators, and conversion of values.

    ``convert`` raises ``ValueError`` for a value that no row can have.
    """

    path: str
    convert: Callable[[Any], Any]
    lookups: Mapping[CompareOperator, str]


def _moment(value: datetime) -> datetime:
    """Return a time in UTC, which a time without an offset is in."""
    if value.tzinfo is None:
        return value.replace(tzinfo=timezone.utc)
    try:
        return value.astimezone(timezone.utc)
    except OverflowError:
        raise InvalidFilterException(detail="The filter has a time out of range.") from None


USER_COLUMNS: Final = {
    "id": Column("user_id", lambda value: parse_user_id(str(value)), EQUALITY_LOOKUPS),
    "username": Column("user_name_folded", lambda value: fold_text(str(value)), TEXT_LOOKUPS),
    "externalid": Column("external_id", str, TEXT_LOOKUPS),
    "active": Column("user__is_active", bool, EQUALITY_LOOKUPS),
    "emails": Column(
        "user__email_canonical", lambda value: canonical_email(str(value)), TEXT_LOOKUPS
    ),
    "meta.created": Column("created_at", _moment, ORDER_LOOKUPS),
    "meta.lastmodified": Column("modified_at", _moment, ORDER_LOOKUPS),
}
GROUP_COLUMNS: Final = {
    "id": Column("pk", lambda value: uuid.UUID(str(value)), EQUALITY_LOOKUPS),
    "displayname": Column("display_name_folded", lambda value: fold_text(str(value)), TEXT_LOOKUPS),
    "externalid": Column("external_id", str, TEXT_LOOKUPS),
    "members": Column(
        "memberships__user_id", lambda value: parse_user_id(str(value)), EQUALITY_LOOKUPS
    ),
    "meta.created": Column("created_at", _moment, ORDER_LOOKUPS),
    "meta.lastmodified": Column("modified_at", _moment, ORDER_LOOKUPS),
}


def condition(filter_: Any, columns: Mapping[str, Column]) -> Q:
    """Return the condition of a bound filter; raise ``InvalidFilterException``."""
    if len(filter_) > MAX_FILTER_LENGTH:
        raise InvalidFilterException(detail="The filter is too long.")
    return _Conditions(filter_, columns).visit(filter_.ast)


def address_of(node: FilterNode) -> str | None:
    """Return the user name or e-mail address that a filter looks for, if it is just that."""
    found = _address_comparison(node)
    if found is None or found.op != CompareOperator.eq or not isinstance(found.value, str):
        return None
    return found.value if is_storable(found.value) else None


def _address_comparison(node: FilterNode) -> Comparison | None:
    if isinstance(node, Comparison):
        return node if _name(node.attr_path) in {"username", "emails"} else None
    if not isinstance(node, ValuePath) or _name(node.attr_path) != "emails":
        return None
    inner = node.val_filter
    is_and = isinstance(inner, LogicalExpr) and inner.op == LogicalOperator.and_
    terms = inner.terms if isinstance(inner, LogicalExpr) and is_and else (inner,)
    values = [term for term in terms if isinstance(term, Comparison) and _is_value(term)]
    return values[0] if len(values) == 1 else None


def _is_value(comparison: Comparison) -> bool:
    return comparison.attr_path.attr.lower() == "value"


class _Conditions(FilterVisitor[Q]):
    """Translates the nodes of a filter."""

    def __init__(self, filter_: Any, columns: Mapping[str, Column], prefix: str = "") -> None:
        self.filter = filter_
        self.columns = columns
        self.prefix = prefix

    def visit_comparison(self, node: Comparison) -> Q:
        name = self.prefix or _name(node.attr_path)
        if self.prefix and not _is_value(node):
            return EVERYTHING  # the type of an address: the account has only one address
        column = self._column(name)
        lookup = column.lookups.get(node.op)
        if lookup is None:
            raise InvalidFilterException(detail=f"{name!r} can't be compared by {node.op.value!r}.")
        value = node.value
        if not self.prefix and (attribute := self.filter.resolve_comparison(node.attr_path)):
            value = coerce_value(attribute, value, node.op)
        found = self._rows(column, lookup, value)
        return ~found if node.op == CompareOperator.ne else found

    def visit_present(self, node: Present) -> Q:
        column = self._column(self.prefix or _name(node.attr_path))
        if column.path == "external_id":
            return ~Q(external_id="")
        if column.path.startswith("memberships"):
            return Q(memberships__isnull=False)
        return EVERYTHING

    def visit_not(self, node: Not) -> Q:
        return ~self.visit(node.expr)

    def visit_logical_expr(self, node: LogicalExpr) -> Q:
        join = and_ if node.op == LogicalOperator.and_ else or_
        return reduce(join, (self.visit(term) for term in node.terms))

    def visit_value_path(self, node: ValuePath) -> Q:
        inner = _Conditions(self.filter, self.columns, _name(node.attr_path))
        return inner.visit(node.val_filter)

    def _column(self, name: str) -> Column:
        if name not in self.columns:
            raise InvalidFilterException(detail=f"{name!r} can't be filtered by.")
        return self.columns[name]

    def _rows(self, column: Column, lookup: str, value: Any) -> Q:
        if value is None:
            return Q(external_id="") if column.path == "external_id" else NOTHING
        if isinstance(value, str) and not is_storable(value):
            raise InvalidFilterException(detail="The filter contains characters without meaning.")
        try:
            return Q(**{f"{column.path}__{lookup}": column.convert(value)})
        except (KeyError, ValueError):
            return NOTHING


def _name(path: AttrPath) -> str:
    parts = [path.attr, path.sub_attr] if path.sub_attr else [path.attr]
    name = ".".join(part.lower() for part in parts)
    return name.removesuffix(".value") if name in {"emails.value", "members.value"} else name
