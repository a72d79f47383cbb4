"""The public names of each package, and the page that lists them.

Public are the names in ``__all__`` of the modules in ``PUBLIC``; all others may change in any
release. The other packages import only public names of core, since each package is released
separately.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import zip_longest
from typing import Any

PUBLIC: Mapping[str, Sequence[str]] = {
    "core": (
        "api",
        "beat",
        "conf",
        "db",
        "db.migration_operations",
        "db.table_locks",
        "doctor",
        "events",
        "health",
        "http",
        "jobs",
        "jobs.celery_runner",
        "mail",
        "management.command_line",
        "middleware",
        "observability",
        "observability.prometheus",
        "personal_data",
        "read_only_admin",
        "texts",
        "times",
        "users",
    ),
    "auth": (
        "admin",
        "admin_site",
        "authentication",
        "conf",
        "model_fields",
        "models",
        "password_validation",
    ),
    "audit": (
        "audit",
        "conf",
        "legal_hold.services",
        "listing",
        "log",
        "middleware",
        "models",
        "review.built_in_rules",
        "review.emergency_access",
        "review.rules",
        "sealing",
        "tracking",
        "tracking.celery_tasks",
    ),
    "analytics": (
        "conf",
        "facts",
        "filters",
        "models",
        "pull",
        "rollups",
        "selectors",
    ),
    "notifications": (
        "built_in_kinds",
        "conf",
        "kinds",
        "services",
    ),
}
"""Package → its public modules. ``admin`` and ``models`` are for subclassing and reading."""


def public_names(package: str) -> dict[str, list[str]]:
    """Return module → public names: ``{"myometrics_core.times": ["utc_now", …]}``."""
    paths = [f"myometrics_{package}.{module}" for module in PUBLIC[package]]
    return {path: sorted(import_module(path).__all__) for path in paths}


def public_names_table(package: str) -> str:
    """Return a Markdown table: module, name, and the first sentence of its docstring."""
    rows = ["| from | import | |", "|---|---|---|"]
    for module, names in public_names(package).items():
        rows += [f"| `{module}` | `{name}` | {_summary(module, name)} |" for name in names]
    return "\n".join(rows)


def _summary(module: str, name: str) -> str:
    value: Any = getattr(import_module(module), name)
    is_documented = inspect.isclass(value) or inspect.isroutine(value)
    text = inspect.getdoc(value) if is_documented else _text_below(module, name)
    first = (text or "").strip().split("\n\n")[0].replace("\n", " ")
    return _markdown(first.split(". ")[0].rstrip("."))


def _text_below(module: str, name: str) -> str:
    """Return the string below the assignment of ``name``, used as its docstring."""
    statements = ast.parse(inspect.getsource(import_module(module))).body
    for assignment, below in zip_longest(statements, statements[1:]):
        match assignment, below:
            case ast.ImportFrom(str(source), names, 1), _ if name in [n.name for n in names]:
                return _text_below(f"{module}.{source}", name)
            case _, ast.Expr(ast.Constant(str(text))) if name in _assigned(assignment):
                return inspect.cleandoc(text)
    return ""


def _assigned(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    else:
        return set()
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _markdown(text: str) -> str:
    text = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"`\1`", text)
    return text.replace("``", "`").replace("|", r"\|")
