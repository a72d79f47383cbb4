"""What PostgreSQL's catalogs say about the table of entries. Nothing here changes it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import ProgrammingError, connections

from ..log.models import AuditLog

TABLE: Final = AuditLog._meta.db_table
INSUFFICIENT_PRIVILEGE: Final = "42501"
BOUNDS = re.compile(r"FOR VALUES FROM \('?(-?\d+)'?\) TO \('?(-?\d+)'?\)")


@dataclass(frozen=True, order=True)
class Bounds:
    """A partition in the database: its ids begin at ``first_id`` and end before ``end_id``."""

    first_id: int
    end_id: int
    table: str


def rows(using: str, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
    """Return the rows of ``sql``."""
    with connections[using].cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def execute(using: str, *statements: str) -> None:
    """Execute the statements; their texts contain no parameters."""
    with connections[using].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def is_privilege_missing(error: ProgrammingError) -> bool:
    """Return whether the database role may not execute a statement."""
    cause = error.__cause__
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return bool(code == INSUFFICIENT_PRIVILEGE)


def is_partitioned(using: str) -> bool:
    """Return whether the table of entries is partitioned; false on other databases."""
    if connections[using].vendor != "postgresql":
        return False
    sql = "SELECT 1 FROM pg_partitioned_table WHERE partrelid = to_regclass(%s)"
    return bool(rows(using, sql, [f'"{TABLE}"']))


def is_owner(using: str) -> bool:
    """Return whether this role may alter and drop the table of entries."""
    sql = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(%s)"
    return bool(rows(using, sql, [f'"{TABLE}"'])[0][0])


def owner_name(using: str) -> str:
    """Return the quoted name of the role that owns the table of entries."""
    sql = "SELECT quote_ident(pg_get_userbyid(relowner)) FROM pg_class WHERE oid = to_regclass(%s)"
    name: str = rows(using, sql, [f'"{TABLE}"'])[0][0]
    return name


def partition_bounds(using: str) -> list[Bounds]:
    """Return the partitions of the table of entries in the order of their ids."""
    found = rows(
        using,
        "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i "
        "JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass(%s)",
        [f'"{TABLE}"'],
    )
    bounds = []
    for table, text in found:
        if text is None:  # dropped since the statement began
            continue
        match = BOUNDS.fullmatch(text)
        if match is None:
            raise ValueError(f"The partition {table} has unexpected bounds: {text}")
        bounds.append(Bounds(int(match[1]), int(match[2]), table))
    return sorted(bounds)


def sequence_name(using: str) -> str | None:
    """Return the quoted name of the sequence of the ids, with its schema."""
    sql = "SELECT pg_get_serial_sequence(%s, 'id')"
    name: str | None = rows(using, sql, [f'"{TABLE}"'])[0][0]
    return name


def next_id(using: str) -> int:
    """Return the id of the next entry."""
    sql = f"SELECT last_value + is_called::int FROM {sequence_name(using)}"
    return int(rows(using, sql)[0][0])


def schema_name(using: str) -> str:
    """Return the quoted name of the schema of the table of entries."""
    sql = (
        "SELECT quote_ident(n.nspname) FROM pg_class c JOIN pg_namespace n "
        "ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%s)"
    )
    name: str = rows(using, sql, [f'"{TABLE}"'])[0][0]
    return name


_PRIVILEGES: Final = (
    "SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, CASE a.grantee WHEN 0 "
    "THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, a.privilege_type, "
    "a.is_grantable, (SELECT quote_ident(t.attname) FROM pg_attribute t "
    "WHERE t.attrelid = c.oid AND t.attnum = a.attnum) FROM pg_class c CROSS JOIN LATERAL ("
    "SELECT 0 AS attnum, e.* FROM aclexplode(c.relacl) e UNION ALL "
    "SELECT t.attnum, e.* FROM pg_attribute t, aclexplode(t.attacl) e WHERE t.attrelid = c.oid) a "
    "WHERE c.oid = to_regclass(%s) AND a.grantee <> c.relowner"
)


def grants(
    source: str, target: str, using: str, *, with_columns: bool = True, only: str = ""
) -> list[str]:
    """Return SQL that gives ``target`` the privileges of ``source``; the names are quoted.

    With ``only``, this privilege alone.
    """
    return [
        f"GRANT {privilege}{f' ({column})' if column else ''} ON {kind} {target} TO {grantee}"
        + (" WITH GRANT OPTION" if is_grantable else "")
        for kind, grantee, privilege, is_grantable, column in rows(using, _PRIVILEGES, [source])
        if (with_columns or not column) and only in ("", privilege)
    ]


def revocations(target: str, using: str) -> list[str]:
    """Return SQL that removes the privileges that ``ALTER DEFAULT PRIVILEGES`` gave."""
    return [
        f"REVOKE ALL ON {kind} {target} FROM {grantee}"
        for kind, grantee, *_ in rows(using, _PRIVILEGES, [target])
    ]
