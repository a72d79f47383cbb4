"""The public names of each package, and the page that lists them.

Names in ``PUBLIC`` are public; all others may change in any release. The other packages import from
core only what is listed here, since each package is released separately.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import zip_longest
from typing import Any, Final

ALL: Final = None
"""Every name in the module's ``__all__``."""

PUBLIC: Mapping[str, Mapping[str, Sequence[str] | None]] = {
    "core": {
        "api": ALL,
        "beat": ALL,
        "conf": ALL,
        "db": ALL,
        "db.migration_operations": ALL,
        "doctor": ALL,
        "events": ALL,
        "health": ALL,
        "http": ALL,
        "jobs": ALL,
        "jobs.celery_runner": ("celery_task",),
        "mail": ALL,
        "management.command_line": ALL,
        "middleware": ALL,
        "observability": ALL,
        "observability.prometheus": ("connect_prometheus",),
        "personal_data": ALL,
        "read_only_admin": ALL,
        "texts": ALL,
        "times": ALL,
        "users": ALL,
    },
    "auth": {
        "admin": ALL,
        "admin_site": ("AuthAdminSite",),
        "authentication": ("SessionTokenAuthentication",),
        "conf": ALL,
        "model_fields": ALL,
        "models": ALL,
    },
    "audit": {
        "audit": ALL,
        "conf": ALL,
        "listing": ALL,
        "log": ALL,
        "models": ALL,
        "sealing": ALL,
        "tracking": ALL,
    },
    "analytics": {
        "conf": ("AnalyticsSettings", "analytics_settings"),
        "facts": ALL,
        "filters": ("Filters",),
        "models": ALL,
        "pull": ALL,
        "rollups": ALL,
        "selectors": ALL,
    },
    "notifications": {
        "built_in_kinds": ALL,
        "conf": ALL,
        "kinds": ("NotificationKind", "register_kind", "registered_kind", "registered_kinds"),
        "services": ("messages_queue", "notification_settings_update"),
    },
}
"""Package → module → its public names. ``admin`` and ``models`` are for subclassing and reading."""


def public_names(package: str) -> dict[str, list[str]]:
    """Return module → public names: ``{"myometrics_core.times": ["utc_now", …]}``."""
    found = {}
    for module, names in PUBLIC[package].items():
        path = f"myometrics_{package}.{module}"
        found[path] = sorted(names or import_module(path).__all__)
    return found


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
