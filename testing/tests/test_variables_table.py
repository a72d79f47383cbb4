"""The table of variables is written from ``.env.example``."""

from __future__ import annotations

import pytest

from myometrics_testing.commands.variables_table import variables_table

EXAMPLE = """# About the file.

# Where data are,
# docs/operations/backup.md or docs/security.md.
#DATA=var
# A choice.
CHOICE=
"""


def test_table_has_a_row_for_each_variable_with_its_comment():
    assert variables_table(EXAMPLE).splitlines()[2:] == [
        "| `DATA` | `var` | Where data are, [backup](backup.md) or [security](../security.md). |",
        "| `CHOICE` | – | A choice. |",
    ]


def test_variable_without_comment_is_rejected():
    with pytest.raises(ValueError, match=r"OTHER .* needs a comment"):
        variables_table(f"{EXAMPLE}OTHER=1\n")
