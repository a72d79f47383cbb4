"""Settings tables of each package, generated from the code."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from typing import Any

from myometrics_core.conf import DOTTED_PATH, Setting, SettingsGroup

GROUPS = {
    "core": "myometrics_core.conf.core_settings",
    "auth": "myometrics_auth.conf.auth_settings",
    "audit": "myometrics_audit.conf.audit_settings",
    "analytics": "myometrics_analytics.conf.analytics_settings",
    "notifications": "myometrics_notifications.conf.notifications_settings",
}
"""Package → dotted path of its settings group."""

UNITS = (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1))


def settings_group(package: str) -> SettingsGroup:
    """Return the settings group of ``package``, such as ``audit``."""
    module, _, name = GROUPS[package].rpartition(".")
    group: SettingsGroup = getattr(import_module(module), name)
    return group


def settings_table(group: SettingsGroup) -> str:
    """Return a Markdown table with a row for each setting, in the order of declaration."""
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    return "\n".join([*rows, *map(_row, group.declared())])


def _row(setting: Setting) -> str:
    meaning = setting.description.replace("|", r"\|")
    return f"| `{setting.name}` | {_kind(setting)} | {_code(setting.default)} | {meaning} |"


def _kind(setting: Setting) -> str:
    if setting.choices:
        return ", ".join(_code(choice) for choice in setting.choices)
    return DOTTED_PATH if setting.kind == DOTTED_PATH else setting.kind_name


def _code(value: Any) -> str:
    return f"`{_span(value) if isinstance(value, timedelta) else _literal(value)}`"


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value).replace("'", '"')


def _span(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    unit, size = next((unit, size) for unit, size in UNITS if seconds % size == 0)
    return f"timedelta({unit}={seconds // size})"
