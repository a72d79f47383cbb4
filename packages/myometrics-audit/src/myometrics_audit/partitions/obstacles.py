"""Reasons why a table of entries can't be converted as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from django.db import connections

from ..log.guards import PREFIX
from .catalog import TABLE, rows, sequence_name
from .recorded_activities import TRIGGERS

ACTIVITY_INDEX: Final = "myo_audit_activity"
MIN_VERSION: Final = 130_000
MAX_NAME_LENGTH: Final = 63 - len("_p") - 19

# Each query returns names; the text says what they are and what to do. Its parameter is the table.
_QUERIES: Final = (
    (
        "SELECT conrelid::regclass::text FROM pg_constraint "
        "WHERE contype = 'f' AND confrelid = {table}",
        "The table {name} has a foreign key to the entries, and would refer to the first partition "
        "only. Store the id without a constraint (db_constraint=False).",
    ),
    (
        "SELECT DISTINCT r.ev_class::regclass::text FROM pg_depend d "
        "JOIN pg_rewrite r ON r.oid = d.objid "
        "WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass "
        "AND d.refobjid = {table}",
        "The view or rule {name} would read only the first partition. Drop it, and create it again "
        "after the conversion.",
    ),
    (
        "SELECT tgname FROM pg_trigger WHERE tgrelid = {table} AND NOT tgisinternal "
        f"AND NOT starts_with(tgname, '{PREFIX}') AND tgname <> ALL(%(triggers)s)",
        "The trigger {name} is not of this package. Drop it, and create it again after the "
        "conversion.",
    ),
    (
        "SELECT p.pubname FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid "
        "WHERE r.prrelid = {table}",
        "The publication {name} would contain only the first partition. Remove the table from it, "
        "and add it again after the conversion.",
    ),
    (
        # Those of all tables, also of a schema.
        "SELECT p.pubname FROM pg_publication_tables t JOIN pg_publication p USING (pubname) "
        "WHERE to_regclass(format('%%I.%%I', t.schemaname, t.tablename)) = {table} "
        "AND NOT p.pubviaroot AND NOT EXISTS "
        "(SELECT 1 FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = {table})",
        "The publication {name} would contain the partitions, which its subscribers don't have. "
        "Run ALTER PUBLICATION … SET (publish_via_partition_root = true).",
    ),
    (
        "SELECT c.relname FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid "
        "WHERE c.oid = to_regclass(pg_get_serial_sequence(%(table)s, 'id')) AND s.seqcache > 1",
        "The sequence {name} caches ids, with which a connection would write to a partition that "
        "is closed. Run ALTER SEQUENCE … CACHE 1.",
    ),
    (
        "SELECT i.indexrelid::regclass::text FROM pg_index i "
        "WHERE i.indrelid = {table} AND NOT i.indisvalid",
        "The index {name} is not valid. Drop it, or run REINDEX INDEX CONCURRENTLY.",
    ),
    (
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE i.indrelid = {table} AND (i.indisunique AND NOT i.indisprimary OR i.indisexclusion) "
        f"AND c.relname <> '{ACTIVITY_INDEX}'",
        "The unique index {name} can't exist on a partitioned table. Drop it.",
    ),
    (
        "SELECT conname FROM pg_constraint "
        "WHERE conrelid = {table} AND contype = 'f' AND NOT convalidated",
        "The foreign key {name} is not validated. Run ALTER TABLE … VALIDATE CONSTRAINT.",
    ),
    (
        # Otherwise the last step fails, after which entries with higher ids are refused.
        "SELECT DISTINCT confrelid::regclass::text FROM pg_constraint "
        "WHERE conrelid = {table} AND contype = 'f' "
        "AND NOT (has_table_privilege(confrelid, 'REFERENCES') "
        "AND has_table_privilege(confrelid, 'UPDATE, DELETE, TRUNCATE'))",
        "This role may not lock the table {name}, or refer to it. Run GRANT REFERENCES, UPDATE ON "
        "{name} TO ….",
    ),
    (
        "SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = {table} "
        "UNION ALL SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = {table}",
        "The table inherits from {name}, or {name} from it. PostgreSQL does not partition such "
        "tables.",
    ),
    (
        "SELECT relname FROM pg_class WHERE oid = {table} "
        "AND (relrowsecurity OR relforcerowsecurity)",
        "The table {name} has row-level security. Disable it, and enable it again after the "
        "conversion, also on each partition.",
    ),
    (
        "SELECT relname FROM pg_class WHERE oid = {table} "
        "AND (relkind <> 'r' OR relpersistence <> 'p')",
        "{name} is not an ordinary, logged table.",
    ),
    (
        "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = {table} "
        "AND NOT pg_has_role(relowner, 'USAGE')",
        "The table belongs to the role {name}. Run the command as that role.",
    ),
)


def find_obstacles(using: str) -> Iterator[str]:
    """Yield what prevents the conversion, and what to do about it."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        yield (
            "Only PostgreSQL has partitions; on other databases the audit log stays in one table."
        )
        return
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        if int(cursor.fetchone()[0]) < MIN_VERSION:
            yield "PostgreSQL 13 or newer is needed for the guards of partitions."
            return
    if not rows(using, "SELECT to_regclass(%s)", [f'"{TABLE}"'])[0][0]:
        yield f"The table {TABLE} does not exist. Run 'manage.py migrate'."
        return
    if len(TABLE) > MAX_NAME_LENGTH:
        yield f"The name {TABLE} has more than {MAX_NAME_LENGTH} characters."
    if sequence_name(using) is None:
        yield "The column id has no sequence."
    for query, text in _QUERIES:
        sql = query.replace("{table}", "to_regclass(%(table)s)")
        with connection.cursor() as cursor:
            cursor.execute(sql, {"table": f'"{TABLE}"', "triggers": list(TRIGGERS)})
            for (name,) in cursor.fetchall():
                yield text.format(name=name)
