"""Examinations of analytics for the doctor."""

from __future__ import annotations

from datetime import timedelta

import pytest

from myometrics_analytics import doctor
from myometrics_analytics.models import PullState, RebuildCheckpoint, RollupState
from myometrics_analytics.pull.pulling import PULL_JOB
from myometrics_analytics.rollups import changes_fold, rollups_check
from myometrics_core.jobs import Job
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db
AGO = timedelta(days=3)


def states(examine):
    return {found.name: found.state for found in examine()}


def test_doctor_reports_changes_that_are_not_folded(user, publish_upload):
    assert states(doctor.examine_rollups)["rollups"] == "ok"
    publish_upload(user)
    assert states(doctor.examine_rollups)["rollups"] == "problem"
    changes_fold()
    publish_upload(user)
    assert states(doctor.examine_rollups)["rollups"] == "ok"
    RollupState.objects.update(folded_at=utc_now() - AGO)
    (found, *_) = doctor.examine_rollups()
    assert (found.state, "3 days ago" in found.summary) == ("problem", True)


def test_doctor_warns_of_late_or_repairing_self_check():
    assert states(doctor.examine_rollups)["rollup self-check"] == "warning"
    rollups_check()
    assert states(doctor.examine_rollups)["rollup self-check"] == "ok"
    RollupState.objects.update(repairs=3)
    assert states(doctor.examine_rollups)["rollup self-check"] == "warning"
    RollupState.objects.update(repairs=0, checked_at=utc_now() - AGO)
    assert states(doctor.examine_rollups)["rollup self-check"] == "warning"


def test_doctor_warns_of_interrupted_rebuild():
    assert "rebuild" not in states(doctor.examine_rollups)
    RebuildCheckpoint.objects.create(source="audit", began_at=utc_now(), reached_at=utc_now())
    assert states(doctor.examine_rollups)["rebuild"] == "warning"


@pytest.mark.parametrize(
    ("age", "failures", "state"),
    [
        (None, 0, "warning"),
        (timedelta(), 0, "ok"),
        (AGO, 0, "problem"),
        (timedelta(), 2, "problem"),
        (None, 2, "problem"),
    ],
)
def test_doctor_reports_failed_and_late_pulls(settings, age, failures, state):
    assert states(doctor.examine_pull) == {"upload source": "not configured"}
    settings.MYOMETRICS = {"MICROSERVICE_URL": "http://images.example"}
    if age is not None:
        PullState.objects.create(succeeded_at=utc_now() - age)
    Job.objects.create(kind=PULL_JOB, key="", attempts=failures, last_error="status 500")
    [found] = doctor.examine_pull()
    assert (found.name, found.state) == ("upload source", state)
    assert ("2 pulls failed: status 500" in found.summary) is bool(failures)
