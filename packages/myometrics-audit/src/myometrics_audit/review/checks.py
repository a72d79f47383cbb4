"""System checks of the review, under the ids of audit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core import checks

from myometrics_core.conf import register_check

from ..conf import audit_settings
from .rules import registered_rules

APP = "myometrics_audit"
HOOKS = (
    "REVIEW_RELATED",
    "REVIEW_VIP",
    "REVIEW_CARE_RELATION",
    "REVIEW_LEAVING",
    "REVIEW_REVIEWERS",
)


def register_checks() -> None:
    """Register the checks."""
    register_check(check_rule_names, app=APP)
    register_check(check_hooks, app=APP)


def check_rule_names(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W050: ``REVIEW_RULES_OFF`` has a name that is no rule."""
    if audit_settings.check():
        return
    known = registered_rules()
    for name in audit_settings.REVIEW_RULES_OFF:
        if name not in known:
            yield checks.Warning(
                f"MYOMETRICS_AUDIT['REVIEW_RULES_OFF'] has {name!r}, which is no rule.",
                hint=f"Rules: {', '.join(known)}.",
                id=f"{APP}.W050",
            )


def check_hooks(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """E051: a hook of the review is not callable."""
    if audit_settings.check():
        return
    for name in HOOKS:
        hook = getattr(audit_settings, name)
        if hook is not None and not callable(hook):
            yield checks.Error(
                f"MYOMETRICS_AUDIT[{name!r}] must be the path of a function.",
                hint="docs/audit/review.md has its arguments.",
                id=f"{APP}.E051",
            )
