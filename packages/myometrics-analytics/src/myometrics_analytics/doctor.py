"""Examinations of analytics for ``manage.py myometrics_doctor``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from myometrics_core.doctor import Diagnosis, describe_age
from myometrics_core.times import utc_now

from .conf import analytics_settings
from .models import PendingChange, PullState, RebuildCheckpoint, RollupState
from .pull.pulling import pull_status
from .pull.upload_sources import UploadSource

MAX_FOLD_AGE: Final = 300.0
"""Seconds; the job runs every 10."""
MAX_CHECK_AGE: Final = 2 * 86_400.0
RUNNER_ADVICE: Final = "Check that background jobs run: see 'jobs'."


def examine_rollups() -> Iterator[Diagnosis]:
    """Check that changes are folded, and report the result of the self-check."""
    state = RollupState.objects.first() or RollupState()
    pending = PendingChange.objects.count()
    age = (utc_now() - state.folded_at).total_seconds() if state.folded_at else None
    if pending and (age is None or age > MAX_FOLD_AGE):
        since = "never" if age is None else f"last {describe_age(age)} ago"
        yield Diagnosis(
            "rollups",
            "problem",
            f"{pending} changes are pending; folded {since}. Responses are exact, but slower.",
            RUNNER_ADVICE,
        )
    else:
        yield Diagnosis("rollups", "ok", f"Up to date; {pending} changes are pending.")
    yield _self_check(state)
    if RebuildCheckpoint.objects.exists():
        yield Diagnosis(
            "rebuild",
            "warning",
            "A rebuild was interrupted: uploads may be missing from the numbers.",
            "Run 'manage.py analytics_rebuild' to resume it.",
        )


def _self_check(state: RollupState) -> Diagnosis:
    name, advice = "rollup self-check", RUNNER_ADVICE
    if state.checked_at is None:
        return Diagnosis(name, "warning", "Has never run.", advice)
    age = (utc_now() - state.checked_at).total_seconds()
    if age > MAX_CHECK_AGE:
        return Diagnosis(name, "warning", f"Ran last {describe_age(age)} ago.", advice)
    if state.repairs:
        return Diagnosis(
            name,
            "warning",
            f"Repaired {state.repairs} numbers {describe_age(age)} ago.",
            "Find out which program changed the tables without Django.",
        )
    return Diagnosis(name, "ok", f"Found no differences {describe_age(age)} ago.")


def examine_pull() -> Iterator[Diagnosis]:
    """Check that uploads are pulled from the configured upload source."""
    name = "upload source"
    source: UploadSource = analytics_settings.UPLOAD_SOURCE()
    if not source.is_configured():
        yield Diagnosis(name, "not configured", "Uploads are not pulled from anywhere.")
        return
    state = PullState.objects.first() or PullState()
    _, failures, last_error = pull_status()
    if failures:
        yield Diagnosis(
            name,
            "problem",
            f"The last {failures} pulls failed: {last_error or 'interrupted'}.",
            "Check that the image service responds.",
        )
    elif state.succeeded_at is None:
        yield Diagnosis(name, "warning", "Has never been pulled.", RUNNER_ADVICE)
    else:
        age = (utc_now() - state.succeeded_at).total_seconds()
        is_late = age > 10 * analytics_settings.PULL_INTERVAL + MAX_FOLD_AGE
        yield Diagnosis(
            name,
            "problem" if is_late else "ok",
            f"Pulled {describe_age(age)} ago.",
            RUNNER_ADVICE if is_late else "",
        )
