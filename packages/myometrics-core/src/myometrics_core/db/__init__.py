"""Transactions, read replicas, batches and portable model fields."""

from .batches import read_in_batches
from .cache_serializers import JSONSerializer
from .model_fields import PortableCharField, PortableDateTimeField, PortableText, PortableTextField
from .replicas import ReplicaRouter, read_from_replica
from .statements import RowLookup, convert_rows, fetch_rows
from .transactions import (
    DATABASE_FAILURES,
    SerializationFailure,
    atomic_write,
    is_foreign_key_violation,
    is_serialization_failure,
    is_unique_violation,
    read_committed,
    write_despite_failures,
)

__all__ = [
    "DATABASE_FAILURES",
    "JSONSerializer",
    "PortableCharField",
    "PortableDateTimeField",
    "PortableText",
    "PortableTextField",
    "ReplicaRouter",
    "RowLookup",
    "SerializationFailure",
    "atomic_write",
    "convert_rows",
    "fetch_rows",
    "is_foreign_key_violation",
    "is_serialization_failure",
    "is_unique_violation",
    "read_committed",
    "read_from_replica",
    "read_in_batches",
    "write_despite_failures",
]
