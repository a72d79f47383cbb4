"""The functions of triggers in a partitioned log."""

from __future__ import annotations

from .catalog import execute, owner_name


def create_function(name: str, rules: str, using: str) -> None:
    """Create or replace a trigger's function.

    It belongs to the owner of the table of entries, who must be able to replace it after a
    superuser has executed this.
    """
    execute(
        using,
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql "
        f"AS $rules${rules}$rules$",
        f"ALTER FUNCTION {name}() OWNER TO {owner_name(using)}",
    )
